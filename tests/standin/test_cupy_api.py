"""CuPy itself, without a device: it has what the backend and the kernels use, and no less than the stand-in offers.

`tox run -e cupy-api` installs CuPy and NVRTC, its compiler, for these tests; elsewhere they are skipped.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import threadpoolctl

from bench_core.backends import cupy as module
from bench_core.backends.cupy import CupyBackend
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Status, Target
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from tests.standin import cupy_api as api
from tests.standin import install as standin
from tests.support import ROOT

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


@functools.cache
def used():
    """Return the calls of CuPy that every smoke case on the stand-in makes, its kernels and its outcome."""
    kernels = set()
    # One thread: NumPy's and torch's pools in one process fight over the cores.
    with threadpoolctl.threadpool_limits(1), standin.cupy_module() as cupy:
        real = cupy.ElementwiseKernel.__call__

        def noted(self, *args, **kwargs):
            kernels.add((self.name, self._source, tuple(_described(cupy, arg) for arg in args)))
            return real(self, *args, **kwargs)

        cupy.ElementwiseKernel.__call__ = noted
        with api.recorded() as calls:
            backend = CupyBackend("cuda:0")
            backend.device_time(lambda: backend.from_host(np.ones(3)), 2)
            backend.facts(), backend.free(), backend.synchronize(), backend.memory(), backend.reset_peak_memory()
            settings = Settings(Durations(), 0, 1 << 20, check_only=True)
            done = [
                run_case(case, workload, backend, settings)
                for workload in workloads()
                for case in expand(workload, Preset.SMOKE, [TARGET], lambda _: Machine(1 << 20, 2))
            ]
    return calls, kernels, done


def _described(cupy, arg):
    """Return what the source of a kernel depends on: type, dimensions and layout of an array, None for a number."""
    return (arg.dtype.name, arg.ndim, arg.flags.c_contiguous) if isinstance(arg, cupy.ndarray) else None


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


def test_every_smoke_case_of_the_stand_in_is_recorded():
    calls, kernels, done = used()
    assert {measured.status for measured in done} <= {Status.OK, Status.UNSUPPORTED, Status.SKIPPED}
    assert sum(measured.status is Status.OK for measured in done) > 50
    assert {name for name, _, _ in kernels} >= {f"bench_{n}" for n in ("copy", "scale", "add", "triad", "scatter")}
    names = {call.name for call in calls}
    assert {"cupy.matmul", "cupyx.empty_pinned", "cupy.ndarray.set", "cupy.cuda.Stream.wait_event"} <= names


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


def compiled(source, architecture):
    """Return the machine code of a source as CuPy compiles it; NVRTC needs no device."""
    from cupy._core import core
    from cupy.cuda import nvrtc

    options = (*core.assemble_cupy_compiler_options(()), "-ftz=true", "--device-as-default-execution-space")
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, f"-arch={architecture}"))
        return nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)


def elementwise_source(source, given, *, wide):
    """Return the CUDA source that CuPy generates for a kernel and its arguments. wide: whether indices have 64 bits."""
    cupy = real("cupy")
    from cupy._core import _carray, _kernel, _scalar, core

    array, indexer, scalar = 1, 2, 3  # cupy/_core/_kernel.pxd, _ArgKind
    kernel = cupy.ElementwiseKernel(*source)
    types = [None if arg is None else np.dtype(arg[0]) for arg in given]
    nin = len(kernel.in_params)
    inputs, outputs, letters = _kernel._decide_params_type(
        kernel.in_params, kernel.out_params, tuple(types[:nin]), tuple(types[nin:])
    )
    infos = [
        _kernel._ArgInfo(scalar, _scalar.CScalar, np.dtype(kind), 0, True, True)
        if arg is None
        else _kernel._ArgInfo(array, cupy.ndarray, np.dtype(kind), arg[1], arg[2], not wide)
        for arg, kind in zip(given, (*inputs, *outputs), strict=True)
    ]
    infos.append(_kernel._ArgInfo(indexer, _carray.Indexer, None, 1, True, not wide))
    body = _kernel._get_elementwise_kernel_code(
        tuple(infos), letters, kernel.params, kernel.operation, kernel.name, kernel.preamble
    )
    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + body


@needs_cupy
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_spin_compiles(architecture):
    assert b"spin" in compiled(module._SPIN, architecture)


@needs_cupy
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_elementwise_kernel_compiles(architecture, wide):
    _, kernels, _ = used()
    assert kernels
    for name, source, given in kernels:
        assert name.encode() in compiled(elementwise_source(source, given, wide=wide), architecture)


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
