"""Workload: what a benchmark file declares.

A workload defines everything about one kind of work in one place: its axes, its inputs, its costs, its
check, and one kernel body per *dialect*. A dialect is a programming model, not a library: "array" is
NumPy with its mutable arrays, as far as CuPy shares it (CONTRIBUTING.md lists what is used), "torch" is
PyTorch. A new backend with a known dialect runs every kernel of it unchanged. Kernels for a single library
or device are listed under its name ("numpy", "torch:cpu"), next to those of the dialect. Kernels for a dialect of one's
own are added from outside (backends/kernels.py).

Everything else that the author of a benchmark needs can be imported from here too; check.py has the functions that
judge answers, caches.py those that flag what a cache holds.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from bench_core import check
from bench_core.backends import kernels
from bench_core.backends.base import Backend, Futures, Selective, finish
from bench_core.errors import TooSlow, Unavailable, Unsupported, UsageError, WrongAnswer
from bench_core.records import (
    PARTLY_SPLIT,
    SPLIT,
    Cache,
    Case,
    Ceiling,
    Claim,
    Costs,
    Limit,
    Machine,
    Preset,
    Scope,
    Target,
    Traffic,
    Traits,
    Work,
)

__all__ = [
    "PARTLY_SPLIT",
    "SPLIT",
    "Backend",
    "Builder",
    "Cache",
    "Call",
    "Case",
    "Ceiling",
    "Claim",
    "Costs",
    "Futures",
    "HostArrays",
    "Kernel",
    "Kernels",
    "Limit",
    "Machine",
    "Preset",
    "Scope",
    "Selective",
    "Target",
    "TooSlow",
    "Traffic",
    "Traits",
    "Unavailable",
    "Unsupported",
    "Work",
    "Workload",
    "WrongAnswer",
    "finish",
]

HostArrays = Mapping[str, np.ndarray]
Call = Callable[[], Any]


def result_alone(result: Any) -> Mapping[str, Any]:
    """Return the result of a call under the name "out": the default for `Kernel.outputs`."""
    return {"out": result}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A piece of work bound to its data on one device. One callable is checked, timed, and checked again.

    run: does the work once, from its inputs to its outputs. It never synchronises; that is the harness's part.
    inputs: the arrays that `run` reads at each call, by their names in `Workload.inputs`. The harness overwrites them
        in place with other numbers, and `run` must then use those. An array that is longer than the host's array
        repeats it along the first axis. Arrays that `run` changes itself (weights) are not inputs.
    outputs: names the arrays that hold the answer, given what `run` returned last: new ones, or buffers that `run`
        writes to, but no inputs and no views of them. It does no part of the work.
    restart: restores what `run` changes for its next call (weights, a cache, a position), and reads the inputs again
        if the work begins with something that is not timed. None if every call is like the first.
    calls: the outputs are checked after this many calls of `run`, counted from `restart`. also_first: whether they are
        also checked after the first of these; the names of those after the last call then start with `last.`.
    probes: further timed callables, by the name of the metric whose seconds they give ("time_to_first_token"); each
        is a kernel that is checked like this one.
    library: the library that does the arithmetic, if the kernel knows better than the backend.
    first_touch: how many host threads wrote the arrays of `inputs` and `outputs` first, if the kernel knows; on a CPU
        with several memories this decides in which of them the pages lie.
    flags: flags of the row that depend on the work and the device ("fits_l3").
    singly: whether calls by wall time are timed one by one, however short, because their latency is of interest.
    prepare: compiles or captures what `run` then calls; timed once, by itself, as compile_time.
    alike: returns the arrays that are equal on all ranks after any number of calls, bit by bit, as the weights of
        replicas are; compared after the timed calls. None if none are, or for one process.
    takes_part: whether this rank has a part in the work. When a rank that has none, and waits, begins and ends is no
        part of the time.
    hides_memory: whether `run` works in memory that the allocator counts as free, as a captured graph does;
        then there is no peak_memory.
    around_first: makes the context in which `run` is called first; it must not change what `run` does.
    answer: deprecated, gone in the next release. Returns the named arrays to be checked, of a call of its own. What is
        timed is then not what is checked: the row is flagged `unchecked_timing`. So is one whose kernel, or a probe of
        it, names no `inputs`.
    """

    run: Call = field(kw_only=False)
    answer: Callable[[], Mapping[str, Any]] | None = field(default=None, kw_only=False)
    inputs: MutableMapping[str, Any] = field(default_factory=dict)
    outputs: Callable[[Any], Mapping[str, Any]] = result_alone
    restart: Call | None = None
    calls: int = 1
    also_first: bool = False
    probes: Mapping[str, Kernel] = field(default_factory=dict)
    library: str = ""
    first_touch: int | None = None
    flags: tuple[str, ...] = ()
    singly: bool = False
    prepare: Call | None = None
    alike: Callable[[], Iterable[Any]] | None = None
    takes_part: bool = True
    hides_memory: bool = False
    around_first: Callable[[], AbstractContextManager[None]] = nullcontext

    def __post_init__(self) -> None:
        probes: Mapping[str, Any] = self.probes  # before this release they were bare callables
        wrapped = {name: probe if isinstance(probe, Kernel) else Kernel(probe) for name, probe in probes.items()}
        object.__setattr__(self, "probes", wrapped)
        if self.answer is not None:
            warnings.warn(
                "Kernel(answer=...) is deprecated: give inputs and outputs, so that what is timed can be checked",
                DeprecationWarning,
                stacklevel=3,
            )


Builder = Callable[[Backend, Work, HostArrays], Kernel]
Kernels = Mapping[str, Mapping[str, Builder]]


class Workload(ABC):
    """One kind of work on every backend.

    Subclasses set `suite` (the family: matmul, memory, model), `name`, `version` (raised whenever old and new numbers
    must not be compared), and `kernels`: dialect -> implementation -> builder, where the most specific of
    "backend:device_type", "backend", "dialect:device_type" and "dialect" counts; a workload that lists any lists all,
    since it is unsupported elsewhere. `traits`: how its rows are judged and shown. `ceiling`: the limit of the machine
    that the workload measures, if any. `idle`: `run` does nothing on purpose, so it has no answer to check and must
    have no costs. `has_reference`: without one, nothing is known of the right answer: there must be no costs, so there
    is no rate, and rows are flagged `unchecked`. `across_ranks`: whether it is work for several processes, each on a
    device of its own, which are then its only targets; the parameter `ranks` of a work says how many compute.
    """

    suite: ClassVar[str]
    name: str
    version: ClassVar[int] = 1
    kernels: ClassVar[Kernels] = MappingProxyType({})
    traits: ClassVar[Traits] = Traits()
    ceiling: ClassVar[Ceiling | None] = None
    idle: ClassVar[bool] = False
    has_reference: bool = True
    across_ranks: ClassVar[bool] = False

    @abstractmethod
    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:
        """Return all works of a preset. machine: for sizes that depend on a cache.

        It is not called with `headline`, whose works are chosen from those of `standard`.
        """

    @abstractmethod
    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return fresh random host arrays; every backend uploads these and draws none of its own."""

    @abstractmethod
    def costs(self, work: Work) -> Costs:
        """Return what one call costs, by formula; the docstring gives the formula and its source."""

    @abstractmethod
    def error(self, work: Work, expected: Any, answer: HostArrays) -> float:
        """Return the relative error of `answer` against float64, or raise WrongAnswer outright.

        expected: what `reference` returned, which is the inputs unless a workload has a reference of its own. answer:
        host copies of what the kernel's `outputs` (or those of one of its probes) named.
        """

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:  # noqa: ARG002 - for subclasses
        """Return the inputs of a check: those that are timed, unless other numbers reveal more errors.

        They have the shapes and dtypes of `host`. A reference for a large batch may be out of reach: then the batch
        holds few samples, each many times. More arrays may be added, for `reference` alone.
        """
        return host

    def redraw(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:  # noqa: ARG002 - for subclasses
        """Return other inputs than `host`, of the same shapes and dtypes, by which the timed call is checked again."""
        return self.inputs(work, rng)

    def on_rank(self, work: Work, host: HostArrays, rank: int) -> HostArrays:  # noqa: ARG002 - for subclasses
        """Return the arrays of one of `work.ranks` processes, given those of all.

        The kernel of this process is built with them, its inputs are overwritten with them, and `reference` gets them.
        More arrays may be added, for `reference` alone.
        """
        return host

    def reference(self, work: Work, host: HostArrays) -> Any:  # noqa: ARG002 - for subclasses
        """Return what `error` needs to judge the answers for these inputs, computed once for all of them."""
        return host

    def tolerance(self, work: Work) -> check.Tolerance:
        """Return the lower and the upper bound of a valid `error`. Default: those of a product in the work's format.

        Override it for other bounds, and for a dtype without a default: `return check.Tolerance(1e-6)`.
        """
        return check.tolerance(work.dtype, work.precision)

    def footprint(self, work: Work) -> float:
        """Return the bytes of device memory that one kernel needs; 0 where unknown.

        A case is not tried where fewer are free. A cold case has as many sets of buffers of this size as evict a cache.
        Default: `least_bytes`, the arrays that a call reads and writes. Override it where a kernel holds more, such as
        copies of weights and intermediate results: the default is then too little to keep memory from running out.
        """
        return self.costs(work).least_bytes or 0.0

    def builders(self, target: Target) -> Mapping[str, Builder]:
        """Return the most specific kernels for a target, by implementation, and those added from outside (kernels.py).

        Raises UsageError if an implementation was added that the workload itself has.
        """
        kind = target.device_type
        keys = (f"{target.backend}:{kind}", target.backend, f"{target.dialect}:{kind}", target.dialect)
        own = next((self.kernels[key] for key in keys if key in self.kernels), {})
        added = kernels.of(self.suite, self.name, target.dialect, kind)
        if twice := sorted(own.keys() & added.keys()):
            raise UsageError(f"{self.name} has a {twice[0]!r} kernel for {target.dialect}: another cannot be added")
        return {**own, **added}

    def implementations(self, target: Target, preset: Preset) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return which of a target's kernels a preset measures."""
        return tuple(self.builders(target))

    def selects(self, work: Work, implementation: str) -> bool:  # noqa: ARG002 - for subclasses
        """Whether this implementation of this work is worth a case; not every axis must be crossed with every other."""
        return True

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - for subclasses
        """Whether the preset `headline` includes this work of `standard`, on all cores; by default no work."""
        return False

    def threads(self, work: Work, preset: Preset) -> Sequence[int | None]:  # noqa: ARG002 - for subclasses
        """Return the host thread counts to measure on a CPU; None is every core available."""
        return (None,)

    def work(self, size: str, dtype: str, **params: Any) -> Work:
        """Return a Work of this workload. `precision`, `scope` and `cache` may be among `params`."""
        special = {key: params.pop(key) for key in ("precision", "scope", "cache") if key in params}
        return Work(self.suite, self.name, size, dtype, tuple(params.items()), version=self.version, **special)

    def require_supported(self, backend: Backend, case: Case) -> None:
        """Raise Unsupported if it is known without inputs, which may take long to make, that there is no kernel.

        Of the backend only its class and its device are asked, so that this is known without its library as well.
        """
        # A class with a `build` of its own need not have any `kernels`.
        if type(self).build is Workload.build or self.kernels or self._builders_on(backend):
            self._builder(backend, case)

    def _builders_on(self, backend: Backend) -> Mapping[str, Builder]:
        return self.builders(Target(backend.name, backend.dialect, backend.device))

    def _builder(self, backend: Backend, case: Case) -> Builder:
        builders = self._builders_on(backend)
        if case.implementation not in builders:
            form = "" if case.implementation == "default" else f"the form {case.implementation!r} of "
            reason = f"{form}{self.name} is not written for {backend.name}"
            raise Unsupported("no_kernel", reason)
        return builders[case.implementation]

    def build(self, backend: Backend, case: Case, host: HostArrays) -> Kernel:
        """Return the kernel of a case on `backend`; raises Unsupported where there is none."""
        return self._builder(backend, case)(backend, case.work, host)

    def verify(self, work: Work, expected: Any, answer: HostArrays) -> float:
        """Return the relative error of a right answer; raises WrongAnswer for any other. expected: as in `error`."""
        for name, array in answer.items():
            check.require_finite(name, array)
        error = self.error(work, expected, answer)
        self.tolerance(work).require(error)
        return error
