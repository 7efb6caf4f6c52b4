"""CuPy on NVIDIA GPUs: kernels are queued, precision is CuPy's compute type, memory is CuPy's pool.

All calls are documented CuPy API, with two exceptions: `cupy._core.set_compute_type` (the only switch between
IEEE and TF32 that works after the first product; the documented CUPY_TF32 is read once) and
`cupy.cuda.cublas.getVersion`.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from bench_core.backends.base import Memory, Timed
from bench_core.backends.event_timer import EventTimer
from bench_core.backends.numpy import is_numpys_own
from bench_core.errors import Unavailable
from bench_core.machine import host
from bench_core.machine.facts import cuda_version
from bench_core.records import Fact, Facts
from bench_core.text import decoded

# Keeps one thread busy for `duration` nanoseconds of the GPU's own clock (PTX ISA, special register
# %globaltimer), so that calls queue up behind it. It always ends: it does not wait for a flag.
_SPIN = r"""
extern "C" __global__ void spin(unsigned long long duration) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < duration);
}
"""

_BFLOAT16_SINCE = 14  # CuPy's release notes: `ml_dtypes.bfloat16`, experimental
_BFLOAT16_NUMPY = (2, 1, 2)  # CuPy's upgrade guide to version 14
_BFLOAT16_CUDA = 12020  # CuPy's own tests skip it below 12.2 and on ROCm
_TF32_SINCE = 80  # compute capability 8.0, Ampere


class CupyBackend:
    """CuPy on one GPU, which becomes the current device of the thread: one process uses one device."""

    name: ClassVar[str] = "cupy"
    dialect: ClassVar[str] = "array"
    devices_expected: ClassVar[tuple[str, ...]] = ("cuda",)
    threads: int | None = None

    def __init__(self, device: str) -> None:
        present = self.devices()
        if device not in present:
            raise Unavailable("no_device", f"cupy has no device {device!r}, only {', '.join(present)}")
        self.device = device
        self.version: str = _cupy().__version__
        self._device = _cupy().cuda.Device(int(device.partition(":")[2]))
        self._device.use()

    @classmethod
    def devices(cls) -> Sequence[str]:
        runtime = _cupy().cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise Unavailable("no_device", f"cupy finds no CUDA device: {error}{_hidden()}") from error
        if not count:
            raise Unavailable("no_device", f"cupy finds no CUDA device{_hidden()}")
        return tuple(f"cuda:{index}" for index in range(count))

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:  # noqa: ARG003 - the Protocol's
        # The precision of a case is set at run time; until then, this selects IEEE arithmetic.
        return {**host.thread_environ(threads), "CUPY_TF32": "0"}

    @property
    def xp(self) -> Any:
        return _cupy()

    @property
    def device_name(self) -> str:
        return decoded(self._properties["name"])

    @property
    def device_uuid(self) -> str | None:
        # CuPy reads the 16 bytes as a C string: it may end early at a zero byte, or continue after the last byte.
        start = bytes(self._properties.get("uuid", b""))[:16].hex()
        return f"GPU-{start}" if start else None

    @property
    def library(self) -> str:
        version = self._cublas_version().value
        return f"cuBLAS {version}" if version else "cuBLAS"

    @property
    def has_device_clock(self) -> bool:
        return not _cupy().cuda.runtime.is_hip  # %globaltimer is NVIDIA's

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        # Always a copy, because kernels may write to it; `order="K"` keeps the layout. CuPy copies pageable memory into
        # pinned memory, then uploads it asynchronously: later work in the stream waits for it, the host does not.
        copy = _cupy().array(array, order="K")
        return copy if dtype is None else copy.astype(_dtype(dtype), copy=False)

    def to_host(self, array: Any) -> np.ndarray:
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        host_array: np.ndarray = _cupy().asnumpy(array)
        return host_array

    def overwrite(self, target: Any, values: np.ndarray) -> None:
        if isinstance(target, np.ndarray):  # an array on the host
            np.copyto(target, values, casting="unsafe")
        else:
            target[...] = _cupy().asarray(values)

    def synchronize(self) -> None:
        self._device.synchronize()

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        if not self.has_device_clock:
            raise NotImplementedError("cupy has no device clock on ROCm: the spin reads a timer of NVIDIA's")
        return self._device_clock.time(call, calls)

    @functools.cached_property
    def _device_clock(self) -> EventTimer:
        kernel = _cupy().RawKernel(_SPIN, "spin")
        return EventTimer(_Event, lambda seconds: kernel((1,), (1,), (np.uint64(seconds * 1e9),)), self.synchronize)

    def memory(self) -> Memory:
        """Return the free memory (driver + pool), and the size of the pool as both used and peak.

        The pool returns memory only on request, so its size is also its peak since `reset_peak_memory`. It
        includes fragments, unlike the bytes in use; but a memory hook that counts the bytes in use would run
        inside every timed allocation.
        """
        pool = _cupy().get_default_memory_pool()
        free, _ = self._device.mem_info
        held = pool.total_bytes()
        return Memory(free=free + pool.free_bytes(), used=held, peak=held)

    def reset_peak_memory(self) -> None:
        self.free()

    def free(self) -> None:
        _cupy().get_default_memory_pool().free_all_blocks()
        _cupy().get_default_pinned_memory_pool().free_all_blocks()

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        if precision == "tf32":
            return self._why_no_tf32(dtype)
        if precision != "ieee":
            return f"cupy computes in IEEE or TF32 arithmetic, not {precision}"
        if dtype == "bfloat16":
            return self._why_no_bfloat16()
        return None if is_numpys_own(dtype) else f"cupy {self.version} has no {dtype}, only NumPy's types and bfloat16"

    def _why_no_tf32(self, dtype: str) -> str | None:
        if dtype != "float32":
            return f"TF32 is a mode of float32 products, not of {dtype}"
        if int(self._device.compute_capability) < _TF32_SINCE:
            return f"TF32 needs compute capability 8.0, {self.device_name} has {self._capability}"
        return None

    def _why_no_bfloat16(self) -> str | None:
        runtime = _cupy().cuda.runtime
        if int(self.version.partition(".")[0]) < _BFLOAT16_SINCE:
            return f"cupy {self.version} has no bfloat16: version {_BFLOAT16_SINCE}.0 or newer is needed"
        if runtime.is_hip or runtime.runtimeGetVersion() < _BFLOAT16_CUDA:
            return "cupy's bfloat16 needs CUDA 12.2 or newer"
        if _numbers(np.__version__) < _BFLOAT16_NUMPY:
            return f"cupy's bfloat16 needs NumPy 2.1.2 or newer, this is {np.__version__}"
        return None if find_spec("ml_dtypes") else "cupy's bfloat16 needs the package ml_dtypes, which is not installed"

    def set_precision(self, precision: str) -> None:
        core = _cupy()._core
        kinds = {"ieee": "COMPUTE_TYPE_DEFAULT", "tf32": "COMPUTE_TYPE_TF32"}
        core.set_compute_type(np.float32, getattr(core._routines_linalg, kinds[precision]))

    def set_threads(self, threads: int) -> None:
        """Do nothing: no host thread computes."""

    def facts(self) -> Facts:
        runtime, device = _cupy().cuda.runtime, self._properties
        source = "cudaGetDeviceProperties"
        return {
            "cupy": Fact(self.version, "cupy.__version__"),
            "cuda.runtime": Fact(cuda_version(runtime.runtimeGetVersion()), "cudaRuntimeGetVersion"),
            "cuda.driver": Fact(cuda_version(runtime.driverGetVersion()), "cudaDriverGetVersion"),
            "cuda.cublas": self._cublas_version(),
            "gpu.name": Fact(self.device_name, source),
            "gpu.compute_capability": Fact(self._capability, "cudaDeviceGetAttribute"),
            "gpu.multiprocessors": Fact(device["multiProcessorCount"], source),
            "gpu.memory": Fact(device["totalGlobalMem"], source),
            "gpu.l2_cache": Fact(device["l2CacheSize"], source),
        }

    def is_out_of_memory(self, error: BaseException) -> bool:
        # CuPy's OutOfMemoryError is a MemoryError; errors of cuBLAS and the CUDA runtime have only their code.
        codes = ("cudaErrorMemoryAllocation", "CUBLAS_STATUS_ALLOC_FAILED")
        return isinstance(error, MemoryError) or any(code in str(error) for code in codes)

    @functools.cached_property
    def _properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = _cupy().cuda.runtime.getDeviceProperties(self._device.id)
        return properties

    @property
    def _capability(self) -> str:
        digits = str(self._device.compute_capability)
        return f"{digits[:-1]}.{digits[-1]}"

    def _cublas_version(self) -> Fact:
        cublas = getattr(_cupy().cuda, "cublas", None)
        if cublas is None:
            return Fact(reason="this CuPy does not report its cuBLAS version")
        number = cublas.getVersion(self._device.cublas_handle)  # 10000 major + 100 minor + patch, from cuBLAS 12 on
        return Fact(f"{number // 10000}.{number // 100 % 100}.{number % 100}", "cublasGetVersion")


@functools.cache
def _cupy() -> Any:
    """Return the cupy module; raises Unavailable with the reason on one line."""
    if find_spec("cupy") is None:
        raise Unavailable("not_installed", "cupy is not installed (extras: cuda12, cuda13)")
    try:
        return importlib.import_module("cupy")
    except Exception as error:  # a broken installation may raise anything
        raise Unavailable("import_failed", f"cupy does not import: {type(error).__name__}: {error}") from error


class _Event:
    """A CuPy event with PyTorch's method names."""

    def __init__(self) -> None:
        self._event = _cupy().cuda.Event()
        self.record, self.synchronize = self._event.record, self._event.synchronize

    def query(self) -> bool:
        return bool(self._event.done)

    def elapsed_time(self, end: _Event) -> float:
        return float(_cupy().cuda.get_elapsed_time(self._event, end._event))


def _dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name; for "bfloat16" the one of ml_dtypes, which CuPy uses."""
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def _hidden() -> str:
    """Return a hint if CUDA_VISIBLE_DEVICES hides every device, else ""."""
    return " (CUDA_VISIBLE_DEVICES is empty)" if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} else ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return "2.1.2" or "2.1.2rc1" as (2, 1, 2)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
