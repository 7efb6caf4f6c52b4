"""Ranks that are threads of one process, with collectives that need no launch: for tests of what they compute.

`Collectives` does what torch.distributed does, on tensors that all threads see. A test spoils one of its methods.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

from tests.support.fake_ranks import Together


class Collectives:
    """torch.distributed, as one thread sees it."""

    isend, irecv = "isend", "irecv"

    def __init__(self, together, rank):
        self._together, self.rank, self.size = together, rank, together.size

    def of_all(self, x):
        return self._together.exchange(self.rank, x.clone())

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

    def barrier(self, group):
        self._together.exchange(self.rank, None)

    def batch_isend_irecv(self, operations):
        """Send at once, and receive in `wait`: ranks that neither send nor receive need not call it."""
        for op in operations:
            if op.kind == self.isend:
                self._together.send(self.rank, op.peer, op.x.clone())
        return [SimpleNamespace(wait=partial(self.receive, op)) for op in operations if op.kind == self.irecv]

    def receive(self, op):
        op.x.copy_(self._together.receive(op.peer, self.rank))


def on_every_rank(size, measured, collectives=Collectives):
    """Return what `measured` returns on each rank, given a TorchBackend whose collectives are these."""
    import torch

    from bench_core.backends.torch import TorchBackend

    together = Together(size)

    class Simulated(TorchBackend):
        @property
        def xp(self):
            return self.library_with_collectives

    def one(rank):
        on = Simulated("cpu")
        on.ranks = together.ranks[rank]
        names = {name: getattr(torch, name) for name in ("empty", "empty_like")}
        on.library_with_collectives = SimpleNamespace(**names, distributed=collectives(together, rank))
        try:
            return measured(on)
        except BaseException:
            together.abandon()
            raise

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))
