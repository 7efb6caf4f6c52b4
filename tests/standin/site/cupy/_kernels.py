"""User-defined kernels. Their bodies are CUDA C++; _cuda_c.py runs them on NumPy's arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cupy import _cuda_c, _gpu
from cupy._array import ndarray

_SCALARS = (bool, int, float, complex, np.number, np.bool_)


@dataclass(frozen=True)
class Parameter:
    """One of "float32 x, raw T y": its name, and a type that is either given or a letter to be found out."""

    name: str
    letter: str | None
    dtype: np.dtype[Any] | None
    raw: bool


Types = dict[str, np.dtype[Any]]  # by letter


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


def deduced(declared: Sequence[Parameter], given: Sequence[Any]) -> Types:
    """Return the type of each letter. Arrays alone decide: a scalar takes the type that they give to its letter.

    Raises TypeError where two arrays disagree, or one with the type that its parameter has.
    """
    types: Types = {}
    for parameter, value in zip(declared, given, strict=False):
        if not isinstance(value, ndarray):
            if not isinstance(value, _SCALARS):
                raise TypeError(f"Unsupported type {type(value)}")
            continue
        expected = parameter.dtype or types.setdefault(parameter.letter or "", value.dtype)
        if expected != value.dtype:
            raise TypeError(f"Type is mismatched. {parameter.name} {value.dtype} {expected} {parameter.letter}")
    return types


def typed(parameter: Parameter, types: Types) -> np.dtype[Any]:
    """Return a parameter's type; raises KeyError, as CuPy does, for a letter that no array decides."""
    return parameter.dtype or types[parameter.letter or ""]


def letters(declared: Sequence[Parameter]) -> list[str]:
    """Return the types that are found out for each call: the single letters."""
    return [parameter.letter for parameter in declared if parameter.letter]


def named(given: dict[Parameter, Any]) -> dict[str, Any]:
    """Return what a kernel's code finds under the names of its parameters."""

    def variable(parameter: Parameter, value: Any) -> Any:
        if not isinstance(value, ndarray):
            return value
        return (_cuda_c.Raw if parameter.raw else _cuda_c.Memory)(value._now)

    return {parameter.name: variable(parameter, value) for parameter, value in given.items()}


def numbers_typed(declared: Sequence[Parameter], given: Sequence[Any], types: Types) -> list[Any]:
    """Return the inputs, numbers among them in the types of their parameters."""
    return [
        value if isinstance(value, ndarray) else typed(parameter, types).type(value)
        for parameter, value in zip(declared, given, strict=True)
    ]


def require_outputs(declared: Sequence[Parameter], given: Sequence[Any], shape: tuple[int, ...]) -> None:
    for parameter, result in zip(declared, given, strict=True):
        if not isinstance(result, ndarray):
            raise TypeError("Output arguments type must be cupy.ndarray")
        if not parameter.raw and result.shape != shape:
            raise ValueError("Out shape is mismatched")


class ElementwiseKernel:
    """A kernel over all elements; its outputs, where they are not given, have the shape of the broadcast inputs."""

    def __init__(  # noqa: PLR0917 - CuPy's
        self, in_params: str, out_params: str, operation: str, name: str = "kernel", reduce_dims: bool = True,
        preamble: str = "", no_return: bool = False, return_tuple: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.name = self.__name__ = name
        self._source = (in_params, out_params, operation, name, reduce_dims, preamble)
        self._returns_tuple = return_tuple
        self._inputs, self._outputs = parameters(in_params), parameters(out_params)
        names = [parameter.name for parameter in (*self._inputs, *self._outputs)]
        if "i" in names:
            raise ValueError("Can not use 'i' as a parameter name")
        const = {"i", *(parameter.name for parameter in self._inputs)}
        source = _cuda_c.Source.parsed(preamble, letters([*self._inputs, *self._outputs]))
        self._body = source.statements(operation, {"i", *names}, const)

    def __call__(self, *args: Any, size: int | None = None, block_size: int = 128) -> Any:
        inputs, outputs = args[: len(self._inputs)], args[len(self._inputs) :]
        if len(inputs) < len(self._inputs) or len(outputs) not in {0, len(self._outputs)}:
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        # As in CuPy, the types of outputs count first.
        types = deduced([*self._outputs, *self._inputs], [*outputs, *inputs] if outputs else [*self._unset(), *inputs])
        shape = self._shape(args, size)
        results = outputs or tuple(ndarray(np.empty(shape, typed(out, types))) for out in self._outputs)
        require_outputs(self._outputs, results, shape)
        values = numbers_typed(self._inputs, inputs, types)
        given = dict(zip((*self._inputs, *self._outputs), (*values, *results), strict=True))
        _gpu.gpu().lane.launch(lambda: self._run(given, types, shape))
        return results[0] if len(results) == 1 and not self._returns_tuple else tuple(results)

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

    @np.errstate(all="ignore")
    def _run(self, given: dict[Parameter, Any], types: Types, shape: tuple[int, ...]) -> None:
        names = {"i": np.arange(np.prod(shape, dtype=int)).reshape(shape), **named(given)}
        frame = _cuda_c.Frame(names, types)
        for statement in self._body:
            statement(frame)


class ReductionKernel:
    """A kernel that maps all elements and reduces them along axes. Several outputs are written where they are given.

    As CuPy's, it combines two values at a time, in an order that nothing may depend on, and idle threads add the
    identity.
    """

    def __init__(  # noqa: PLR0917 - CuPy's
        self, in_params: str, out_params: str, map_expr: str, reduce_expr: str, post_map_expr: str, identity: str,
        name: str = "reduce_kernel", reduce_type: str | None = None, reduce_dims: bool = True, preamble: str = "",
        options: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.name = self.__name__ = name
        self._source = (
            in_params, out_params, map_expr, reduce_expr, post_map_expr, identity, name, reduce_type, reduce_dims,
            preamble, options,
        )  # fmt: skip
        self._inputs, self._outputs = parameters(in_params), parameters(out_params)
        inputs, outputs = ({parameter.name for parameter in each} for each in (self._inputs, self._outputs))
        if "\n" in reduce_expr + post_map_expr:
            raise RuntimeError("CompileException: these become macros, which end with their line")
        self._require_renamable(map_expr, post_map_expr)
        self._code = source = _cuda_c.Source.parsed(preamble, letters([*self._inputs, *self._outputs]))
        self._type = reduce_type or self._outputs[0].letter or "float"
        self._map = source.expression(map_expr, inputs)
        self._reduce = source.expression(reduce_expr, {"a", "b"})
        self._post = source.assignments(post_map_expr, {"a", *inputs, *outputs}, {"a", *inputs})
        self._identity = source.expression(str(identity), set())

    def __call__(self, *args: Any, out: ndarray | None = None, axis: Any = None, keepdims: bool = False) -> ndarray:
        inputs, outputs = args[: len(self._inputs)], self._given_outputs(args, out)
        types = deduced([*self._outputs, *self._inputs], [*(outputs or [0] * len(self._outputs)), *inputs])
        shape = self._shape(inputs)
        along = tuple(range(len(shape))) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, len(shape))
        outer = tuple(1 if axis in along else n for axis, n in enumerate(shape) if keepdims or axis not in along)
        outputs = outputs or [ndarray(np.empty(outer, typed(each, types))) for each in self._outputs]
        require_outputs(self._outputs, outputs, outer)
        values = numbers_typed(self._inputs, inputs, types)
        given = dict(zip((*self._inputs, *self._outputs), (*values, *outputs), strict=True))
        _gpu.gpu().lane.launch(lambda: self._run(given, types, shape, along, keepdims=keepdims))
        return outputs[0]

    def _require_renamable(self, map_expr: str, post_map_expr: str) -> None:
        """Raise for names that CuPy would rename inside of other words, when it computes a kernel by CUB.

        It replaces the text of the names of one input and one output; with an input `x`, that of `exp` too. Where they
        are called in0 and out0, it renames nothing, and leaves types undefined that its source needs.
        """
        if (len(self._inputs), len(self._outputs)) != (1, 1):
            return
        for parameter, text in zip((*self._inputs, *self._outputs), (map_expr, post_map_expr), strict=True):
            whole = len(re.findall(rf"\b{parameter.name}\b", text))
            if text.count(parameter.name) != whole or parameter.name in {"in0", "out0"}:
                raise RuntimeError(f"CompileException: by CUB, CuPy would rename {parameter.name!r} in {text!r}")

    def _given_outputs(self, args: Sequence[Any], out: ndarray | None) -> list[Any]:
        outputs = list(args[len(self._inputs) :])
        if len(args) < len(self._inputs) or len(outputs) not in {0, len(self._outputs)}:
            raise TypeError(f"Wrong number of arguments for {self.name}")
        if out is None:
            return outputs
        if len(self._outputs) != 1:
            raise NotImplementedError("")
        if outputs:
            raise ValueError("cannot specify 'out' as both a positional and keyword argument")
        return [out]

    def _shape(self, inputs: Sequence[Any]) -> tuple[int, ...]:
        looped = [a for p, a in zip(self._inputs, inputs, strict=True) if isinstance(a, ndarray) and not p.raw]
        if not looped:
            raise ValueError("Loop size is undecided.")
        return np.broadcast_shapes(*(array.shape for array in looped))

    @np.errstate(all="ignore")
    def _run(
        self,
        given: dict[Parameter, Any],
        types: Types,
        shape: tuple[int, ...],
        along: tuple[int, ...],
        *,
        keepdims: bool,
    ) -> None:
        kept = [length for place, length in enumerate(shape) if place not in along]

        def lined_up(part: np.ndarray) -> np.ndarray:
            """Return a value for every element with all that is reduced on the first axis."""
            return np.moveaxis(np.broadcast_to(part, shape), along, range(len(along))).reshape(-1, *kept)

        variables = named(given)
        identity = self._code.converted(self._type, self._identity(_cuda_c.Frame({}, types)), types)
        identity = _cuda_c.each_part(identity, lambda part: np.broadcast_to(part, (1, *kept)))
        mapped = self._code.converted(self._type, self._map(_cuda_c.Frame(dict(variables), types)), types)
        left = self._pairs(
            identity, _cuda_c.each_part(mapped, lined_up), types
        )  # every thread begins with the identity
        while (count := _cuda_c.length(left)) != 1:
            left = _cuda_c.joined([left, identity]) if count % 2 else left
            half = (count + 1) // 2
            left = self._pairs(_cuda_c.part(left, slice(half)), _cuda_c.part(left, slice(half, None)), types)
        place = [0 if axis in along else slice(None) for axis in range(len(shape))] if keepdims else []
        known = {p.name: variables[p.name] for p in self._inputs if p.raw or not isinstance(given[p], ndarray)}
        known |= {p.name: _cuda_c.Memory(given[p]._now[(*place, ...)]) for p in self._outputs}
        frame = _cuda_c.Frame({**known, "a": _cuda_c.part(left, 0)}, types)
        for statement in self._post:
            statement(frame)

    def _pairs(self, a: Any, b: Any, types: Types) -> Any:
        return self._code.converted(self._type, self._reduce(_cuda_c.Frame({"a": a, "b": b}, types)), types)


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
