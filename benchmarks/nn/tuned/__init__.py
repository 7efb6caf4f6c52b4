"""Faster forms of the operations of benchmarks/nn, for one library each: the implementation `tuned`.

The plain form of an operation is short and runs on every array library. A specialist in one library would write some
operations in another way: in blocks that stay in a cache (NumPy), or as one fused kernel (CuPy). Such a form has the
arguments and the results of the plain one, for ids within their table and for at least one row. Only the cache between
its forward and its backward pass may differ, so the two are replaced together.

A network does not choose. It calls `layernorm(xp, ...)`, and `xp` decides: the module of a library runs the plain form,
`Tuned` runs its own, where it has one.

    blocks.py        parts of arrays that stay in a cache, shared out among threads
    numpy.py         the forms for NumPy
    rows.py          convolutions by products with rows of pixels
    numpy_images.py  the forms for NumPy that work on images, by rows.py
    cupy.py          the forms for CuPy
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ParamSpec, Protocol, TypeVar

from bench_core.workload import Backend

Form = Callable[..., Any]
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Tuned:
    """An array module in which some operations have a form of their own; everything else is the module's.

    module: numpy or cupy. forms: by the name of the operation. threads: how many host threads may compute.
    """

    def __init__(self, module: Any, forms: Mapping[str, Form], threads: int) -> None:
        self.module, self.forms, self.threads = module, forms, threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class Operation(Protocol[P, R_co]):
    """An operation that may have forms. plain: the form for every library, which a tuned form may fall back on."""

    plain: Callable[P, R_co]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the form that the first argument, `xp`, has."""


def has_forms(plain: Callable[P, R_co]) -> Operation[P, R_co]:
    """Let a `Tuned` array module replace this operation by its own form."""
    name = plain.__name__

    @functools.wraps(plain)
    def operation(xp: Any, *args: Any, **kwargs: Any) -> Any:
        form = xp.forms.get(name, plain) if type(xp) is Tuned else plain
        return form(xp, *args, **kwargs)

    operation.plain = plain  # type: ignore[attr-defined]
    return operation  # type: ignore[return-value]


def rows_of(x: Any) -> Any:
    """Return x (..., C) as (rows, C)."""
    return x.reshape(-1, x.shape[-1])


def array_module(backend: Backend, implementation: str, *, shared: bool = True) -> Any:
    """Return the `xp` of an implementation: for "tuned" with the forms of the backend, else the library's module.

    shared: whether forms may share their work between threads; if not, BLAS has all of them inside its products.
    """
    if implementation != "tuned":
        return backend.xp
    forms: Mapping[str, Form] = import_module(f"{__name__}.{backend.name}").FORMS
    return Tuned(backend.xp, forms, (backend.threads or 1) if shared else 1)
