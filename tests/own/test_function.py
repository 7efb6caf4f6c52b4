"""A function becomes a workload: its work, how its answer is checked, and what is refused."""

import functools
import re

import numpy as np
import pytest

from bench_core import check
from bench_core.backends import registry
from bench_core.backends.numpy import NumpyBackend
from bench_core.errors import UsageError
from bench_core.own.function import backends_of, workload_of
from bench_core.records import Case, Costs, Status
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from tests.own import functions
from tests.own.functions import both, double, normalised, scaled
from tests.support.fakes import ForgetfulBackend

X = np.random.default_rng(5).standard_normal(1000)
PLAN = Durations(budget=0.02, least=0.005, warmup=0.005, warmup_cap=0.02)
NOISE = {"not_steady", "not_converged", "trend", "alternating"}


def measured(fn, *inputs, backend=None, **asked):
    """Measure a function in this process; return the measurement, and its flags that do not tell of noise."""
    backend = backend or NumpyBackend("cpu")
    workload = workload_of(fn, inputs, **asked)
    case = Case(workload.own_work, backend.name, backend.device)
    done = run_case(case, workload, backend, Settings(PLAN, seed=7, last_level_cache=1 << 20))
    flags = {*done.flags, *(flag for series in done.series for flag in series.flags)} - NOISE
    return done, flags


# ---------------------------------------------------------------- the work


def test_the_work_is_told_by_the_function_the_shapes_and_the_numbers():
    work = workload_of(scaled, (np.zeros((3, 4), "float32"), 2.5)).own_work
    assert (work.suite, work.workload, work.size, work.dtype) == ("own", "scaled", "3x4", "float32")
    assert dict(work.params) == {"factor": 2.5}
    two = workload_of(both, (np.zeros(5, "int64"), np.zeros((), "float32")), name="pair").own_work
    assert (two.workload, two.size, two.dtype) == ("pair", "5+1", "float32")
    assert dict(two.params) == {"arrays": 2, "dtypes": "int64+float32"}


def test_works_of_other_numbers_are_never_joined():
    ids = {workload_of(scaled, (X, factor)).own_work.case_id for factor in (1, 2, np.float64(2.5))}
    assert len(ids) == 3


def total(a, b, c):
    return a.sum() + b.sum() + c.sum()


def test_works_of_other_shapes_or_dtypes_are_never_joined():
    lengths = [(3, 3, 5), (3, 5, 5), (3, 5, 3), (5, 3, 3), (3, 3, 3)]
    ids = {workload_of(total, [np.ones(n) for n in each]).own_work.case_id for each in lengths}
    assert len(ids) == len(lengths)
    dtypes = [("f8", "i8", "f4"), ("f8", "f4", "i8"), ("f8", "f4", "f4"), ("f8", "f8", "f4")]
    ids = {workload_of(total, [np.ones(3, each) for each in some]).own_work.case_id for some in dtypes}
    assert len(ids) == len(dtypes)


async def later(x):
    return x


def one_by_one(x):
    yield x


@pytest.mark.parametrize(
    ("fn", "given", "options", "said"),
    [
        (later, X, {}, "returns a coroutine or generator, which computes nothing yet"),
        (one_by_one, X, {}, "returns a coroutine or generator"),
        (double, X.astype(">f8"), {}, "is not in the byte order of this machine"),
        (double, np.ma.masked_equal(X, 0), {}, "is a masked array"),
        (double, np.empty(0), {}, "is empty"),
        (double, X, {"tolerance": -1}, "tolerance=-1: must be a positive number"),
        (double(X), X, {}, "measure(fn, x), not measure(fn(x))"),
    ],
)
def test_what_cannot_be_measured_is_one_line(fn, given, options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        workload_of(fn, (given,), **options)


@pytest.mark.parametrize(
    ("given", "entries"),
    [(None, ()), ("numpy,torch:cpu", ("numpy", "torch:cpu")), (["numpy"], ("numpy",)), ((), ())],
)
def test_backends_are_named_one_by_one_or_in_a_list(given, entries):
    assert backends_of(given) == entries


def test_a_function_is_measured_on_one_device_at_a_time():
    with pytest.raises(UsageError, match=r"^measure: backends=torch:cpu:x2: a function is measured on one device"):
        backends_of("numpy,torch:cpu:x2")


@pytest.mark.parametrize("given", [5, [np], "abacus", {"numpy": 1}])
def test_backends_that_are_none_are_one_line(given):
    with pytest.raises(UsageError, match="measure: backends="):
        backends_of(given)


@pytest.mark.parametrize(
    ("fn", "name"),
    [(double, "double"), (functools.partial(scaled, xp=np), "scaled"), (lambda x, y=1: x, "fallback"), (np.exp, "exp")],
)
def test_the_name_is_that_of_the_function_or_else_that_of_the_test(fn, name):
    inputs = (X, 2.0) if name == "scaled" else (X,)
    assert workload_of(fn, inputs, fallback_name="fallback").own_work.workload == name


# ---------------------------------------------------------------- the check


def test_a_right_answer_has_its_error_and_its_costs():
    done, flags = measured(double, X.astype("float32"), reference=double, flops=1000, bytes=8000)
    assert (done.status, done.reason, flags) == (Status.OK, "", set())
    assert (done.costs.flops, done.costs.bytes) == (1000.0, 8000.0)
    assert done.rel_error == 0.0
    assert {series.metric for series in done.series} == {"time"}


def test_several_arrays_and_numbers_are_checked_each():
    assert measured(both, X, X + 1, reference=both)[0].status is Status.OK
    done, _ = measured(both, X, X + 1, reference=lambda a, b: {"sum": a + b, "product": a + b})
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_answer")
    done, _ = measured(np.add, X, X + 1, reference=both)
    assert done.reason == (
        "the answer is 1 array (out), that of the reference 2 (sum, product): return the same from both"
    )
    done, _ = measured(both, X, X + 1, reference=lambda a, b: a + b)
    assert (done.reason_code, done.reason) == (
        "wrong_outputs",
        "the answer is 2 arrays (sum, product), that of the reference 1 (out): return the same from both",
    )


def test_the_reference_gets_float64_and_integers_as_they_are():
    seen = []

    def reference(values, ids):
        seen.append((values.dtype, ids.dtype))
        return values[ids]

    measured(np.take, X.astype("float32"), np.arange(10, dtype="int32"), reference=reference)
    assert set(seen) == {(np.dtype("float64"), np.dtype("int32"))}


@pytest.mark.parametrize("reference", [double, 2 * X], ids=["function", "array"])
def test_a_call_that_returns_an_earlier_answer_is_found_out(reference):
    functions.ANSWERS.clear()
    done, _ = measured(functions.cached, X, reference=reference)
    assert (done.status, done.reason_code) == (Status.INVALID, "wrong_second_look")


def test_with_arrays_as_reference_the_same_inputs_are_checked_again_and_the_row_says_so():
    done, flags = measured(double, X, reference=2 * X)
    assert (done.status, flags) == (Status.OK, {"same_inputs"})


def test_a_number_that_is_known_for_these_inputs_only_is_checked_before_the_timing_and_the_row_says_so():
    done, flags = measured(np.sum, X, reference=float(X.sum()), tolerance=1e-12)
    assert (done.status, flags) == (Status.OK, {"unchecked_timing"})
    done, _ = measured(np.sum, X, reference=float(X.sum()) + 1)
    assert done.reason_code == "wrong_answer"


def test_without_a_reference_there_is_a_time_and_no_rate():
    done, flags = measured(double, X, flops=1000, bytes=16000)
    assert (done.status, flags, done.costs, done.rel_error) == (Status.OK, {"unchecked"}, Costs(), None)
    assert done.series[0].seconds


def test_without_a_reference_it_is_still_proven_that_the_backend_waits():
    backend = ForgetfulBackend(work=50e-6)  # longer than a busy machine stalls; its backlog has to be sat out

    def launched(x):
        backend.launch()
        return 2 * x

    done, _ = measured(launched, X, backend=backend)
    assert (done.status, done.reason_code) == (Status.INVALID, "not_synchronised")


def test_what_returns_nothing_can_be_timed_without_a_reference():
    done, flags = measured(functions.nothing, X)
    assert (done.status, flags) == (Status.OK, {"unchecked"})


@pytest.mark.parametrize(
    ("fn", "code", "why"),
    [
        (functions.in_place, "changes_input", "in_place changes its input 'x'"),
        (functions.every_second, "returns_input", "every_second returns an input or a view of it"),
        (functions.nothing, "no_answer", "nothing returns None"),
        (lambda x: {}, "no_answer", "function returns an empty dict: return its answer"),
        (
            lambda x: (x + 1, (x, x)),
            "no_array",
            "function returns something of type tuple: return an array, a number, or one",
        ),
        (lambda x: {"a": x + 1, "b": None}, "no_array", "function returns something of type NoneType: return an array"),
        (functions.broken, "ArithmeticError", "ArithmeticError: it broke"),
    ],
)
def test_what_cannot_be_checked_is_an_error_with_the_reason(fn, code, why):
    done, _ = measured(fn, X, reference=double)
    assert (done.status, done.reason_code) == (Status.ERROR, code)
    assert done.reason.startswith(why)


class Elsewhere(NumpyBackend):
    """A library of which NumPy's arrays are not its own."""

    xp = np.ma


def test_numpy_computing_in_the_name_of_another_library_is_an_error():
    done, _ = measured(double, X, backend=Elsewhere("cpu"))
    assert (done.status, done.reason_code) == (Status.ERROR, "computed_by_numpy")


def on_numpy(x):
    return np.tanh(x)


def by_a_scalar(x):
    return np.sqrt(2.0) * x


@pytest.mark.parametrize("reference", [on_numpy, None], ids=["reference", "none"])
def test_numpy_called_with_tensors_is_an_error_and_they_are_as_before_afterwards(reference):
    torch = pytest.importorskip("torch")
    backend, before = registry.load("torch")("cpu"), torch.Tensor.__array__
    done, _ = measured(on_numpy, X, reference=reference, backend=backend)
    assert (done.status, done.reason_code) == (Status.ERROR, "computed_by_numpy")
    assert done.reason.startswith("on_numpy calls NumPy with an array of torch: NumPy did the work; ")
    assert measured(by_a_scalar, X, reference=by_a_scalar, backend=backend)[0].status is Status.OK
    assert measured(functions.broken, X, backend=backend)[0].reason_code == "ArithmeticError"
    assert torch.Tensor.__array__ is before
    assert np.array_equal(np.asarray(torch.ones(3)), np.ones(3))


# ---------------------------------------------------------------- other inputs for the second check


def redraw_of(fn, *inputs, **asked):
    redrawn = workload_of(fn, inputs, reference=fn, **asked)._reference.redrawn
    return redrawn and redrawn.__name__


@pytest.mark.parametrize(
    ("fn", "inputs", "way"),
    [
        (double, (X,), "_scaled"),
        (np.linalg.cholesky, (np.eye(5) * 3,), "_scaled"),
        (normalised, (X,), "_stretched"),
        (np.argsort, (X,), "_stretched"),
        (np.take, (X, np.arange(9)), "_scaled"),
        (np.diff, (np.arange(99),), "_rolled"),
        (np.arccosh, (np.full(9, 1.1),), None),
        (np.shape, (X,), None),
    ],
)
def test_inputs_are_changed_as_little_as_changes_the_answer_and_not_where_the_function_is_undefined(fn, inputs, way):
    assert redraw_of(fn, *inputs) == way


def test_two_integers_are_always_exchanged():
    done, flags = measured(np.diff, np.array([1, 3]), reference=np.diff)
    assert (done.status, flags) == (Status.OK, set())


def test_changed_inputs_keep_shape_and_dtype_and_differ_from_draw_to_draw():
    x = X.astype("float16").reshape(10, 100)
    workload = workload_of(double, (x,), reference=double)
    host = workload.inputs(workload.own_work, None)
    some, others = (workload.redraw(workload.own_work, host, np.random.default_rng(seed))["x"] for seed in (1, 2))
    assert (some.shape, some.dtype) == (x.shape, x.dtype)
    assert not np.array_equal(some, others)
    assert not np.array_equal(some, x)


def test_where_new_inputs_are_other_arrays_the_call_gets_those():
    class Immutable(NumpyBackend):
        def __getattribute__(self, name):
            if name == "overwrite":
                raise AttributeError(name)
            return super().__getattribute__(name)

    workload = workload_of(double, (X,), reference=double)
    kernel = workload.builders(None)["default"](Immutable("cpu"), workload.own_work, {})
    kernel.inputs["x"] = X + 1
    assert np.array_equal(kernel.run(), 2 * (X + 1))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float64", 1e-14), ("float32", 2e-6), ("float16", 1.5e-3), ("complex64", 2e-6), ("int32", 0.0)],
)
def test_the_tolerance_is_that_of_the_dtype_without_a_least_error(dtype, expected):
    workload = workload_of(double, (np.ones(3, dtype),), reference=double)
    assert workload.tolerance(workload.own_work) == check.Tolerance(expected, low=0.0)


def test_integers_whose_answers_are_fractions_may_be_computed_in_float32():
    workload = workload_of(np.sqrt, (np.arange(9),), reference=np.sqrt)
    assert workload.tolerance(workload.own_work).high == 2e-6
    assert workload_of(double, (X,), reference=double, tolerance=0.1).tolerance(None).high == 0.1


# ---------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("fn", "inputs", "asked", "line"),
    [
        (3, (X,), {}, "the first argument must be a function, not of type int"),
        (double, ([1, 2],), {}, "input 'x' is of type list: give a number, or an array, np.asarray(...)"),
        (double, (np.array(["a"]),), {}, "input 'x' is an array of <U1: give real or complex numbers"),
        (double, (float("nan"),), {}, "input 'x' is nan: give a finite number"),
        (double, (X, X), {}, "double(x): too many positional arguments, 2 inputs given"),
        (double, (1.0,), {}, "double gets no array and has no parameter `xp`"),
        (double, (X,), {"flops": -1}, "flops=-1: must be a positive number"),
        (double, (X,), {"bytes": "many"}, "bytes='many': must be a positive number"),
        (double, (X,), {"tolerance": 0, "reference": X}, "tolerance=0: must be a positive number"),
        (double, (X,), {"name": "a b"}, "name: 'a b' is not an identifier"),
        (double, (X,), {"reference": functions.broken}, "the reference broken raises ArithmeticError: it broke"),
        (double, (X,), {"reference": "right"}, "the answer of the reference is not numbers but <U5"),
        (double, (X,), {"reference": X * np.inf}, "the answer of the reference is not finite numbers"),
    ],
)
def test_wrong_use_is_one_clear_line(fn, inputs, asked, line):
    with pytest.raises(UsageError, match=r"\Ameasure: [^\n]*\Z") as caught:
        workload_of(fn, inputs, **asked)
    assert line in str(caught.value)
