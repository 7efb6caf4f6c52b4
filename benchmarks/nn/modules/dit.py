"""The diffusion transformer as nn.Module, made of the language model's blocks."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.nn.dit import CHANNELS, Dit
from benchmarks.nn.modules.gpt import Block


class DitModule(nn.Module):
    """Same names and shapes of parameters as `benchmarks.nn.dit.Dit`."""

    def __init__(self, network: Dit) -> None:
        super().__init__()
        self.patch, self.side = network.patch, network.pixels // network.patch
        width = network.width
        self.patch_embedding = nn.Linear(network.patch_dim, width)
        self.positions = nn.Parameter(torch.empty(network.patches, width))
        self.labels = nn.Embedding(network.classes, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.Sequential(*(Block(width, network.heads, causal=False) for _ in range(network.layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, network.patch_dim)

    def forward(self, images: torch.Tensor, time: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the noise predicted in images (B, C, pixels, pixels), for time (width) and labels (B)."""
        tokens = self.patch_embedding(self.patchify(images)) + self.positions
        conditioning = self.time(time) + self.labels(labels)
        stream = self.blocks(torch.cat([conditioning[:, None], tokens], dim=1))
        return self.unpatchify(self.head(self.norm(stream[:, 1:])))

    def patchify(self, images: torch.Tensor) -> torch.Tensor:
        """Return images as patches (B, patches, C * patch^2)."""
        grid = images.reshape(len(images), CHANNELS, self.side, self.patch, self.side, self.patch)
        return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """Return patches as images (B, C, pixels, pixels)."""
        grid = patches.reshape(len(patches), self.side, self.side, CHANNELS, self.patch, self.patch)
        return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
