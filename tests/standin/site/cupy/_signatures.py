"""What CuPy 14.2 lets its functions be given. tests/standin/test_cupy_api.py compares it with CuPy itself."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

FUNCTIONS = """
    dot(a, b, out=None)
    tensordot(a, b, axes=2)
    vdot(a, b)
    inner(a, b)
    outer(a, b, out=None)
    einsum(*operands, dtype=None, optimize=False)
    kron(a, b)
    sum(a, axis=None, dtype=None, out=None, keepdims=False)
    prod(a, axis=None, dtype=None, out=None, keepdims=False)
    mean(a, axis=None, dtype=None, out=None, keepdims=False)
    var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    max(a, axis=None, out=None, keepdims=False)
    min(a, axis=None, out=None, keepdims=False)
    amax(a, axis=None, out=None, keepdims=False)
    amin(a, axis=None, out=None, keepdims=False)
    argmax(a, axis=None, dtype=None, out=None, keepdims=False)
    argmin(a, axis=None, dtype=None, out=None, keepdims=False)
    any(a, axis=None, out=None, keepdims=False)
    all(a, axis=None, out=None, keepdims=False)
    cumsum(a, axis=None, dtype=None, out=None)
    cumprod(a, axis=None, dtype=None, out=None)
    count_nonzero(a, axis=None)
    where(condition, x=None, y=None)
    clip(a, a_min, a_max, out=None)
    take(a, indices, axis=None, out=None)
    take_along_axis(a, indices, axis)
    concatenate(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
    stack(tup, axis=0, out=None, *, dtype=None, casting='same_kind')
    vstack(tup, *, dtype=None, casting='same_kind')
    hstack(tup, *, dtype=None, casting='same_kind')
    repeat(a, repeats, axis=None)
    tile(A, reps)
    roll(a, shift, axis=None)
    flip(a, axis=None)
    pad(array, pad_width, mode='constant', **kwargs)
    tril(m, k=0)
    triu(m, k=0)
    sort(a, axis=-1, kind=None)
    argsort(a, axis=-1, kind=None)
    searchsorted(a, v, side='left', sorter=None)
    bincount(x, weights=None, minlength=None)
    nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None)
    around(a, decimals=0, out=None)
    round(a, decimals=0, out=None)
    copy(a, order='K')
    ascontiguousarray(a, dtype=None)
    diff(a, n=1, axis=-1, prepend=None, append=None)
    trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None)
    allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False)
"""
VIEWS = """
    reshape(a, newshape, order='C', *, copy=None)
    ravel(a, order='C')
    transpose(a, axes=None)
    swapaxes(a, axis1, axis2)
    moveaxis(a, source, destination)
    expand_dims(a, axis)
    squeeze(a, axis=None)
    broadcast_to(array, shape)
    atleast_1d(*arys)
    atleast_2d(*arys)
    diagonal(a, offset=0, axis1=0, axis2=1)
"""
METHODS = """
    dot(self, b, out=None)
    sum(self, axis=None, dtype=None, out=None, keepdims=False)
    prod(self, axis=None, dtype=None, out=None, keepdims=None)
    mean(self, axis=None, dtype=None, out=None, keepdims=False)
    var(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    std(self, axis=None, dtype=None, out=None, ddof=0, keepdims=False)
    max(self, axis=None, out=None, keepdims=False)
    min(self, axis=None, out=None, keepdims=False)
    argmax(self, axis=None, out=None, dtype=None, keepdims=False)
    argmin(self, axis=None, out=None, dtype=None, keepdims=False)
    any(self, axis=None, out=None, keepdims=False)
    all(self, axis=None, out=None, keepdims=False)
    cumsum(self, axis=None, dtype=None, out=None)
    clip(self, min=None, max=None, out=None)
    take(self, indices, axis=None, out=None)
    repeat(self, repeats, axis=None)
    round(self, decimals=0, out=None)
"""
VIEW_METHODS = """
    reshape(self, *shape, order='C', copy=None)
    ravel(self, order='C')
    transpose(self, *axes)
    swapaxes(self, axis1, axis2)
    squeeze(self, axis=None)
    view(self, dtype=None, type=None)
"""
_NOT_GIVEN_BY_NAME = {"x", "y", "min", "max"}  # NumPy has these by position


@cache
def parsed(text: str) -> dict[str, inspect.Signature]:
    """Return the signatures of a text by the names of their functions."""
    found = {}
    for line in text.strip().splitlines():
        name = line.split("(")[0].strip()
        scope: dict[str, Any] = {}
        exec(f"def {line.strip()}: ...", scope)
        found[name] = inspect.signature(scope[name])
    return found


def bound(signature: inspect.Signature, name: str, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return how NumPy's function of a name is given the same arguments; TypeError for those that CuPy lacks."""
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for key, value in given.items():
        kind, default = signature.parameters[key].kind, signature.parameters[key].default
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif default is inspect.Parameter.empty or key in _NOT_GIVEN_BY_NAME:
            positional.append(value)
        else:
            named[key] = value
    return positional, named
