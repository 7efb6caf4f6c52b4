"""A training step as PyTorch's users write it: zero_grad, forward, backward, step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench_core.workload import Backend, HostArrays, Kernel, Work
from benchmarks.nn.modules.running import (
    PREPARED,
    Graphed,
    autocast,
    channels_last,
    compiled,
    is_fixed,
    load_weights,
)
from benchmarks.nn.training import Checked, Loader, Step, loader, prepared_kernel, training_kernel
from benchmarks.nn.weights import device_weights

# Loss scale of float16: its smallest numbers are too coarse for raw gradients. Fixed, so that every step counts.
_SCALE = 1024.0
_FIXED = 2**31 - 1


class Trainer:
    """A module and its optimiser, and the way back to their initial state."""

    def __init__(self, module: nn.Module, weights: dict[str, torch.Tensor], optimiser: Any, precision: str) -> None:
        first = next(iter(weights.values()))
        self.device, self.weights, self.precision = first.device, weights, precision
        self.module = module.to(first.device, first.dtype)
        load_weights(self.module, weights)
        self.optimiser = optimiser(self.module.parameters())
        self.scaler = torch.amp.GradScaler(
            first.device.type, _SCALE, growth_interval=_FIXED, enabled=precision == "autocast_float16"
        )
        self.forward: Callable[..., torch.Tensor] = self.module
        self.gradients = Gradients(self.module)

    def reset(self) -> None:
        """Restore the initial weights and clear the optimiser's state."""
        load_weights(self.module, self.weights)
        for state in self.optimiser.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()

    def step(self, x: torch.Tensor, targets: torch.Tensor) -> Step:
        """Take one step; the loss is the mean cross-entropy over all rows."""
        return self._step(self.forward, x, targets)

    def eager_step(self, x: torch.Tensor, targets: torch.Tensor) -> Step:
        """Take one step by the module itself, whatever `forward` is."""
        return self._step(self.module, x, targets)

    def _step(self, forward: Callable[..., torch.Tensor], x: torch.Tensor, targets: torch.Tensor) -> Step:
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            logits = forward(x)
            loss = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return Step(loss.detach(), logits.detach(), self.gradients)


class Gradients(Mapping[str, torch.Tensor]):
    """The current gradients of a module, by parameter name; nothing is copied until one is read."""

    def __init__(self, module: nn.Module) -> None:
        self._parameters = dict(module.named_parameters())

    def __getitem__(self, name: str) -> torch.Tensor:
        gradient = self._parameters[name].grad
        if gradient is None:
            raise KeyError(name)
        return gradient

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def train_kernel(
    backend: Backend,
    work: Work,
    host: HostArrays,
    module: nn.Module,
    optimiser: Any,
    plan: Checked,
    implementation: str = "default",
) -> Kernel:
    """Return the kernel that trains `module` as `implementation` does."""
    trainer = Trainer(module, device_weights(backend, host), optimiser, work.precision)
    load = loader(backend, work, host)
    if implementation == "compile":
        trainer.forward = compiled(trainer.module, trainer.device)
    elif implementation == "channels_last":
        trainer.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        load = channels_last(load)
    return as_implementation(
        implementation, trainer.step, trainer.eager_step, trainer.reset, load, plan, fixed=is_fixed(work)
    )


def as_implementation(
    implementation: str,
    step: Callable[..., Step],
    eager: Callable[..., Step],
    reset: Callable[[], None],
    load: Loader,
    plan: Checked,
    *,
    fixed: bool,
) -> Kernel:
    """Return the kernel that takes a step, captured for "cudagraph"; compiling and capturing are timed apart.

    eager: the step, never compiled. fixed: whether the batch stays where it is on the device.
    """
    if implementation not in PREPARED:
        return training_kernel(step, reset, load, plan)
    form = Graphed(step, fixed=fixed) if implementation == "cudagraph" else step
    return replace(prepared_kernel(form, eager, reset, load, plan), hides_memory=implementation == "cudagraph")


def sgd(rate: float) -> Any:
    """Return torch's fused SGD. With a loss scale the usual form asks the device for a number, as no CUDA graph may."""
    return partial(torch.optim.SGD, lr=rate, fused=True)


def adamw(rate: float, implementation: str) -> Any:
    """Return torch's own fused AdamW; inside a CUDA graph it must keep its step count on the device."""
    return partial(torch.optim.AdamW, lr=rate, fused=True, capturable=implementation == "cudagraph")
