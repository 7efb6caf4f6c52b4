"""Training across several devices, each with a process (a rank) of its own: what more of them gain.

weak    the batch per rank is fixed, so that the whole batch grows with the ranks; ideally the time stays the same
strong  the whole batch is fixed, and divided among the ranks; ideally the time falls as 1 / ranks

Works that differ in `ranks` alone belong together; that with one rank is done by one of the same processes, with its
share of the cores. The batch of strong scaling is that of the model in bench_gpt.py or bench_cnn.py, rounded up to a
power of two; a number of ranks that does not divide it is left out.

time_without_exchange  the same step on every rank, without any exchange between them: nn/modules/parallel.py

They run on targets of several devices alone: `--bench-backends=torch:cuda:x8`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import (
    Backend,
    Claim,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Machine,
    Preset,
    Traits,
    Work,
    Workload,
)

from . import bench_cnn, bench_gpt
from .nn.batches import HARDER
from .nn.optimisers import AdamW, Sgd
from .nn.parts import Expected, InParts, Parts, is_alone, without_prefix
from .nn.training import STEPS, Repeated, Trained, trained
from .nn.workloads import ModelWorkload, by_implementation
from .sizes import itemsize

WEAK, STRONG = "weak", "strong"
IMPLEMENTATIONS = ("ddp", "fsdp")
# Copies of all weights that a rank needs besides those of training on one device: DDP's buckets of gradients, or the
# unsharded module that FSDP is compared with, with its gradients and optimiser.
COPIES = 6


def counts(ranks: int, preset: Preset) -> list[int]:
    """Return the numbers of ranks that a preset measures on so many devices: 1, 2, 4, ..., all; smoke: 1, all."""
    powers = [1 << i for i in range(ranks.bit_length())] if preset is not Preset.SMOKE else [1]
    return [*(count for count in powers if count < ranks), ranks]


class TrainParallel(Workload):
    """The training of a model of bench_gpt.py or bench_cnn.py, across ranks.

    smoke: weak scaling, in float32. quick, standard, full: both kinds, with the network and batch that these presets
    have in the model. full on accelerators: bfloat16 by autocast as well. headline: DDP on one rank and on all.
    """

    suite = "scaling"
    across_ranks = True
    traits = Traits(order=10, claims=(Claim.SCALING,))
    model: ClassVar[ModelWorkload]
    harder: ClassVar[int] = 1  # how many times as long as a product the reference takes per FLOP

    @abstractmethod
    def network(self, work: Work) -> Any:
        """Return the network of a work."""

    @abstractmethod
    def trained(self, work: Work, host: HostArrays, parts: int, copies: int) -> Trained:
        """Return the reference of training in so many parts, each sample of which stands for `copies` of it."""

    # ---------------------------------------------------------------- works

    def works(self, preset: Preset, machine: Machine) -> Iterator[Work]:
        network, batch = self.model.presets[preset]
        precisions = (
            ("ieee", "autocast_bfloat16") if preset is Preset.FULL and machine.device_type != "cpu" else ("ieee",)
        )
        for scaling in (WEAK,) if preset is Preset.SMOKE else (WEAK, STRONG):
            for precision in precisions:
                for ranks in counts(machine.ranks, preset):
                    fixed = batch if scaling == WEAK else 1 << (batch - 1).bit_length()
                    if scaling == WEAK or fixed % ranks == 0:
                        yield self.variant(network, fixed, scaling, ranks, precision=precision)

    def variant(self, network: Any, batch: int, scaling: str, ranks: int, dtype: str = "float32", **kind: Any) -> Work:
        """Return a work. batch: of each rank for weak scaling, of all for strong scaling. kind: `precision`."""
        alike = self.model.variant(network, batch, dtype)
        params = {name: value for name, value in alike.params if name != "batch"}
        size, fixed = (f"{alike.size}-per-rank", "batch_per_rank") if scaling == WEAK else (alike.size, "batch")
        return self.work(size, dtype, **params, **{fixed: batch}, scaling=scaling, ranks=ranks, **kind)

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:
        return implementation == "ddp" and work.ranks in {1, machine.ranks}

    def batch_per_rank(self, work: Work) -> int:
        """Return the number of samples of each rank."""
        return int(work["batch_per_rank"] if work["scaling"] == WEAK else work["batch"] // work.ranks)

    def on_one(self, work: Work, batch: int) -> Work:
        """Return the work of the model that trains the same network on one device, with another batch."""
        return self.model.variant(self.network(work), batch, work.dtype, precision=work.precision)

    # ---------------------------------------------------------------- inputs and costs: of all ranks

    def _of_all(self, work: Work) -> Work:
        return self.on_one(work, work.ranks * self.batch_per_rank(work))

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return self.model.inputs(self._of_all(work), rng)

    def costs(self, work: Work) -> Costs:
        """Return the FLOPs, samples and tokens of the whole batch, by the formulas of the model."""
        whole = self.model.costs(self._of_all(work))
        return Costs(whole.flops, amounts=whole.amounts)

    def footprint(self, work: Work) -> float:
        """Return the bytes of one rank: those of the model with its part of the batch, and COPIES of weights."""
        one = self.on_one(work, self.batch_per_rank(work))
        return self.model.footprint(one) + float(COPIES * itemsize(work.dtype) * self.network(work).parameters())

    # ---------------------------------------------------------------- the check

    def parts(self, work: Work) -> Parts:
        """Return how the batch of a check is divided."""
        own = self.batch_per_rank(work)
        one = self.on_one(work, own)
        flops = STEPS * self.harder * (self.model.costs(one).flops or 0.0) / own
        return Parts.of(work.ranks, own, self.model.samples(one), flops)

    def sample(self, work: Work, host: HostArrays, rng: np.random.Generator) -> HostArrays:
        return self.parts(work).sample(host, self.model.per_sample, rng)

    def on_rank(self, work: Work, host: HostArrays, rank: int) -> HostArrays:
        return self.parts(work).on_rank(host, self.model.per_sample, rank)

    def reference(self, work: Work, host: HostArrays) -> Expected:
        parts = self.parts(work)
        copies = parts.batch_per_rank // parts.samples

        def train(samples: HostArrays, different: int) -> Trained:
            return self.trained(work, samples, different, copies)

        return parts.expected(host, self.model.per_sample, train)

    def error(self, work: Work, expected: Expected, answer: HostArrays) -> float:
        if expected.alone and is_alone(answer):
            return self.model.error(work, expected.alone, without_prefix(answer))
        return self.model.error(work, expected.together, answer)

    def tolerance(self, work: Work) -> check.Tolerance:
        return self.model.tolerance(work)


def torch_gpt(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step of the language model across ranks."""
    from .nn.modules.gpt import GptModule
    from .nn.modules.parallel import parallel_kernel
    from .nn.modules.training import adamw

    workload = GptTrainParallel()
    module, optimiser = partial(GptModule, workload.network(work)), adamw(bench_gpt.RATE, implementation)
    return parallel_kernel(implementation, backend, work, host, module, optimiser, workload.parts(work).samples)


def torch_cnn(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step of the residual network across ranks."""
    from .nn.modules.parallel import parallel_kernel, sgd
    from .nn.modules.resnet import ResNetModule

    workload = CnnTrainParallel()
    module, optimiser = partial(ResNetModule, workload.network(work)), sgd(bench_cnn.RATE, implementation)
    return parallel_kernel(implementation, backend, work, host, module, optimiser, workload.parts(work).samples)


class GptTrainParallel(TrainParallel):
    """One training step of `gpt_train` across ranks."""

    name = "gpt_train_parallel"
    model = bench_gpt.GptTrain()
    kernels: ClassVar[Kernels] = {"torch": by_implementation(torch_gpt, *IMPLEMENTATIONS)}

    def network(self, work: Work) -> Any:
        return bench_gpt.network(work)

    def trained(self, work: Work, host: HostArrays, parts: int, copies: int) -> Trained:  # noqa: ARG002 - of a mean
        return trained(InParts(self.network(work), parts), partial(AdamW, rate=bench_gpt.RATE), host)


class CnnTrainParallel(TrainParallel):
    """One training step of `cnn_train` across ranks; each batch norm sees the images of its rank alone."""

    name = "cnn_train_parallel"
    model = bench_cnn.CnnTrain()
    harder = HARDER
    kernels: ClassVar[Kernels] = {"torch": by_implementation(torch_cnn, *IMPLEMENTATIONS)}

    def network(self, work: Work) -> Any:
        return bench_cnn.network(work)

    def trained(self, work: Work, host: HostArrays, parts: int, copies: int) -> Trained:
        network = InParts(Repeated(self.network(work), copies), parts)
        return trained(network, partial(Sgd, rate=bench_cnn.RATE), host)


@pytest.mark.workload(GptTrainParallel())
def test_gpt_train_parallel(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(CnnTrainParallel())
def test_cnn_train_parallel(measure: Callable[[], None]) -> None:
    measure()
