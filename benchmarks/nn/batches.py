"""Batches: where a step reads them from, and those by which a check tells whether all of one was used.

A float64 reference for a large batch would take minutes. So a check writes few samples over the batch, each as often as
every other, in random order. Mean loss, gradients and the statistics of batch normalisation are then those of the few,
and every sample's logits are known; but half of the batch has another mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench_core import check
from bench_core.workload import Backend, HostArrays, Scope, Work

CHECK_FLOPS = 4e9  # of float64 on the host that one reference may cost, a fraction of a second on two cores
HARDER = 3  # a reference made of patches costs this many times what its FLOPs would cost in large products
ORDER = "order"  # among a check's inputs: which of the few samples stands at each place of the batch
_ORDERS = 32  # random orders of which the least even one is taken


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step reads at each call. arrays: by name, on the device or (end_to_end) on the host."""

    arrays: dict[str, Any]
    load: Callable[[], tuple[Any, ...]]

    def __call__(self) -> tuple[Any, ...]:
        """Return the batch on the device."""
        return self.load()


def batch_of(backend: Backend, work: Work, host: HostArrays, names: Sequence[str] = ("x", "targets")) -> Batch:
    """Return a batch that is already on the device, or (end_to_end) copied there at every call.

    end_to_end covers the input alone, from pageable memory; results stay on the device. PyTorch waits for such a copy.
    CuPy first copies it on the host, into pinned memory, and uploads that while the host goes on; the host's array may
    be changed as soon as the call returns. Either way the copy is in the time: it is in the stream of the step.
    """
    if work.scope is Scope.END_TO_END:
        there = {name: np.array(host[name]) for name in names}  # a copy: the check writes over it
        return Batch(there, lambda: tuple(backend.from_host(array) for array in there.values()))
    here = {name: backend.from_host(host[name]) for name in names}
    return Batch(here, lambda: tuple(here.values()))


def affordable(batch: int, flops_per_sample: float, fewest: int = 2) -> int:
    """Return how many samples a check tells apart: all, or the largest divisor of the batch that CHECK_FLOPS pay for.

    It is at least `fewest`, or the next larger divisor. Never two in a batch of four: twice each, they have no order in
    which both its first half and every other sample are uneven.
    """
    divisors = [n for n in range(1, batch + 1) if batch % n == 0 and (n, batch) != (2, 4)]
    paid = max(fewest, CHECK_FLOPS / flops_per_sample)
    return max(
        (n for n in divisors if fewest <= n <= paid), default=min(n for n in divisors if n >= min(fewest, batch))
    )


def repeated(host: HostArrays, names: Sequence[str], samples: int, rng: np.random.Generator) -> HostArrays:
    """Return inputs whose batch is its own first `samples` samples, all equally often, in random order.

    names: of the arrays that have a row for each sample. The order is random within parts that hold different samples.
    Of several orders the one is taken whose halves are least alike, be it the first and the second, or every other
    sample: so that none of them can stand for the whole.
    """
    batch = len(host[names[0]])
    if samples == batch:
        return host
    orders = (_order(batch, samples, rng) for _ in range(_ORDERS))
    order = max(orders, key=lambda order: _unevenness(order, samples))
    return {**host, **{name: host[name][order] for name in names}, ORDER: order}


def _order(batch: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return which sample stands at each place, sorted by in how many halves the place is: the first, the even."""
    places = np.arange(batch)
    halves = (places < batch // 2).astype(int) + (places % 2 == 0)
    order = np.empty(batch, np.int64)
    order[np.lexsort((rng.random(batch), halves))] = np.repeat(rng.permutation(samples), batch // samples)
    return order


def _unevenness(order: np.ndarray, samples: int) -> float:
    """Return how far the counts of samples in half a batch are from even, in the more even of two kinds of halves."""
    even = len(order) / samples / 2
    halves = order[: len(order) // 2], order[::2]
    return min(float(np.abs(np.bincount(half, minlength=samples) - even).sum()) for half in halves)


def order_of(host: HostArrays, name: str) -> np.ndarray:
    """Return which sample stands at each place of a batch: each its own, unless they were `repeated`."""
    return host[ORDER] if ORDER in host else np.arange(len(host[name]))


def distinct(host: HostArrays, name: str) -> np.ndarray:
    """Return the rows of a batch that differ, one for each sample, in the samples' order."""
    _, first = np.unique(order_of(host, name), return_index=True)
    return host[name][first]


@dataclass(frozen=True, slots=True)
class Samples:
    """A reference of few samples for the whole batch. rows: (samples, ...) in float64; order (B): as `order_of`."""

    rows: np.ndarray
    order: np.ndarray

    def error(self, out: np.ndarray) -> float:
        """Return ||out - rows[order]|| / ||rows[order]||, summed sample by sample; WrongAnswer if the shapes differ."""
        check.require_shape(out, (len(self.order), *self.rows.shape[1:]))
        off = sum(np.square(out[i] - self.rows[sample], dtype=np.float64).sum() for i, sample in enumerate(self.order))
        norms = np.square(self.rows, dtype=np.float64).reshape(len(self.rows), -1).sum(axis=1)
        return float(np.sqrt(off / (norms[self.order].sum() or 1.0)))
