"""The two networks of a DCGAN as nn.Module, and one training step of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..dcgan import KERNEL, Discriminator, Generator, Shape
from ..names import scoped
from ..training import Step
from .running import all_compiled, autocast, load_weights
from .training import Gradients, held


class GeneratorModule(nn.Module):
    """The generator; parameters have the names and shapes of `benchmarks.nn.dcgan.Generator`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers = Generator(shape).layers()
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, KERNEL, stride, padding, bias=False)
            for inputs, outputs, stride, padding, _ in layers
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs, *_ in layers[:-1])

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, pixels, pixels) for noise (B, latent)."""
        *hidden, last = self.convs
        x = noise[:, :, None, None]
        for conv, norm in zip(hidden, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        return torch.tanh(last(x))


class DiscriminatorModule(nn.Module):
    """The discriminator; parameters have the names and shapes of `benchmarks.nn.dcgan.Discriminator`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        network = Discriminator(shape)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, KERNEL, stride, padding, bias=False)
            for inputs, outputs, stride, padding, _ in network.layers()
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(outputs) if network.is_normed(i) else nn.Identity()
            for i, (_, outputs, *_) in enumerate(network.layers())
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 1, 1, 1) for images (B, C, pixels, pixels)."""
        *hidden, last = self.convs
        x = images
        for conv, norm in zip(hidden, self.norms, strict=False):
            x = functional.leaky_relu(norm(conv(x)), 0.2)
        out: torch.Tensor = last(x)
        return out


class GanTrainer:
    """Both modules and their optimisers; `step` trains them and `reset` restores the initial state.

    If the implementation compiles, the discriminator is two programs: one for a step of its own weights, and one that
    only passes gradients on to the generator.
    """

    def __init__(
        self,
        shape: Shape,
        weights: dict[str, torch.Tensor],
        optimiser: Any,
        precision: str,
        implementation: str = "default",
    ) -> None:
        first = next(iter(weights.values()))
        self.weights, self.device, self.precision = weights, first.device, precision
        self.generator = GeneratorModule(shape).to(first.device, first.dtype)
        self.discriminator = DiscriminatorModule(shape).to(first.device, first.dtype)
        self._load()
        self._generate: Callable[..., torch.Tensor]
        self._judge: Callable[..., torch.Tensor]
        modules = [self.generator, self.discriminator]
        self._generate, self._judge = all_compiled(modules, self.device, implementation)
        self.generator_optimiser = optimiser(self.generator.parameters())
        self.discriminator_optimiser = optimiser(self.discriminator.parameters())
        self._both = nn.ModuleDict({"generator": self.generator, "discriminator": self.discriminator})
        self.gradients = Gradients(self._both)

    def _load(self) -> None:
        load_weights(self.generator, scoped(self.weights, "generator"))
        load_weights(self.discriminator, scoped(self.weights, "discriminator"))

    def reset(self) -> None:
        """Restore the initial weights and clear both optimisers' state."""
        self._load()
        for optimiser in (self.generator_optimiser, self.discriminator_optimiser):
            for state in optimiser.state.values():
                for value in state.values():
                    value.zero_()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the current weights and running averages of both modules, without copying."""
        return held(self._both)

    def step(self, noise: torch.Tensor, images: torch.Tensor) -> Step:
        """Take one step of the discriminator, then one of the generator; each step changes only its own weights.

        noise (B, latent), images (B, C, pixels, pixels). The Step is that of `benchmarks.nn.dcgan.train_step`.
        """
        with autocast(self.device, self.precision):
            fakes = self._generate(noise)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        judge_loss = self._loss(images, 1.0) + self._loss(fakes.detach(), 0.0)
        judge_loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimiser.step()

        self.generator_optimiser.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(requires_grad=False)
        make_loss = self._loss(fakes, 1.0)
        make_loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator.requires_grad_(requires_grad=True)
        self.generator_optimiser.step()
        return Step(torch.stack([judge_loss, make_loss]).detach(), fakes.detach(), self.gradients)

    def _loss(self, images: torch.Tensor, target: float) -> torch.Tensor:
        with autocast(self.device, self.precision):
            logits = self._judge(images)
            return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
