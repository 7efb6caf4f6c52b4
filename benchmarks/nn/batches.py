"""Batches: the data that a step reads, and batches of few distinct samples for the check.

A float64 reference for a large batch would take minutes. So the check fills the batch with few distinct samples, each
equally often, in random order. Mean loss, gradients and the statistics of batch normalisation then equal those of the
few samples, and the logits of every position are known. The order makes half of the batch have a different mean, so an
implementation that uses only half of the batch is detected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench_core import check
from bench_core.workload import Backend, HostArrays, Scope, Work

CHECK_FLOPS = 4e9  # float64 FLOPs on the host that one reference may cost: a fraction of a second on two cores
HARDER = 3  # a reference with convolutions by patches takes this many times as long per FLOP as large products
ORDER = "order"  # name of a check's input: the index of the sample at each position of the batch
_ORDERS = 32  # number of random orders to choose the least even one from


@dataclass(frozen=True, slots=True)
class Batch:
    """The data that a step reads at each call.

    arrays: by name; on the device, or on the host for scope end_to_end. load: returns them on the device.
    """

    arrays: dict[str, Any]
    load: Callable[[], tuple[Any, ...]]

    def __call__(self) -> tuple[Any, ...]:
        """Return the batch on the device."""
        return self.load()


def batch_of(backend: Backend, work: Work, host: HostArrays, names: Sequence[str] = ("x", "targets")) -> Batch:
    """Return a batch that is already on the device (resident), or is copied there at every call (end_to_end).

    end_to_end uploads the inputs from pageable memory; results stay on the device. PyTorch waits for such a copy. CuPy
    copies into pinned memory on the host first and uploads from there asynchronously; the caller may change the host
    array as soon as the call returns. In both cases the copy is part of the time, since it is in the step's stream.
    """
    if work.scope is Scope.END_TO_END:
        there = {name: np.array(host[name]) for name in names}  # a copy, since the check overwrites it
        return Batch(there, lambda: tuple(backend.from_host(array) for array in there.values()))
    here = {name: backend.from_host(host[name]) for name in names}
    return Batch(here, lambda: tuple(here.values()))


def affordable(batch: int, flops_per_sample: float, fewest: int = 2) -> int:
    """Return the number of distinct samples in a check's batch: the largest divisor of `batch` within CHECK_FLOPS.

    It is at least `fewest`, or the next larger divisor; `batch` itself if all are affordable. Two samples in a batch of
    four are excluded: no order of them makes both the first half and every second sample uneven.
    """
    divisors = [n for n in range(1, batch + 1) if batch % n == 0 and (n, batch) != (2, 4)]
    paid = max(fewest, CHECK_FLOPS / flops_per_sample)
    return max(
        (n for n in divisors if fewest <= n <= paid), default=min(n for n in divisors if n >= min(fewest, batch))
    )


def repeated(host: HostArrays, names: Sequence[str], samples: int, rng: np.random.Generator) -> HostArrays:
    """Return inputs whose batch consists of its first `samples` samples, all equally often, in random order.

    names: the arrays with one row per sample. An implementation may wrongly use only a half of the batch: the first
    half, or every second sample. So of several random orders the one is chosen in which the samples are most unevenly
    distributed between such halves. The order is added to the inputs under the name ORDER.
    """
    batch = len(host[names[0]])
    if samples == batch:
        return host
    orders = (_order(batch, samples, rng) for _ in range(_ORDERS))
    order = max(orders, key=lambda order: _unevenness(order, samples))
    return {**host, **{name: host[name][order] for name in names}, ORDER: order}


def _order(batch: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the index of the sample at each position of the batch.

    A position can be in the first half of the batch, among the even positions, in both or in neither. Copies of one
    sample get positions that are in equally many of these two halves, as far as possible.
    """
    places = np.arange(batch)
    halves = (places < batch // 2).astype(int) + (places % 2 == 0)  # in how many of the two halves: 0, 1 or 2
    order = np.empty(batch, np.int64)
    order[np.lexsort((rng.random(batch), halves))] = np.repeat(rng.permutation(samples), batch // samples)
    return order


def _unevenness(order: np.ndarray, samples: int) -> float:
    """Return how far from equal the counts of samples are in half a batch: the smaller value of two kinds of halves.

    The halves are the first half and the even positions. 0 means that a half holds all samples equally often.
    """
    even = len(order) / samples / 2
    halves = order[: len(order) // 2], order[::2]
    return min(float(np.abs(np.bincount(half, minlength=samples) - even).sum()) for half in halves)


def order_of(host: HostArrays, name: str) -> np.ndarray:
    """Return the index of the sample at each position of a batch: 0, 1, 2, ..., unless samples were `repeated`."""
    return host[ORDER] if ORDER in host else np.arange(len(host[name]))


def distinct(host: HostArrays, name: str) -> np.ndarray:
    """Return the distinct rows of a batch, one per sample, in the order of the samples' indices."""
    _, first = np.unique(order_of(host, name), return_index=True)
    return host[name][first]


@dataclass(frozen=True, slots=True)
class Samples:
    """The reference for a whole batch of few distinct samples.

    rows (samples, ...): the float64 result of each sample. order (B): as returned by `order_of`.
    """

    rows: np.ndarray
    order: np.ndarray

    def error(self, out: np.ndarray) -> float:
        """Return ||out - rows[order]|| / ||rows[order]||, summed row by row; raise WrongAnswer if the shapes differ."""
        check.require_shape(out, (len(self.order), *self.rows.shape[1:]))
        off = sum(np.square(out[i] - self.rows[sample], dtype=np.float64).sum() for i, sample in enumerate(self.order))
        norms = np.square(self.rows, dtype=np.float64).reshape(len(self.rows), -1).sum(axis=1)
        return float(np.sqrt(off / (norms[self.order].sum() or 1.0)))
