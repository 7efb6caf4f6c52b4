"""A function of a user as a workload: called with the arrays of each backend, checked against a reference in float64.

The function gets its arguments as they are, with arrays of the backend in the place of NumPy's, and the module of the
backend as `xp` if it has a parameter of that name. `workload_of` looks at everything once, before anything is measured,
and raises UsageError for wrong use.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from bench_core import check
from bench_core.errors import CaseError, UsageError, WrongAnswer
from bench_core.plan.targets import entries_of, require_known
from bench_core.records import SAME_INPUTS, Param, count_of_devices, identifier
from bench_core.text import one_line, printable
from bench_core.units import counted
from bench_core.workload import (
    Backend,
    Builder,
    Costs,
    HostArrays,
    Kernel,
    Machine,
    Preset,
    Target,
    Work,
    Workload,
)

SUITE = "own"
_WIDE = {"f": np.float64, "c": np.complex128}  # by kind of dtype; the reference gets integers as they are
_DISTINCT = 10.0  # new inputs are of use if their right answers differ by this many tolerances from those before


class Function(Workload):
    """A function with its inputs, as one work for all backends; made by `workload_of`.

    own_work: that work. If the right answers are known for the given inputs only, the timed call is checked again with
    these, after its last answers were overwritten, and the rows are flagged `same_inputs`. Answers that are single
    numbers cannot be overwritten: the call is then not checked again, and the rows are flagged `unchecked_timing`.
    """

    suite = SUITE

    def __init__(self, call: _Call, work: Work, costs: Costs, reference: _Reference | None) -> None:
        self.name = work.workload
        self.has_reference = reference is not None
        self.own_work, self._call, self._costs, self._reference = work, call, costs, reference

    @property
    def functions(self) -> tuple[Any, ...]:
        """The functions that a process must have to measure this."""
        return self._call.function, self._reference and self._reference.function

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - the inputs are given
        return [self.own_work]

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG002 - they are given
        """Return the given arrays; none if the second check can only overwrite the answers."""
        return {} if self._overwrites_answers else dict(self._call.arrays)

    def costs(self, work: Work) -> Costs:  # noqa: ARG002 - there is one work
        """Return what the user has given; nothing without a reference, so that there is no rate."""
        return self._costs if self.has_reference else Costs()

    def footprint(self, work: Work) -> float:  # noqa: ARG002 - there is one work
        return float(sum(array.nbytes for array in self._call.arrays.values()))

    def builders(self, target: Target) -> Mapping[str, Builder]:  # noqa: ARG002 - the same for all
        return {"default": self._built}

    def redraw(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:  # noqa: ARG002 - one work
        assert self._reference is not None and self._reference.redrawn is not None  # noqa: PT018, S101
        return {name: self._reference.redrawn(array, rng) for name, array in host.items()}

    def reference(self, work: Work, host: HostArrays) -> HostArrays:  # noqa: ARG002 - there is one work
        assert self._reference is not None  # noqa: S101 - it is not called without one
        given = self._repeats or all(host[name] is array for name, array in self._call.arrays.items())
        return self._reference.expected if given else self._reference.of(self._call, host)

    def error(self, work: Work, expected: HostArrays, answer: HostArrays) -> float:  # noqa: ARG002 - there is one work
        return _error(expected, answer)

    def tolerance(self, work: Work) -> check.Tolerance:  # noqa: ARG002 - there is one work
        assert self._reference is not None  # noqa: S101 - it is not called without one
        return check.Tolerance(self._reference.tolerance)

    @property
    def _repeats(self) -> bool:
        return self._reference is not None and self._reference.redrawn is None

    @property
    def _overwrites_answers(self) -> bool:
        reference = self._reference
        return reference is not None and self._repeats and any(array.ndim for array in reference.expected.values())

    def _built(self, backend: Backend, work: Work, host: HostArrays) -> Kernel:  # noqa: ARG002 - the Builder's
        arrays = {name: backend.from_host(array) for name, array in self._call.arrays.items()}
        call = self._call
        bound = functools.partial(call.function, *call.arguments(arrays), **call.keywords(backend.xp))
        # New inputs are written into these arrays; where a library cannot do that, other arrays take their place.
        in_place = hasattr(backend, "overwrite")
        run = bound if in_place else lambda: call.function(*call.arguments(arrays), **bound.keywords)
        answers = _Answers(self.name, backend, arrays, None if self._reference is None else self._call.arrays)
        if self._repeats:
            flags = (SAME_INPUTS,) if self._overwrites_answers else ()
            return Kernel(run, outputs=answers, flags=flags, around_first=answers.refusing_numpy)
        return Kernel(run, inputs=arrays, outputs=answers, around_first=answers.refusing_numpy)


def workload_of(  # noqa: PLR0913 - the arguments of `bench_core.measure`
    fn: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    reference: Any = None,
    flops: float | None = None,
    bytes: float | None = None,  # noqa: A002 - the argument of `bench_core.measure`
    tolerance: float | None = None,
    name: str = "",
    fallback_name: str = "function",
) -> Function:
    """Return the workload of a function.

    inputs: NumPy arrays, numbers and truth values. The others are as in `bench_core.measure`. fallback_name: for a
    function without a name of its own. Raises UsageError for anything that cannot be measured, and if the reference
    raises.
    """
    if not callable(fn):
        hint = "measure(fn, x), not measure(fn(x))"
        raise UsageError(f"measure: the first argument must be a function, not {_described(fn)}: {hint}")
    if any(asks(fn) for asks in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
        raise UsageError(f"measure: {_said(fn)} returns a coroutine or generator, which computes nothing yet")
    call = _call(fn, inputs)
    costs = Costs(flops=positive("flops", flops), bytes=positive("bytes", bytes))
    work = Work(SUITE, _name(fn, name, fallback_name), _size(call), _dtype(call), call.params)
    allowed = positive("tolerance", tolerance)
    judged = None if reference is None else _reference(reference, call, allowed, work.dtype)
    return Function(call, work, costs, judged)


# ---------------------------------------------------------------- the call


@dataclass(frozen=True, slots=True)
class _Call:
    """A function and its arguments: arrays by name, and in `order` the name of an array or a number itself."""

    function: Callable[..., Any]
    arrays: Mapping[str, np.ndarray]
    order: tuple[tuple[str, Param | None], ...]
    takes_xp: bool

    @property
    def params(self) -> tuple[tuple[str, Param], ...]:
        """What distinguishes this call from others beside the shape and the dtype of a single array."""
        found: dict[str, Param] = {name: number for name, number in self.order if number is not None}
        if len(self.arrays) != 1:
            found["arrays"] = len(self.arrays)
        dtypes = [str(array.dtype) for array in self.arrays.values()]
        if len(set(dtypes)) > 1:
            found["dtypes"] = "+".join(dtypes)
        return tuple(found.items())

    def arguments(self, arrays: Mapping[str, Any]) -> list[Any]:
        return [arrays[name] if number is None else number for name, number in self.order]

    def keywords(self, xp: Any) -> dict[str, Any]:
        return {"xp": xp} if self.takes_xp else {}


def _call(fn: Callable[..., Any], inputs: Sequence[Any]) -> _Call:
    arrays: dict[str, np.ndarray] = {}
    order: list[tuple[str, Param | None]] = []
    names = _parameters(fn, len(inputs))
    takes_xp = _takes_xp(fn)
    for name, given in zip(names, inputs, strict=True):
        number = _number(name, given)
        order.append((name, number))
        if number is None:
            arrays[name] = given
    if not arrays and not takes_xp:
        said = f"measure: {_said(fn)} gets no array and has no parameter `xp`, so no backend could compute it"
        raise UsageError(f"{said}: give the arrays as inputs, measure(fn, x)")
    return _Call(fn, arrays, tuple(order), takes_xp)


def _parameters(fn: Callable[..., Any], count: int) -> list[str]:
    """Return a name for each input: that of the parameter, or "input1" where the signature is unknown or variable.

    Raises UsageError if the function cannot be called with that many.
    """
    numbered = [f"input{i}" for i in range(1, count + 1)]
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # written in C
        return numbered
    try:
        signature.bind(*numbered, **({"xp": None} if "xp" in signature.parameters else {}))
    except TypeError as error:
        given = f"{count} input{'s' * (count != 1)} given"
        raise UsageError(f"measure: {_said(fn)}{signature}: {error}, {given}") from None
    named = [p.name for p in signature.parameters.values() if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return [*named[:count], *numbered[len(named) :]]


def _takes_xp(fn: Callable[..., Any]) -> bool:
    try:
        return "xp" in inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return False


def _number(name: str, given: Any) -> Param | None:
    """Return an input that is a number as Python's own, None for an array; raises UsageError for anything else."""
    if isinstance(given, np.generic):
        given = given.item()
    if isinstance(given, np.ndarray):
        if wrong := _why_not(given):
            raise UsageError(f"measure: input {name!r} {wrong}")
        return None
    if not isinstance(given, (bool, int, float)):
        raise UsageError(f"measure: input {name!r} is {_described(given)}: give a number, or an array, np.asarray(...)")
    if not math.isfinite(given):
        raise UsageError(f"measure: input {name!r} is {given}: give a finite number")
    return given


def _why_not(array: np.ndarray) -> str:
    """Return why an array cannot be an input; "" if it can."""
    if array.dtype.kind not in "fciub":
        return f"is an array of {array.dtype}: give real or complex numbers"
    if not array.dtype.isnative:
        return "is not in the byte order of this machine: give x.astype(x.dtype.newbyteorder('='))"
    if isinstance(array, np.ma.MaskedArray):
        return "is a masked array, which other libraries do not know: give x.filled(...)"
    return "is empty" if array.size == 0 else ""


def _name(fn: Callable[..., Any], chosen: str, fallback: str) -> str:
    """Return the name of the work: the chosen one, else the function's; raises UsageError for an invalid choice."""
    inner = fn.func if isinstance(fn, functools.partial) else fn
    name = chosen or getattr(inner, "__name__", type(inner).__name__)
    try:
        return identifier(name)
    except (TypeError, ValueError) as error:
        if chosen:
            raise UsageError(f"measure: name: {error}") from None
        return identifier(fallback)


def _size(call: _Call) -> str:
    """Return the shapes of the arrays in their order, "64x128+128"; one shape if all are equal."""
    shapes = ["x".join(map(str, array.shape)) or "1" for array in call.arrays.values()]
    return "+".join(shapes if len(set(shapes)) > 1 else shapes[:1]) or "none"


def _dtype(call: _Call) -> str:
    """Return the dtype of the first array of floating-point numbers, else of the first array."""
    dtypes = [array.dtype for array in call.arrays.values()]
    return str(next((dtype for dtype in dtypes if dtype.kind in _WIDE), dtypes[0] if dtypes else np.dtype("float64")))


def backends_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the backends that `measure` is asked for, () for all; raises UsageError for anything that is none."""
    several = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(several, (list, tuple, set, frozenset)) or not all(isinstance(one, str) for one in several):
        raise UsageError(f"measure: backends={printable(repr(given), 60)}: give names, such as ['numpy', 'torch:cpu']")
    entries = tuple(entry for text in several for entry in entries_of(text))
    require_known(entries, f"measure: backends={','.join(entries)}")
    for together in (entry for entry in entries if count_of_devices(entry.partition(":")[2]) > 1):
        raise UsageError(f"measure: backends={together}: a function is measured on one device at a time")
    return entries


def positive(name: str, given: float | None) -> float | None:
    """Return an optional positive number; raises UsageError for any other."""
    if given is None:
        return None
    is_real = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if not is_real or not 0 < given < math.inf:
        raise UsageError(f"measure: {name}={printable(repr(given), 40)}: must be a positive number")
    return float(given)


# ---------------------------------------------------------------- the reference

_Redraw = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _scaled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return real or complex numbers multiplied by one factor: signs, zeros, order and symmetry stay."""
    return (array * rng.uniform(0.5, 0.95)).astype(array.dtype) if array.dtype.kind in _WIDE else array


def _stretched(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return real or complex numbers, each multiplied by a factor of its own: signs and zeros stay."""
    factors = rng.uniform(0.5, 1.0, array.shape)
    return (array * factors).astype(array.dtype) if array.dtype.kind in _WIDE else array


def _rolled(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the same numbers, each some places further: no new value appears, as in an array of indices."""
    return np.roll(array.reshape(-1), rng.integers(1, max(array.size, 2))).reshape(array.shape)


_REDRAWS: tuple[_Redraw, ...] = (_scaled, _stretched, _rolled)  # what changes the structure least comes first


@dataclass(frozen=True, slots=True)
class _Reference:
    """The right answers.

    function: gives them for any inputs; None if they are known for the given ones only. expected: for the given inputs,
    by name. tolerance: the largest relative error. redrawn: how other inputs are made for the second check; None if
    there are none that the function can follow and that change its answers.
    """

    function: Callable[..., Any] | None
    expected: HostArrays
    tolerance: float
    redrawn: _Redraw | None = None

    def of(self, call: _Call, host: HostArrays) -> HostArrays:
        assert self.function is not None  # noqa: S101 - otherwise the inputs are never redrawn
        return _right_answers(self.function, call, host)


def _reference(given: Any, call: _Call, tolerance: float | None, dtype: str) -> _Reference:
    """Return the reference, evaluated for the given inputs; raises UsageError if it raises or gives no numbers."""
    if callable(given):
        try:
            expected = _right_answers(given, call, call.arrays)
        except Exception as error:  # a function of the user may raise anything
            said = one_line(f"{type(error).__name__}: {error}")
            raise UsageError(f"measure: the reference {_said(given)} raises {printable(said)}") from error
    else:
        expected = _as_arrays(given)
    for name, array in expected.items():
        if array.dtype.kind not in "fciub" or not np.isfinite(array).all():
            which = "" if name == "out" else f" {name!r}"
            what = "finite numbers" if array.dtype.kind in "fciub" else f"numbers but {array.dtype}"
            raise UsageError(f"measure: the answer{which} of the reference is not {what}: nothing can be checked by it")
    allowed = _tolerance(dtype, expected) if tolerance is None else tolerance
    if not callable(given):
        return _Reference(None, expected, allowed)
    return _Reference(given, expected, allowed, _suitable_redraw(given, call, expected, allowed))


def _tolerance(dtype: str, expected: HostArrays) -> float:
    """Return the largest relative error: that of a product in this dtype; none if all is integers."""
    if np.dtype(dtype).kind not in _WIDE:  # results of integers may be of any floating-point format
        return 0.0 if all(array.dtype.kind in "iub" for array in expected.values()) else check.tolerance("float32").high
    try:
        return check.tolerance(dtype).high
    except CaseError:
        raise UsageError(f"measure: no tolerance is known for {dtype}: give one, tolerance=1e-6") from None


def _suitable_redraw(
    function: Callable[..., Any], call: _Call, expected: HostArrays, tolerance: float
) -> _Redraw | None:
    """Return the first way to change the inputs that the reference can follow, and that changes its answers."""
    rng = np.random.default_rng(1977)  # the draws of the check come from the generator of the case
    for redraw in _REDRAWS if call.arrays else ():
        try:
            changed = {name: redraw(array, rng) for name, array in call.arrays.items()}
            answers = _right_answers(function, call, changed)
            is_valid = all(np.isfinite(array).all() for array in answers.values())
            if is_valid and _error(answers, expected) > _DISTINCT * tolerance:
                return redraw
        except Exception:  # noqa: BLE001, S112 - outside its domain a function may raise anything
            continue
    return None


def _right_answers(function: Callable[..., Any], call: _Call, host: HostArrays) -> HostArrays:
    """Return what the reference answers to these arrays, which it gets in float64 or complex128, as a copy."""
    wide = {name: np.array(array, dtype=_WIDE.get(array.dtype.kind)) for name, array in host.items()}
    keywords = {"xp": np} if _takes_xp(function) else {}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _as_arrays(function(*call.arguments(wide), **keywords))


def _as_arrays(result: Any) -> HostArrays:
    return {name: np.asarray(value) for name, value in _named(result).items()}


def _error(expected: HostArrays, answer: HostArrays) -> float:
    """Return the largest relative error of all arrays; raises WrongAnswer for other arrays or shapes."""
    if answer.keys() != expected.keys():
        has = f"the answer is {counted(len(answer), 'array')} ({', '.join(answer)})"
        reason = f"{has}, that of the reference {len(expected)} ({', '.join(expected)})"
        raise WrongAnswer(f"{reason}: return the same from both", code="wrong_outputs")
    return max(check.relative_error(answer[name], array) for name, array in expected.items())


# ---------------------------------------------------------------- the answer


class _Answers:
    """Names the arrays that a call returned, and refuses what could not be checked.

    arrays: the inputs on the device. given: what they must still hold after the first call; None without a check.
    """

    def __init__(
        self, name: str, backend: Backend, arrays: Mapping[str, Any], given: Mapping[str, np.ndarray] | None
    ) -> None:
        self._name, self._backend, self._arrays, self._given = name, backend, arrays, given
        self._checks = given is not None

    def __call__(self, result: Any) -> Mapping[str, Any]:
        if result is None and not self._checks:
            return self._arrays  # what it may have written to
        if result is None:
            raise CaseError("no_answer", f"{self._name} returns None: let it return its answer, or give no reference")
        named = {name: self._on_device(value) for name, value in _named(result).items()}
        if not named:
            raise CaseError("no_answer", f"{self._name} returns an empty {type(result).__name__}: return its answer")
        if self._checks:
            self._require_new(named)
            self._require_unchanged()
        return named

    @contextlib.contextmanager
    def refusing_numpy(self) -> Iterator[None]:
        """Let NumPy get no array of another library by itself, as `np.tanh(x)` does, which returns the library's type.

        Without effect where the type of the arrays cannot be changed, as CuPy's, which refuses it by itself.
        """
        kind = type(self._backend.from_host(np.zeros(1, "float32")))
        theirs = vars(kind).get("__array__")
        try:
            if theirs is not None and self._backend.xp is not np:
                with contextlib.suppress(TypeError):  # a type written in C
                    kind.__array__ = self._refuse_numpy
            yield
        finally:
            if theirs is not None and vars(kind)["__array__"] is not theirs:
                kind.__array__ = theirs

    def _refuse_numpy(self, *_: Any, **__: Any) -> NoReturn:
        self._raise_numpy_did_it(f"calls NumPy with an array of {self._backend.name}")

    def _raise_numpy_did_it(self, what: str) -> NoReturn:
        hint = "write it with operators, or with a parameter `xp`"
        raise CaseError("computed_by_numpy", f"{self._name} {what}: NumPy did the work; {hint}")

    def _on_device(self, value: Any) -> Any:
        if not isinstance(value, (np.ndarray, np.generic, numbers.Number)):
            if not hasattr(value, "shape"):  # neither an array nor a tensor
                said = f"{self._name} returns something {_described(value)}"
                raise CaseError("no_array", f"{said}: return an array, a number, or one tuple, list or dict of them")
            return value
        if self._backend.xp is np:
            return np.asarray(value)
        if isinstance(value, (np.ndarray, np.generic)):
            self._raise_numpy_did_it(f"returns a NumPy array on {self._backend.name}")
        return self._backend.from_host(np.asarray(value))

    def _require_new(self, named: Mapping[str, Any]) -> None:
        for name, value in named.items():
            owners = [value, *(getattr(value, attribute, None) for attribute in ("base", "_base"))]
            if any(array is owner for array in self._arrays.values() for owner in owners):
                which = "" if name == "out" else f" as {name!r}"
                said = f"{self._name} returns an input or a view of it{which}, which cannot be checked"
                raise CaseError("returns_input", f"{said}: return a new array")

    def _require_unchanged(self) -> None:
        """Raise CaseError if the first call has changed its inputs: the next call would do other work."""
        given, self._given = self._given or {}, None
        for name, array in given.items():
            if not np.array_equal(self._backend.to_host(self._arrays[name]), array, equal_nan=True):
                said = f"{self._name} changes its input {name!r}, so that every call does other work"
                raise CaseError("changes_input", f"{said}: write to a new array")


def _named(result: Any) -> dict[str, Any]:
    """Return the arrays of a result by name: those of a tuple, a list or a dict, or "out" alone."""
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    if isinstance(result, (tuple, list)):
        return {str(i): value for i, value in enumerate(result)}
    return {"out": result}


# ---------------------------------------------------------------- texts


def _said(fn: Any) -> str:
    return printable(str(getattr(fn, "__name__", type(fn).__name__)), 40)


def _described(given: Any) -> str:
    kind = type(given)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"of type {module}{kind.__qualname__}"
