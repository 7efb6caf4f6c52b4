"""Expand workload x preset x targets into the planned cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bench_core.records import Case, Machine, Preset, Target
from bench_core.workload import Workload


def expand(
    workload: Workload, preset: Preset, targets: Iterable[Target], machine: Callable[[Target], Machine]
) -> Iterator[Case]:
    """Yield every case of a workload: its works x targets x implementations x thread counts.

    A target without any kernel still gets a `default` case, so that the results state what was not measured. The cases
    of `headline` are a subset of those of `standard`. On several devices together, only workloads for them have cases.
    """
    for target in targets:
        here = machine(target)
        if workload.across_ranks != (here.ranks > 1):
            continue
        if preset is not Preset.HEADLINE:
            yield from _expand(workload, preset, target, here)
            continue
        for case in _expand(workload, Preset.STANDARD, target, here):
            if case.threads is None and workload.is_headline(case.work, case.implementation, here):
                yield case


def _expand(workload: Workload, preset: Preset, target: Target, machine: Machine) -> Iterator[Case]:
    implementations = workload.implementations(target, preset) or ("default",)
    for work in workload.works(preset, machine):
        # Of several devices each has its share of the cores, and a thread for each of them.
        on_one_cpu = target.device_type == "cpu" and target.ranks == 1
        threads = workload.threads(work, preset) if on_one_cpu else (None,)
        # A count that equals all cores is the default case, not a second one.
        counts = dict.fromkeys(None if count == machine.cores else count for count in threads)
        for implementation in (i for i in implementations if workload.selects(work, i)):
            for count in counts:
                yield Case(work, target.backend, target.device, implementation, count)
