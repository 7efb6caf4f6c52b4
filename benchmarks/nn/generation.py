"""Generating text: read the prompt once, then one token after another from the KV cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bench_core.workload import Kernel
from benchmarks.nn.functions import Array
from benchmarks.nn.gpt import Gpt


class Generation(Protocol):
    """A prompt (B, P) being continued greedily to `new` more tokens."""

    prompt: Array
    new: int

    def prefill(self) -> tuple[Array, Array]:
        """Read the prompt; return the first new token (B, 1) and the logits (B, V) that it was chosen by."""

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        """Return the next token (B, 1) and its logits (B, V), after `token`, which stands at position `at`."""

    def stack(self, parts: list[Array]) -> Array:
        """Return arrays (B, ...) stacked along a new axis 1."""


class ArrayGeneration:
    """In array code."""

    def __init__(self, xp: Any, network: Gpt, params: Mapping[str, Array], prompt: Array, new: int) -> None:
        self.xp, self.network, self.params, self.prompt, self.new = xp, network, params, prompt, new
        dtype = params["tokens.weight"].dtype
        self.kv_cache = network.kv_cache(xp, len(prompt), prompt.shape[1] + new, dtype)

    def prefill(self) -> tuple[Array, Array]:
        return self._extend(self.prompt, 0)

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        return self._extend(token, at)

    def _extend(self, ids: Array, start: int) -> tuple[Array, Array]:
        logits = self.network.extend(self.xp, self.params, self.kv_cache, ids, start)
        return logits.argmax(axis=-1)[:, None], logits

    def stack(self, parts: list[Array]) -> Array:
        return self.xp.stack(parts, axis=1)


def generation_kernel(loop: Generation, checked: int, *, prepared: bool = False) -> Kernel:
    """Return the kernel that runs the steps after the first token.

    Its answer is the tokens (B, new) and the logits of each (checked, new, V) for the first `checked`
    sequences, from a whole generation by the same steps. One call of the probe `inter_token_latency` is one
    step; after the last position it goes back to the first, whose cache is still there.

    prepared: whether the steps are compiled or captured by their first call. The prompt is read eagerly all the
    same, so there is no probe `time_to_first_token` then.
    """
    begin, end = loop.prompt.shape[1], loop.prompt.shape[1] + loop.new - 1
    start: list[Array] = []
    single_step = _single_steps(loop, start, begin, end)

    def run() -> Array:
        token = _started(loop, start)
        for at in range(begin, end):
            token, _ = loop.decode(token, at)
        return token

    def answer() -> dict[str, Any]:
        token, logits = loop.prefill()
        shown = [(token[:, 0], logits[:checked] * 1)]
        for at in range(begin, end):
            token, logits = loop.decode(token, at)
            shown.append((token[:, 0] * 1, logits[:checked] * 1))
        tokens, all_logits = zip(*shown, strict=True)
        return {"tokens": loop.stack(list(tokens)), "logits": loop.stack(list(all_logits))}

    probes = {"inter_token_latency": single_step}
    if prepared:
        return Kernel(run, answer, probes, prepare=single_step)
    return Kernel(run, answer, {"time_to_first_token": loop.prefill} | probes)


def _started(loop: Generation, start: list[Array]) -> Array:
    """Return the first new token, reading the prompt only once."""
    if not start:
        start.append(loop.prefill()[0] * 1)
    return start[0]


def _single_steps(loop: Generation, start: list[Array], begin: int, end: int) -> Callable[[], Array]:
    state: dict[str, Any] = {"at": end}

    def step() -> Array:
        if state["at"] == end:
            state.update(at=begin, token=_started(loop, start))
        state["token"], _ = loop.decode(state["token"], state["at"])
        state["at"] += 1
        return state["token"]

    return step
