"""A small language with rules, made here, so that a model can be seen to have learnt them.

Sentences of three kinds, drawn with equal chance: sums ("7+5=12;"), counting ("3>4>5>6;") and echoes
("say dog: dog;"). What a sum or an echo ends with follows from how it begins, and nothing else predicts it:
a model whose loss is below the unigram entropy has seen more than how often each letter occurs.
"""

from __future__ import annotations

import numpy as np

_WORDS = ("cat", "dog", "owl", "fox", "bee")


def text(rng: np.random.Generator, characters: int) -> str:
    """Return at least `characters` characters of whole sentences."""
    sentences: list[str] = []
    length = 0
    while length < characters:
        sentences.append(_sentence(rng))
        length += len(sentences[-1])
    return "".join(sentences)


def _sentence(rng: np.random.Generator) -> str:
    kind, a, b = (int(number) for number in rng.integers((3, 10, 10)))
    if kind == 0:
        return f"{a}+{b}={a + b};"
    if kind == 1:
        return ">".join(str((a + i) % 10) for i in range(4)) + ";"
    word = _WORDS[b % len(_WORDS)]
    return f"say {word}: {word};"


def encode(words: str) -> np.ndarray:
    """Return one token below 128 for each character."""
    return np.frombuffer(words.encode("ascii"), dtype=np.uint8).astype(np.int64)


def decode(ids: np.ndarray) -> str:
    """Return the characters of tokens below 128."""
    return bytes(np.asarray(ids, dtype=np.uint8)).decode("ascii")


def batch(rng: np.random.Generator, ids: np.ndarray, size: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (size, context) from random places, and the tokens that follow each of them."""
    starts = rng.integers(len(ids) - context, size=size)
    windows = ids[starts[:, None] + np.arange(context + 1)]
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def unigram_entropy(ids: np.ndarray) -> float:
    """Return -sum p log p over the frequencies of the tokens, in nats: the loss of knowing these and no more."""
    counts = np.bincount(ids)
    shares = counts[counts > 0] / len(ids)
    return float(-(shares * np.log(shares)).sum())
