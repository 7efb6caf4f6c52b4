"""NumPy on the CPU: every call is synchronous, the number of BLAS threads is the only device setting."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import threadpoolctl

from bench_core.backends.base import Memory, Timed
from bench_core.errors import Unavailable
from bench_core.machine import allotment, host, processor
from bench_core.records import Fact, Facts


class NumpyBackend:
    """NumPy: the baseline of comparisons, and the only backend that is always available."""

    name: ClassVar[str] = "numpy"
    dialect: ClassVar[str] = "array"
    devices_expected: ClassVar[tuple[str, ...]] = ("cpu",)
    device_uuid = None
    has_device_clock = False
    xp = np

    def __init__(self, device: str) -> None:
        if device != "cpu":
            raise Unavailable("no_device", f"numpy computes on the CPU only, not on {device!r}")
        self.device = device
        self.version = np.__version__
        self.threads: int | None = allotment.usable_cores()
        self._memory = host.ProcessMemory()

    @classmethod
    def devices(cls) -> Sequence[str]:
        return ("cpu",)

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:
        variables = host.thread_environ(threads)
        if implementation == "tuned":
            variables |= host.KEEP_MEMORY
            if core := openblas_core(processor.flags()):
                variables["OPENBLAS_CORETYPE"] = core
        return variables

    @property
    def device_name(self) -> str:
        return processor.model().value or ""

    @property
    def library(self) -> str:
        return host.blas_library()

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> np.ndarray:
        return np.array(array, dtype=dtype, order="K")  # always a copy: kernels may write to it

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def overwrite(self, target: Any, values: np.ndarray) -> None:
        np.copyto(target, values, casting="unsafe")

    def synchronize(self) -> None:
        """Do nothing: NumPy has no queue."""

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        raise NotImplementedError("the CPU has no event clock")

    def memory(self) -> Memory:
        """Return the memory that this process can still allocate, and its resident memory with its peak."""
        return Memory(allotment.memory_left(), *self._memory.used_and_peak())

    def reset_peak_memory(self) -> None:
        self._memory.reset_peak()

    def free(self) -> None:
        """Do nothing: NumPy pools no memory."""

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        if precision != "ieee":
            return f"numpy computes in IEEE arithmetic only, not {precision}"
        return None if is_numpys_own(dtype) else f"numpy has no {dtype}"

    def set_precision(self, precision: str) -> None:
        """Do nothing: NumPy always computes in IEEE arithmetic."""

    def set_threads(self, threads: int) -> None:
        self.threads = threads
        threadpoolctl.threadpool_limits(threads)

    def facts(self) -> Facts:
        return {"numpy": Fact(self.version, "numpy.__version__"), **host.malloc_facts(), **host.threadpool_facts()}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)


def is_numpys_own(dtype: str) -> bool:
    """Return whether NumPy itself has a dtype of that name. ml_dtypes adds names, but no arithmetic of NumPy's."""
    try:
        return np.dtype(dtype).isbuiltin == 1
    except TypeError:
        return False


def openblas_core(flags: frozenset[str]) -> str | None:
    """Return the OpenBLAS core type with the widest vectors that a CPU with these flags supports; None if unknown.

    OpenBLAS chooses kernels by CPU model and uses AVX2 for models that it does not know, which halves the peak
    of a CPU with AVX-512. Names: OpenBLAS, TargetList.txt.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return None
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SKYLAKEX"
    return "HASWELL" if {"avx2", "fma"} <= flags else None
