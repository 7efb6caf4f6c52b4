"""A training step as PyTorch users write it: zero_grad, forward, backward, step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..batches import Batch, batch_of
from ..training import Step, training_kernel
from ..weights import device_weights
from .running import (
    CAPTURED,
    PREPARED,
    Graphed,
    autocast,
    channels_last,
    compiled,
    is_fixed,
    load_weights,
    prepared,
    set_search,
)

# Loss scale for float16, in which small gradients would become zero. The scale never grows: a growing scale overflows
# at times, and the scaler then skips a step.
_SCALE = 1024.0
_FIXED = 2**31 - 1


class Trainer:
    """A module and its optimiser; `step` trains the module and `reset` restores the initial state."""

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

    def state(self) -> dict[str, torch.Tensor]:
        """Return the current weights and running averages, without copying."""
        return held(self.module)

    def step(self, x: torch.Tensor, targets: torch.Tensor) -> Step:
        """Take one training step; the loss is the mean cross-entropy over all rows of logits."""
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            logits = self.forward(x)
            loss = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return Step(loss.detach(), logits.detach(), self.gradients)


def held(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and running averages of a module by name, without copying; batch counters are left out."""
    state: Mapping[str, torch.Tensor] = module.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


class Gradients(Mapping[str, torch.Tensor]):
    """The current gradients of a module by parameter name, without copying; they are looked up when accessed."""

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


class Steps(Protocol):
    """The interface of `Trainer` and of the GAN's trainer."""

    def step(self, *batch: torch.Tensor) -> Step:
        """Take one training step."""

    def reset(self) -> None:
        """Restore the initial weights and clear the optimiser's state."""

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return the current weights and running averages."""


def train_kernel(
    backend: Backend,
    work: Work,
    host: HostArrays,
    module: nn.Module,
    optimiser: Any,
    samples: int,
    implementation: str = "default",
) -> Kernel:
    """Return the kernel that trains `module` in an implementation. samples: as in `training_kernel`."""
    trainer = Trainer(module, device_weights(backend, host), optimiser, work.precision)
    batch = batch_of(backend, work, host)
    if implementation == "channels_last":
        trainer.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = channels_last(batch, work)
    trainer.forward = compiled(trainer.module, trainer.device, implementation)
    return as_implementation(implementation, trainer, batch, samples, work)


def as_implementation(implementation: str, trainer: Steps, batch: Batch, samples: int, work: Work) -> Kernel:
    """Return the kernel that takes a training step; those in CAPTURED capture all of it.

    Compiling, capturing and searching are done in `prepare`, whose time is reported separately as compile_time.
    """
    set_search(implementation)
    captured = implementation in CAPTURED
    step: Callable[..., Step] = Graphed(trainer.step, fixed=is_fixed(work)) if captured else trainer.step
    kernel = training_kernel(step, trainer.reset, batch, trainer.state, samples)
    if implementation not in PREPARED:
        return kernel
    return replace(kernel, prepare=prepared(kernel.run), hides_memory=captured)


def sgd(rate: float) -> Any:
    """Return a constructor of torch's fused SGD.

    With a loss scale, the default form reads a number back from the device, which a CUDA graph cannot capture.
    """
    return partial(torch.optim.SGD, lr=rate, fused=True)


def adamw(rate: float, implementation: str) -> Any:
    """Return a constructor of torch's fused AdamW; for a CUDA graph it keeps its step count on the device."""
    return partial(torch.optim.AdamW, lr=rate, fused=True, capturable=implementation in CAPTURED)
