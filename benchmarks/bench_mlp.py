"""A multi-layer perceptron, training and inference: the simplest of the models.

Network, weights and batch are the same on every backend. Training in array code is forward, hand-written backward and
SGD (benchmarks/nn); in torch it is nn.Module, autograd and torch.optim.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import Backend, Claim, Costs, HostArrays, Kernel, Kernels, Preset, Traits, Work

from .nn.batches import Samples, affordable, batch_of, distinct, order_of
from .nn.initial import normal
from .nn.mlp import Mlp
from .nn.names import named
from .nn.optimisers import Sgd
from .nn.training import STEPS, Trained, largest_error, least_bytes, train_step, trained, training_kernel
from .nn.tuned import array_module
from .nn.weights import device_weights, wide_weights
from .nn.workloads import (
    TORCH,
    TORCH_CUDA,
    ModelWorkload,
    array_kernels,
    by_implementation,
    torch_cpu_kernels,
)
from .sizes import itemsize

# Learning rate, low enough that thousands of timed steps on one batch do not diverge. They also must not fit the batch
# so well that gradients become subnormal numbers, with which a CPU computes at a fraction of its speed.
RATE = 1e-3

PRESETS = {
    Preset.SMOKE: (Mlp((64, 128, 10)), 32),
    Preset.QUICK: (Mlp((784, 512, 512, 10)), 128),
    Preset.STANDARD: (Mlp((1024, 4096, 4096, 4096, 1000)), 512),
    Preset.FULL: (Mlp((4096, 8192, 8192, 8192, 8192, 1000)), 2048),
}


def network(work: Work) -> Mlp:
    """Return the network of a work, in which `widths` is a string like "784x512x512x10"."""
    return Mlp(tuple(int(width) for width in work["widths"].split("x")))


def samples(work: Work) -> int:
    """Return the number of distinct samples in a training check."""
    return affordable(work["batch"], STEPS * network(work).train_flops())


def array_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in array code: forward, hand-written backward, SGD."""
    xp = array_module(backend, implementation)
    optimiser = Sgd(xp, device_weights(backend, host), RATE)
    step = partial(train_step, xp, network(work), optimiser)
    return training_kernel(
        step, optimiser.reset, batch_of(backend, work, host), lambda: optimiser.params, samples(work)
    )


def torch_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in torch: nn.Module, autograd, fused torch.optim.SGD."""
    from .nn.modules.mlp import MlpModule
    from .nn.modules.training import sgd, train_kernel

    return train_kernel(backend, work, host, MlpModule(network(work)), sgd(RATE), samples(work), implementation)


def array_infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference in array code: the forward pass."""
    net, xp = network(work), array_module(backend, implementation)
    params, batch = device_weights(backend, host), batch_of(backend, work, host, ["x"])
    return Kernel(lambda: net.forward(xp, params, *batch())[0], inputs=batch.arrays)


def torch_infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference in torch: nn.Module in inference mode."""
    from .nn.modules.mlp import MlpModule
    from .nn.modules.running import infer_kernel

    batch = batch_of(backend, work, host, ["x"])
    return infer_kernel(backend, work, MlpModule(network(work)), device_weights(backend, host), batch, implementation)


class MlpWorkload(ModelWorkload):
    """Base class of training and inference: sizes and data."""

    traits = Traits(order=5, claims=(Claim.NETWORKS,))
    presets = PRESETS
    per_sample = ("x", "targets")

    def variant(self, network: Mlp, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        widths = "x".join(map(str, network.widths))
        return self.work(f"{widths}-b{batch}", dtype, widths=widths, batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net, batch = network(work), work["batch"]
        x = normal(rng, (batch, net.widths[0]), work.dtype)
        return {
            "x": x,
            "targets": rng.integers(net.widths[-1], size=batch),
            **named("weights", net.initial(rng, work.dtype)),
        }


class MlpTrain(MlpWorkload):
    """One training step: forward, backward, SGD at rate 1e-3."""

    name = "mlp_train"
    quick_forms = ("compile",)
    headline_forms = ("default",)
    doubled = True
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_train, "cupy"),
        "torch": by_implementation(torch_train, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_train),
        "torch:cuda": by_implementation(torch_train, *TORCH_CUDA),
    }

    def costs(self, work: Work) -> Costs:
        """Return `Mlp.train_flops` per sample, and `least_bytes` of SGD."""
        net, item = network(work), itemsize(work.dtype)
        flops = float(work["batch"] * net.train_flops())
        return Costs(flops, least_bytes=least_bytes(net.parameters(), item), amounts={"samples": work["batch"]})

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights, initial weights, gradients (2 x), activations (2 x), their gradients (2 x)."""
        net, item = network(work), itemsize(work.dtype)
        return float(item * (4 * net.parameters() + 4 * work["batch"] * sum(net.widths)))

    def samples(self, work: Work) -> int:
        return samples(work)

    def reference(self, work: Work, host: HostArrays) -> Trained:
        return trained(network(work), partial(Sgd, rate=RATE), host)

    def error(self, work: Work, expected: Trained, answer: HostArrays) -> float:
        return largest_error(answer, expected, work.precision, relu=True)


class MlpInfer(MlpWorkload):
    """Inference: the logits of one batch."""

    name = "mlp_infer"
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_infer),
        "torch": by_implementation(torch_infer, *TORCH),
        "torch:cuda": by_implementation(torch_infer, *TORCH_CUDA),
    }

    def costs(self, work: Work) -> Costs:
        """Return `Mlp.forward_flops` per sample. `least_bytes`: weights and inputs are read and logits written once."""
        net, item = network(work), itemsize(work.dtype)
        numbers = net.parameters() + work["batch"] * (net.widths[0] + net.widths[-1])
        flops = float(work["batch"] * net.forward_flops())
        return Costs(flops, least_bytes=float(numbers * item), amounts={"samples": work["batch"]})

    def footprint(self, work: Work) -> float:
        """Return the bytes of the weights (2 copies), and of the values of all layers before and after ReLU."""
        net = network(work)
        return float(itemsize(work.dtype) * (2 * net.parameters() + 2 * work["batch"] * sum(net.widths)))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], network(work).forward_flops())

    def reference(self, work: Work, host: HostArrays) -> Samples:
        logits, _ = network(work).forward(np, wide_weights(host), distinct(host, "x").astype(np.float64))
        return Samples(logits, order_of(host, "x"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:
        """Return the relative error of all logits; in IEEE arithmetic their dtype must be that of the weights."""
        if work.precision == "ieee":
            check.require_dtype("out", answer["out"], work.dtype)
        return expected.error(answer["out"])


@pytest.mark.workload(MlpTrain())
def test_mlp_train(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(MlpInfer())
def test_mlp_infer(measure: Callable[[], None]) -> None:
    measure()
