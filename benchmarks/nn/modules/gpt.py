"""The decoder as nn.Module; attention is scaled_dot_product_attention, or explicit products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from ..gpt import Gpt

# Keys and values of one layer, (B, H, capacity, D) each: two tensors, and each layer has its own. torch.compile first
# turns every write to a tensor into a new tensor, and back into a write in place only if the tensor is no view of
# another. With all layers in one tensor, a compiled step copied the whole cache for each of them.
KvCache = tuple[torch.Tensor, torch.Tensor]


def explicit_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Return softmax(q k^T / sqrt(D)) v (B, H, T, D) as separate operations, with all scores (B, H, T, T) in memory."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        ahead = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(ahead, -math.inf)
    return scores.softmax(dim=-1) @ v


def split_heads(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values, (B, H, T, D) each, from their projection (B, T, 3 C)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


class Attention(nn.Module):
    """Self-attention over `width` channels in `heads` heads."""

    def __init__(self, width: int, heads: int, *, causal: bool, explicit: bool = False) -> None:
        super().__init__()
        self.heads, self.causal, self.explicit = heads, causal, explicit
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return queries, keys and values, (B, H, T, D) each, of x (B, T, C)."""
        return split_heads(self.qkv(x), self.heads)

    def merge(self, mixed: torch.Tensor) -> torch.Tensor:
        """Concatenate all heads (B, H, T, D) and project them to (B, T, C)."""
        out: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the self-attention (B, T, C) of x (B, T, C)."""
        q, k, v = self.project(x)
        if self.explicit:
            return self.merge(explicit_attention(q, k, v, causal=self.causal))
        return self.merge(functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal))

    def extend(self, x: torch.Tensor, kv_cache: KvCache, start: int) -> torch.Tensor:
        """Return the attention (B, T, C) of new tokens x (B, T, C) to themselves and to `start` tokens in the KV cache.

        Keys and values of the new tokens are written to positions `start` and following of the cache, in place. Several
        new tokens are only supported on an empty cache (start 0).
        """
        q, k, v = self.project(x)
        keys, values = kv_cache
        stop = start + x.shape[1]
        keys[:, :, start:stop], values[:, :, start:stop] = k, v
        seen = keys[:, :, :stop], values[:, :, :stop]
        return self.merge(functional.scaled_dot_product_attention(q, *seen, is_causal=x.shape[1] > 1))

    def extend_static(self, x: torch.Tensor, kv_cache: KvCache, at: torch.Tensor) -> torch.Tensor:
        """Return what `extend` returns, for one token at position `at` (1).

        All shapes are the same for every position, so one compiled program serves all steps.
        """
        q, k, v = self.project(x)
        keys, values = kv_cache
        keys.index_copy_(2, at, k.to(keys.dtype))
        values.index_copy_(2, at, v.to(values.dtype))
        seen = torch.arange(keys.shape[2], device=x.device) <= at
        k, v = keys.to(q.dtype), values.to(q.dtype)
        return self.merge(functional.scaled_dot_product_attention(q, k, v, attn_mask=seen[None]))


class Perceptron(nn.Module):
    """The MLP of a block: a linear layer to four times the width, GELU, a linear layer back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return down(gelu(up(x))) (..., C) for x (..., C)."""
        out: torch.Tensor = self.down(functional.gelu(self.up(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """A pre-norm Transformer block."""

    def __init__(self, width: int, heads: int, *, causal: bool, explicit: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal, explicit=explicit)
        self.mlp = Perceptron(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stream (B, T, C) after the block."""
        return self._add_mlp(x + self.attention(self.norm1(x)))

    def extend(self, x: torch.Tensor, kv_cache: KvCache, start: int) -> torch.Tensor:
        """Return the stream (B, T, C) of new tokens after the block, given `start` tokens in the KV cache."""
        return self._add_mlp(x + self.attention.extend(self.norm1(x), kv_cache, start))

    def extend_static(self, x: torch.Tensor, kv_cache: KvCache, at: torch.Tensor) -> torch.Tensor:
        """Return the stream (B, 1, C) of one new token at position `at` (1) after the block."""
        return self._add_mlp(x + self.attention.extend_static(self.norm1(x), kv_cache, at))

    def _add_mlp(self, x: torch.Tensor) -> torch.Tensor:
        return x + cast("torch.Tensor", self.mlp(self.norm2(x)))


class GptModule(nn.Module):
    """The network; parameters have the names and shapes of `benchmarks.nn.gpt.Gpt`."""

    def __init__(self, network: Gpt, *, explicit: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(network.vocabulary, network.width)
        self.positions = nn.Embedding(network.context, network.width)
        blocks = [Block(network.width, network.heads, causal=True, explicit=explicit) for _ in range(network.layers)]
        self.blocks = cast("list[Block]", nn.ModuleList(blocks))
        self.norm = nn.LayerNorm(network.width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits (B, T, V) for ids (B, T)."""
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.tokens.weight)

    def extend(self, kv_cache: Sequence[KvCache], ids: torch.Tensor, start: int) -> torch.Tensor:
        """Return logits (B, V) for the token after ids (B, T), which follow `start` tokens in the KV cache."""
        x = self.tokens(ids) + self.positions.weight[start : start + ids.shape[1]]
        for block, layer_cache in zip(self.blocks, kv_cache, strict=True):
            x = block.extend(x, layer_cache, start)
        return functional.linear(self.norm(x[:, -1]), self.tokens.weight)

    def extend_static(self, kv_cache: Sequence[KvCache], ids: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """Return logits (B, V) for the token after ids (B, 1), which are at position `at` (1)."""
        x = self.tokens(ids) + self.positions(at)
        for block, layer_cache in zip(self.blocks, kv_cache, strict=True):
            x = block.extend_static(x, layer_cache, at)
        return functional.linear(self.norm(x[:, -1]), self.tokens.weight)
