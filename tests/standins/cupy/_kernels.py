"""User-defined kernels. Bodies are C++ in CuPy; those that are Python too (`y = a + s * b`) run here."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from cupy import _array, _gpu
from cupy._array import ndarray

_NAMES = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "max": np.maximum, "min": np.minimum,
          "fabs": np.abs, "rsqrt": lambda x: 1 / np.sqrt(x)}  # fmt: skip

_REDUCTIONS = {"a + b": np.add, "max(a, b)": np.maximum, "min(a, b)": np.minimum, "a * b": np.multiply}


class ElementwiseKernel:
    """`ElementwiseKernel(in_params, out_params, operation, name)`."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel", **_: Any) -> None:
        self.name = name
        self._inputs, self._outputs = _parameters(in_params), _parameters(out_params)
        if "i" in [*self._inputs, *self._outputs]:
            raise ValueError("Can not use 'i' as a parameter name")
        self._body = [statement.strip() for statement in operation.split(";") if statement.strip()]
        for statement in self._body:
            compile(_python(statement), name, "exec")

    def __call__(self, *args: Any, size: int | None = None) -> Any:
        _array._refuse(args)
        given = dict(zip([*self._inputs, *self._outputs], args, strict=False))
        if missing := [name for name in self._outputs if name not in given]:
            kinds = [a for a in args if isinstance(a, ndarray)]
            shape = np.broadcast_shapes(*(a.shape for a in kinds))
            given |= {name: ndarray(np.empty(shape, kinds[0].dtype)) for name in missing}
        results = [given[name] for name in self._outputs]
        results[0]._gpu.launch(lambda: self._run(given))
        return results[0] if len(results) == 1 else tuple(results)

    def _run(self, given: dict[str, Any]) -> None:
        values = {**_NAMES, **{name: _array.unwrap(value) for name, value in given.items()}}
        for statement in self._body:
            exec(_python(statement), {}, values)
        for name in self._outputs:
            given[name]._now[...] = values[name]


class ReductionKernel:
    """`ReductionKernel(in_params, out_params, map_expr, reduce_expr, post_map_expr, identity, name)`."""

    def __init__(
        self, in_params: str, out_params: str, map_expr: str, reduce_expr: str, post_map_expr: str, identity: str,
        name: str = "kernel", **_: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self._inputs, (self._output,) = _parameters(in_params), _parameters(out_params)
        self._map, self._reduce, self._post = map_expr, _REDUCTIONS[reduce_expr], post_map_expr

    def __call__(self, *args: Any, axis: Any = None, keepdims: bool = False, out: ndarray | None = None) -> ndarray:
        def reduce(*arrays: Any) -> Any:
            values = {**_NAMES, **dict(zip(self._inputs, arrays, strict=True))}
            mapped = eval(_python(self._map), {}, values)
            values["a"] = self._reduce.reduce(mapped, axis=axis, keepdims=keepdims)
            exec(_python(self._post), {}, values)
            return values[self._output]

        result = _array.launch(reduce, *args)
        if out is None:
            return result
        out[...] = result
        return out


class RawKernel:
    """CUDA source; what is known here is only how long one called `spin` keeps the device busy."""

    def __init__(self, code: str, name: str, **_: Any) -> None:
        assert f"void {name}(" in code, f"no kernel {name!r} in the source"
        self.name = name

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], **_: Any) -> None:
        assert self.name == "spin", f"the stand-in cannot run the CUDA kernel {self.name!r}"
        _gpu.gpu().launch(lambda: None, seconds=float(args[0]) * 1e-9)


def fuse(*args: Any, kernel_name: str | None = None) -> Any:
    """Decorate a function of arrays; here it stays as it is, one launch an operation."""
    return args[0] if args else lambda function: function


def _parameters(text: str) -> list[str]:
    """Return the names in "float32 x, raw T y"."""
    return [part.split()[-1] for part in text.split(",") if part.strip()]


def _python(statement: str) -> str:
    """Return a C++ statement as Python: number suffixes and type names of declarations go."""
    statement = re.sub(r"(\d(?:\.\d*)?(?:e-?\d+)?)f\b", r"\1", statement.strip().rstrip(";"))
    return re.sub(r"^(?:const\s+)?(?:T|float|double|int)\s+(?=\w+\s*=)", "", statement)
