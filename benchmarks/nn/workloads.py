"""The base class of all workloads of the suite `model`: the sizes, formats and implementations of each preset."""

from __future__ import annotations

import platform
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from bench_core import check
from bench_core.caches import flagged
from bench_core.workload import (
    Backend,
    Builder,
    Case,
    HostArrays,
    Kernel,
    Machine,
    Preset,
    Scope,
    Target,
    Unsupported,
    Work,
    Workload,
)

from .. import limits
from .batches import repeated
from .training import TOLERANCES

# Batch sizes measured in addition to the network's own, to find the one from which a GPU is faster. In standard, only
# smaller ones are used.
SWEEP = {Preset.STANDARD: (1, 16), Preset.FULL: (1, 4, 16, 64, 256)}
_LARGE = tuple(SWEEP)

# How torch runs most models (benchmarks/nn/modules/running.py says what each name means).
TORCH = ("default", "compile")
TORCH_CUDA = (*TORCH, "cudagraph", "compile_cudagraph", "max_autotune")
# Implementations that are measured in narrower arithmetic as well: there other kernels are to be chosen from, and what
# a loop costs besides its kernels is a larger share.
NARROW = frozenset({*TORCH_CUDA, "cudnn_benchmark", "scan"})


class ModelWorkload(Workload):
    """A network and a batch size for each preset, and the variants of them that each preset measures.

    smoke and quick: float32 in the default implementation; quick adds those in `quick_forms`. smoke adds float64 if
    `doubled`, only for its check. headline: float32 in the implementations in `headline_forms`. standard and full: all
    implementations, `precisions` (with float32 weights), `formats` (dtypes of the weights themselves), the scope
    end_to_end, and the sweep of batch sizes; `implementations` leaves some out that compile. Presets in `left_out`
    measure nothing.
    """

    suite = "model"
    presets: ClassVar[Mapping[Preset, tuple[Any, int]]]
    left_out: ClassVar[tuple[Preset, ...]] = ()
    doubled: ClassVar[bool] = False
    quick_forms: ClassVar[tuple[str, ...]] = ()
    headline_forms: ClassVar[tuple[str, ...]] = ()
    per_sample: ClassVar[tuple[str, ...]]  # inputs with one row per sample
    uploaded: ClassVar[bool] = True  # whether a call reads inputs that end_to_end can upload from the host
    # Whether `compile` gains enough on a CPU for standard to measure it there; full always does, and no other preset.
    compiles_on_cpu: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = ("tf32", "autocast_bfloat16", "autocast_float16")
    formats: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def variant(self, network: Any, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        """Return the work for a network and a batch size. kind: `precision` or `scope`."""

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - same sizes on every machine
        if preset in self.left_out:
            return
        network, batch = self.presets[preset]
        for kind in self._kinds(preset):
            yield self.variant(network, batch, **kind)
        yield from (self.variant(network, other) for other in self._sweep(preset, batch))

    def _sweep(self, preset: Preset, own: int) -> list[int]:
        return [b for b in SWEEP.get(preset, ()) if b < own or (b > own and preset is Preset.FULL)]

    def _kinds(self, preset: Preset) -> Iterator[dict[str, Any]]:
        yield {}
        if preset is Preset.SMOKE and self.doubled:
            yield {"dtype": "float64"}
        if preset in _LARGE:
            yield from ({"precision": precision} for precision in self.precisions)
            yield from ({"dtype": dtype} for dtype in self.formats)
            yield from ({"scope": Scope.END_TO_END} for _ in range(self.uploaded))

    def implementations(self, target: Target, preset: Preset) -> Sequence[str]:
        """Return the implementations that `fitting` leaves; on a CPU `compile` only where `compiles_on_cpu` says so.

        quick has NumPy's default alone: in no model has NumPy been a CPU's fastest so far, and its checks take long.
        """
        gains = self.compiles_on_cpu and preset is Preset.STANDARD
        compiles = target.device_type != "cpu" or preset is Preset.FULL or gains
        names = fitting(super().implementations(target, preset), preset)
        if (preset, target.backend) == (Preset.QUICK, "numpy"):
            names = [name for name in names if name == "default"]
        return [name for name in names if compiles or name != "compile"]

    def selects(self, work: Work, implementation: str) -> bool:
        """Whether to measure `work` in this implementation.

        The default implementation: always. Those in `quick_forms`: for the network of quick. All others: for the
        networks of standard and full at their own batch size, resident, in float32; those in NARROW in narrower
        arithmetic as well. `implementations` says which of them a preset leaves out.
        """
        if implementation == "default" or (implementation in self.quick_forms and self._is_quicks(work)):
            return True
        own = any(self.variant(*self.presets[preset]).params == work.params for preset in _LARGE)
        formats = (work.dtype, work.precision) == ("float32", "ieee") or implementation in NARROW
        return own and formats and work.dtype != "float64" and work.scope is Scope.RESIDENT

    def _is_quicks(self, work: Work) -> bool:
        return work.params == self.variant(*self.presets[Preset.QUICK]).params

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - same on every machine
        own = self.variant(*self.presets[Preset.STANDARD])
        return implementation in self.headline_forms and work == own

    @abstractmethod
    def footprint(self, work: Work) -> float:
        """Return the bytes of device memory that a kernel needs: weights with their copies, and all else that it holds.

        In PyTorch weights are there twice while a module is loaded with them.
        """

    @abstractmethod
    def samples(self, work: Work) -> int:
        """Return the number of distinct samples in the batch of a check."""

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        """Return the inputs with a batch of `samples` distinct samples, all equally often."""
        return repeated(host, self.per_sample, self.samples(work), rng)

    def touched(self, work: Work) -> float | None:  # noqa: ARG002 - for subclasses
        """Return the bytes that every call reads again (weights, KV cache); None if the work is not memory-bound."""
        return None

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel, flagged if a cache holds all that a call reads.

        Raise TooSlow if a call would take a CPU too long. A CPU without instructions for a narrow format multiplies in
        it more slowly than in float32; only then is the time predicted.
        """
        work = case.work
        multiplied = autocast_format(work.precision) or work.dtype
        if backend.device == "cpu" and multiplied not in {"float32", "float64"}:
            rate = limits.product_rate(backend, multiplied)
            if rate < limits.product_rate(backend, "float32"):
                limits.require_short((self.costs(work).flops or 0.0) / rate, f"one call in {multiplied}")
        kernel = super().build(backend, case, host)
        return flagged(kernel, backend, self.touched(work))

    def tolerance(self, work: Work) -> check.Tolerance:
        return TOLERANCES[work.dtype, work.precision]


def fitting(implementations: Iterable[str], preset: Preset) -> list[str]:
    """Return the implementations that compile quickly enough for a preset: `max_autotune` is in full only."""
    return [name for name in implementations if preset is Preset.FULL or name != "max_autotune"]


def by_implementation(build: Callable[..., Kernel], *implementations: str) -> dict[str, Builder]:
    """Return a builder per implementation: `build` with the implementation's name as its first argument."""
    return {implementation: partial(build, implementation) for implementation in implementations}


def torch_cpu_kernels(build: Callable[..., Kernel], *others: str) -> dict[str, Builder]:
    """Return PyTorch's builders for a CPU: those in TORCH, `tuned` and `others`."""
    return by_implementation(build, *TORCH, *others) | {"tuned": keeping_memory(build)}


def keeping_memory(build: Callable[..., Kernel]) -> Builder:
    """Return the builder of PyTorch's `tuned` on a CPU: the calls of `default` where malloc keeps freed memory.

    Eager PyTorch allocates the result of every operation. The process is started with `host.KEEP_MEMORY`.
    """

    def tuned(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        if platform.libc_ver()[0] != "glibc":
            raise Unsupported("no_glibc", "only glibc's malloc can be told to keep freed memory: this is `default`")
        return build("default", backend, work, host)

    return tuned


def array_kernels(build: Callable[..., Kernel], *tuned: str, shared: bool = True) -> dict[str, dict[str, Builder]]:
    """Return the kernels in array code: the plain form for every library, and forms of their own for those in `tuned`.

    build: takes the implementation's name as its first argument, for `tuned.array_module`. shared: what build tells
    `array_module`; on a CPU, the kernel's library then names the threads.
    """
    plain = by_implementation(build, "default")
    own = plain | {"tuned": partial(_with_threads, "over blocks" if shared else "inside BLAS", build)}
    return {"array": plain} | dict.fromkeys(tuned, own)


def _with_threads(where: str, build: Callable[..., Kernel], backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of `tuned`; on a CPU, its library says where the threads are: over blocks, or inside BLAS."""
    kernel = build("tuned", backend, work, host)
    if backend.device != "cpu" or (backend.threads or 1) == 1:
        return kernel
    return replace(kernel, library=f"{backend.library}, {backend.threads} threads {where}")


def autocast_format(precision: str) -> str:
    """Return the format in which a precision computes products: "bfloat16" for "autocast_bfloat16"; "" if not named."""
    mode, _, name = precision.partition("_")
    return name if mode == "autocast" else ""
