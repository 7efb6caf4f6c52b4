"""cupyx.scipy.special: the functions that activations need."""

from __future__ import annotations

from typing import Any

import cupy
import scipy.special
from cupy import _array

erf = cupy.ufunc("erf", scipy.special.erf)
expit = cupy.ufunc("expit", scipy.special.expit)


def logsumexp(
    a: cupy.ndarray, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> cupy.ndarray:
    return _array.launch(scipy.special.logsumexp, a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
