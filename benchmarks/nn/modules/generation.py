"""Text generation with the decoder module: eager steps on a growing cache, or steps of static shape for a compiler."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from bench_core.workload import Backend, Kernel, Work

from ..batches import Batch
from ..generation import Generation
from ..gpt import Gpt
from . import sdpa
from .gpt import GptModule, KvCache
from .running import (
    CAPTURED,
    Graphed,
    autocast_dtype,
    compiled,
    forward_kernel,
    inference,
    is_fixed,
)


class EagerGeneration:
    """Eager generation: attention reads only the filled part of the cache, which grows with each step."""

    def __init__(self, work: Work, network: Gpt, weights: dict[str, Any], prompt: torch.Tensor) -> None:
        self.inputs, self.new, self.precision = {"x": prompt}, work["new"], work.precision
        self.module = loaded(network, weights)
        capacity = prompt.shape[1] + self.new
        self.kv_cache = empty_kv_cache(network, weights, len(prompt), capacity, work.precision)
        # torch.compile compiles again for a tensor that is not an inference tensor, so the first token must be one.
        self._extend = inference(self._chosen, prompt.device, work.precision)

    def _chosen(self, ids: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        return chosen(self.module.extend(self.kv_cache, ids, start))

    def prefill(self) -> tuple[torch.Tensor, torch.Tensor]:
        extended: tuple[torch.Tensor, torch.Tensor] = self._extend(self.inputs["x"], 0)
        return extended

    def decode(self, token: torch.Tensor, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        extended: tuple[torch.Tensor, torch.Tensor] = self._extend(token, at)
        return extended

    def concatenate(self, parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(parts, dim=1)

    def attention_backends(self, query: torch.Tensor) -> list[str]:
        """Return the SDPA backend of every step, given a query tensor (B, H, 1, D) in the layout of a step's."""
        keys, values = self.kv_cache[0]
        begin = self.inputs["x"].shape[1]
        steps = range(begin + 1, begin + self.new)
        return [sdpa.chosen(query, keys[:, :, :seen], values[:, :, :seen]) for seen in steps]


class StaticGeneration(EagerGeneration):
    """Generation with static shapes: attention reads the whole cache with a mask, so every step is the same program."""

    def __init__(
        self, work: Work, network: Gpt, weights: dict[str, Any], prompt: torch.Tensor, implementation: str
    ) -> None:
        super().__init__(work, network, weights, prompt)
        for tensor in itertools.chain(*self.kv_cache):
            tensor.zero_()  # masked entries get weight 0, and 0 * NaN would be NaN
        self.positions = torch.arange(self.kv_cache[0][0].shape[2], device=prompt.device)
        step = inference(compiled(self._step, prompt.device, implementation), prompt.device, work.precision)
        self._reused = implementation in CAPTURED  # whether the next step writes its results to the same memory
        self._static = Graphed(step) if self._reused else step

    def _step(self, token: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return chosen(self.module.extend_static(self.kv_cache, token, at))

    def decode(self, token: torch.Tensor, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        token, logits = self._static(token, self.positions[at : at + 1])
        return (token.clone() if self._reused else token), logits

    def attention_backends(self, query: torch.Tensor) -> list[str]:
        """Return the SDPA backend of a step; it is the same for all steps."""
        keys, values = self.kv_cache[0]
        return [sdpa.chosen(query, keys, values, self.positions[None] >= 0)]


def generation(
    work: Work, network: Gpt, weights: dict[str, Any], prompt: torch.Tensor, implementation: str
) -> Generation:
    """Return the generation for an implementation: "default" is eager, all others are static."""
    if implementation == "default":
        return EagerGeneration(work, network, weights, prompt)
    return StaticGeneration(work, network, weights, prompt, implementation)


def prefill_kernel(
    backend: Backend, work: Work, network: Gpt, weights: dict[str, Any], batch: Batch, implementation: str
) -> Kernel:
    """Return the kernel that fills an empty cache with a whole context of tokens."""
    module = loaded(network, weights)
    kv_cache = empty_kv_cache(network, weights, work["batch"], network.context, work.precision)

    def prefill(ids: torch.Tensor) -> torch.Tensor:
        return module.extend(kv_cache, ids, 0)

    device = torch.device(backend.device)
    call = inference(compiled(prefill, device, implementation), device, work.precision)
    kernel = forward_kernel(call, batch, implementation, fixed=is_fixed(work))
    query, _, _ = sdpa.projected(backend, work, network, network.context)
    return sdpa.told(kernel, backend, work, [sdpa.chosen(query, *kv_cache[0], causal=True)])


def loaded(network: Gpt, weights: dict[str, Any]) -> GptModule:
    """Return the module in evaluation mode with these weights, on their device and in their dtype."""
    first = next(iter(weights.values()))
    module = GptModule(network).to(first.device, first.dtype).eval()
    module.load_state_dict(weights)
    return module


def empty_kv_cache(network: Gpt, weights: dict[str, Any], batch: int, capacity: int, precision: str) -> list[KvCache]:
    """Return an uninitialised KV cache, one KvCache per layer, in the dtype in which attention computes."""
    first = next(iter(weights.values()))
    dtype = autocast_dtype(precision) or first.dtype
    shape = (batch, network.heads, capacity, network.width // network.heads)

    def empty() -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=first.device)

    return [(empty(), empty()) for _ in range(network.layers)]


def chosen(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most probable token (B, 1) and the logits (B, V)."""
    return logits.argmax(dim=-1, keepdim=True), logits
