"""A diffusion transformer (Peebles and Xie, arXiv:2212.09748): noise in, image out, in many small steps.

An image is cut into patches, each a token; one more token in front says how noisy the image is and what it
shows ("in-context conditioning", section 3.2 there), so the blocks are the language model's own, without the
causal mask. The network predicts the noise in an image; DDIM (Song et al., arXiv:2010.02502) takes a part of it
away and asks again. DDIM draws no random numbers: from one noise every backend reaches one image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.nn.activations import sigmoid
from benchmarks.nn.functions import Array, linear
from benchmarks.nn.initial import initial_linear, initial_norm, normal
from benchmarks.nn.names import named, scoped
from benchmarks.nn.normalisation import layernorm
from benchmarks.nn.transformer import block, block_flops, initial_block

Params = Mapping[str, Array]
CHANNELS = 3
TRAINED_STEPS = 1000  # of the noise schedule that a step's time is a place in


@dataclass(frozen=True, slots=True)
class Dit:
    """patch and pixels: along a side. classes: what an image can show."""

    layers: int
    heads: int
    width: int
    patch: int
    pixels: int
    classes: int = 10

    @property
    def patches(self) -> int:
        return (self.pixels // self.patch) ** 2

    @property
    def patch_dim(self) -> int:
        return CHANNELS * self.patch**2

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return weights under which noise, scores and streams are about 1."""
        params = {
            "positions": normal(rng, (self.patches, self.width), dtype),
            "labels.weight": normal(rng, (self.classes, self.width), dtype),
        }
        shapes = {
            "patch_embedding": (self.patch_dim, self.width),
            "time.0": (self.width, self.width),
            "time.2": (self.width, self.width),
            "head": (self.width, self.patch_dim),
        }
        for name, (inputs, outputs) in shapes.items():
            params |= named(name, initial_linear(rng, inputs, outputs, dtype))
        for i in range(self.layers):
            params |= named(f"blocks.{i}", initial_block(rng, self.width, self.layers, dtype))
        return params | named("norm", initial_norm(rng, self.width, dtype))

    def predict_noise(self, xp: Any, params: Params, images: Array, time: Array, labels: Array) -> Array:
        """Return the noise predicted in images (B, C, pixels, pixels).

        time (width): the waves of how noisy they are (`waves`); labels (B): what they show.
        """
        tokens, _ = linear(xp, self.patchify(images), params["patch_embedding.weight"], params["patch_embedding.bias"])
        tokens += params["positions"]
        conditioning = _conditioning(xp, params, time) + params["labels.weight"][labels]
        stream = xp.concatenate([conditioning[:, None], tokens], axis=1)
        for i in range(self.layers):
            stream, _ = block(xp, stream, scoped(params, f"blocks.{i}"), self.heads, causal=False)
        normed, _ = layernorm(xp, stream[:, 1:], params["norm.weight"], params["norm.bias"])
        noise, _ = linear(xp, normed, params["head.weight"], params["head.bias"])
        return self.unpatchify(noise)

    def patchify(self, images: Array) -> Array:
        """Return images (B, C, pixels, pixels) as patches (B, patches, C * patch^2)."""
        batch, side = len(images), self.pixels // self.patch
        grid = images.reshape(batch, CHANNELS, side, self.patch, side, self.patch)
        return grid.transpose(0, 2, 4, 1, 3, 5).reshape(batch, self.patches, self.patch_dim)

    def unpatchify(self, patches: Array) -> Array:
        """Return patches (B, patches, C * patch^2) as images (B, C, pixels, pixels)."""
        batch, side = len(patches), self.pixels // self.patch
        grid = patches.reshape(batch, side, side, CHANNELS, self.patch, self.patch)
        return grid.transpose(0, 3, 1, 4, 2, 5).reshape(batch, CHANNELS, self.pixels, self.pixels)

    def parameters(self) -> int:
        """Return how many numbers the model is."""
        ends = self.patch_dim * (2 * self.width + 1) + self.width
        conditioning = 2 * (self.width + 1) * self.width + (self.classes + self.patches) * self.width
        return ends + conditioning + self.layers * (12 * self.width**2 + 13 * self.width) + 2 * self.width

    def flops(self, batch: int) -> float:
        """Return the FLOPs of one prediction.

        Blocks over all patches and the token in front, both ends, and the time's layers, once for all images.
        Ignored: what `block_flops` ignores, and the update of the image.
        """
        tokens = self.patches + 1
        ends = 4 * self.patches * self.patch_dim * self.width
        return batch * (self.layers * block_flops(self.width, tokens, tokens) + ends) + 4 * self.width**2


def _conditioning(xp: Any, params: Params, time: Array) -> Array:
    hidden, _ = linear(xp, time, params["time.0.weight"], params["time.0.bias"])
    activated = hidden * sigmoid(xp, hidden)[0]
    return linear(xp, activated, params["time.2.weight"], params["time.2.bias"])[0]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What each of a sampler's steps needs, worked out beforehand on the host.

    waves (steps, width): cosines and sines that tell the network the time of a step. keep, noise (steps): what the
    image is multiplied by, and what the predicted noise is, to reach the next step.
    """

    waves: np.ndarray
    keep: tuple[float, ...]
    noise: tuple[float, ...]

    @classmethod
    def ddim(cls, steps: int, width: int, dtype: str) -> Schedule:
        """Return DDIM's schedule, eta 0, over the linear schedule of DDPM (arXiv:2006.11239): beta from 1e-4 to 0.02.

        x' = sqrt(a') (x - sqrt(1 - a) e) / sqrt(a) + sqrt(1 - a') e, with a the share of signal and e the noise.
        """
        signal = np.cumprod(1 - np.linspace(1e-4, 0.02, TRAINED_STEPS))
        times = np.linspace(TRAINED_STEPS - 1, 0, steps).round().astype(int)
        now, following = signal[times], np.append(signal[times[1:]], 1.0)
        keep = np.sqrt(following / now)
        noise = np.sqrt(1 - following) - keep * np.sqrt(1 - now)
        frequencies = np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2))
        angles = times[:, None] * frequencies
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
        return cls(waves, tuple(keep.tolist()), tuple(noise.tolist()))
