"""Training with the batch in parts, one for each of several processes (ranks): the reference of it, by one process.

Each rank computes loss and gradients of its own part; the mean of the gradients over ranks moves the weights of all.
Batch norms take the statistics of their rank's part alone. So one process computes the same by computing the parts one
after the other. Without an exchange, each rank trains a network of its own on its part.

Running averages are those of rank 0, which DistributedDataParallel hands to all and a checkpoint holds. They have no
influence on training.

For the check a part holds few distinct samples, each equally often, as a batch does (batches.py). Some ranks may hold
the same samples, in another order: there are as many different parts as can be afforded, two or more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench_core.workload import HostArrays

from .batches import ORDER, affordable, order_of, repeated
from .functions import Array, Cache
from .names import named, scoped
from .training import Network, Trained, is_average

ALONE = "alone."  # before the names of outputs of a step without an exchange
_WHOLE, _RANK = "whole", "rank"  # inputs of a rank for the reference alone: arrays of all ranks, its number


@dataclass(frozen=True, slots=True)
class InParts:
    """A network that computes a batch in equal parts, each by itself: each batch norm sees one part at a time.

    The running averages are those of the first part.
    """

    network: Network
    parts: int

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return the logits of all parts, and the cache."""
        others = {name: array.copy() if is_average(name) else array for name, array in params.items()}
        first, *rest = self._cut(x)
        done = [self.network.forward(xp, params, first), *(self.network.forward(xp, others, part) for part in rest)]
        return xp.concatenate([logits for logits, _ in done]), [cache for _, cache in done]

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter, the sum over the parts: `grad` is that of a mean over all rows."""
        each = [self.network.backward(xp, part, own) for part, own in zip(self._cut(grad), cache, strict=True)]
        return {name: sum(grads[name] for grads in each) for name in each[0]}

    def _cut(self, array: Array) -> Array:
        return array.reshape(self.parts, -1, *array.shape[1:])


@dataclass(frozen=True, slots=True)
class Expected:
    """What a rank must answer: after steps of all ranks together, and after its own without an exchange.

    alone: None if there is one rank.
    """

    together: Trained
    alone: Trained | None


@dataclass(frozen=True, slots=True)
class Parts:
    """A batch in parts, as its check has it.

    ranks: the number of parts. samples: distinct ones in each, the first `samples` of which are compared. different:
    the number of parts that hold different samples.
    """

    ranks: int
    batch_per_rank: int
    samples: int
    different: int

    @classmethod
    def of(cls, ranks: int, batch_per_rank: int, samples: int, flops_per_sample: float) -> Parts:
        """Return as many different parts as can be afforded, two or more. flops_per_sample: of the reference."""
        return cls(ranks, batch_per_rank, samples, affordable(ranks, samples * flops_per_sample))

    def _part_of(self, rank: int) -> int:
        """Return the first rank that holds the same samples."""
        return rank * self.different // self.ranks * self.ranks // self.different

    def sample(self, host: HostArrays, names: Sequence[str], rng: np.random.Generator) -> HostArrays:
        """Return the inputs with few distinct samples. names: the arrays with one row per sample.

        The index of the sample at each position is added under the name ORDER, as by `repeated`.
        """
        if (self.samples, self.different) == (self.batch_per_rank, self.ranks):
            return host
        parts = []
        for rank in range(self.ranks):
            start = self._part_of(rank) * self.batch_per_rank
            own = {name: host[name][start : start + self.batch_per_rank] for name in names}
            own = dict(repeated(own, names, self.samples, rng))
            if ORDER not in own:
                order = rng.permutation(self.samples)
                own = {name: array[order] for name, array in own.items()} | {ORDER: order}
            own[ORDER] = own[ORDER] + self.samples * (rank * self.different // self.ranks)
            parts.append(own)
        return {**host, **{name: np.concatenate([own[name] for own in parts]) for name in (*names, ORDER)}}

    def on_rank(self, host: HostArrays, names: Sequence[str], rank: int) -> HostArrays:
        """Return the weights and one rank's part of the batch, and for `expected` the batch of all."""
        here = slice(rank * self.batch_per_rank, (rank + 1) * self.batch_per_rank)
        whole = named(_WHOLE, {name: host[name] for name in names} | {ORDER: order_of(host, names[0])})
        return {**host, **{name: host[name][here] for name in names}, **whole, _RANK: np.array(rank)}

    def expected(self, host: HostArrays, names: Sequence[str], train: Callable[[HostArrays, int], Trained]) -> Expected:
        """Return what a rank must answer, given the arrays of `on_rank`.

        train: returns the reference of training on each sample once, in so many parts, with the logits of all samples.
        """
        whole, weights, rank = scoped(host, _WHOLE), named("weights", scoped(host, "weights")), int(host[_RANK])
        order = whole[ORDER]
        _, first = np.unique(order, return_index=True)
        once = {name: whole[name][first] for name in names}
        shown = order[rank * self.batch_per_rank :][: self.samples]
        together = _showing(train(weights | once, self.different), shown)
        if self.ranks == 1:
            return Expected(together, None)
        start = int(shown.min()) // self.samples * self.samples
        own = {name: array[start : start + self.samples] for name, array in once.items()}
        return Expected(together, _showing(train(weights | own, 1), shown - start))


def _showing(reached: Trained, shown: np.ndarray) -> Trained:
    """Return a reference with the logits of some samples, in this order."""
    last = _showing(reached.last, shown) if reached.last else None
    return replace(reached, logits=reached.logits[shown], last=last)


def is_alone(answer: HostArrays) -> bool:
    """Whether an answer is that of a step without an exchange."""
    return any(name.removeprefix("last.").startswith(ALONE) for name in answer)


def without_prefix(answer: HostArrays) -> HostArrays:
    """Return an answer without ALONE in its names."""
    return {name.replace(ALONE, "", 1): array for name, array in answer.items()}
