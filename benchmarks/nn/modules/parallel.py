"""Training across several processes (ranks), each with its part of the batch, as PyTorch users write it.

ddp   DistributedDataParallel: every rank holds all weights; gradients are averaged while the backward pass goes on.
fsdp  FSDP2 (`fully_shard`): every rank holds its share of weights, gradients and optimiser; the weights of a block are
      gathered before it computes, and its gradients are reduced to shares after.

`time_without_exchange` is the time of the same step on the same part of the batch, where nothing is exchanged. For ddp
that is the same module in `no_sync`. For fsdp, whose step cannot do without an exchange, it is the module unsharded: it
lacks the copies into and out of FSDP's buffers as well, and its optimiser updates all weights, not a share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..batches import batch_of
from ..parts import ALONE
from ..training import Step, training_kernel
from ..weights import device_weights
from .gpt import Block
from .resnet import Residual
from .training import Gradients, Trainer

DDP, FSDP = "ddp", "fsdp"
WITHOUT_EXCHANGE = "time_without_exchange"
_UNITS = (Block, Residual)  # the modules whose weights FSDP gathers together


class Replicated(Trainer):
    """A Trainer whose module is replicated on all ranks, by DistributedDataParallel with its defaults."""

    def __init__(
        self, module: nn.Module, weights: dict[str, torch.Tensor], optimiser: Any, precision: str, group: Any
    ) -> None:
        super().__init__(module, weights, optimiser, precision)
        self.replicas = DistributedDataParallel(self.module, process_group=group)
        self.forward = self.replicas

    def replicated(self) -> list[torch.Tensor]:
        """Return what is equal on all ranks after every step: the weights. Running averages are handed out before."""
        return [parameter.detach() for parameter in self.module.parameters()]

    def step_alone(self, x: torch.Tensor, targets: torch.Tensor) -> Step:
        """Take a training step without an exchange."""
        with self.replicas.no_sync():
            return self.step(x, targets)


class Sharded(Trainer):
    """A Trainer whose module is sharded over all ranks, by FSDP2 with its defaults: block by block."""

    def __init__(
        self, module: nn.Module, weights: dict[str, torch.Tensor], optimiser: Any, precision: str, group: Any
    ) -> None:
        super().__init__(module, weights, optimiser, precision)
        mesh = DeviceMesh.from_group(group, self.device.type)
        for unit in [unit for unit in self.module.modules() if isinstance(unit, _UNITS)]:
            fully_shard(unit, mesh=mesh)
        fully_shard(self.module, mesh=mesh)
        self.optimiser = optimiser(self.module.parameters())
        self.weights = {name: tensor.detach().clone() for name, tensor in self.state().items()}
        self.gradients = Gradients(self.module)


class Gathered(Mapping[str, Any]):
    """The outputs of a step of all ranks, by those of one: the mean loss, whole tensors, the averages of rank 0.

    Each is gathered when it is asked for, which all ranks must do in the same order. The logits, the first, are those
    of this rank's part, and take no exchange.
    """

    def __init__(self, own: Mapping[str, Any], group: Any) -> None:
        self._own, self._group = own, group

    def __getitem__(self, name: str) -> Any:
        array = self._own[name]
        if isinstance(array, DTensor):
            return array.detach().full_tensor()
        if name == "loss":
            total = array.clone()
            dist.all_reduce(total, group=self._group)
            return total / dist.get_world_size(self._group)
        if name.startswith("average."):
            first = array.clone()
            dist.broadcast(first, dist.get_global_rank(self._group, 0), group=self._group)
            return first
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._own, key=lambda name: name != "logits"))

    def __len__(self) -> int:
        return len(self._own)


def parallel_kernel(
    implementation: str,
    backend: Backend,
    work: Work,
    host: HostArrays,
    module: Callable[[], nn.Module],
    optimiser: Any,
    samples: int,
) -> Kernel:
    """Return the kernel that trains a module across ranks. host: of this rank. samples: as in `training_kernel`.

    Its probe is the step without an exchange, unless there is one rank.
    """
    group = backend.ranks.group  # type: ignore[attr-defined] - the backend is Ranked
    batch = batch_of(backend, work, host)

    def weights() -> dict[str, Any]:
        return device_weights(backend, host)

    trainer: Replicated | Sharded
    if implementation == DDP:
        trainer = Replicated(module(), weights(), optimiser, work.precision, group)
    else:
        trainer = Sharded(module(), weights(), optimiser, work.precision, group)
    kernel = training_kernel(trainer.step, trainer.reset, batch, trainer.state, samples)
    alike = trainer.replicated if isinstance(trainer, Replicated) else None  # of shards each rank holds another
    kernel = replace(kernel, outputs=_gathered(kernel.outputs, group), alike=alike)
    if work.ranks == 1:
        return kernel
    if isinstance(trainer, Replicated):
        alone = training_kernel(trainer.step_alone, trainer.reset, batch, trainer.state, samples)
    else:
        whole = Trainer(module(), weights(), optimiser, work.precision)
        alone = training_kernel(whole.step, whole.reset, batch, whole.state, samples)
    alone = replace(alone, outputs=_named_alone(alone.outputs))
    # The memory of the unsharded module is no part of what FSDP needs.
    return replace(kernel, probes={WITHOUT_EXCHANGE: alone}, hides_memory=implementation == FSDP)


def sgd(rate: float, implementation: str) -> Any:
    """Return a constructor of torch's SGD, fused but for fsdp: PyTorch has no fused SGD of sharded tensors."""
    return partial(torch.optim.SGD, lr=rate, fused=implementation != FSDP)


def _gathered(outputs: Callable[[Any], Mapping[str, Any]], group: Any) -> Callable[[Any], Mapping[str, Any]]:
    return lambda shown: Gathered(outputs(shown), group)


def _named_alone(outputs: Callable[[Any], Mapping[str, Any]]) -> Callable[[Any], Mapping[str, Any]]:
    return lambda shown: {f"{ALONE}{name}": array for name, array in outputs(shown).items()}
