"""User-defined kernels. Bodies are C++ in CuPy; those that are Python too (`y = a + s * b`) run here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupy import _array, _gpu
from cupy._array import ndarray

_NAMES = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "max": np.maximum, "min": np.minimum,
          "fabs": np.abs, "rsqrt": lambda x: 1 / np.sqrt(x)}  # fmt: skip

_REDUCTIONS = {"a + b": np.add, "max(a, b)": np.maximum, "min(a, b)": np.minimum, "a * b": np.multiply}
_SCALARS = (bool, int, float, complex, np.number, np.bool_)
_TYPE = r"(?:const\s+)?(?:[A-Z]|float|double|int)\s+"  # in front of a name: a declaration


@dataclass(frozen=True)
class Parameter:
    """One of "float32 x, raw T y": its name, and a type that is either given or a letter to be found out."""

    name: str
    letter: str | None
    dtype: np.dtype[Any] | None
    raw: bool


def parameters(text: str) -> list[Parameter]:
    """Return the parameters that a text declares; raises as CuPy does for what it cannot read."""
    found = []
    for part in text.split(",") if text.strip() else []:
        words = part.split()
        if len(words) < 2:
            raise Exception(f"Syntax error: {part}")
        *marks, kind, name = words
        if strange := set(marks) - {"raw"}:
            raise Exception(f'Unknown keyword "{min(strange)}"')
        letter = kind if len(kind) == 1 else None
        found.append(Parameter(name, letter, None if letter else np.dtype(kind), "raw" in marks))
    return found


def deduced(declared: Sequence[Parameter], given: Sequence[Any]) -> dict[str, np.dtype[Any]]:
    """Return the type of each letter. Arrays alone decide: a scalar takes the type that they give to its letter.

    Raises TypeError where two arrays disagree, or one with the type that its parameter has.
    """
    types: dict[str, np.dtype[Any]] = {}
    for parameter, value in zip(declared, given, strict=False):
        if not isinstance(value, ndarray):
            if not isinstance(value, _SCALARS):
                raise TypeError(f"Unsupported type {type(value)}")
            continue
        expected = parameter.dtype or types.setdefault(parameter.letter or "", value.dtype)
        if expected != value.dtype:
            raise TypeError(f"Type is mismatched. {parameter.name} {value.dtype} {expected} {parameter.letter}")
    return types


def typed(parameter: Parameter, types: dict[str, np.dtype[Any]]) -> np.dtype[Any]:
    """Return a parameter's type; raises KeyError, as CuPy does, for a letter that no array decides."""
    return parameter.dtype or types[parameter.letter or ""]


class ElementwiseKernel:
    """A kernel over all elements; its outputs, where they are not given, have the shape of the broadcast inputs."""

    def __init__(  # noqa: PLR0917 - CuPy's
        self, in_params: str, out_params: str, operation: str, name: str = "kernel", reduce_dims: bool = True,
        preamble: str = "", no_return: bool = False, return_tuple: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.name = self.__name__ = name
        self._source = (in_params, out_params, operation, name, reduce_dims, preamble)
        self._inputs, self._outputs = parameters(in_params), parameters(out_params)
        names = [parameter.name for parameter in (*self._inputs, *self._outputs)]
        if "i" in names:
            raise ValueError("Can not use 'i' as a parameter name")
        self._body = [statement.strip() for statement in operation.split(";") if statement.strip()]
        for statement in self._body:
            compile(_python(statement), name, "exec")
            _require_assignable(statement, [parameter.name for parameter in self._inputs])

    def __call__(self, *args: Any, size: int | None = None, block_size: int = 128) -> Any:
        inputs, outputs = args[: len(self._inputs)], args[len(self._inputs) :]
        if len(inputs) < len(self._inputs) or len(outputs) not in {0, len(self._outputs)}:
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        # As in CuPy, the types of outputs count first.
        types = deduced([*self._outputs, *self._inputs], [*outputs, *inputs] if outputs else [*self._unset(), *inputs])
        shape = self._shape(args, size)
        results = outputs or tuple(ndarray(np.empty(shape, typed(out, types))) for out in self._outputs)
        self._require_outputs(results, shape)
        scalars = [typed(parameter, types) for parameter in self._inputs]
        values = [
            value if isinstance(value, ndarray) else kind.type(value)
            for value, kind in zip(inputs, scalars, strict=True)
        ]
        names = [parameter.name for parameter in (*self._inputs, *self._outputs)]
        given = dict(zip(names, (*values, *results), strict=True))
        _gpu.gpu().lane.launch(lambda: self._run(given, shape))
        return results[0] if len(results) == 1 else tuple(results)

    def _unset(self) -> list[Any]:
        return [0 for _ in self._outputs]  # counts as a scalar: decides nothing

    def _shape(self, args: Sequence[Any], size: int | None) -> tuple[int, ...]:
        """Return what is looped over: the arrays that are not raw, broadcast, or `size` if there are none."""
        declared = [*self._inputs, *self._outputs]
        looped = [a for p, a in zip(declared, args, strict=False) if isinstance(a, ndarray) and not p.raw]
        if looped and size is not None:
            raise ValueError("Specified 'size' can be used only if all of the ndarray are 'raw'.")
        if not looped and size is None:
            raise ValueError("Loop size is undecided.")
        return (size,) if size is not None else np.broadcast_shapes(*(a.shape for a in looped))

    def _require_outputs(self, results: Sequence[Any], shape: tuple[int, ...]) -> None:
        for parameter, result in zip(self._outputs, results, strict=True):
            if not isinstance(result, ndarray):
                raise TypeError("Output arguments type must be cupy.ndarray")
            if not parameter.raw and result.shape != shape:
                raise ValueError("Out shape is mismatched")

    def _run(self, given: dict[str, Any], shape: tuple[int, ...]) -> None:
        values = {name: _array.unwrap(value) for name, value in given.items()}
        values = {**_NAMES, "i": np.arange(np.prod(shape, dtype=int)), **values}
        for statement in self._body:
            exec(_python(statement), {}, values)
        for parameter in self._outputs:
            target = given[parameter.name]._now
            if values[parameter.name] is not target:
                target[...] = values[parameter.name]


class ReductionKernel:
    """A kernel that maps all elements and reduces them along an axis."""

    def __init__(  # noqa: PLR0917 - CuPy's
        self, in_params: str, out_params: str, map_expr: str, reduce_expr: str, post_map_expr: str, identity: str,
        name: str = "reduce_kernel", reduce_type: str | None = None, reduce_dims: bool = True, preamble: str = "",
        options: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.name = self.__name__ = name
        self._inputs, (self._output,) = parameters(in_params), parameters(out_params)
        self._map, self._reduce, self._post = map_expr, _REDUCTIONS[reduce_expr], post_map_expr

    def __call__(self, *args: Any, out: ndarray | None = None, axis: Any = None, keepdims: bool = False) -> ndarray:
        types = deduced(self._inputs, args)

        def reduce(*arrays: Any, out: np.ndarray | None = None) -> Any:
            names = [parameter.name for parameter in self._inputs]
            values = {**_NAMES, **dict(zip(names, arrays, strict=True))}
            mapped = eval(_python(self._map), {}, values)
            values["a"] = self._reduce.reduce(mapped, axis=axis, keepdims=keepdims)
            exec(_python(self._post), {}, values)
            result = np.asarray(values[self._output.name])
            if out is None:
                return result.astype(typed(self._output, types), copy=False)
            out[...] = result
            return out

        return _array.launch(reduce, *args, out=out)


class RawKernel:
    """CUDA source; what is known here is only how long one called `spin` keeps the device busy."""

    def __init__(
        self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", *,
        translate_cucomplex: bool = False, enable_cooperative_groups: bool = False, jitify: bool | None = None,
    ) -> None:  # fmt: skip
        assert f"void {name}(" in code, f"no kernel {name!r} in the source"
        self.name = self.__name__ = name

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0
    ) -> None:
        assert self.name == "spin", f"the stand-in cannot run the CUDA kernel {self.name!r}"
        # CuPy copies a scalar's bytes as they are: any other type would be read as another number.
        assert isinstance(args[0], np.uint64), f"unsigned long long is numpy.uint64, not {type(args[0])}"
        _gpu.gpu().lane.launch(lambda: None, seconds=float(args[0]) * 1e-9)


def fuse(*args: Any, kernel_name: str | None = None) -> Any:
    """Decorate a function of arrays; here it stays as it is, one launch an operation."""
    return args[0] if args else lambda function: function


def _require_assignable(statement: str, inputs: list[str]) -> None:
    """Raise for an assignment to an input, which is const in the generated source."""
    if (target := re.match(r"(\w+)\s*(?:\[.*?\])?\s*[-+*/]?=(?!=)", statement)) and target[1] in inputs:
        raise RuntimeError(f"CompileException: {target[1]!r} is const: assign to an output")


def _python(statement: str) -> str:
    """Return a C++ statement as Python: number suffixes and type names of declarations go."""
    statement = re.sub(r"(\d(?:\.\d*)?(?:e-?\d+)?)f\b", r"\1", statement.strip().rstrip(";"))
    return re.sub(rf"^{_TYPE}(?=\w+\s*=)", "", statement)
