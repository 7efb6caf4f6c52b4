"""What all workloads of the suite `model` share: which sizes, formats and implementations a preset measures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from bench_core import check
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
    Traits,
    Work,
    Workload,
)
from benchmarks import limits
from benchmarks.caches import flagged
from benchmarks.nn.batches import repeated
from benchmarks.nn.training import TOLERANCES

# Batch sizes beside the network's own, to see from which one on a GPU wins; standard has none above it.
SWEEP = {Preset.STANDARD: (1, 16), Preset.FULL: (1, 4, 16, 64, 256)}
_LARGE = tuple(SWEEP)

TRAITS = Traits(order=3)  # of models and their layers: the last in reports


class ModelWorkload(Workload):
    """A network and a batch size by preset, in all the ways worth measuring.

    smoke and quick: float32, the usual implementation and, by quick, those of `quick` too; `left_out` names presets
    that do without. headline: float32 in the implementations of `headline`.
    standard and full add every implementation, `precisions` (of float32 weights) and `formats` (of the weights
    themselves), the scope `end_to_end` and the batch sweep. float64 is for the check's sake alone: by smoke, where
    `doubled`.
    """

    suite = "model"
    traits = TRAITS
    presets: ClassVar[Mapping[Preset, tuple[Any, int]]]
    left_out: ClassVar[tuple[Preset, ...]] = ()
    doubled: ClassVar[bool] = False
    quick: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[tuple[str, ...]] = ()
    per_sample: ClassVar[tuple[str, ...]]  # inputs that have a row for each sample
    uploaded: ClassVar[bool] = True  # whether what is timed begins with data that could be on the host
    precisions: ClassVar[tuple[str, ...]] = ("tf32", "autocast_bfloat16", "autocast_float16")
    formats: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def variant(self, network: Any, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        """Return the work on a network and a batch size."""

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - the same sizes everywhere
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
        """Leave `compile` on a CPU to full: a network may take minutes to compile there."""
        every = super().implementations(target, preset)
        slow = target.device == "cpu" and preset is not Preset.FULL
        return [name for name in every if not (slow and name == "compile")]

    def selects(self, work: Work, implementation: str) -> bool:
        """Whether to measure other implementations than the usual one as well.

        They are, for a large network at its own batch size, resident, in float32; compiled and captured ones in
        narrower arithmetic too. Of a network of quick's, those of `quick` are.
        """
        if implementation == "default" or (implementation in self.quick and self._is_quicks(work)):
            return True
        own = any(self.variant(*self.presets[preset]).params == work.params for preset in _LARGE)
        plain = (work.dtype, work.precision) == ("float32", "ieee") or implementation in {"compile", "cudagraph"}
        return own and plain and work.dtype != "float64" and work.scope is Scope.RESIDENT

    def _is_quicks(self, work: Work) -> bool:
        return work.params == self.variant(*self.presets[Preset.QUICK]).params

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - the same anywhere
        own = self.variant(*self.presets[Preset.STANDARD])
        return implementation in self.headline and work == own

    @abstractmethod
    def samples(self, work: Work) -> int:
        """Return how many samples of the batch a check tells apart."""

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        """Return the inputs with a batch of so many samples, each as often as every other."""
        return repeated(host, self.per_sample, self.samples(work), rng)

    def touched(self, work: Work) -> float | None:  # noqa: ARG002 - for subclasses
        """Return the bytes re-read by every call (weights, KV cache); None if the work is not memory-bound."""
        return None

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel, flagged if a cache holds all that it touches; raises TooSlow before it is begun.

        A CPU may lack instructions for a narrow format: then products in it are slower than in float32.
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


def by_implementation(build: Callable[..., Kernel], *implementations: str) -> dict[str, Builder]:
    """Return the builder of each implementation, given one that takes the implementation's name before the rest."""
    return {implementation: partial(build, implementation) for implementation in implementations}


def autocast_format(precision: str) -> str:
    """Return the format that a precision casts products down to, "" for none: of "autocast_bfloat16" it is bfloat16."""
    mode, _, name = precision.partition("_")
    return name if mode == "autocast" else ""


def itemsize(work: Work) -> int:
    """Return the bytes of one weight."""
    return 2 if work.dtype == "bfloat16" else np.dtype(work.dtype).itemsize
