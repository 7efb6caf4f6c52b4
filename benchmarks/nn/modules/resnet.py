"""Residual networks as nn.Module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from ..resnet import Conv, ResNet


class Unit(nn.Module):
    """A convolution without bias, followed by a batch normalisation."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, conv.stride, conv.padding, bias=False)
        self.norm = nn.BatchNorm2d(conv.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x (B, I, height, width) convolved and normalised, (B, O, ...)."""
        return cast("torch.Tensor", self.norm(self.conv(x)))


class Residual(nn.Module):
    """A residual block: units with ReLU between them, added to a shortcut."""

    def __init__(self, convs: Mapping[str, Conv]) -> None:
        super().__init__()
        self.units = [name for name in convs if name != "shortcut"]
        self.shortcut: nn.Module = nn.Identity()
        for name, conv in convs.items():
            setattr(self, name, Unit(conv))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(units(x) + shortcut(x))."""
        *hidden, last = (cast("Unit", getattr(self, name)) for name in self.units)
        out = x
        for unit in hidden:
            out = functional.relu(unit(out))
        return functional.relu(last(out) + self.shortcut(x))


class ResNetModule(nn.Module):
    """The network; parameters have the names and shapes of `benchmarks.nn.resnet.ResNet`."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.stem = Unit(network.stem())
        self.pool = nn.MaxPool2d(3, 2, 1) if network.large else nn.Identity()
        stages: list[nn.Sequential] = [nn.Sequential() for _ in network.blocks]
        for name, convs in network.stages():
            stages[int(name.split(".")[1])].append(Residual(convs))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(network.features, network.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) for x (B, 3, pixels, pixels)."""
        x = self.stages(self.pool(functional.relu(self.stem(x))))
        return cast("torch.Tensor", self.head(x.mean(dim=(2, 3))))
