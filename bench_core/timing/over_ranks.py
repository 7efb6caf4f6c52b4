"""Measure kernels on several ranks at once: their series, what the ranks hold afterwards, and which rank is slow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from bench_core.backends.base import Backend, Ranks, ranks_of
from bench_core.errors import WrongAnswer
from bench_core.records import Series
from bench_core.timing.ranks import RanksTimer, RanksWatch
from bench_core.timing.sampling import Durations, rotate, sample_series, which_count
from bench_core.workload import Kernel

SLOW = 0.05  # a rank is slow if it takes this share longer than the median of all, in SLOW_BLOCKS of the blocks
SLOW_BLOCKS = 0.8
CHANCE = 0.01  # the probability of that for equal ranks, at most
SLOW_RANK = "slow_rank_"  # a flag that ends in the number of the rank


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured of the kernels of a case: its series, and values and flags besides."""

    series: list[Series]
    values: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def measure_over_ranks(
    kernels: list[Kernel], backend: Backend, durations: Durations, watch: RanksWatch, *, is_exchange: bool
) -> Taken:
    """Measure the kernels and their probes from the begin on all ranks to the end on all.

    A rank is told to be slow, by a flag, if it is so in the kernel or in a probe: where ranks wait for each other, all
    take as long as the slowest. is_exchange: the kernel is nothing but an exchange. There each rank ends by its place
    in it (the root of a broadcast is done before the others), so none is told to be slow.

    Raises WrongAnswer where what must be equal on all ranks is not.
    """
    ranks, series, slow = ranks_of(backend), [], None
    values: dict[str, float] = {}
    runs = {"time": rotate([kernel.run for kernel in kernels])}
    runs |= {metric: rotate([kernel.probes[metric].run for kernel in kernels]) for metric in kernels[0].probes}
    for metric, run in runs.items():
        kernel = kernels[0] if metric == "time" else kernels[0].probes[metric]
        timer = RanksTimer(backend, ranks, takes_part=kernel.takes_part)
        one = sample_series(metric, run, timer, durations, watch, timer.agreed_now, singly=kernels[0].singly)
        series.append(one)
        blocks = timer.by_rank(one.inner_loops)[-len(one.seconds) :]
        # A value needs few calm blocks; to tell that a rank is slow, and not by chance, takes more.
        by_rank = [blocks[i] for i in which_count(watch.blocks, fewest_to_tell(len(timer.members)))]
        if slow is None and not is_exchange and (found := slow_rank(by_rank)) is not None:
            slow = timer.members[found]
        if metric == "time":
            if differ := spread(by_rank):
                values["rank_spread"] = differ
            for kernel in kernels:
                if kernel.alike:
                    require_alike(ranks, _fingerprint(kernel.alike(), backend))
    return Taken(series, values, () if slow is None else (f"{SLOW_RANK}{slow}",))


def slow_rank(by_rank: Sequence[Sequence[float]]) -> int | None:
    """Return which of the ranks takes longer than the others in most blocks, from 0; None if there is none.

    by_rank[block][i]: seconds of each, until its own end. There must be so many blocks that it is not by CHANCE: in
    one block, each of n ranks is the last with a probability of 1 / n.
    """
    late = [max(range(len(each)), key=each.__getitem__) for each in by_rank if max(each) > (1 + SLOW) * median(each)]
    found = max(set(late), key=late.count, default=None)
    if found is None or late.count(found) < SLOW_BLOCKS * len(by_rank):
        return None
    blocks, ranks = len(by_rank), len(by_rank[0])
    by_chance = math.fsum(
        math.comb(blocks, count) * (1 / ranks) ** count * (1 - 1 / ranks) ** (blocks - count)
        for count in range(late.count(found), blocks + 1)
    )
    return found if ranks * by_chance <= CHANCE else None


def fewest_to_tell(ranks: int) -> int:
    """Return the number of blocks from which on a rank that is the last in all of them is so hardly by CHANCE."""
    return math.ceil(1 + math.log(1 / CHANCE) / math.log(max(2, ranks)))


def spread(by_rank: Sequence[Sequence[float]]) -> float:
    """Return the median over blocks of the longest time of a rank less the shortest, relative to the median rank."""
    found = [(max(each) - min(each)) / median(each) for each in by_rank if median(each)]
    return median(found) if found else 0.0


def require_alike(ranks: Ranks, fingerprint: str) -> None:
    """Raise WrongAnswer on all ranks if theirs differ. fingerprint: of what must be equal on all of them."""
    others = ranks.every(fingerprint)
    if differing := [rank for rank, each in enumerate(others) if each != others[0]]:
        reason = f"after the timed calls rank {differing[0]} holds other numbers than rank 0: they were not exchanged"
        raise WrongAnswer(reason, code="ranks_differ")


def _fingerprint(arrays: Iterable[Any], backend: Backend) -> str:
    """Return the SHA-256 of all elements of arrays."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(backend.to_host(array)).tobytes())
    return whole.hexdigest()
