"""Axes whose labels carry units."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench_core.units import binary_bytes, plain, show

MOST_TICKS = 7


@dataclass(frozen=True, slots=True)
class LogAxis:
    """The range of a logarithmic axis, the ticks inside it and their labels."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def share(self, value: float) -> float:
        """Return the position of a value: 0.0 at the low end, 1.0 at the high end."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def at(self, share: float) -> float:
        """Return the value at a position."""
        return float(self.low * (self.high / self.low) ** share)

    @property
    def label_expression(self) -> str:
        """A Vega expression for the label of a tick; holds numbers and labels made here, never data."""
        return f"{json.dumps(self.labels)}[indexof({json.dumps(self.ticks)}, datum.value)]"


def log_axis(values: Sequence[float], unit: str, *, margin: float = 1.25, most: int = MOST_TICKS) -> LogAxis:
    """Return an axis over positive values; `unit` is a base unit, "x" (a ratio), "n" (a size) or "bytes"."""
    low, high = min(values) / margin, max(values) * margin
    ticks = _binary(low, high, most) if unit in {"n", "bytes"} else _decimal(low, high, most)
    ticks = ticks or tuple(dict.fromkeys((min(values), max(values))))  # too narrow a range for any round number
    return LogAxis(low, high, ticks, tuple(_label(tick, unit) for tick in ticks))


def _decimal(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return the finest round steps with at most `most` ticks, else powers of ten, every k-th if necessary."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{s}e{e}") for e in range(first, last + 1) for s in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= most:
            return tuple(inside)
    every = math.ceil(len(inside) / most)
    return tuple(tick for tick in inside if round(math.log10(tick)) % every == 0)


def _binary(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return powers of two, every k-th if there are too many; decimal ticks if fewer than two fit."""
    exponents = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    if len(exponents) < 2:
        return _decimal(low, high, most)
    every = math.ceil(len(exponents) / most)
    return tuple(2.0**e for e in exponents if e % every == 0)


def _label(tick: float, unit: str) -> str:
    if unit == "bytes":
        return binary_bytes(tick)
    if unit == "n" and tick < 10_000:
        return plain(tick).replace(",", "")  # as the sizes of work are written
    if unit in {"x", "n", "FLOP/B"}:
        return plain(tick) + "x" * (unit == "x")
    digits = next(d for d in (1, 2, 3) if d == 3 or float(f"{tick:.{d - 1}e}") == tick)
    return show(tick, unit, digits)


def linear_ticks(low: float, high: float, unit: str, most: int = MOST_TICKS) -> dict[float, str]:
    """Return at most this many round values from `low` to a larger `high`, with the digits that tell them apart."""
    exponent = math.floor(math.log10((high - low) / most))
    for factor, power in ((1, exponent), (2, exponent), (5, exponent), (1, exponent + 1), (2, exponent + 1)):
        step = float(f"{factor}e{power}")
        ticks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(ticks) <= most:
            break
    return {tick: show(tick, unit, max(1, _power(tick) - power + 1)) for tick in ticks}


def _power(value: float) -> int:
    """Return the power of ten of the first digit of a value, which rounding errors do not change; 0 for zero."""
    return int(f"{value:.9e}".partition("e")[2])
