"""Base units in files, scaled units on screens, the units of quotients, and the sort order of sizes.

Tables contain only s, B, FLOP, J, W, Hz, degC, 1 and quotients of these. Only `show` scales numbers. It scales by
powers of 1000 (GB = 1e9 B), as STREAM and all datasheets do.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

Unit = Literal["s", "B", "FLOP", "B/s", "FLOP/s", "FLOP/B", "FLOP/J", "B/J", "J", "W", "Hz", "degC", "1/s", "1/J", "1"]

Dimensions = Mapping[str, int]  # exponents of s, B, FLOP, J and degC, none of them 0; empty for a plain number
_BY_OTHERS = {"Hz": "1/s", "W": "J/s"}
_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)
_FROM = tuple((scale * (1 - 1e-12), scale, prefix) for scale, prefix in _PREFIXES)
_CARRIES = 999.0  # a rounded number above is that of the next prefix, or of the largest one
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(?:([kmg])i?b|b)?", re.IGNORECASE)
_DIMENSIONS = re.compile(r"[x-]")
# An interval whose ends are nearer to its value than this share of it is shown with one number: "±3 %", "within 3 %".
# The ends of a wider one are at unequal distances: both are shown, or it is told as a factor.
SYMMETRIC = 0.15
_FRACTIONS = ("s", "J", "W")  # only these get prefixes below one: "m1/s" is not readable


def show(value: float | None, unit: str, digits: int = 3) -> str:
    """Return `value` as text for people: `digits` significant digits and a scaled unit; "" for None or NaN.

    >>> show(0.00123, "s"), show(4.2e12, "FLOP/s"), show(None, "s"), show(0.5, "1")
    ('1.23 ms', '4.20 TFLOP/s', '', '0.500')
    """
    if value is None or math.isnan(value):
        return ""
    if unit == "1" or value == 0 or math.isinf(value):
        return f"{significant(value, digits)} {unit}".removesuffix(" 1")
    scale, prefix = _scale(value, unit)
    # Rounding can carry into the next prefix: 999.7 ms is 1.00 s.
    rounded = float(f"{value / scale:.{digits - 1}e}")
    if abs(rounded) > _CARRIES:
        scale, prefix = _scale(rounded * scale, unit)
    number = significant(value / scale, digits)
    return f"{number} {prefix}{unit.removeprefix('1')}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    size, smallest = abs(value), 1e-9 if unit in _FRACTIONS else 1.0
    for least, scale, prefix in _FROM:
        if size >= least or scale <= smallest:
            return scale, prefix
    raise AssertionError("the last prefix always matches")


def significant(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, without an exponent if 1e-4 <= |value| < 1e6."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific[scientific.index("e") + 1 :])
    if exponent >= 6 or exponent < -4:
        return scientific
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def plain(number: float) -> str:
    """Return a number of three significant digits, or all those before the point, without exponent: "1,048,576"."""
    decimals = 0 if number >= 1000 else 2 - math.floor(math.log10(number))
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def binary_bytes(count: float) -> str:
    """Return a footprint in binary units, as used for cache sizes: 65536 is "64 KiB"."""
    scales = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
    scale, unit = next((s for s in scales if count >= s[0]), scales[-1])
    return f"{plain(count / scale)} {unit}"


def counted(count: int, noun: str) -> str:
    """Return a number with a noun whose plural ends in s: "1 value", "2,000 values"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def dimensions(above: Iterable[str], below: Iterable[str] = ()) -> Dimensions:
    """Return the dimensions of a product of units over another: of W and s over B, J/B.

    >>> dimensions(["W", "s"], ["B"])
    {'J': 1, 'B': -1}
    """
    found: Counter[str] = Counter()
    for units, sign in ((above, 1), (below, -1)):
        for unit in units:
            dividend, *divisors = _BY_OTHERS.get(unit, unit).split("/")
            for base in dividend.split("*"):
                found[base] += sign
            for base in divisors:
                found[base] -= sign
    return {unit: exponent for unit, exponent in found.items() if exponent and unit != "1"}


def spelled(what: Dimensions) -> str:
    """Return dimensions as a unit: "J/B", "FLOP", "1/s/s", "J*s", "1"."""
    above = "*".join(unit for unit, exponent in sorted(what.items()) for _ in range(exponent))
    return "/".join([above or "1", *(unit for unit, exponent in sorted(what.items()) for _ in range(-exponent))])


@functools.lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[tuple[int, float, str], ...]:
    """Return a sort key that compares digits as numbers: "size 512" before "size 1024"."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts) if part)


def size_number(size: str) -> float | None:
    """Return the value of a size that is one number, with or without a binary suffix ("2048", "64KiB"), else None."""
    match = _SIZE.fullmatch(size)
    return float(match[1]) * _BINARY[(match[2] or "").lower()] if match else None


def size_value(size: str) -> float | None:
    """Return the number that a size begins with: bytes, or the leading dimension; None for a size without one.

    >>> size_value("64KiB"), size_value("1MiB-pinned"), size_value("96x1024x64"), size_value("gpt2-up")
    (65536.0, 1048576.0, 96.0, None)
    """
    return size_number(_DIMENSIONS.split(size, maxsplit=1)[0])


@functools.lru_cache(maxsize=1 << 12)
def size_order(size: str) -> tuple[float, tuple[tuple[int, float, str], ...]]:
    """Return the sort key of a size: by its value ("64KiB" before "1MiB"), without one last; then by its numbers."""
    number = size_value(size)
    return (math.inf if number is None else number, natural(size))
