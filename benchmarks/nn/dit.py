"""A diffusion Transformer (Peebles and Xie, arXiv:2212.09748; details as in facebookresearch/DiT, models.py).

The network turns noise into an image in many small steps. An "image" here is a latent, 32x32 values with 4 channels, as
an autoencoder computes it from 256x256 pixels; the autoencoder is not part of the network. A latent is cut into
patches, and each patch is a token. Every block is conditioned on the noise level (the time) and on the class (the
label): a linear layer computes from both the scales and shifts of the norms, and gates that multiply what the block
adds to the stream ("adaLN-Zero", section 3.2 of the paper).

The network predicts the noise in a latent, and for each value a sigma, which sets the variance of the next step between
two bounds. Only samplers that draw random numbers use sigma. DDIM (Song et al., arXiv:2010.02502) draws none: each step
removes a part of the predicted noise. So the same noise leads to the same image on every backend. Classifier-free
guidance is left out. It would evaluate the network a second time per image, with the null class; that class has a row
in the table of labels, which no label uses.

Only inference is measured, so there is no backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .activations import sigmoid
from .attention import self_attention
from .functions import Array, linear
from .initial import initial_linear, normal
from .names import named, scoped
from .normalisation import normalise
from .transformer import block_flops, initial_layers, mlp
from .tuned import has_forms

Params = Mapping[str, Array]
EPSILON = 1e-6  # added to the variance in the norms
WAVES = 256  # cosines and sines that encode the time of a step
LONGEST = 10_000  # the slowest wave has a period of about 2 pi times this many steps, or patches
TRAINED_STEPS = 1000  # length of the noise schedule; the time of a step is an index into it


@dataclass(frozen=True, slots=True)
class Dit:
    """The shape of a DiT. patch, pixels: along a side of the latent. classes: without the null class."""

    layers: int
    heads: int
    width: int
    patch: int
    pixels: int
    channels: int = 4
    classes: int = 1000

    @property
    def side(self) -> int:
        """Patches along a side of the latent."""
        return self.pixels // self.patch

    @property
    def patches(self) -> int:
        return self.side**2

    @property
    def patch_dim(self) -> int:
        """Values in a patch of the latent; a patch of the prediction has twice as many (noise and sigma)."""
        return self.channels * self.patch**2

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return initial parameters with which predictions, attention scores and the stream have values of about 1.

        In the paper modulations and head start at zero (the "Zero" in adaLN-Zero). Here they are random: a gate of zero
        would hide errors of its block from the check. The positions are those of the paper, fixed sines and cosines.
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
        """Return noise and sigma, (B, 2 C, pixels, pixels), for latents (B, C, pixels, pixels).

        The first C channels are the noise, the others sigma. time (WAVES): the encoded time of the step (`Schedule`),
        the same for all latents; labels (B): classes, integers.
        """
        stream, _ = linear(xp, self.patchify(latents), params["patch_embedding.weight"], params["patch_embedding.bias"])
        stream += params["positions"]
        # Every modulation applies SiLU to the same conditioning first: it is computed once.
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

        Within a patch the channels are the last axis here and the first in `patchify`, as in facebookresearch/DiT.
        """
        grid = patches.reshape(len(patches), self.side, self.side, self.patch, self.patch, 2 * self.channels)
        return grid.transpose(0, 5, 1, 3, 2, 4).reshape(len(patches), 2 * self.channels, self.pixels, self.pixels)

    def parameters(self) -> int:
        """Return the number of parameters, including the fixed positions and the null class.

        A block has 12 C^2 weights and 9 C biases in attention and MLP, and 6 C^2 + 6 C in its modulation.
        """
        width = self.width
        ends = (self.patch_dim + 1) * width + (width + 1) * 2 * self.patch_dim
        tables = (self.patches + self.classes + 1) * width
        time = (WAVES + 1 + width + 1) * width
        return ends + tables + time + (width + 1) * 2 * width + self.layers * (18 * width**2 + 15 * width)

    def flops(self, batch: int) -> float:
        """Return the FLOPs of one prediction for a batch of latents.

        Per image: blocks as in `block_flops`; 12 C^2 per block for its modulation; 2 C per value of the latent for the
        patch embedding, 4 C for the head, and 4 C^2 for the head's modulation. Once for all images: the two layers that
        embed the time. Ignored: what `block_flops` ignores, the application of gates, scales and shifts, and the update
        of the latent.
        """
        blocks = self.layers * (block_flops(self.width, self.patches, self.patches) + 12 * self.width**2)
        ends = 2 * self.patches * self.width * 3 * self.patch_dim + 4 * self.width**2
        return batch * (blocks + ends) + 2 * (WAVES + self.width) * self.width


def block(xp: Any, x: Array, conditioning: Array, params: Params, heads: int) -> Array:
    """Return the stream (B, T, C) after one block. x (B, T, C); conditioning (B, C), after SiLU.

    x + gate1 attention(modulated(x)), then x + gate2 mlp(modulated(x)). No cache is kept: there is no backward pass.
    """
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(xp, conditioning, params, 6)
    added = self_attention(xp, modulated(xp, x, shift1, scale1), scoped(params, "attention"), heads, causal=False)[0]
    x = gated(xp, x, added, gate1)
    added = mlp(xp, modulated(xp, x, shift2, scale2), scoped(params, "mlp"))[0]
    return gated(xp, x, added, gate2)


@has_forms
def gated(xp: Any, x: Array, added: Array, gate: Array) -> Array:
    """Return x + gate * added (B, T, C) for gate (B, 1, C), one factor per channel of an image; overwrites `added`."""
    added *= gate
    return x + added


def modulation(xp: Any, conditioning: Array, params: Params, parts: int) -> list[Array]:
    """Return `parts` shifts, scales and gates (B, 1, C): conditioning (B, C) through one linear layer, cut in parts."""
    out, _ = linear(xp, conditioning, params["modulation.1.weight"], params["modulation.1.bias"])
    out = out.reshape(len(out), parts, 1, -1)
    return [out[:, i] for i in range(parts)]


@has_forms
def modulated(xp: Any, x: Array, shift: Array, scale: Array) -> Array:
    """Return n (1 + scale) + shift (B, T, C), where n is x (B, T, C) normalised over its channels.

    shift, scale (B, 1, C): the same for all tokens of an image.
    """
    normed, _ = normalise(xp, x, EPSILON)
    normed *= 1 + scale
    normed += shift
    return normed


def position_table(side: int, width: int) -> np.ndarray:
    """Return the position embedding (side^2, width), float64, of side x side patches, row by row.

    The first half of the channels encodes the column, the second the row. Each half holds the sines, then the cosines,
    of position * 10000^(-i / n) for i = 0, ..., n - 1 with n = width / 4 (as in facebookresearch/DiT).
    """
    along = np.arange(side)[:, None] * _frequencies(width // 4)
    waves = np.concatenate([np.sin(along), np.cos(along)], axis=1)
    return np.concatenate([np.tile(waves, (side, 1)), np.repeat(waves, side, axis=0)], axis=1)


def _frequencies(count: int) -> np.ndarray:
    """Return 10000^(-i / count) for i = 0, ..., count - 1."""
    return np.exp(-math.log(LONGEST) * np.arange(count) / count)


def _time(xp: Any, params: Params, time: Array) -> Array:
    hidden, _ = linear(xp, time, params["time.0.weight"], params["time.0.bias"])
    return linear(xp, _silu(xp, hidden), params["time.2.weight"], params["time.2.bias"])[0]


def _silu(xp: Any, x: Array) -> Array:
    return x * sigmoid(xp, x)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The constants of a sampler's steps, computed once on the host.

    waves (steps, WAVES): cosines and sines that encode the time of each step. keep, noise (steps): the factors of the
    latent and of the predicted noise; x' = keep x + noise e.
    """

    waves: np.ndarray
    keep: tuple[float, ...]
    noise: tuple[float, ...]

    @classmethod
    def ddim(cls, steps: int, dtype: str) -> Schedule:
        """Return the schedule of DDIM with eta = 0 for the noise schedule of DDPM (arXiv:2006.11239).

        DDPM's beta grows linearly from 1e-4 to 0.02 in 1000 steps. With a = prod(1 - beta) up to this step (alpha-bar
        in DDPM), a' the same for the next step, and e the predicted noise:

            x' = sqrt(a') (x - sqrt(1 - a) e) / sqrt(a) + sqrt(1 - a') e
               = keep x + noise e,  keep = sqrt(a' / a),  noise = sqrt(1 - a') - keep sqrt(1 - a)

        Source: arXiv:2010.02502, equation 12 with sigma 0 (there alpha stands for a).
        """
        signal = np.cumprod(1 - np.linspace(1e-4, 0.02, TRAINED_STEPS))
        times = np.linspace(TRAINED_STEPS - 1, 0, steps).round().astype(int)
        now, following = signal[times], np.append(signal[times[1:]], 1.0)  # the last step ends without noise
        keep = np.sqrt(following / now)
        noise = np.sqrt(1 - following) - keep * np.sqrt(1 - now)
        angles = times[:, None] * _frequencies(WAVES // 2)
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(dtype)
        return cls(waves, tuple(keep.tolist()), tuple(noise.tolist()))
