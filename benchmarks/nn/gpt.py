"""A decoder-only language model like GPT-2 (Radford et al. 2019): it predicts the next token.

Token and position embeddings, causal blocks, a final norm, and a head that shares its weights with the token embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .functions import Array, Cache, embedding, scatter_add
from .initial import initial_norm, normal
from .names import named, scoped
from .normalisation import layernorm, layernorm_backward
from .transformer import (
    Params,
    block,
    block_backward,
    block_extend,
    block_flops,
    initial_block,
)


@dataclass(frozen=True, slots=True)
class Gpt:
    """The shape of a model. context: the largest number of tokens that it can attend to."""

    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int

    def initial(self, rng: np.random.Generator, dtype: str) -> dict[str, np.ndarray]:
        """Return initial parameters with which logits, attention scores and the stream have values of about 1."""
        params = {
            "tokens.weight": normal(rng, (self.vocabulary, self.width), dtype, self.width**-0.5),
            "positions.weight": normal(rng, (self.context, self.width), dtype, self.width**-0.5),
        }
        for i in range(self.layers):
            params |= named(f"blocks.{i}", initial_block(rng, self.width, self.layers, dtype))
        return params | named("norm", initial_norm(rng, self.width, dtype))

    def forward(self, xp: Any, params: Params, x: Array) -> tuple[Array, Cache]:
        """Return logits (B, T, V) for the token after each of x (B, T), integers below V."""
        tokens, gathered = embedding(xp, x, params["tokens.weight"])
        stream = tokens + params["positions.weight"][: x.shape[1]]
        caches = []
        for i in range(self.layers):
            stream, cache = block(xp, stream, scoped(params, f"blocks.{i}"), self.heads, causal=True)
            caches.append(cache)
        normed, norm = layernorm(xp, stream, params["norm.weight"], params["norm.bias"])
        rows = normed.reshape(-1, self.width)
        logits = rows @ params["tokens.weight"].T
        return logits.reshape(*x.shape, -1), (gathered, caches, norm, rows, params["tokens.weight"])

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter, by name, for grad g = dL/dlogits (B, T, V).

        The token embedding is used twice, as embedding and as head. Its gradient is the sum of both.
        """
        gathered, caches, norm, rows, tokens = cache
        batch, time = grad.shape[:2]
        grad = grad.reshape(-1, self.vocabulary)
        dtokens = grad.T @ rows  # as the head, logits = rows W^T: dL/dW = g^T rows (V, C)
        dnormed = (grad @ tokens).reshape(batch, time, self.width)  # and dL/drows = g W
        dstream, dweight, dbias = layernorm_backward(xp, dnormed, norm)
        grads = {"norm.weight": dweight, "norm.bias": dbias}
        for i in reversed(range(self.layers)):
            dstream, block_grads = block_backward(xp, dstream, caches[i])
            grads |= named(f"blocks.{i}", block_grads)
        scatter_add(xp, dtokens, gathered[0], dstream)  # as the embedding: added in place to the head's gradient
        dpositions = xp.zeros((self.context, self.width), dtype=dstream.dtype)  # positions after T were not used
        dpositions[:time] = dstream.sum(axis=0)  # every sequence adds the same positions: sum over the batch
        return grads | {"tokens.weight": dtokens, "positions.weight": dpositions}

    def kv_cache(self, xp: Any, batch: int, capacity: int, dtype: Any) -> Array:
        """Return an empty KV cache (layers, 2, B, H, capacity, D): keys and values of up to `capacity` tokens."""
        depth = self.width // self.heads
        return xp.empty((self.layers, 2, batch, self.heads, capacity, depth), dtype=dtype)

    def extend(self, xp: Any, params: Params, kv_cache: Array, ids: Array, start: int) -> Array:
        """Return logits (B, V) for the token after ids (B, T), which follow the `start` tokens in the KV cache.

        The keys and values of ids are written to the cache, in place.
        """
        stop = start + ids.shape[1]
        stream = params["tokens.weight"][ids] + params["positions.weight"][start:stop]
        for i in range(self.layers):
            stream = block_extend(xp, stream, scoped(params, f"blocks.{i}"), (kv_cache[i, 0], kv_cache[i, 1]), start)
        last, _ = layernorm(xp, stream[:, -1], params["norm.weight"], params["norm.bias"])
        return last @ params["tokens.weight"].T

    def parameters(self) -> int:
        """Return the number of parameters; head and token embedding share theirs, which count once.

        A block has 12 C^2 weights (`block_flops`), 9 C biases (3 C qkv, C out, 4 C up, C down), and 4 C in its norms.
        """
        embeddings = (self.vocabulary + self.context) * self.width
        return embeddings + self.layers * (12 * self.width**2 + 13 * self.width) + 2 * self.width

    def forward_flops(self, tokens: int, *, causal: bool = False) -> float:
        """Return the FLOPs of a forward pass over one sequence of `tokens` tokens.

        Blocks as in `block_flops`, and 2 C V per token for the head. Embeddings are lookups without arithmetic. Full
        attention counts every pair of tokens, which is what explicit attention computes. `causal` counts only the
        (T + 1) / 2 tokens that each token attends to on average.
        """
        keys = (tokens + 1) / 2 if causal else tokens
        return self.layers * block_flops(self.width, tokens, keys) + tokens * 2 * self.width * self.vocabulary

    def train_flops(self, tokens: int, *, causal: bool = False) -> float:
        """Return three times `forward_flops`: the gradients of inputs and of weights each cost as much as the forward.

        Ignored: softmax and loss, the optimiser, and activations that an implementation computes again.
        """
        return 3 * self.forward_flops(tokens, causal=causal)

    def extend_flops(self, tokens: int, start: int) -> float:
        """Return the FLOPs of `extend` for one sequence: causal attention; the head for the last token only."""
        keys = start + (tokens + 1) / 2
        return self.layers * block_flops(self.width, tokens, keys) + 2 * self.width * self.vocabulary

    def extend_bytes(self, batch: int, start: int, itemsize: int) -> float:
        """Return the fewest bytes that extending a batch by one token moves.

        Every weight is read once for the whole batch: the token embedding completely, since it is the head, and one row
        of the position embedding. For each sequence the keys and values of `start` tokens are read, and those of one
        token written. Ignored: activations, logits.
        """
        weights = self.parameters() - (self.context - 1) * self.width
        kv_cache = batch * 2 * self.layers * self.width * (start + 1)
        return float(itemsize * (weights + kv_cache))
