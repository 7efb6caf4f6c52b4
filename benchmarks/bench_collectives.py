"""Collectives: what it costs several processes (ranks), each with a device of its own, to exchange arrays.

They run on targets of several devices alone (`--bench-backends=torch:cuda:x8`), by the calls of torch.distributed:
NCCL or RCCL on GPUs, gloo on CPUs. A size is that of the largest array of a rank, as in nccl-tests: the result of an
all_gather, the input of a reduce_scatter.

`algorithm_bandwidth` is S / t, where S is this size and t the time from the begin on all ranks to the end on all.
`bus_bandwidth` is that times a factor, by which it does not depend on the number of ranks n and can be compared with
the rate of a link: 2 (n - 1) / n for all_reduce, (n - 1) / n for all_gather, reduce_scatter and all_to_all, 1 for
broadcast, send_recv and send_recv_pair. Source of sizes and factors: github.com/NVIDIA/nccl-tests,
doc/PERFORMANCE.md and src/*.cu.
Switches that add arrays themselves may exceed the rate of the link by this count, so nothing limits these rates here.

The timed call is the collective alone. Calls follow each other for 20 ms or more, at the end of which all ranks wait
for their devices; nccl-tests makes 20 in a row. PyTorch has all_reduce and broadcast in place only. Their buffers are
filled before the first of several calls, not before each: a copy in every call would take its share of the memory's
bandwidth. So the numbers in a buffer of all_reduce grow n-fold from call to call until they are infinite, as in
nccl-tests; adding takes as long with any number. The checks fill the buffer anew.

The numbers are integers whose sums over all ranks are at most 256. So bfloat16 too has every sum without rounding, in
whatever order it is computed, for up to 256 ranks: every answer must be exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import (
    Backend,
    Builder,
    Call,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Machine,
    Preset,
    Traffic,
    Traits,
    Work,
    Workload,
)

from .sizes import KIB, MIB, itemsize, size_label

SIZES = {
    Preset.SMOKE: (64 * KIB,),
    Preset.QUICK: (4 * KIB, 64 * KIB, MIB, 16 * MIB),
    Preset.STANDARD: tuple(4 * KIB << step for step in range(0, 19, 2)),  # 4 KiB to 1 GiB
    Preset.FULL: tuple(4 * KIB << step for step in range(19)),
}
HEADLINE = 64 * MIB
DTYPES = ("float32", "bfloat16")
EXACT = 256  # the largest integer up to which bfloat16 has every one
# Random integers of a rank that are drawn and then repeated; their number is prime, so that no chunk is its multiple.
PERIOD = 65_537
ROOT = 0  # the rank whose array is broadcast, as in nccl-tests
# Of two ranks, send_recv is the only pair.
PAIR_SIZES = {Preset.QUICK: (16 * MIB,), Preset.STANDARD: (4 * KIB, 16 * MIB), Preset.FULL: (4 * KIB, 16 * MIB)}
FEWEST_RANKS = 3
ALL_PAIRS = 8  # the number of ranks up to which all pairs are measured: 28


@dataclass(frozen=True, slots=True)
class Blocks:
    """The right answer on one rank: blocks of equal length, one after the other.

    Block i repeats periods[i] without end, beginning at its element `start`.
    """

    periods: np.ndarray
    start: int = 0


def torch_in_place(collective: Callable[[Any, Any, Any], Call]) -> Builder:
    """Return a builder for a collective that replaces the numbers in a buffer, which `restart` fills with the inputs.

    collective: returns the call, given torch.distributed, the group and the buffer.
    """

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        torch, group = backend.xp, backend.ranks.group
        x = torch_inputs(backend, work, host)
        buffer = torch.empty_like(x)
        call = collective(torch.distributed, group, buffer)

        def run() -> Any:
            call()
            return buffer

        return Kernel(run, inputs={"x": x}, restart=partial(buffer.copy_, x))

    return build


def torch_out_of_place(collective: Callable[[Any, Any, Any, Any], Call]) -> Builder:
    """Return a builder for a collective with an output of its own.

    collective: returns the call, given torch.distributed, the group, the output and the input.
    """

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        torch, group = backend.xp, backend.ranks.group
        x = torch_inputs(backend, work, host)
        out = torch.empty(received(work), dtype=x.dtype, device=x.device)
        call = collective(torch.distributed, group, out, x)

        def run() -> Any:
            call()
            return out

        return Kernel(run, inputs={"x": x})

    return build


def torch_inputs(backend: Backend, work: Work, host: HostArrays) -> Any:
    """Return what this rank sends: its numbers, repeated."""
    few, n = backend.from_host(host["x"], work.dtype), sent(work)
    return few.repeat(-(-n // len(few)))[:n]


def torch_all_gather(dist: Any, group: Any, out: Any, x: Any) -> Call:
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before PyTorch 2.13
    return partial(gather, out, x, group=group)


def torch_reduce_scatter(dist: Any, group: Any, out: Any, x: Any) -> Call:
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor  # likewise
    return partial(scatter, out, x, group=group)


def torch_ring(dist: Any, group: Any, out: Any, x: Any) -> Call:
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    return torch_send_recv(dist, group, out, x, to=(rank + 1) % ranks, of=(rank - 1) % ranks)


def torch_send_recv(dist: Any, group: Any, out: Any, x: Any, *, to: int, of: int) -> Call:
    """Return the call that sends x to a rank of the group while it receives `out` of one."""
    both = [
        dist.P2POp(dist.isend, x, dist.get_global_rank(group, to), group),
        dist.P2POp(dist.irecv, out, dist.get_global_rank(group, of), group),
    ]

    def call() -> None:
        for begun in dist.batch_isend_irecv(both):
            begun.wait()

    return call


def torch_pair(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a pair. `restart` fills the output with the rank's own numbers: others leave it so."""
    torch, group = backend.xp, backend.ranks.group
    dist, pair = torch.distributed, pair_of(work)
    x = torch_inputs(backend, work, host)
    out = torch.empty_like(x)
    rank = dist.get_rank(group)
    dist.barrier(group=group)  # NCCL connects a group in its first call, in which all of its ranks must take part
    if rank in pair:
        other = sum(pair) - rank
        call = torch_send_recv(dist, group, out, x, to=other, of=other)

    def run() -> Any:
        if rank in pair:
            call()
        return out

    return Kernel(run, inputs={"x": x}, restart=partial(out.copy_, x), takes_part=rank in pair)


def elements(work: Work) -> int:
    """Return the number of elements of the whole array."""
    return int(work["bytes"]) // itemsize(work.dtype)


def sent(work: Work) -> int:
    """Return the number of elements that a rank puts in."""
    return elements(work) // (work.ranks if work.workload == "all_gather" else 1)


def received(work: Work) -> int:
    """Return the number of elements that a rank gets."""
    return elements(work) // (work.ranks if work.workload == "reduce_scatter" else 1)


class Collective(Workload):
    """Base class: one collective. `ranks` processes take part; `bytes` is the size of the whole array."""

    suite = "collectives"
    across_ranks = True
    traits = Traits(order=2, headline="bus_bandwidth", traffic=Traffic.LINK)
    reduces: ClassVar[bool] = False

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:
        """Yield every size for all ranks of a target and, from standard on, for 2, 4, 8 ... of them.

        Only a reduction computes with what it moves: in bfloat16 the others are measured by full alone.
        """
        for ranks in counts(machine.ranks, preset):
            for dtype in DTYPES:
                sizes = SIZES[preset]
                if dtype == "bfloat16" and preset is not Preset.FULL:
                    sizes = () if not self.reduces else sizes if preset is Preset.STANDARD else sizes[-1:]
                for size in sizes:
                    yield self.exchange(size, dtype, ranks)

    def exchange(self, size: int, dtype: str, ranks: int) -> Work:
        """Return the work of about `size` bytes: a whole number of elements for each rank."""
        least = itemsize(dtype) * ranks
        return self.work(f"{size_label(size)}-x{ranks}", dtype, bytes=size // least * least, ranks=ranks)

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - all forms
        """Whether the preset headline has it: all ranks, float32, 64 MiB; all_reduce of 4 KiB too, for its latency."""
        sizes = {size_label(HEADLINE)} | ({size_label(4 * KIB)} if self.name == "all_reduce" else set())
        return work.dtype == "float32" and work.size in {f"{size}-x{machine.ranks}" for size in sizes}

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return one row of random integers for each rank, no two of them alike."""
        most = EXACT // work.ranks
        return {"x": rng.integers(0, most + 1, (work.ranks, min(PERIOD, sent(work)))).astype(np.float32)}

    def on_rank(self, work: Work, host: HostArrays, rank: int) -> HostArrays:  # noqa: ARG002 - the same for all works
        """Return the row of this rank and, for the reference, those of all with its number."""
        return {"x": host["x"][rank], "all": host["x"], "rank": np.asarray(rank)}

    def costs(self, work: Work) -> Costs:
        """Return S and S times the factor of nccl-tests, in bytes, see above. Memory traffic is not counted."""
        size = float(work["bytes"])
        return Costs(amounts={"algorithm_bytes": size, "bus_bytes": self.factor(work.ranks) * size})

    def factor(self, ranks: int) -> float:  # noqa: ARG002 - for subclasses
        """Return bus bandwidth / algorithm bandwidth."""
        return 1.0

    def footprint(self, work: Work) -> float:
        """Return the bytes of input and output, and of a buffer of the library as large as the whole array."""
        return float(itemsize(work.dtype) * (sent(work) + received(work) + elements(work)))

    def reference(self, work: Work, host: HostArrays) -> Blocks:
        return self.answer(work, host["all"], int(host["rank"]))

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:
        """Return the right answer on a rank. x[rank]: the numbers of each, which it repeats."""
        raise NotImplementedError

    def tolerance(self, work: Work) -> check.Tolerance:  # noqa: ARG002 - integers are exact
        return check.Tolerance(0.0)

    def error(self, work: Work, expected: Blocks, answer: HostArrays) -> float:
        out = answer["out"]
        check.require_shape(out, (received(work),))
        blocks = zip(out.reshape(len(expected.periods), -1), expected.periods, strict=True)
        return max(check.periodic_error(block, np.roll(period, -expected.start)) for block, period in blocks)


class AllReduce(Collective):
    """Every rank gets the sum of the arrays of all."""

    name = "all_reduce"
    reduces = True
    kernels: ClassVar[Kernels] = {
        "torch": {"default": torch_in_place(lambda dist, group, x: partial(dist.all_reduce, x, group=group))}
    }

    def factor(self, ranks: int) -> float:
        return 2 * (ranks - 1) / ranks

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:  # noqa: ARG002 - the same for all
        return Blocks(x.sum(axis=0, keepdims=True))


class AllGather(Collective):
    """Every rank gets the arrays of all, in the order of the ranks."""

    name = "all_gather"
    kernels: ClassVar[Kernels] = {"torch": {"default": torch_out_of_place(torch_all_gather)}}

    def factor(self, ranks: int) -> float:
        return (ranks - 1) / ranks

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:  # noqa: ARG002 - the same for all
        return Blocks(x)


class ReduceScatter(Collective):
    """Every rank gets its own part of the sum of the arrays of all."""

    name = "reduce_scatter"
    reduces = True
    kernels: ClassVar[Kernels] = {"torch": {"default": torch_out_of_place(torch_reduce_scatter)}}

    def factor(self, ranks: int) -> float:
        return (ranks - 1) / ranks

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:
        return Blocks(x.sum(axis=0, keepdims=True), rank * received(work))


class Broadcast(Collective):
    """Every rank gets the array of rank 0."""

    name = "broadcast"
    kernels: ClassVar[Kernels] = {
        "torch": {"default": torch_in_place(lambda dist, group, x: partial(dist.broadcast, x, ROOT, group=group))}
    }

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:  # noqa: ARG002 - the same for all
        return Blocks(x[ROOT : ROOT + 1])


class AllToAll(Collective):
    """Every rank sends a part of its array to each, itself included, and gets their parts in the order of the ranks."""

    name = "all_to_all"
    kernels: ClassVar[Kernels] = {
        "torch": {
            "default": torch_out_of_place(
                lambda dist, group, out, x: partial(dist.all_to_all_single, out, x, group=group)
            )
        }
    }

    def factor(self, ranks: int) -> float:
        return (ranks - 1) / ranks

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:
        return Blocks(x, rank * (elements(work) // work.ranks))


class SendRecv(Collective):
    """A ring: every rank sends its array to the next, the last to the first, while it gets that of the one before.

    Two ranks are a pair that exchanges arrays. Each array is counted once, as in nccl-tests.
    """

    name = "send_recv"
    kernels: ClassVar[Kernels] = {"torch": {"default": torch_out_of_place(torch_ring)}}

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:
        of = (rank - 1) % work.ranks
        return Blocks(x[of : of + 1])


class SendRecvPair(Collective):
    """Two of the ranks (`pair`, as "0-3") exchange arrays, in both directions at once, while the others wait.

    In a collective all ranks take as long as the slowest. The pairs tell which rank or which link that is. Each array
    is counted once. Of two ranks there is no work: send_recv is their pair. A rank that waits keeps its numbers.
    """

    name = "send_recv_pair"
    kernels: ClassVar[Kernels] = {"torch": {"default": torch_pair}}

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:
        """Yield the pairs of all ranks of a target with three or more, in float32."""
        if machine.ranks >= FEWEST_RANKS:
            for size in PAIR_SIZES.get(preset, ()):
                for pair in pairs(machine.ranks):
                    yield self.exchange(size, "float32", machine.ranks, pair)

    def exchange(self, size: int, dtype: str, ranks: int, pair: tuple[int, int] = (0, 1)) -> Work:
        """Return the work of `size` bytes for two of the ranks."""
        numbers = "-".join(map(str, pair))
        params = {"bytes": size, "ranks": ranks, "pair": numbers}
        return self.work(f"{size_label(size)}-x{ranks}-{numbers}", dtype, **params)

    def answer(self, work: Work, x: np.ndarray, rank: int) -> Blocks:  # see Collective
        first, second = pair_of(work)
        of = {first: second, second: first}.get(rank, rank)
        return Blocks(x[of : of + 1])


def pair_of(work: Work) -> tuple[int, int]:
    """Return the two ranks that exchange arrays."""
    first, second = map(int, str(work["pair"]).split("-"))
    return first, second


def pairs(ranks: int) -> list[tuple[int, int]]:
    """Return the pairs to measure: all of up to ALL_PAIRS ranks; of more, those 1, 2, 4, ... apart on a ring.

    They are in the order of the distance, so that the pairs of no rank are measured all at once: what disturbs the
    machine for a while must not look like a slow rank.
    """
    apart = [step for step in range(1, ranks // 2 + 1) if ranks <= ALL_PAIRS or step.bit_count() == 1]
    every = ((rank, (rank + step) % ranks) for step in apart for rank in range(ranks))
    return list(dict.fromkeys((min(pair), max(pair)) for pair in every))


def counts(ranks: int, preset: Preset) -> list[int]:
    """Return how many of the ranks take part: all, and from standard on powers of two below that as well."""
    if preset in {Preset.SMOKE, Preset.QUICK}:
        return [ranks]
    return [*(1 << i for i in range(1, ranks.bit_length()) if 1 << i < ranks), ranks]


@pytest.mark.workload(AllReduce())
def test_all_reduce(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(AllGather())
def test_all_gather(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(ReduceScatter())
def test_reduce_scatter(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Broadcast())
def test_broadcast(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(AllToAll())
def test_all_to_all(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(SendRecv())
def test_send_recv(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(SendRecvPair())
def test_send_recv_pair(measure: Callable[[], Any]) -> None:
    measure()
