"""Check answers: errors relative to float64 references, and their upper and lower bounds.

Too large an error is a wrong answer. Too small an error is a wrong label: a "tf32" product that agrees
with float64 to 3e-7 was not computed in TF32.

Arrays may be real or complex. Of complex numbers errors are magnitudes, and "in float64" means in complex128. A part
that either side lacks counts as zero: an answer that lost its imaginary part is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench_core.errors import CaseError, WrongAnswer

BLOCK = 1 << 15  # elements that are compared at a time: with intermediate results, they fit into most L2 caches


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The range of relative errors that proves dtype and precision: `low` <= error <= `high`."""

    high: float
    low: float = 0.0

    def require(self, error: float) -> None:
        """Raise WrongAnswer unless the error is within the range (NaN never is)."""
        if not error <= self.high:
            raise WrongAnswer(f"relative error {error:.2g} is above the tolerance {self.high:.2g}", error)
        if error < self.low:
            reason = f"relative error {error:.2g} is below {self.low:.2g}: a finer precision ran than asked for"
            raise WrongAnswer(reason, error, code="wrong_precision")


# Bounds on ||C - R|| / ||R|| for one product of random matrices, R computed in float64 from operands that
# were not yet rounded to the format. The lower bounds are well below the rounding error of the format's
# operands (a relative 2^-(p+1) / 1.7 each, for p fraction bits) and above that of the next finer format.
_TOLERANCES = {
    ("float64", "ieee"): Tolerance(1e-14),
    ("float32", "ieee"): Tolerance(2e-6),
    ("complex128", "ieee"): Tolerance(1e-14),
    ("complex64", "ieee"): Tolerance(2e-6),
    ("float32", "tf32"): Tolerance(1e-3, low=5e-5),
    ("float32", "bfloat16_products"): Tolerance(1e-2, low=1e-3),
    ("float16", "ieee"): Tolerance(1.5e-3, low=5e-5),
    ("bfloat16", "ieee"): Tolerance(1e-2, low=1e-3),
    ("float8_e4m3fn", "ieee"): Tolerance(8e-2, low=1e-2),
    ("float8_e5m2", "ieee"): Tolerance(0.15, low=4.5e-2),
    ("int8", "ieee"): Tolerance(0.0),
}


def tolerance(dtype: str, precision: str = "ieee") -> Tolerance:
    """Return the bounds for a dtype under a precision mode; raises CaseError for an unknown pair."""
    if (dtype, precision) not in _TOLERANCES:
        reason = f"no tolerance is known for {dtype} with precision {precision}: override Workload.tolerance"
        raise CaseError("no_tolerance", f"{reason}(self, work), and return check.Tolerance(high)")
    return _TOLERANCES[dtype, precision]


def _widest(*arrays: np.ndarray) -> type[np.float64] | type[np.complex128]:
    """Return the dtype in which arrays are compared: complex128 if any of them is complex, else float64."""
    return np.complex128 if any(np.iscomplexobj(array) for array in arrays) else np.float64


def relative_error(answer: np.ndarray, reference: np.ndarray) -> float:
    """Return ||answer - reference|| / ||reference|| in float64; the plain norm where the reference is zero.

    Raises WrongAnswer when the shapes differ.
    """
    off, whole = squares(answer, reference)
    return math.sqrt(off) / (math.sqrt(whole) or 1.0)


def squares(answer: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return ||answer - reference||^2 and ||reference||^2 in float64, a block at a time.

    Raises WrongAnswer when the shapes differ.
    """
    require_shape(answer, reference.shape)
    off, whole, dtype = 0.0, 0.0, _widest(answer, reference)
    for given, r in blocks(answer, reference):
        wide = r.astype(dtype)
        parts = wide.view(np.float64)  # real and imaginary parts, in one row: |z|^2 is the sum of their squares
        whole += float(np.square(parts).sum())
        np.subtract(given, wide, out=wide)
        off += float(np.square(parts, out=parts).sum())
    return off, whole


def blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield blocks of BLOCK elements of flattened arrays of equal size, so that intermediate results stay in a cache.

    Allocating memory as large as a model's weights costs far more than the arithmetic on it.
    """
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def require_finite(name: str, array: np.ndarray) -> None:
    """Raise WrongAnswer if any element is infinite or not a number."""
    if array.dtype.kind in "biu" or np.isfinite(array.sum(dtype=_widest(array))):  # the sum is a single fast pass
        return
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise WrongAnswer(f"{bad} of {array.size} elements of {name!r} are not finite", code="not_finite")


def require_shape(array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise WrongAnswer if an array does not have the shape it must have."""
    if array.shape != shape:
        raise WrongAnswer(f"shape {array.shape} instead of {shape}", code="wrong_shape")


def require_dtype(name: str, array: np.ndarray, dtype: str) -> None:
    """Raise WrongAnswer if a host array does not have the dtype it must have."""
    if str(array.dtype) != dtype:
        raise WrongAnswer(f"{name!r} is {array.dtype} instead of {dtype}", code="wrong_dtype")


def largest_error(answer: np.ndarray, reference: np.ndarray) -> float:
    """Return max |answer - reference| / rms(reference), which shows a single wrong element.

    In the norm-wise error of n elements, a single error is divided by sqrt(n); here it is not. Raises WrongAnswer
    when the shapes differ.
    """
    require_shape(answer, reference.shape)
    wide = np.asarray(reference, dtype=_widest(answer, reference))
    scale = np.linalg.norm(wide.ravel()) / math.sqrt(max(wide.size, 1))
    return float(np.max(np.abs(answer - wide), initial=0.0) / (scale or 1.0))


@dataclass(frozen=True, slots=True)
class ProductSketch:
    """A sketch of a product AB that avoids computing it: random vectors X (n, vectors), and A(BX); both float64."""

    vectors: np.ndarray
    product: np.ndarray


def product_sketch(a: np.ndarray, b: np.ndarray, vectors: int = 16) -> ProductSketch:
    """Return the sketch by which `sketch_error` judges AB, in O(n^2). a, b: (m, k), (k, n), of any dtype."""
    # The seed may be fixed: no kernel sees the vectors.
    x = np.random.default_rng(1977).integers(-1024, 1025, (b.shape[1], vectors)).astype(np.float64)
    return ProductSketch(x, times(a, times(b, x)))


def sketch_error(sketch: ProductSketch, c: np.ndarray) -> float:
    """Estimate ||C - AB|| / ||AB|| (Frobenius) in O(n^2): Freivalds' check with random integer vectors.

    c: (m, n), any dtype; computed in float64, a block of rows at a time. For X of `vectors` columns with
    independent entries of mean 0 the expectation of ||EX||^2 is proportional to ||E||^2, so the ratio
    ||CX - A(BX)|| / ||A(BX)|| estimates the relative error. It is tight for an error spread over many directions, as
    rounding is. For the worst case, an error of rank one, its square is about chi-squared with `vectors` degrees of
    freedom over `vectors`: with 16 it falls below a third of the truth with probability 4e-6. As the vectors are
    integers, |x| <= 1024, the check of an integer product is exact as long as its sums stay below 2^53: a wrong one
    escapes with a probability below 2049^-vectors. Sources: Freivalds 1977 (the check); Avron and Toledo 2011 (the
    estimate). Raises WrongAnswer when the shapes differ.
    """
    require_shape(c, (len(sketch.product), len(sketch.vectors)))
    return relative_error(times(c, sketch.vectors), sketch.product)


def times(a: np.ndarray, b: np.ndarray, rows: int = 512) -> np.ndarray:
    """Return a @ b in float64 without a float64 copy of the whole of `a`. b: of float64 or complex128."""
    blocks = [a[i : i + rows].astype(_widest(a)) @ b for i in range(0, len(a), rows)]
    return np.concatenate(blocks)


def periodic_error(answer: np.ndarray, period: np.ndarray) -> float:
    """Return max |answer - period repeated| / rms(period), in blocks: the repeated array is never built as a whole.

    answer, period: of one dimension; the last repetition may be cut short. A short period is first repeated to about
    BLOCK elements, so that a block takes few calls of NumPy however short the period is. Once a block is off by more
    than the root mean square, the others are skipped.
    """
    scale = float(np.linalg.norm(period) / math.sqrt(max(len(period), 1))) or 1.0
    repeated = np.tile(period, max(1, BLOCK // max(len(period), 1)))
    worst, difference = 0.0, np.empty(BLOCK, _widest(answer, period))
    for start in range(0, len(answer), len(repeated)):
        for i in range(0, min(len(repeated), len(answer) - start), BLOCK):
            part = answer[start + i : start + min(i + BLOCK, len(repeated))]
            off = np.subtract(part, repeated[i : i + len(part)], out=difference[: len(part)])
            largest = np.abs(off).max() if np.iscomplexobj(off) else np.maximum(off.max(), -off.min())
            worst = float(np.maximum(worst, largest))  # NaN stays, as with `max` it would not
            if not worst <= scale:
                return worst / scale
    return worst / scale


def reduction_error(answer: np.ndarray, period: np.ndarray, terms: int) -> float:
    """Return |answer - S| / sum |x| for the sum S of `terms` terms x that repeat `period`.

    The sum of the magnitudes is the scale of a sum's rounding: the sum itself may be near zero.
    """
    whole, rest = divmod(terms, len(period))
    total = whole * np.sum(period) + np.sum(period[:rest])
    magnitude = whole * np.sum(np.abs(period)) + np.sum(np.abs(period[:rest]))
    return float(abs(np.asarray(answer).item() - total) / (magnitude or 1.0))
