"""Is the answer right? Errors against float64, and the bounds they must lie in on both sides.

Too large an error is a wrong answer. Too small an error is a wrong label: a "tf32" product that agrees
with float64 to 3e-7 was not computed in TF32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench_core.errors import WrongAnswer


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The range of relative errors that proves dtype and precision: `low` <= error <= `high`."""

    high: float
    low: float = 0.0

    def require(self, error: float) -> None:
        """Raise WrongAnswer unless the error lies in the range (NaN never does)."""
        if not error <= self.high:
            raise WrongAnswer(f"relative error {error:.2g} is above the tolerance {self.high:.2g}", error)
        if error < self.low:
            reason = f"relative error {error:.2g} is below {self.low:.2g}: a finer precision ran than asked for"
            raise WrongAnswer(reason, error, code="wrong_precision")


# Bounds on ||C - R|| / ||R|| for one product of normal random matrices. The lower bounds stand well
# under the rounding error of the format's inputs and well over that of the next finer format.
_TOLERANCES = {
    ("float64", "ieee"): Tolerance(1e-14),
    ("float32", "ieee"): Tolerance(2e-6),
    ("float32", "tf32"): Tolerance(1e-3, low=5e-6),
    ("float16", "ieee"): Tolerance(1.5e-3),
    ("bfloat16", "ieee"): Tolerance(1e-2),
    ("float8_e4m3fn", "ieee"): Tolerance(8e-2),
    ("float8_e5m2", "ieee"): Tolerance(0.15),
    ("int8", "ieee"): Tolerance(0.0),
}


def tolerance(dtype: str, precision: str = "ieee") -> Tolerance:
    """Return the bounds for a dtype under a precision mode; raises KeyError for an unknown pair."""
    return _TOLERANCES[dtype, precision]


def relative_error(answer: np.ndarray, reference: np.ndarray) -> float:
    """Return ||answer - reference|| / ||reference|| in float64; the plain norm where the reference is zero.

    Raises WrongAnswer when the shapes differ.
    """
    if answer.shape != reference.shape:
        raise WrongAnswer(f"shape {answer.shape} instead of {reference.shape}", code="wrong_shape")
    wide = np.asarray(reference, dtype=np.float64)
    difference = np.linalg.norm(np.subtract(answer, wide, dtype=np.float64).ravel())
    return float(difference / (np.linalg.norm(wide.ravel()) or 1.0))


def require_finite(name: str, array: np.ndarray) -> None:
    """Raise WrongAnswer if any element is infinite or not a number."""
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise WrongAnswer(f"{bad} of {array.size} elements of {name!r} are not finite", math.inf, code="not_finite")


def require_dtype(name: str, array: np.ndarray, dtype: str) -> None:
    """Raise WrongAnswer if a host array does not have the dtype it must have."""
    if str(array.dtype) != dtype:
        raise WrongAnswer(f"{name!r} is {array.dtype} instead of {dtype}", code="wrong_dtype")
