"""Workload: what a benchmark file declares.

A workload says everything about one kind of work in one place: its axes, its inputs, its costs, its
check, and one kernel body per *dialect*. A dialect is a programming model, not a library: "array" is
the NumPy array API that NumPy and CuPy share, "torch" is PyTorch. A new backend that speaks a known
dialect runs every workload unchanged. Where one library or device has forms of its own, they stand under
its name ("numpy", "torch:cpu") beside those of the dialect.

Whatever else the author of a benchmark needs can be imported from here too; to judge answers there is check.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bench_core import check
from bench_core.backends.base import Backend
from bench_core.errors import TooSlow, Unavailable, Unsupported, WrongAnswer
from bench_core.records import Cache, Case, Ceiling, Costs, Machine, Preset, Scope, Target, Work

__all__ = [
    "Backend",
    "Builder",
    "Cache",
    "Call",
    "Case",
    "Ceiling",
    "Costs",
    "HostArrays",
    "Kernel",
    "Kernels",
    "Machine",
    "Preset",
    "Scope",
    "Target",
    "TooSlow",
    "Unavailable",
    "Unsupported",
    "Work",
    "Workload",
    "WrongAnswer",
]

HostArrays = Mapping[str, np.ndarray]
Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A piece of work bound to its data on one device.

    run: does the work once. It never synchronises; that is the harness's part.
    answer: does the work once and returns the named device arrays that the check compares. It starts
        from the data given to the builder, whatever `run` did to its own state before. By default it
        is the result of the first `run`, under the name "out".
    probes: further timed callables, by the name of the metric whose seconds they give
        ("time_to_first_token").
    library: what does the arithmetic, where the kernel knows better than the backend.
    flags: words that the row must carry because of how the work meets this device ("fits_l3").
    singly: whether calls by wall time are timed one by one, however short, since their latency is of interest.
    prepare: compiles or captures what `run` then calls; timed once, by itself, as compile_time.
    hides_memory: whether `run` works in memory that the allocator counts as free, as a captured graph does;
        then there is no peak_memory.
    """

    run: Call
    answer: Callable[[], Mapping[str, Any]] | None = None
    probes: Mapping[str, Call] = field(default_factory=dict)
    library: str = ""
    flags: tuple[str, ...] = ()
    singly: bool = False
    prepare: Call | None = None
    hides_memory: bool = False


Builder = Callable[[Backend, Work, HostArrays], Kernel]
Kernels = Mapping[str, Mapping[str, Builder]]


class Workload(ABC):
    """One kind of work on every backend.

    Subclasses set `suite` (the family: matmul, memory, model), `name`, `version` (raised whenever old
    and new numbers must not be compared), and `kernels`: dialect -> implementation -> builder, where the
    most specific of "backend:device_type", "backend", "dialect:device_type" and "dialect" counts. `ceiling` says
    which limit of the machine the workload shows, if it shows one.
    """

    suite: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    kernels: ClassVar[Kernels]
    ceiling: ClassVar[Ceiling | None] = None

    @abstractmethod
    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:
        """Return the axes of a preset, spelt out. `machine` is there for sizes bound to a cache.

        Nobody asks for those of `headline`, which are chosen from those of `standard`.
        """

    @abstractmethod
    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return fresh random host arrays; every backend uploads these and draws none of its own."""

    @abstractmethod
    def costs(self, work: Work) -> Costs:
        """Return what one call costs, by formula; the docstring gives the formula and its source."""

    @abstractmethod
    def error(self, work: Work, host: HostArrays, answer: HostArrays) -> float:
        """Return the relative error of `answer` against float64, or raise WrongAnswer outright."""

    def tolerance(self, work: Work) -> check.Tolerance:
        """Return the bounds that `error` must lie in, both sides."""
        return check.tolerance(work.dtype, work.precision)

    def footprint(self, work: Work) -> float:
        """Return the bytes of device memory that one kernel needs; 0 where unknown."""
        return self.costs(work).least_bytes or 0.0

    def builders(self, target: Target) -> Mapping[str, Builder]:
        """Return the kernels for a target by implementation: the most specific there are."""
        kind = target.device.partition(":")[0]
        keys = (f"{target.backend}:{kind}", target.backend, f"{target.dialect}:{kind}", target.dialect)
        return next((self.kernels[key] for key in keys if key in self.kernels), {})

    def implementations(self, target: Target, preset: Preset) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return which of a target's kernels a preset measures."""
        return tuple(self.builders(target))

    def selects(self, work: Work, implementation: str) -> bool:  # noqa: ARG002 - for subclasses
        """Whether this implementation of this work is worth a case; not every axis must be crossed with every other."""
        return True

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - for subclasses
        """Whether the preset `headline` holds this work of `standard`, on every core; none of it by default."""
        return False

    def threads(self, work: Work, preset: Preset) -> Sequence[int | None]:  # noqa: ARG002 - for subclasses
        """Return the host thread counts to measure on a CPU; None is every core available."""
        return (None,)

    def work(self, size: str, dtype: str, **params: Any) -> Work:
        """Return a Work of this workload. `precision`, `scope` and `cache` may be among `params`."""
        special = {key: params.pop(key) for key in ("precision", "scope", "cache") if key in params}
        return Work(self.suite, self.name, size, dtype, tuple(params.items()), version=self.version, **special)

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel of a case on `backend`; raises Unsupported where there is none."""
        builders = self.builders(Target(backend.name, backend.dialect, backend.device))
        if case.implementation not in builders:
            reason = f"{self.name} has no {case.implementation!r} kernel for {backend.name}"
            raise Unsupported("no_kernel", reason)
        return builders[case.implementation](backend, case.work, host)

    def verify(self, work: Work, host: HostArrays, answer: HostArrays) -> float:
        """Return the relative error of a right answer; raises WrongAnswer for any other."""
        for name, array in answer.items():
            check.require_finite(name, array)
        error = self.error(work, host, answer)
        self.tolerance(work).require(error)
        return error
