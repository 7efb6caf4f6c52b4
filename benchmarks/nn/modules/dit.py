"""The diffusion Transformer as nn.Module, with the attention and MLP modules of the language model."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..dit import EPSILON, WAVES, Dit
from .gpt import Attention, Perceptron


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return x (1 + scale) + shift for x (B, T, C) and scale, shift (B, 1, C)."""
    return x * (1 + scale) + shift


class Modulation(nn.Sequential):
    """SiLU and a linear layer that compute `parts` shifts, scales and gates of a block or of the head."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    def forward(self, conditioning: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return `parts` tensors (B, 1, C) for conditioning (B, C)."""
        out: torch.Tensor = super().forward(conditioning)
        return out.unsqueeze(1).chunk(self.parts, dim=-1)


class DitBlock(nn.Module):
    """A Transformer block with adaLN-Zero conditioning."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.attention = Attention(width, heads, causal=False)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.mlp = Perceptron(width)
        self.modulation = Modulation(width, 6)

    def forward(self, x: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        """Return the stream (B, T, C) after the block, for the stream x (B, T, C) and conditioning (B, C)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(conditioning)
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + cast("torch.Tensor", gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2)))


class DitModule(nn.Module):
    """The network; parameters have the names and shapes of `benchmarks.nn.dit.Dit`."""

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
        """Return noise and sigma, concatenated to (B, 2 C, pixels, pixels), for latents (B, C, pixels, pixels).

        time (WAVES): the same for all latents; labels (B): integers.
        """
        x = self.patch_embedding(self.patchify(latents)) + self.positions
        conditioning = self.time(time) + self.labels(labels)
        for block in self.blocks:
            x = block(x, conditioning)
        return self.unpatchify(self.head(modulate(self.norm(x), *self.modulation(conditioning))))

    def patchify(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents (B, C, pixels, pixels) as patches (B, patches, C * patch^2)."""
        grid = latents.reshape(len(latents), self.channels, self.side, self.patch, self.side, self.patch)
        return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: torch.Tensor) -> torch.Tensor:
        """Return predicted patches (B, patches, patch^2 * 2 C) as (B, 2 C, pixels, pixels)."""
        grid = patches.reshape(len(patches), self.side, self.side, self.patch, self.patch, 2 * self.channels)
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
