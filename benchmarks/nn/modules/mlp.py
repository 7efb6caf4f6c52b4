"""The MLP as nn.Module."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..mlp import Mlp


class MlpModule(nn.Module):
    """The network; parameters have the names and shapes of `benchmarks.nn.mlp.Mlp`."""

    def __init__(self, network: Mlp) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(network.widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) for x (B, inputs)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = functional.relu(layer(x))
        logits: torch.Tensor = last(x)
        return logits
