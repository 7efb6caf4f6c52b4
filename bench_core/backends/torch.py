"""PyTorch on every device it offers: cpu, cuda (which is also ROCm), mps and xpu."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bench_core.backends.base import Launcher, Memory, Timed, imported
from bench_core.backends.event_timer import EventTimer
from bench_core.errors import Unavailable
from bench_core.machine import allotment, host, processor
from bench_core.records import Fact, Facts, type_of

_ACCELERATORS = ("cuda", "mps", "xpu")
_FLOAT8 = frozenset({"float8_e4m3fn", "float8_e5m2"})


class TorchBackend:
    """PyTorch in eager mode; a device is a type and a number ("cuda:1")."""

    name: ClassVar[str] = "torch"
    dialect: ClassVar[str] = "torch"
    devices_expected: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def __init__(self, device: str) -> None:
        torch = self.torch = imported("torch")
        kind = type_of(device)
        if device not in _devices(torch):
            raise Unavailable("no_device", f"torch {torch.__version__} finds no {kind} device {device!r}")
        self.device = device
        self.version = str(torch.__version__)
        self._kind = kind
        self._module: Any = getattr(torch, kind)  # torch.cpu too: it can be synchronised like the others
        self._memory = host.ProcessMemory()
        if kind in {"cuda", "xpu"}:
            self._module.set_device(torch.device(device))
        torch.manual_seed(0)  # kernels must not use torch's random generator; one that does is at least repeatable

    @classmethod
    def devices(cls) -> Sequence[str]:
        return _devices(imported("torch"))

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:
        # NumPy computes the reference in this process too. Its idle OpenBLAS threads spin, which doubled
        # the step time of a model. With a short time-out they sleep at once.
        variables = {**host.thread_environ(threads), "OPENBLAS_THREAD_TIMEOUT": "4"}
        if implementation == "tuned":
            variables |= host.KEEP_MEMORY
        if implementation == "cudnn_benchmark":
            # A process of its own: nothing reads this variable. torch keeps one cache of cuDNN plans per process and
            # looks there first (aten/src/ATen/native/cudnn/Conv_v8.cpp, run_single_conv). In a shared process this
            # implementation would get the plans that another has predicted, or the other those that this has found.
            variables["BENCH_CORE_CUDNN"] = "benchmark"
        return variables

    @classmethod
    def launcher(cls) -> Launcher:
        return importlib.import_module("bench_core.backends.torch_ranks")  # which has a subclass of this one

    @property
    def xp(self) -> Any:
        return self.torch

    @property
    def device_name(self) -> str:
        if self._kind in {"cuda", "xpu"}:
            return str(self._module.get_device_name(self.torch.device(self.device)))
        return processor.model().value or ""  # Apple's GPU has the name of its chip

    @property
    def device_uuid(self) -> str | None:
        if self._kind != "cuda":
            return None
        return str(self.torch.cuda.get_device_properties(self.torch.device(self.device)).uuid)

    @property
    def library(self) -> str:
        torch = self.torch
        if self._kind == "cuda":
            if torch.version.hip:  # there `cudnn` is MIOpen, with other version numbers
                return f"ROCm {torch.version.hip}"
            cudnn = torch.backends.cudnn.version()
            return f"CUDA {torch.version.cuda}" + (f" cuDNN {cudnn}" if cudnn else "")
        if self._kind != "cpu":
            return f"torch {self._kind}"
        built = torch.__config__.show()
        names = (("oneMKL", r"Math Kernel Library Version (\S+?)-"), ("oneDNN", r"MKL-DNN v(\S+)"))
        found = [f"{name} {match[1]}" for name, pattern in names if (match := re.search(pattern, built))]
        return f"{' + '.join(found) or 'torch'} {torch.backends.cpu.get_cpu_capability()}"

    @property
    def has_device_clock(self) -> bool:
        return self._kind == "cuda"

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        tensor = self.torch.from_numpy(np.asarray(array, order="C"))
        target = getattr(self.torch, dtype) if dtype else tensor.dtype
        return tensor.to(device=self.device, dtype=target, copy=True)

    def to_host(self, array: Any) -> np.ndarray:
        tensor = array.detach()
        if tensor.dtype is self.torch.bfloat16 or str(tensor.dtype).removeprefix("torch.") in _FLOAT8:
            tensor = tensor.float()
        result: np.ndarray = tensor.cpu().numpy()
        return result

    def overwrite(self, target: Any, values: np.ndarray) -> None:
        if isinstance(target, np.ndarray):  # an array on the host
            np.copyto(target, values, casting="unsafe")
            return
        with self.torch.inference_mode():  # tensors made in this mode can be written to only in this mode
            target.copy_(self.torch.from_numpy(np.asarray(values, order="C")))

    def synchronize(self) -> None:
        self._module.synchronize()

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        if not self.has_device_clock:
            raise NotImplementedError(f"torch has no events with times on {self._kind}")
        return self._device_clock.time(call, calls)

    @functools.cached_property
    def _device_clock(self) -> EventTimer:
        cuda = self.torch.cuda
        rate = _cycles_per_second(cuda)
        # `_sleep` is private, but PyTorch's own tests use it for timing.
        return EventTimer(
            lambda: cuda.Event(enable_timing=True), lambda seconds: cuda._sleep(int(seconds * rate)), cuda.synchronize
        )

    def memory(self) -> Memory:
        """Return the free memory of the driver, and the memory of live tensors and library workspaces.

        On a CPU, `used` is the resident memory of this process. On Apple's GPU, `used` and `peak` are None.
        """
        if self._kind in {"cuda", "xpu"}:
            free, _ = self._module.mem_get_info(self.torch.device(self.device))
            used, peak = self._module.memory_allocated(), self._module.max_memory_allocated()
            return Memory(int(free), int(used), int(peak))
        seen = self._memory.used_and_peak() if self._kind == "cpu" else (None, None)
        return Memory(allotment.memory_left(), *seen)

    def reset_peak_memory(self) -> None:
        if self._kind in {"cuda", "xpu"}:
            self._module.reset_peak_memory_stats()
        elif self._kind == "cpu":
            self._memory.reset_peak()

    def free(self) -> None:
        if "torch._dynamo" in sys.modules:  # undo a stance that a kernel has set for the compiler
            self.torch.compiler.set_stance("default")
        self.torch.backends.cudnn.benchmark = False  # undo a search that a kernel has asked for
        if self._kind == "cuda":
            _clear_workspaces(self.torch)
        if self._kind != "cpu":
            self._module.empty_cache()

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        if not hasattr(self.torch, dtype):
            return f"torch {self.version} has no {dtype}"
        if precision not in {"ieee", "tf32"} and not precision.startswith("autocast_"):
            return f"torch has no {precision} arithmetic"
        if self._kind == "mps" and dtype == "float64":
            return "Apple's Metal has no float64"
        if precision == "tf32" and (self._kind != "cuda" or self.torch.version.hip or self._capability() < (8, 0)):
            return f"{self.device_name or self.device} has no TF32 arithmetic in torch"
        if dtype in _FLOAT8 and self._kind == "cuda" and not self.torch.version.hip and self._capability() < (8, 9):
            return f"{self.device_name} has no float8 arithmetic (compute capability 8.9 or newer)"
        return None

    def _capability(self) -> tuple[int, int]:
        major, minor = self.torch.cuda.get_device_capability(self.torch.device(self.device))
        return int(major), int(minor)

    def set_precision(self, precision: str) -> None:
        if self._kind == "cuda":
            # Only these two keep the old and the new settings consistent on torch 2.9 to 2.13. After `fp32_precision`
            # is set, reading the old flags raises, and torch.compile reads them.
            self.torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            self.torch.backends.cudnn.allow_tf32 = precision == "tf32"

    @property
    def threads(self) -> int | None:
        return int(self.torch.get_num_threads()) if self._kind == "cpu" else None

    def set_threads(self, threads: int) -> None:
        self.torch.set_num_threads(threads)

    def facts(self) -> Facts:
        torch = self.torch
        facts = {"torch": Fact(self.version, "torch.__version__"), **host.threadpool_facts()}
        facts["torch.threads"] = Fact(torch.get_num_threads(), "torch.get_num_threads")
        if self._kind == "cpu":
            facts |= host.malloc_facts()
            facts["torch.cpu_capability"] = Fact(torch.backends.cpu.get_cpu_capability(), "torch.backends.cpu")
            facts["torch.onednn"] = Fact(torch.backends.mkldnn.is_available(), "torch.backends.mkldnn")
        if self._kind == "cuda":
            properties = torch.cuda.get_device_properties(torch.device(self.device))
            facts["cuda.runtime"] = Fact(torch.version.cuda or torch.version.hip, "torch.version")
            facts["cuda.cudnn"] = Fact(torch.backends.cudnn.version(), "torch.backends.cudnn.version")
            facts["gpu.name"] = Fact(properties.name, "torch.cuda.get_device_properties")
            facts["gpu.multiprocessors"] = Fact(properties.multi_processor_count, "torch.cuda.get_device_properties")
            facts["gpu.memory"] = Fact(properties.total_memory, "torch.cuda.get_device_properties")
            facts["gpu.l2_cache"] = Fact(properties.L2_cache_size, "torch.cuda.get_device_properties")
            facts["gpu.compute_capability"] = Fact(f"{properties.major}.{properties.minor}", "torch.cuda")
        return facts

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, (MemoryError, self.torch.OutOfMemoryError)):
            return True
        # The CPU's allocator, CUDA's runtime, cuBLAS, cuDNN and Metal raise plain RuntimeErrors.
        words = ("allocate memory", "out of memory", "_ALLOC_FAILED")
        return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _cycles_per_second(cuda: Any) -> float:
    """Return the rate of the GPU counter that `torch.cuda._sleep` waits for, in Hz: the highest of five readings.

    The first launch also loads the kernel, and a clock that is still rising gives too low a rate. Too low a
    rate would make every spin too short.
    """
    cycles, rates = 2_000_000, []
    cuda._sleep(1)
    cuda.synchronize()
    for _ in range(5):
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        cuda._sleep(cycles)
        end.record()
        cuda.synchronize()
        rates.append(cycles / (start.elapsed_time(end) * 1e-3))
    return float(max(rates))


def _clear_workspaces(torch: Any) -> None:
    """Free the cuBLAS workspaces in torch's allocator: 32 MiB on Hopper for each handle and stream.

    `empty_cache` keeps them, so only the first product of a process would be charged for them. No captured graph may
    still be in use, because it works in its workspace. The call is private, and there is no other (pytorch issue
    184084); PyTorch's own memory tests use it. On torch 2.10 to 2.13 it frees the workspaces of all threads, including
    those of the backward pass.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None:
        clear()


def _devices(torch: Any) -> list[str]:
    found = ["cpu"]
    for kind in _ACCELERATORS:
        module = getattr(torch, kind, None)
        if module is None or not module.is_available():
            continue
        # There is at most one Apple GPU; torch names it by its type alone.
        found += ["mps"] if kind == "mps" else [f"{kind}:{i}" for i in range(module.device_count())]
    return found
