"""The diffusion transformer as nn.Module, around the language model's attention and perceptron."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from benchmarks.nn.dit import EPSILON, WAVES, Dit
from benchmarks.nn.modules.gpt import Attention, Perceptron


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return x (B, T, C) scaled and shifted by one vector (B, 1, C) each."""
    return x * (1 + scale) + shift


class Modulation(nn.Sequential):
    """What conditions a block or the head: `parts` shifts, scales and gates of one linear layer."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    def forward(self, conditioning: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the parts (B, 1, C) for conditioning (B, C)."""
        out: torch.Tensor = super().forward(conditioning)
        return out.unsqueeze(1).chunk(self.parts, dim=-1)


class DitBlock(nn.Module):
    """Block with adaLN-Zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.attention = Attention(width, heads, causal=False)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.mlp = Perceptron(width)
        self.modulation = Modulation(width, 6)

    def forward(self, x: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        """Return the stream x (B, T, C) after the block, under conditioning (B, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(conditioning)
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + cast("torch.Tensor", gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2)))


class DitModule(nn.Module):
    """Same names and shapes of parameters as `benchmarks.nn.dit.Dit`."""

    def __init__(self, network: Dit) -> None:
        super().__init__()
        self.patch, self.side, self.channels = network.patch, network.side, network.channels
        width = network.width
        self.patch_embedding = nn.Linear(network.patch_dim, width)
        self.positions = nn.Parameter(torch.empty(network.patches, width), requires_grad=False)
        self.labels = nn.Embedding(network.classes + 1, width)
        self.time = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(DitBlock(width, network.heads) for _ in range(network.layers))
        self.norm = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.modulation = Modulation(width, 2)
        self.head = nn.Linear(width, 2 * network.patch_dim)

    def forward(self, latents: torch.Tensor, time: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return noise, then sigma (B, 2 C, pixels, pixels) of latents (B, C, pixels, pixels).

        time (WAVES) is the same for all of them; labels (B).
        """
        x = self.patch_embedding(self.patchify(latents)) + self.positions
        conditioning = self.time(time) + self.labels(labels)
        for block in self.blocks:
            x = block(x, conditioning)
        return self.unpatchify(self.head(modulate(self.norm(x), *self.modulation(conditioning))))

    def patchify(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents as patches (B, patches, C * patch^2)."""
        grid = latents.reshape(len(latents), self.channels, self.side, self.patch, self.side, self.patch)
        return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """Return predicted patches (B, patches, patch^2 * 2 C) as (B, 2 C, pixels, pixels)."""
        grid = patches.reshape(len(patches), self.side, self.side, self.patch, self.patch, 2 * self.channels)
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
