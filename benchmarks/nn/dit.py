"""A diffusion transformer (Peebles and Xie, arXiv:2212.09748; details as in facebookresearch/DiT, models.py).

Noise in, image out, in many small steps. An image is a latent here, such as an autoencoder makes of 256x256 pixels:
32x32 with 4 channels. The autoencoder is no part of the network. A latent is cut into patches, each a token. How noisy
it is and what it shows condition every block: a linear layer makes of them how the norms scale and shift, and how much
of what a block computes is added to the stream ("adaLN-Zero", section 3.2 there).

The network predicts the noise in a latent, and for each number a sigma: where between its bounds the variance of the
next step lies, for samplers that draw random numbers. DDIM (Song et al., arXiv:2010.02502) takes a part of the noise
away and asks again. It draws none, so from one noise every backend reaches one image, and it ignores sigma. There is
no classifier-free guidance, which asks twice for every image, the second time for the null class: that class has its
row in the table of labels, and no label names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.nn.activations import sigmoid
from benchmarks.nn.attention import self_attention
from benchmarks.nn.functions import Array, linear
from benchmarks.nn.initial import initial_linear, normal
from benchmarks.nn.names import named, scoped
from benchmarks.nn.normalisation import normalise
from benchmarks.nn.transformer import block_flops, initial_layers, mlp

Params = Mapping[str, Array]
EPSILON = 1e-6  # of the norms
WAVES = 256  # cosines and sines that tell the network the time of a step
LONGEST = 10_000  # the slowest wave has a period of about 2 pi times as many steps, or patches
TRAINED_STEPS = 1000  # of the noise schedule that a step's time is a place in


@dataclass(frozen=True, slots=True)
class Dit:
    """patch and pixels: along a side of the latent. classes: what an image can show, the null class not counted."""

    layers: int
    heads: int
    width: int
    patch: int
    pixels: int
    channels: int = 4
    classes: int = 1000

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.pixels // self.patch

    @property
    def patches(self) -> int:
        return self.side**2

    @property
    def patch_dim(self) -> int:
        """Numbers in a patch of the latent; the prediction has twice as many."""
        return self.channels * self.patch**2

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return weights under which predictions, scores and streams are about 1.

        A fresh model's modulations and head are zero ("Zero"). Here none is: a gate of zero would hide its whole
        block from the check. The positions are what they are in any such model.
        """
        params = {
            "positions": position_table(self.side, self.width).astype(dtype),
            "labels.weight": normal(rng, (self.classes + 1, self.width), dtype),
        }
        shapes = {
            "patch_embedding": (self.patch_dim, self.width),
            "time.0": (WAVES, self.width),
            "time.2": (self.width, self.width),
            "modulation.1": (self.width, 2 * self.width),
            "head": (self.width, 2 * self.patch_dim),
        }
        for name, (inputs, outputs) in shapes.items():
            params |= named(name, initial_linear(rng, inputs, outputs, dtype))
        for i in range(self.layers):
            modulation = named("modulation.1", initial_linear(rng, self.width, 6 * self.width, dtype))
            layers = initial_layers(rng, self.width, self.layers, dtype)
            params |= named(f"blocks.{i}", modulation | layers)
        return params

    def predict(self, xp: Any, params: Params, latents: Array, time: Array, labels: Array) -> Array:
        """Return (B, 2 C, pixels, pixels) for latents (B, C, pixels, pixels): the noise in them, then sigma.

        time (WAVES): the waves of how noisy they are (`Schedule`), the same for all; labels (B): what they show.
        """
        stream, _ = linear(xp, self.patchify(latents), params["patch_embedding.weight"], params["patch_embedding.bias"])
        stream += params["positions"]
        # Every modulation begins with a SiLU of the same conditioning: it is computed once.
        conditioning = _silu(xp, _time(xp, params, time) + params["labels.weight"][labels])
        for i in range(self.layers):
            stream = block(xp, stream, conditioning, scoped(params, f"blocks.{i}"), self.heads)
        shift, scale = modulation(xp, conditioning, params, 2)
        patches, _ = linear(xp, modulated(xp, stream, shift, scale), params["head.weight"], params["head.bias"])
        return self.unpatchify(patches)

    def patchify(self, latents: Array) -> Array:
        """Return latents (B, C, pixels, pixels) as patches (B, patches, C * patch^2)."""
        grid = latents.reshape(len(latents), self.channels, self.side, self.patch, self.side, self.patch)
        return grid.transpose(0, 2, 4, 1, 3, 5).reshape(len(latents), self.patches, self.patch_dim)

    def unpatchify(self, patches: Array) -> Array:
        """Return predicted patches (B, patches, patch^2 * 2 C) as (B, 2 C, pixels, pixels).

        The channels come last here and first in `patchify`, as in the original.
        """
        grid = patches.reshape(len(patches), self.side, self.side, self.patch, self.patch, 2 * self.channels)
        return grid.transpose(0, 5, 1, 3, 2, 4).reshape(len(patches), 2 * self.channels, self.pixels, self.pixels)

    def parameters(self) -> int:
        """Return how many numbers the model is, the fixed positions and the null class among them."""
        width = self.width
        ends = (self.patch_dim + 1) * width + (width + 1) * 2 * self.patch_dim
        tables = (self.patches + self.classes + 1) * width
        time = (WAVES + 1 + width + 1) * width
        return ends + tables + time + (width + 1) * 2 * width + self.layers * (18 * width**2 + 15 * width)

    def flops(self, batch: int) -> float:
        """Return the FLOPs of one prediction.

        Blocks as `block_flops`, and their modulations, 12 C^2 a block and image; the patches' two ends, the head's
        modulation, and the time's layers, once for all images. Ignored: what `block_flops` ignores, the gates and
        modulated norms themselves, and the update of the latent.
        """
        blocks = self.layers * (block_flops(self.width, self.patches, self.patches) + 12 * self.width**2)
        ends = 2 * self.patches * self.width * 3 * self.patch_dim + 4 * self.width**2
        return batch * (blocks + ends) + 2 * (WAVES + self.width) * self.width


def block(xp: Any, x: Array, conditioning: Array, params: Params, heads: int) -> Array:
    """Return the stream x (B, T, C) after one block, under conditioning (B, C), of which the SiLU is taken already.

    No cache is kept: there is no way back.
    """
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(xp, conditioning, params, 6)
    added = self_attention(xp, modulated(xp, x, shift1, scale1), scoped(params, "attention"), heads, causal=False)[0]
    added *= gate1
    x = x + added
    added = mlp(xp, modulated(xp, x, shift2, scale2), scoped(params, "mlp"))[0]
    added *= gate2
    return x + added


def modulation(xp: Any, conditioning: Array, params: Params, parts: int) -> list[Array]:
    """Return the `parts` shifts, scales and gates (B, 1, C) that conditioning (B, C) leads to, by one linear layer."""
    out, _ = linear(xp, conditioning, params["modulation.1.weight"], params["modulation.1.bias"])
    out = out.reshape(len(out), parts, 1, -1)
    return [out[:, i] for i in range(parts)]


def modulated(xp: Any, x: Array, shift: Array, scale: Array) -> Array:
    """Return x (B, T, C), normalised over its channels, times (1 + scale), plus shift (B, 1, C)."""
    normed, _ = normalise(xp, x, EPSILON)
    normed *= 1 + scale
    normed += shift
    return normed


def position_table(side: int, width: int) -> np.ndarray:
    """Return where each of side x side patches is, row by row, as (side^2, width) in float64.

    The first half of the channels tells the column, the second the row: sines and then cosines of the place times
    10000^(-i / n), for i below n = width / 4.
    """
    along = np.arange(side)[:, None] * _frequencies(width // 4)
    waves = np.concatenate([np.sin(along), np.cos(along)], axis=1)
    return np.concatenate([np.tile(waves, (side, 1)), np.repeat(waves, side, axis=0)], axis=1)


def _frequencies(count: int) -> np.ndarray:
    """Return 10000^(-i / count) for i below count."""
    return np.exp(-math.log(LONGEST) * np.arange(count) / count)


def _time(xp: Any, params: Params, time: Array) -> Array:
    hidden, _ = linear(xp, time, params["time.0.weight"], params["time.0.bias"])
    return linear(xp, _silu(xp, hidden), params["time.2.weight"], params["time.2.bias"])[0]


def _silu(xp: Any, x: Array) -> Array:
    return x * sigmoid(xp, x)[0]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What each of a sampler's steps needs, worked out beforehand on the host.

    waves (steps, WAVES): cosines and sines that tell the network the time of a step. keep, noise (steps): what the
    latent is multiplied by, and what the predicted noise is, to reach the next step.
    """

    waves: np.ndarray
    keep: tuple[float, ...]
    noise: tuple[float, ...]

    @classmethod
    def ddim(cls, steps: int, dtype: str) -> Schedule:
        """Return DDIM's schedule, eta 0, over the linear schedule of DDPM (arXiv:2006.11239): beta from 1e-4 to 0.02.

        x' = sqrt(a') (x - sqrt(1 - a) e) / sqrt(a) + sqrt(1 - a') e, with a the share of signal and e the noise.
        """
        signal = np.cumprod(1 - np.linspace(1e-4, 0.02, TRAINED_STEPS))
        times = np.linspace(TRAINED_STEPS - 1, 0, steps).round().astype(int)
        now, following = signal[times], np.append(signal[times[1:]], 1.0)
        keep = np.sqrt(following / now)
        noise = np.sqrt(1 - following) - keep * np.sqrt(1 - now)
        angles = times[:, None] * _frequencies(WAVES // 2)
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
        return cls(waves, tuple(keep.tolist()), tuple(noise.tolist()))
