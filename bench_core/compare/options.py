"""The options of a comparison, with their validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench_core.compare.result import QUANTITY, WHO, WORK
from bench_core.errors import UsageError
from bench_core.results.metrics import METRICS
from bench_core.text import no_such, quoted

BEST_CPU = "best-cpu"
SIDES = ("machine", "backend", "implementation", "device", "threads")
GATES = ("regression", "missing", "invalid")


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """How to compare.

    baseline: a side, "best-cpu", or "" for the first side. rows: fields that label a row; fields needed to
    distinguish rows are added. columns: the fields whose values form the sides. metrics: the metrics to compare.
    where: a filter (see filters.py). min_effect: the smallest change of interest, 0.05 for 5 %.
    require_same: conditions that must not differ. fail_on: gates. threshold: the slowdown that breaches the gate
    "regression", 0.10 for 10 %.
    """

    baseline: str = ""
    rows: tuple[str, ...] = ("workload", "size", "dtype")
    columns: tuple[str, ...] = ("machine",)
    metrics: tuple[str, ...] = ("time",)
    where: str = ""
    min_effect: float = 0.05
    confidence: float = 0.95
    require_same: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()
    threshold: float = 0.10

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown word or a number out of range."""
        _known("--row", self.rows, (*WORK, *QUANTITY, *WHO))
        _known("--col", self.columns, SIDES)
        _known("--metric", self.metrics, tuple(METRICS))
        _known("--fail-on", self.fail_on, GATES)
        for option, value, low, high in (
            ("--min-effect", self.min_effect, 0.0, 10.0),
            ("--threshold", self.threshold, 0.0, 10.0),
            ("--confidence", self.confidence, 0.5, 0.9999),
        ):
            if not (low <= value <= high):
                raise UsageError(f"{option}: {value:g} is not between {low:g} and {high:g}")
        if "regression" in self.fail_on and self.threshold < self.min_effect:
            raise UsageError(
                f"--threshold {100 * self.threshold:g}% is below --min-effect {100 * self.min_effect:g}%: "
                "a slowdown between the two would never be reported; lower --min-effect as well"
            )
        if not self.columns or not self.metrics:
            raise UsageError("--col and --metric need at least one word")


def _known(option: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
    for word in words:
        if word not in known:
            raise UsageError(f"{option}: {no_such('', word, known)}")
    if len(set(words)) != len(words):
        raise UsageError(f"{option}: a word is repeated")


def share(option: str, text: str) -> float:
    """Return "5%" or "0.05" as 0.05.

    Raises UsageError for text that is not a number, and for 1 or more without a percent sign: most people mean
    5 % by "5", and a threshold of 500 % would silently disable a gate.
    """
    number, percent = (text.strip()[:-1], True) if text.strip().endswith("%") else (text, False)
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{option}: {quoted(text)} is not a share such as 5% or 0.05")
    if not percent and value >= 1:
        raise UsageError(f"{option}: {quoted(text)}: write {value:g}% or {value / 100:g}")
    return value / 100 if percent else value


def words(text: str) -> tuple[str, ...]:
    """Return the words of a comma-separated option."""
    return tuple(word.strip() for word in text.split(",") if word.strip())
