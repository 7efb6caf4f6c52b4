"""Ranks that are threads of one process, with collectives that need no launch: for tests of what they compute.

`Collectives` does what torch.distributed does, on tensors that all threads see. A test spoils one of its methods.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

LONGEST = 60  # seconds that one rank waits for the others


class Meeting:
    """Where ranks exchange what they have: each call returns the values of all."""

    def __init__(self, size):
        self.size = size
        self._barrier = threading.Barrier(size, timeout=LONGEST)
        self._values = [None] * size

    def exchange(self, rank, value):
        self._values[rank] = value
        self._barrier.wait()
        found = list(self._values)
        self._barrier.wait()
        return found

    def abandon(self):
        self._barrier.abort()


class SimulatedRanks:
    """The Ranks (backends/base.py) of one thread."""

    has_one_clock = True

    def __init__(self, meeting, rank):
        self._meeting, self.rank, self.size, self.group = meeting, rank, meeting.size, "group"

    def every(self, value):
        return self._meeting.exchange(self.rank, value)

    def numbers(self, values):
        return self._meeting.exchange(self.rank, list(values))


class Collectives:
    """torch.distributed, as one thread sees it."""

    isend, irecv = "isend", "irecv"

    def __init__(self, meeting, rank):
        self._meeting, self.rank, self.size = meeting, rank, meeting.size

    def of_all(self, x):
        return self._meeting.exchange(self.rank, x.clone())

    def get_rank(self, group):
        return self.rank

    def get_world_size(self, group):
        return self.size

    def get_global_rank(self, group, rank):
        return rank

    def all_reduce(self, x, group):
        x.copy_(sum(self.of_all(x)))

    def broadcast(self, x, root, group):
        x.copy_(self.of_all(x)[root])

    def all_gather_single(self, out, x, group):
        for block, own in zip(out.chunk(self.size), self.of_all(x), strict=True):
            block.copy_(own)

    def reduce_scatter_single(self, out, x, group):
        out.copy_(sum(self.of_all(x)).chunk(self.size)[self.rank])

    def all_to_all_single(self, out, x, group):
        for block, whole in zip(out.chunk(self.size), self.of_all(x), strict=True):
            block.copy_(whole.chunk(self.size)[self.rank])

    def P2POp(self, kind, x, peer, group):  # noqa: N802 - the name of torch.distributed
        return SimpleNamespace(kind=kind, x=x, peer=peer)

    def batch_isend_irecv(self, operations):
        sent = {(op.peer, self.rank): op.x.clone() for op in operations if op.kind == self.isend}
        arrived = {way: x for ranks in self._meeting.exchange(self.rank, sent) for way, x in ranks.items()}
        for op in operations:
            if op.kind == self.irecv:
                op.x.copy_(arrived[self.rank, op.peer])
        return [SimpleNamespace(wait=lambda: None)]


def on_every_rank(size, measured, collectives=Collectives):
    """Return what `measured` returns on each rank, given a TorchBackend whose collectives are these."""
    import torch

    from bench_core.backends.torch import TorchBackend

    meeting = Meeting(size)

    class Simulated(TorchBackend):
        @property
        def xp(self):
            return self.library_with_collectives

    def one(rank):
        on = Simulated("cpu")
        on.ranks = SimulatedRanks(meeting, rank)
        names = {name: getattr(torch, name) for name in ("empty", "empty_like")}
        on.library_with_collectives = SimpleNamespace(**names, distributed=collectives(meeting, rank))
        try:
            return measured(on)
        except BaseException:
            meeting.abandon()
            raise

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))
