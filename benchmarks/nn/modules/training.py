"""A training step as PyTorch's users write it: zero_grad, forward, backward, step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.nn.training import Step


class Trainer:
    """A module and its optimiser, and the way back to their initial state."""

    def __init__(self, module: nn.Module, weights: Mapping[str, torch.Tensor], optimiser: Any) -> None:
        self.weights = weights
        reference = next(iter(weights.values()))
        self.module = module.to(reference.device, reference.dtype)
        self.module.load_state_dict(dict(weights))
        self.optimiser = optimiser(self.module.parameters())

    def reset(self) -> None:
        """Go back to the initial weights and an optimiser without history."""
        self.module.load_state_dict(dict(self.weights))
        for state in self.optimiser.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()

    def step(self, x: torch.Tensor, targets: torch.Tensor) -> Step:
        """Take one step; the loss is the mean cross-entropy over all rows."""
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.module(x)
        loss = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        gradients = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
        return Step(loss.detach(), logits.detach(), gradients)
