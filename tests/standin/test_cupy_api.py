"""CuPy itself, without a device: it has what the backend and the kernels use, and no less than the stand-in offers.

`tox run -e cupy-api` installs CuPy and NVRTC, its compiler, for these tests; elsewhere they are skipped.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from bench_core.backends import cupy as module
from bench_core.backends.cupy import CupyBackend
from bench_core.plan.expansion import expand
from bench_core.records import Case, Machine, Preset, Status, Target
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from benchmarks import bench_matmul
from benchmarks.nn.tuned import Tuned
from benchmarks.nn.tuned import cupy as forms
from tests.standin import cupy_api as api
from tests.standin import install as standin
from tests.support import ROOT, tuned

TARGET = Target("cupy", "array", "cuda:0")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")  # A100, H100 and H200, B200

needs_cupy = pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed: tox run -e cupy-api")

with standin.cupy_module():
    OFFERS = {offer.name: offer for offer in api.offers()}
    UFUNCS = tuple(name for name, value in api.public("cupy") if type(value).__name__ == "ufunc")


def workloads():
    """Return every workload of benchmarks/."""
    modules = [importlib.import_module(f"benchmarks.{path.stem}") for path in ROOT.glob("benchmarks/bench_*.py")]
    tests = [value for each in modules for name, value in vars(each).items() if name.startswith("test_")]
    return [mark.args[0] for test in tests for mark in test.pytestmark if mark.name == "workload"]


@dataclass(frozen=True)
class Used:
    """A kernel that was called: its source as its class takes it, and what CuPy's source depends on besides.

    given: inputs and outputs, see `_described`. dimensions: of the loop. Of a reduction also those left, and whether it
    is along the last axes, for which CuPy may use CUB.
    """

    source: tuple[Any, ...]
    given: tuple[Any, ...]
    dimensions: int = 1
    left: int = 0
    rows: bool = False


@functools.cache
def used():
    """Return the calls of CuPy that every smoke case on the stand-in makes, its kernels and its outcome.

    The cases of the presets, and besides the tuned form of every workload that has one, at its smoke size.
    """
    kernels = set()
    # One thread: NumPy's and torch's pools in one process fight over the cores.
    with threadpoolctl.threadpool_limits(1), standin.cupy_module() as cupy:
        elementwise, reduction = cupy.ElementwiseKernel.__call__, cupy.ReductionKernel.__call__

        def all_of(kernel, args, result):
            made = () if len(args) > len(kernel._inputs) else result if isinstance(result, tuple) else (result,)
            return list(zip((*kernel._inputs, *kernel._outputs), (*args, *made), strict=True))

        def noted(self, *args, **kwargs):
            result = elementwise(self, *args, **kwargs)
            everything = all_of(self, args, result)
            looped = [arg for declared, arg in everything if isinstance(arg, cupy.ndarray) and not declared.raw]
            shape = np.broadcast_shapes(*(array.shape for array in looped))
            whole = {id(array) for array in looped if array.shape == shape and array.flags.c_contiguous}
            # Arrays are broadcast. Where all are contiguous CuPy makes them vectors.
            dimensions = 1 if len(whole) == len({id(array) for array in looped}) else len(shape)
            given = tuple(
                (arg.dtype.name, dimensions, id(arg) in whole) if isinstance(arg, cupy.ndarray) and not declared.raw
                else _described(cupy, arg)
                for declared, arg in everything
            )  # fmt: skip
            kernels.add(Used(self._source, given, dimensions))
            return result

        def noted_reduction(self, *args, axis=None, **kwargs):
            result = reduction(self, *args, axis=axis, **kwargs)
            shape, left = self._shape(args[: len(self._inputs)]), min(result.ndim, 1)
            along = np.lib.array_utils.normalize_axis_tuple(axis, len(shape)) if axis is not None else range(len(shape))
            given = [_described(cupy, arg) for _, arg in all_of(self, args, result)]
            # Inputs are broadcast, and what is reduced comes first. Outputs are contiguous, so CuPy makes them vectors.
            given = [
                arg and (arg[0], len(shape), False) if place < len(self._inputs) else (arg[0], left, True)
                for place, arg in enumerate(given)
            ]
            kernels.add(Used(self._source, tuple(given), len(shape), left, max(along) == len(shape) - 1))
            return result

        cupy.ElementwiseKernel.__call__, cupy.ReductionKernel.__call__ = noted, noted_reduction
        with api.recorded() as calls:
            backend = CupyBackend("cuda:0")
            backend.device_time(lambda: backend.from_host(np.ones(3)), 2)
            backend.facts(), backend.free(), backend.synchronize(), backend.memory(), backend.reset_peak_memory()
            settings = Settings(Durations(), 0, 1 << 20, check_only=True)
            done = [
                run_case(case, workload, backend, settings)
                for workload in workloads()
                for case in [
                    *expand(workload, Preset.SMOKE, [TARGET], lambda _: Machine(1 << 20, 2)),
                    *(Case(work, "cupy", "cuda:0", "tuned") for work in tuned_works(workload)),
                ]
            ]
            for dtype in ("float32", "float64"):
                run_operations(cupy, dtype)
            product = bench_matmul.Batched().product("x", bench_matmul.BF16, 8, 16, 24, batch=3)
            done.append(run_case(Case(product, "cupy", "cuda:0", "tuned"), bench_matmul.Batched(), backend, settings))
    return calls, kernels, done


def tuned_works(workload):
    return tuned.works(workload) if "tuned" in workload.kernels.get("cupy", {}) and workload.suite == "model" else ()


def run_operations(cupy, dtype):
    """Call every operation that has a form: some are in no network of smoke's size."""
    rng = np.random.default_rng(0)
    for operations in (tuned.operations(rng, 1056, 3), tuned.fixed_operations(rng)):
        for run, inputs in operations.values():
            typed = {
                name: array.astype(dtype) if array.dtype == np.float64 else array for name, array in inputs.items()
            }
            run(Tuned(cupy, forms.FORMS, 1), {name: cupy.asarray(array) for name, array in typed.items()})


def _described(cupy, arg):
    """Return what the source of a kernel depends on: type, dimensions and layout of an array, None for a number."""
    return (arg.dtype.name, arg.ndim, arg.flags.c_contiguous) if isinstance(arg, cupy.ndarray) else None


def name_of(kernel):
    """Return the name of a kernel's function."""
    return kernel.source[6 if is_reduction(kernel) else 3]


def is_reduction(kernel):
    return len(kernel.source) > 6


def real(name):
    """Return what CuPy has by a name."""
    return api.find(name)


def real_signature(name):
    """Return CuPy's own signature and documentation; ufuncs tell both in their documentation."""
    found = real(name)
    return api.signature(found), inspect.getdoc(found) or ""


# ---------------------------------------------------------------- the comparison can fail


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ("f(a, axis=None)", "f(a, axis=None)", None),
        ("f(a)", "f(a, axis=None, out=None)", None),
        ("f(a, *, stream=None)", "f(a, **kwargs)", "stream is unknown"),
        ("f(a, *, stream=None)", "f(a, **kwargs) with a stream", None),
        ("f(a, where=None)", "f(a, axis=None)", "where is unknown"),
        ("f(a, out=None, axis=None)", "f(a, axis=None, out=None)", "out stands elsewhere"),
        ("f(a, order='C')", "f(a, order='K')", "order is K by default"),
        ("f(a)", "f(a, b)", "b is needed"),
        ("f(*a)", "f(a)", "takes any"),
        ("f(a, axis=None)", "f(a, *, axis=None)", "axis stands elsewhere"),
    ],
)
def test_an_offer_beyond_the_real_thing_is_told(mine, theirs, words):
    signature, _, rest = theirs.partition(")")
    found = api.beyond(api.documented(mine), api.documented(f"{signature})"), rest)
    assert found == [] if words is None else words in found[0]


@pytest.mark.parametrize(
    ("positional", "named", "is_refused"),
    [(2, (), False), (1, ("axis",), False), (3, (), True), (1, ("where",), True), (0, ("axis",), True)],
)
def test_a_call_that_the_real_thing_would_refuse_is_told(positional, named, is_refused):
    call = api.Call("cupy.f", positional, frozenset(named))
    assert bool(api.refused(call, api.documented("f(a, axis=None)"), "")) == is_refused


def test_signatures_are_read_from_the_documentation_of_compiled_functions():
    found = api.documented("_ndarray_base.swapaxes(self, Py_ssize_t axis1, int axis2=1, \\*, bint z=False) -> tuple\n")
    assert str(found) == "(axis1, axis2=1, *, z=False)"
    assert api.documented("The device memory info.") is None


@needs_cupy
def test_every_smoke_case_of_the_stand_in_is_recorded():
    calls, kernels, done = used()
    assert {measured.status for measured in done} <= {Status.OK, Status.UNSUPPORTED, Status.SKIPPED}
    assert sum(measured.status is Status.OK for measured in done) > 50
    assert set(map(name_of, kernels)) >= {f"bench_{n}" for n in ("copy", "scale", "add", "triad", "scatter")}
    names = {call.name for call in calls}
    assert {"cupy.matmul", "cupyx.empty_pinned", "cupy.ndarray.set", "cupy.cuda.Stream.wait_event"} <= names
    assert "cupy.cuda.cublas.gemmStridedBatchedEx" in names


@needs_cupy
def test_every_kernel_of_the_tuned_forms_is_recorded_in_both_types():
    """Those that no network calls would never be compiled."""
    sources = [source for source in vars(forms).values() if isinstance(source, (forms.Elementwise, forms.Reduction))]
    assert len(sources) > 20
    types = ("float32", "float64")
    recorded = {(name_of(each), dtype) for each in used()[1] for dtype in types if dtype in str(each.given)}
    assert {(f"bench_{source.name}", dtype) for source in sources for dtype in types} <= recorded


# ---------------------------------------------------------------- CuPy's own


@needs_cupy
def test_the_version_is_the_one_that_the_stand_in_stands_for():
    with standin.cupy_module() as cupy:
        pretended = cupy.__version__
    assert real("cupy").__version__.split(".")[:2] == pretended.split(".")[:2]


@needs_cupy
@pytest.mark.parametrize("name", OFFERS)
def test_the_stand_in_offers_nothing_that_cupy_lacks(name):
    theirs, doc = real_signature(name)
    mine = OFFERS[name].signature
    if mine is None or name.endswith("Error") or isinstance(real(name), ModuleType):
        return  # a value, or an exception that only the library raises: to be there is enough
    if theirs is None:
        pytest.fail(f"{name} is called in the stand-in, and CuPy tells no signature")
    assert api.beyond(mine, theirs, doc) == []


@needs_cupy
def test_constants_of_libraries_are_cupys():
    with standin.cupy_module():
        modules = ("cupy.cuda.cublas", "cupy.cuda.runtime")
        mine = {f"{path}.{name}": value for path in modules for name, value in api.public(path) if type(value) is int}
    assert len(mine) >= 8
    assert mine == {name: int(real(name)) for name in mine}


@needs_cupy
@pytest.mark.parametrize("name", UFUNCS)
def test_universal_functions_take_what_cupys_take(name):
    with standin.cupy_module() as cupy:
        nin, arguments = getattr(cupy, name).nin, cupy._UFUNC_ARGUMENTS
        at, reduces, is_matmul = name in cupy._WITH_AT, name in cupy._WITH_REDUCE, name == "matmul"
    theirs = real(f"cupy.{name}")
    if is_matmul:
        assert arguments <= set(inspect.signature(theirs).parameters)
        return
    signature = api.documented(theirs.__doc__)
    assert nin == theirs.nin
    assert arguments <= set(signature.parameters)
    assert _works(lambda: theirs.at(_Accepting(), 0, 0)) == at
    assert _works(lambda: theirs.reduce(_Accepting())) == reduces


class _Accepting:
    """Stands for an array that ufuncs hand their work to."""

    def __getattr__(self, name):
        return lambda *args: None


def _works(call):
    try:
        call()
    except NotImplementedError:
        return False
    return True


@needs_cupy
def test_every_call_of_backend_and_kernels_is_one_that_cupy_takes():
    calls, _, _ = used()
    wrong = []
    for call in sorted(calls, key=lambda call: call.name):
        theirs, doc = real_signature(call.name)
        theirs = theirs or api.documented(doc)  # of a universal function
        wrong.append(api.refused(call, theirs, doc) if theirs else f"{call.name} tells no signature")
    assert [why for why in wrong if why] == []


@needs_cupy
def test_every_name_in_the_source_of_the_backend_exists():
    names = set(_chains(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))))
    assert len(names) > 10
    for name in names:
        real(name)  # raises if there is none


def _chains(tree):
    """Yield every `_cupy().a.b` as "cupy.a.b"."""
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"_cupy\(\)[\w.]+", text):
            yield text.replace("_cupy()", "cupy")


# ---------------------------------------------------------------- CuPy's compiler


def compiled(source, architecture, *options, ptx=False):
    """Return the machine code of a source as CuPy compiles it, or its PTX; NVRTC needs no device."""
    from cupy._core import core
    from cupy.cuda import nvrtc

    options = (*core.assemble_cupy_compiler_options(options), "-ftz=true", "--device-as-default-execution-space")
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, f"-arch={architecture}"))
        return (nvrtc.getPTX if ptx else nvrtc.getCUBIN)(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)


ARRAY, INDEXER, SCALAR = 1, 2, 3  # cupy/_core/_kernel.pxd, _ArgKind


def elementwise_source(source, given, dimensions=1, *, wide):
    """Return the CUDA source that CuPy generates for a kernel and its arguments. wide: whether indices have 64 bits."""
    from cupy._core import _kernel

    kernel = real("cupy").ElementwiseKernel(*source)
    infos, pairs = arguments(kernel, given, wide=wide)
    body = _kernel._get_elementwise_kernel_code(
        (*infos, indexer(dimensions, wide=wide)), _kernel._TypeMap(pairs), kernel.params, kernel.operation, kernel.name,
        kernel.preamble,
    )  # fmt: skip
    return with_headers(body)


def reduction_source(source, given, dimensions, left, *, wide):
    """Return the CUDA source that CuPy generates for a reduction of its own. dimensions, left: before and after it."""
    from cupy._core import _kernel, _reduction

    kernel = real("cupy").ReductionKernel(*source)
    infos, pairs = arguments(kernel, given, wide=wide)
    infos = (*infos, indexer(dimensions, wide=wide), indexer(left, wide=wide), scalar("int32"))
    types = _kernel._TypeMap((*pairs, ("IndexT", np.int64 if wide else np.int32)))
    code = _reduction._ReductionKernel_get_cached_function_code.__wrapped__(
        kernel.nin, kernel.nout, kernel._params, infos, types, kernel.name, 512, kernel.reduce_type, kernel.identity,
        kernel.map_expr, kernel.reduce_expr, kernel.post_map_expr, kernel.preamble, kernel.options,
    )  # fmt: skip
    return with_headers(code)


class _Source(Exception):
    pass


def cub_source(source, given, monkeypatch):
    """Return the CUDA source, and its options, that CuPy generates for a reduction by CUB."""
    from cupy._core import _cub_reduction, _kernel

    def caught(text, options, **_):
        raise _Source(text, options)

    monkeypatch.setattr(real("cupy.cuda.compiler"), "_compile_module_with_cache", caught)
    kernel = real("cupy").ReductionKernel(*source)
    infos, pairs = arguments(kernel, given, wide=False)
    types = [np.dtype(kind).type for kind, *_ in given]
    names = zip(("type_in0_raw", "type_out0_raw", "sizeT", "IndexT"), (*types, np.int32, np.int32), strict=True)
    described = _cub_reduction._get_param_info
    params = described("T in0", True) + described("T out0", False)
    params += described("int32 _segment_size", True) + described("int32 _array_size", True)
    each, after = (
        text.replace(parameters[0].name, name)
        for text, parameters, name in (
            (kernel.map_expr, kernel.in_params, "in0"), (kernel.post_map_expr, kernel.out_params, "out0")
        )
    )  # fmt: skip
    with pytest.raises(_Source) as found:
        _cub_reduction._SimpleCubReductionKernel_get_cached_function.__wrapped__(
            each, kernel.reduce_expr, after, kernel.reduce_type, params, (*infos, scalar("int32"), scalar("int32")),
            _kernel._TypeMap((*pairs, *names)), kernel.name, 512, kernel.identity, kernel.preamble, (), 4,
        )  # fmt: skip
    return found.value.args


def arguments(kernel, given, *, wide):
    """Return what CuPy notes of a kernel's arguments, and the types of its letters."""
    from cupy._core import _kernel

    cupy = real("cupy")
    types = [None if arg is None else np.dtype(arg[0]) for arg in given]
    nin = len(kernel.in_params)
    inputs, outputs, _ = _kernel._decide_params_type(
        kernel.in_params, kernel.out_params, tuple(types[:nin]), tuple(types[nin:])
    )
    infos = [
        scalar(kind) if arg is None else _kernel._ArgInfo(ARRAY, cupy.ndarray, np.dtype(kind), *arg[1:], not wide)
        for arg, kind in zip(given, (*inputs, *outputs), strict=True)
    ]
    declared = zip((*kernel.in_params, *kernel.out_params), (*inputs, *outputs), strict=True)
    return infos, tuple(sorted({p.ctype: np.dtype(kind).type for p, kind in declared if p.dtype is None}.items()))


def scalar(kind):
    from cupy._core import _kernel

    return _kernel._ArgInfo(SCALAR, real("cupy._core._scalar").CScalar, np.dtype(kind), 0, True, True)


def indexer(dimensions, *, wide):
    from cupy._core import _carray, _kernel

    return _kernel._ArgInfo(INDEXER, _carray.Indexer, None, dimensions, True, not wide)


def with_headers(code):
    from cupy._core import core

    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + code


def source_of(kernel, *, wide):
    if is_reduction(kernel):
        return reduction_source(kernel.source, kernel.given, kernel.dimensions, kernel.left, wide=wide)
    return elementwise_source(kernel.source, kernel.given, kernel.dimensions, wide=wide)


@needs_cupy
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_spin_compiles(architecture):
    assert b"spin" in compiled(module._SPIN, architecture)


@needs_cupy
@pytest.mark.parametrize(
    ("architecture", "wide"), [*((each, False) for each in ARCHITECTURES), (ARCHITECTURES[0], True)]
)
def test_every_elementwise_and_reduction_kernel_compiles(architecture, wide):
    _, kernels, _ = used()
    assert {is_reduction(kernel) for kernel in kernels} == {False, True}
    for kernel in kernels:
        assert name_of(kernel).encode() in compiled(source_of(kernel, wide=wide), architecture)


@needs_cupy
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_reduction_that_cub_may_compute_compiles_for_it(architecture, monkeypatch):
    _, kernels, _ = used()
    fit = {(each.source, each.given) for each in kernels if is_reduction(each) and len(each.given) == 2 and each.rows}
    assert fit
    for source, given in fit:
        assert source[6].encode() in compiled(*_with_architecture(cub_source(source, given, monkeypatch), architecture))


def _with_architecture(text_and_options, architecture):
    text, options = text_and_options
    return text, architecture, *options


@needs_cupy
def test_no_kernel_computes_float32_in_double():
    """A literal such as 0.1 is a double, and GPUs compute with doubles at a fraction of the speed."""
    _, kernels, _ = used()
    single = [kernel for kernel in kernels if "float64" not in str(kernel.given)]
    assert len(single) > 20
    wrong = {name_of(kernel) for kernel in single
             if b".f64" in compiled(source_of(kernel, wide=False), ARCHITECTURES[0], ptx=True)}  # fmt: skip
    assert wrong == set()
    careless = elementwise_source(("T b", "T a", "a = 0.1 * b", "careless"), (("float32", 1, True),) * 2, wide=False)
    assert b".f64" in compiled(careless, ARCHITECTURES[0], ptx=True)


@needs_cupy
@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("b = a", id="to an input"),
        pytest.param("a = c", id="from nowhere"),
        pytest.param("a = ", id="nothing"),
    ],
)
def test_a_kernel_that_is_no_cuda_does_not_compile(statement):
    source = elementwise_source(("T b", "T a", statement, "wrong"), (("float32", 1, True),) * 2, wide=False)
    with pytest.raises(AssertionError, match="error"):
        compiled(source, ARCHITECTURES[0])
