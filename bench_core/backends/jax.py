"""JAX on every device it offers: cpu, cuda, rocm, tpu. Arrays are immutable, and results are futures on all of them.

JAX has no user events, so there is no device clock, and no call that waits for a device: every result is awaited by
itself (`wait_for`). float64 is switched on, as on every other backend.
"""

from __future__ import annotations

import ctypes
import functools
import numbers
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bench_core.backends.base import Memory, Timed, imported
from bench_core.errors import Unavailable
from bench_core.machine import allotment, host, processor
from bench_core.records import Fact, Facts, type_of

# JAX's words for the precision of float32 products (jax.default_matmul_precision). Without one, a GPU since Ampere
# computes them in TF32 and a TPU in a single pass in bfloat16; a CPU in float32 in any case.
_PRECISIONS = {
    "ieee": "highest",
    "tf32": "tensorfloat32",
    "bfloat16_products": "bfloat16",
    # The kernels choose the dtype of their products: what they leave in float32 is computed so.
    "autocast_bfloat16": "highest",
    "autocast_float16": "highest",
}
_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax.monitoring, one for each program


class JaxBackend:
    """JAX on one device: a type and a number ("cuda:1", "tpu:0"), or "cpu"."""

    name: ClassVar[str] = "jax"
    dialect: ClassVar[str] = "jax"
    devices_expected: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    has_device_clock = False

    def __init__(self, device: str) -> None:
        jax = self.jax = _import_jax()
        self._kind = type_of(device)
        present = _devices(jax)
        if device not in present:
            raise Unavailable("no_device", f"jax {jax.__version__} finds no {self._kind} device {device!r}")
        self.device = device
        self.version = str(jax.__version__)
        self.threads = int(os.environ.get("NPROC") or allotment.usable_cores()) if self._kind == "cpu" else None
        self._device = present[device]
        self._memory = host.ProcessMemory()
        self._peak_before = 0
        jax.config.update("jax_default_device", self._device)
        self._kind_of_array = type(jax.numpy.zeros(()))

    @classmethod
    def devices(cls) -> Sequence[str]:
        return list(_devices(_import_jax()))

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:  # noqa: ARG003 - the Protocol's
        return {
            **host.thread_environ(threads),
            "NPROC": str(threads),  # the size of XLA's thread pool on a CPU (xla/pjrt/cpu/cpu_client.cc)
            "OPENBLAS_THREAD_TIMEOUT": "4",  # as for torch: NumPy's idle threads must not spin
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # else the first process takes three quarters of a GPU's memory
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # a program from a disk has no compile time
        }

    @classmethod
    def environ_for(cls, device: str) -> Mapping[str, str]:
        kind, _, number = device.partition(":")
        if kind == "cpu":
            return {"JAX_PLATFORMS": "cpu"}
        return {"JAX_PLATFORMS": f"{kind},cpu", **({_ONLY: number} if kind == "cuda" else {})}

    @property
    def xp(self) -> Any:
        return self.jax.numpy

    @property
    def device_name(self) -> str:
        return (processor.model().value or "") if self._kind == "cpu" else str(self._device.device_kind)

    @property
    def device_uuid(self) -> str | None:
        return _cuda_uuid(int(self.device.partition(":")[2])) if self._kind == "cuda" else None

    @property
    def library(self) -> str:
        return f"XLA of jaxlib {imported('jaxlib').__version__}{self._platform}"

    @property
    def _platform(self) -> str:
        """The version of the platform below XLA, with a space before it: " cuda 12090"; "" on a CPU."""
        found = re.search(
            r"(?:cuda|rocm|libtpu)\D{0,3}[\d.]+", str(self._device.client.platform_version), re.IGNORECASE
        )
        return f" {found[0]}" if found else ""

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        # A copy: on a CPU, JAX would use the memory of the host array itself.
        placed = self.jax.device_put(np.array(array, order="C"), self._device)
        converted = placed.astype(dtype) if dtype else placed
        return converted.block_until_ready()

    def to_host(self, array: Any) -> np.ndarray:
        host_array = np.array(array)  # a copy: on a CPU, it would be a view of memory that a donation frees
        return host_array.astype(np.float32) if host_array.dtype.kind == "V" else host_array

    def like(self, array: Any, values: np.ndarray, rows: Sequence[int] | None = None) -> Any:
        some = self.jax.numpy.asarray(values).astype(array.dtype)
        if rows is None:
            changed = self.jax.numpy.broadcast_to(some, array.shape)
        else:  # in the memory of the device, if the array lies in another: XLA need not be able to compute there
            place = array.sharding.with_memory_kind(self._device.default_memory().kind)
            changed = self.jax.device_put(array, place).at[np.array(rows)].set(some)
        return self.jax.device_put(changed, array.sharding).block_until_ready()

    def wait_for(self, result: Any) -> None:
        """Block until this result is computed; raises TypeError for a part that JAX would pass over in silence."""
        if type(result) is not self._kind_of_array:
            for kind in {type(part) for part in self.jax.tree.leaves(result)}:
                if not issubclass(kind, (self._kind_of_array, np.ndarray, np.generic, numbers.Number)):
                    raise TypeError(f"jax cannot wait for a {kind.__name__}: return arrays, or a pytree of them")
        self.jax.block_until_ready(result)

    def synchronize(self) -> None:
        """Do nothing: JAX has no call that waits for a device, and every result is awaited by itself."""

    @property
    def compilations(self) -> int:
        return len(_compiled)

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        raise NotImplementedError("JAX has no events that a caller can place")

    def memory(self) -> Memory:
        """Return the memory of XLA's allocator on a device; on a CPU, which has none, that of this process.

        JAX cannot reset the peak: it is None until this process uses more than ever before.
        """
        stats = self._device.memory_stats()
        if stats is None:
            return Memory(allotment.memory_left(), *self._memory.used_and_peak()) if self._is_cpu else _UNKNOWN
        used, peak, limit = (stats.get(name) for name in ("bytes_in_use", "peak_bytes_in_use", "bytes_limit"))
        free = limit - used if limit is not None and used is not None else None
        return Memory(free, used, peak if peak is not None and peak > self._peak_before else None)

    def reset_peak_memory(self) -> None:
        if self._is_cpu:
            self._memory.reset_peak()
        self._peak_before = (self._device.memory_stats() or {}).get("peak_bytes_in_use", 0)

    def free(self) -> None:
        """Do nothing: XLA's allocator frees an array with its last reference, and keeps what it has of the device."""

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        if not hasattr(self.jax.numpy, dtype):
            return f"jax {self.version} has no {dtype}"
        if precision not in _PRECISIONS:
            return f"jax has no {precision}: it computes in the dtype of its arrays"
        if precision == "tf32" and not (self._kind == "cuda" and self._capability() >= (8, 0)):
            return f"{self.device_name or self.device} has no TF32 arithmetic in jax"
        if precision == "bfloat16_products" and self._kind != "tpu":
            return f"jax multiplies float32 in bfloat16 on TPUs only, not on {self.device_name or self.device}"
        if dtype.startswith("float8") and self._kind == "cuda" and self._capability() < (8, 9):
            return f"{self.device_name} has no float8 arithmetic (compute capability 8.9 or newer)"
        return None

    def _capability(self) -> tuple[int, int]:
        major, _, minor = str(getattr(self._device, "compute_capability", "0.0")).partition(".")
        return int(major), int(minor or 0)

    def set_precision(self, precision: str) -> None:
        self.jax.config.update("jax_default_matmul_precision", _PRECISIONS[precision])

    def set_threads(self, threads: int) -> None:
        """Do nothing: XLA makes its threads when it is loaded, as many as the environment says."""

    def facts(self) -> Facts:
        jax, client = self.jax, self._device.client
        facts = {
            "jax": Fact(self.version, "jax.__version__"),
            "jax.jaxlib": Fact(imported("jaxlib").__version__, "jaxlib.__version__"),
            "jax.platform_version": Fact(" ".join(str(client.platform_version).split()), "Client.platform_version"),
            "jax.device_kind": Fact(str(self._device.device_kind), "Device.device_kind"),
            "jax.default_matmul_precision": Fact(
                str(jax.config.jax_default_matmul_precision or "default"), "jax.config.jax_default_matmul_precision"
            ),
            "jax.enable_x64": Fact(bool(jax.config.jax_enable_x64), "jax.config.jax_enable_x64"),
            **host.threadpool_facts(),
        }
        if self._is_cpu:
            return {**facts, "jax.threads": Fact(self.threads, "NPROC"), **host.malloc_facts()}
        stats = self._device.memory_stats() or {}
        facts["gpu.name"] = Fact(str(self._device.device_kind), "Device.device_kind")
        facts["gpu.memory"] = Fact(stats.get("bytes_limit"), "Device.memory_stats")
        if self._kind == "cuda":
            facts["gpu.compute_capability"] = Fact(str(self._device.compute_capability), "Device.compute_capability")
        return facts

    @property
    def _is_cpu(self) -> bool:
        return self._kind == "cpu"

    def is_out_of_memory(self, error: BaseException) -> bool:
        words = ("RESOURCE_EXHAUSTED", "Out of memory")
        is_xla = isinstance(error, self.jax.errors.JaxRuntimeError)
        return isinstance(error, MemoryError) or (is_xla and any(word in str(error) for word in words))


_ONLY = "BENCH_CORE_JAX_CUDA"  # the number of the one CUDA device that this process may open
_UNKNOWN = Memory(None, None, None)
_compiled: list[float] = []  # the seconds that each program of this process took to compile


def _import_jax() -> Any:
    jax = imported("jax")
    jax.config.update("jax_enable_x64", True)
    if only := os.environ.get(_ONLY):
        jax.config.update("jax_cuda_visible_devices", only)
    _listen(jax)
    return jax


@functools.cache
def _listen(jax: Any) -> None:
    """Count what is compiled from now on, once in a process, whatever a script has set before."""
    jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, duration: float, **_: Any) -> None:
    if event == _COMPILED:
        _compiled.append(duration)


def _devices(jax: Any) -> dict[str, Any]:
    """Return the devices of this process by address, the CPU first; raises Unavailable if JAX cannot open any."""
    try:
        found = jax.local_devices()
    except RuntimeError as error:
        raise Unavailable("no_device", f"jax finds no device: {str(error).splitlines()[0]}") from None
    if all(device.platform != "cpu" for device in found):
        try:
            found = [*jax.local_devices(backend="cpu"), *found]
        except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
            found = list(found)
    kinds = [_kind(device) for device in found]
    numbered: dict[str, Any] = {}
    for kind, device in zip(kinds, found, strict=True):
        if kind == "cpu":  # there may be more by XLA_FLAGS, which share its cores
            numbered.setdefault("cpu", device)
            continue
        # The one device that a process may open is its first, whatever its number.
        alone = os.environ.get(_ONLY) if kind == "cuda" and kinds.count("cuda") == 1 else None
        numbered[f"{kind}:{alone or device.id}"] = device
    return numbered


def _kind(device: Any) -> str:
    """Return the type in an address: JAX calls all GPUs "gpu", and takes "cuda" and "rocm" for their types."""
    if device.platform != "gpu":
        return str(device.platform)
    return "rocm" if "rocm" in str(device.client.platform_version).lower() else "cuda"


def _cuda_uuid(number: int) -> str | None:
    """Return the UUID of a CUDA device, which JAX does not tell, from the driver (CUDA driver API, cuDeviceGetUuid)."""
    found, handle = (ctypes.c_ubyte * 16)(), ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        failed = driver.cuDeviceGet(ctypes.byref(handle), number) or driver.cuDeviceGetUuid(found, handle)
    except (OSError, AttributeError):
        return None
    return None if failed else f"GPU-{uuid.UUID(bytes=bytes(found))}"
