"""Text generation: read the prompt once (prefill), then generate one token after another with a KV cache (decode)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from bench_core.workload import Kernel

from .functions import Array
from .gpt import Gpt


class Generation(Protocol):
    """Greedy generation of `new` tokens after a prompt (B, P), which is the input "x"."""

    inputs: MutableMapping[str, Array]
    new: int

    def prefill(self) -> tuple[Array, Array]:
        """Read the prompt; return the first new token (B, 1) and the logits (B, V) that it was chosen from.

        No later call overwrites either array.
        """

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        """Return the next token (B, 1) and its logits (B, V), given `token` (B, 1) at position `at`.

        No later step overwrites the token, since generated text is kept. The next step may overwrite the logits.
        """

    def concatenate(self, parts: list[Array]) -> Array:
        """Concatenate arrays (B, 1) to one of shape (B, parts)."""


class ArrayGeneration:
    """Generation in array code."""

    def __init__(self, xp: Any, network: Gpt, params: Mapping[str, Array], prompt: Array, new: int) -> None:
        self.xp, self.network, self.params, self.new = xp, network, params, new
        self.inputs = {"x": prompt}
        dtype = params["tokens.weight"].dtype
        self.kv_cache = network.kv_cache(xp, len(prompt), prompt.shape[1] + new, dtype)

    def prefill(self) -> tuple[Array, Array]:
        return self._extend(self.inputs["x"], 0)

    def decode(self, token: Array, at: int) -> tuple[Array, Array]:
        return self._extend(token, at)

    def _extend(self, ids: Array, start: int) -> tuple[Array, Array]:
        logits = self.network.extend(self.xp, self.params, self.kv_cache, ids, start)
        return logits.argmax(axis=-1)[:, None], logits

    def concatenate(self, parts: list[Array]) -> Array:
        return self.xp.concatenate(parts, axis=1)


class Text:
    """The state of a generation: all tokens so far, and the logits of the last one."""

    def __init__(self, loop: Generation) -> None:
        self.loop = loop
        self.begin = loop.inputs["x"].shape[1]
        self.end = self.begin + loop.new - 1
        self.tokens: list[Array] = []
        self.logits: Array = None
        self._first: tuple[Array, Array] | None = None

    def read(self) -> None:
        """Read the prompt and start a new text. `begin_again` reuses the result until the next `read`."""
        self._first = self.loop.prefill()
        self.begin_again()

    def begin_again(self) -> None:
        """Go back to the first new token. The KV cache still holds the prompt, so it is not read again."""
        assert self._first is not None
        self.tokens, self.logits = [self._first[0]], self._first[1]

    def step(self) -> Array:
        """Generate the next token and return it (B, 1); after the last position, start again at the first."""
        if len(self.tokens) == self.loop.new:
            self.begin_again()
        token, self.logits = self.loop.decode(self.tokens[-1], self.begin + len(self.tokens) - 1)
        self.tokens.append(token)
        return token

    def all_steps(self) -> Array:
        """Generate all tokens after the first and return the last one (B, 1)."""
        self.begin_again()
        tokens, token, logits = self.tokens, self.tokens[-1], self.logits
        for at in range(self.begin, self.end):
            token, logits = self.loop.decode(token, at)
            tokens.append(token)
        self.logits = logits
        return token

    def shown(self, _: Any = None) -> dict[str, Array]:
        """Return all tokens so far, (B, 1) to (B, `new`), and the logits (B, V) that the last one was chosen from."""
        return {"tokens": self.loop.concatenate(self.tokens), "logits": self.logits}


def generation_kernel(
    loop: Generation, prepared: Callable[[Callable[[], Any]], Callable[[], Any]] | None = None
) -> Kernel:
    """Return the kernel that generates all tokens after the first. The prompt is read when it is built and restarted.

    One call of the probe `inter_token_latency` is one step; after the last position it goes back to the first, for
    which the KV cache is still valid. The check compares whole passes of this probe.

    prepared: given if the first step compiles or captures; turns the step into the call that does so. The prompt is
    still read eagerly, so there is no probe `time_to_first_token` then.
    """
    text = Text(loop)
    text.read()
    inputs = loop.inputs
    step = Kernel(text.step, inputs=inputs, outputs=text.shown, restart=text.read, calls=loop.new - 1)
    probes = {"inter_token_latency": step}
    if not prepared:
        first = Kernel(loop.prefill, inputs=inputs, outputs=lambda made: {"first": made[0], "logits": made[1]})
        probes = {"time_to_first_token": first} | probes
    prepare = prepared(text.step) if prepared else None
    return Kernel(text.all_steps, inputs=inputs, outputs=text.shown, restart=text.read, probes=probes, prepare=prepare)
