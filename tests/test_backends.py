"""The backends behind the Protocol: NumPy and PyTorch as they are here, a third party through its entry point."""

import os
import platform
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

from bench_core import backends
from bench_core.backends.base import Backend
from bench_core.backends.numpy import NumpyBackend, openblas_core
from bench_core.errors import Unavailable, UsageError

HERE = [pytest.param(name, id=name) for name in ("numpy", "torch")]


@pytest.fixture(params=HERE)
def backend(request):
    try:
        return backends.load(request.param)("cpu")
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_every_backend_has_every_member_of_the_protocol(backend):
    members = {name for name in vars(Backend) if not name.startswith("_")} | set(Backend.__annotations__)
    assert not [name for name in members if not hasattr(backend, name)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "int64"])
def test_arrays_survive_the_way_to_the_device_and_back(backend, dtype):
    array = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    back = backend.to_host(backend.from_host(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_from_host_is_a_copy(backend):
    """A kernel may write to its arrays; the reference is computed from the host's."""
    array = np.zeros(4)
    on_device = backend.from_host(array)
    on_device[0] = 1
    assert array[0] == 0


def test_what_it_says_of_itself_is_there(backend):
    assert backend.version
    assert backend.device_name
    assert backend.library
    assert backend.memory().free > 0
    assert all(fact.source or fact.reason for fact in backend.facts().values())


def test_an_unknown_dtype_has_a_reason(backend):
    assert backend.why_unsupported("float32", "ieee") is None
    assert "float13" in backend.why_unsupported("float13", "ieee")
    assert backend.why_unsupported("float32", "tf32")


def test_memory_errors_are_told_from_others(backend):
    assert backend.is_out_of_memory(MemoryError())
    assert not backend.is_out_of_memory(RuntimeError("something else"))


def test_torch_on_the_cpu_raises_a_plain_error_when_memory_ends():
    pytest.importorskip("torch")
    backend = backends.load("torch")("cpu")
    with pytest.raises(RuntimeError) as caught:
        backend.torch.empty(1 << 60)
    assert backend.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 9.05 GB)",
    ],
)
def test_torch_knows_the_libraries_words_for_the_end_of_memory(words):
    pytest.importorskip("torch")
    assert backends.load("torch")("cpu").is_out_of_memory(RuntimeError(words))


def test_torch_switches_precision_so_that_old_and_new_flags_can_both_be_read(monkeypatch):
    """Inductor reads either, by version: what raises there would make an error of every compiled TF32 case."""
    torch = pytest.importorskip("torch")
    backend = backends.load("torch")("cpu")
    monkeypatch.setattr(backend, "_kind", "cuda")
    for precision, is_tf32 in (("tf32", True), ("ieee", False)):
        backend.set_precision(precision)
        assert torch.get_float32_matmul_precision() == ("high" if is_tf32 else "highest")
        assert torch.backends.cuda.matmul.allow_tf32 is is_tf32
        assert torch.backends.cudnn.allow_tf32 is is_tf32
        assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if is_tf32 else "ieee")
        assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is is_tf32


def test_torch_calibrates_its_spin_by_the_fastest_of_five_after_a_first_launch():
    """The first launch loads the kernel, 9 ms here; the clock is at its height in the fourth reading."""
    pytest.importorskip("torch")
    from bench_core.backends.torch import _cycles_per_second

    class Cuda:
        durations: ClassVar = iter([9.0, 2.0, 1.5, 1.25, 1.0, 1.1])
        last = 0.0

        def _sleep(self, cycles):
            Cuda.last = next(self.durations)

        def synchronize(self): ...

        class Event:
            def __init__(self, enable_timing): ...

            def record(self): ...

            def elapsed_time(self, end):
                return Cuda.last

    assert _cycles_per_second(Cuda()) == 2_000_000 / 1e-3


def test_torch_keeps_the_shape_of_a_scalar():
    pytest.importorskip("torch")
    assert backends.load("torch")("cpu").from_host(np.array(3.0)).shape == ()


def test_memory_in_use_is_at_most_its_peak(backend):
    backend.reset_peak_memory()
    before = backend.memory().used
    array = np.ones(4_000_000)
    del array
    memory = backend.memory()
    assert memory.peak - before >= 30_000_000
    assert memory.peak >= memory.used


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_earlier_cases_freed_does_not_hide_what_the_next_one_takes(backend):
    """The C library keeps freed memory for later: a case that fits in there would seem to need none."""
    pieces = [np.ones(8192) for _ in range(1000)]  # 64 KiB each, below the size that is given back at once
    last = pieces[-1]
    backend.reset_peak_memory()
    before = backend.memory().used
    del pieces
    backend.reset_peak_memory()
    assert before - backend.memory().used >= 50_000_000
    assert last[0] == 1  # it lies behind the others: the end of the heap has nothing to give


def test_no_peak_is_told_where_the_kernel_cannot_start_a_new_one(backend, monkeypatch):
    """The old one is of the whole process: of other cases, and of the libraries' own memory."""
    monkeypatch.setattr("bench_core.host._reset_peak_resident", lambda: False)
    backend.reset_peak_memory()
    assert (backend.memory().used, backend.memory().peak) == (None, None)


def test_torch_keeps_bfloat16_through_float32():
    pytest.importorskip("torch")
    backend = backends.load("torch")("cpu")
    tensor = backend.from_host(np.array([1.0, 1 / 3], np.float32), "bfloat16")
    assert str(tensor.dtype) == "torch.bfloat16"
    assert backend.to_host(tensor).dtype == np.float32


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_device_that_is_not_there_is_named(name):
    if name == "torch":
        pytest.importorskip("torch")
    with pytest.raises(Unavailable, match="cuda:9"):
        backends.load(name)("cuda:9")


def test_numpy_is_limited_before_and_after_import():
    assert NumpyBackend.environ(3, "default")["OPENBLAS_NUM_THREADS"] == "3"
    assert "OPENBLAS_CORETYPE" not in NumpyBackend.environ(3, "default"), "never tuned silently"


@pytest.mark.parametrize(
    ("flags", "core"),
    [
        ({"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}, "SKYLAKEX"),
        ({"avx2", "fma", "avx512f"}, "HASWELL"),
        ({"sse2"}, None),
    ],
)
def test_openblas_kernels_follow_the_instruction_set(monkeypatch, flags, core):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert openblas_core(frozenset(flags)) == core


def test_openblas_kernels_of_other_architectures_are_left_alone(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert openblas_core(frozenset({"avx2", "fma"})) is None


def test_an_unknown_backend_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="'jax': there are numpy, cupy, torch"):
        backends.load("jax")


def test_a_third_party_adds_a_backend_through_its_entry_point(tmp_path):
    """A package on the path with an entry point and nothing else: it is listed, loaded and probed."""
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[bench_core.backends]\nother = other_backend:Other\n")
    source = "from bench_core.backends.numpy import NumpyBackend\nclass Other(NumpyBackend):\n    name = 'other'\n"
    (tmp_path / "other_backend.py").write_text(source)
    code = "from bench_core import backends, probe; print(backends.names()[-1], probe.probe('other').devices[0].device)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["other", "cpu"]
