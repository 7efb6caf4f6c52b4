"""Residual convolutional networks, training and inference: ResNet-20, ResNet-18, ResNet-50.

In array code a convolution is one matrix product with the patches of the images (benchmarks/nn/convolution.py); NumPy's
`tuned` multiplies the images themselves, row by row (benchmarks/nn/tuned/rows.py). torch calls oneDNN or cuDNN, which
may use other algorithms. FLOPs are those of a direct convolution in all cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core.workload import Backend, Claim, Costs, HostArrays, Kernel, Kernels, Preset, Traits, Unsupported, Work

from .nn.batches import HARDER, Samples, affordable, batch_of, distinct, order_of
from .nn.initial import normal
from .nn.names import named
from .nn.optimisers import Sgd
from .nn.resnet import ResNet
from .nn.training import (
    STEPS,
    Repeated,
    Trained,
    largest_error,
    least_bytes,
    train_step,
    trained,
    training_kernel,
)
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

RATE = 1e-3  # learning rate of SGD, low enough that thousands of timed steps on one batch do not diverge

PRESETS = {
    Preset.SMOKE: (ResNet(blocks=(1,), width=8, pixels=8, classes=10), 8),
    Preset.QUICK: (ResNet(blocks=(3, 3, 3), width=16, pixels=32, classes=10), 8),
    Preset.STANDARD: (ResNet(blocks=(2, 2, 2, 2), width=64, pixels=32, classes=10), 128),
    Preset.FULL: (ResNet(blocks=(3, 4, 6, 3), width=64, pixels=224, classes=1000, bottleneck=True), 256),
}
ON_CUDA = (*TORCH_CUDA, "channels_last", "cudnn_benchmark")


def network(work: Work) -> ResNet:
    """Return the network of a work, in which `blocks` is a string like "3x3x3"."""
    blocks = tuple(int(count) for count in work["blocks"].split("x"))
    return ResNet(blocks, work["width"], work["pixels"], work["classes"], work["bottleneck"])


def samples(work: Work) -> int:
    """Return the number of distinct images in a training check: at least 4, since batch norms need several."""
    return affordable(work["batch"], STEPS * HARDER * network(work).train_flops(), fewest=4)


def array_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in array code: forward, hand-written backward, SGD."""
    _require_small(backend, work)
    xp = array_module(backend, implementation)
    optimiser = Sgd(xp, device_weights(backend, host), RATE)
    step = partial(train_step, xp, network(work), optimiser)
    return training_kernel(
        step, optimiser.reset, batch_of(backend, work, host), lambda: optimiser.params, samples(work)
    )


def torch_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in torch: nn.Module, autograd, fused torch.optim.SGD."""
    from .nn.modules.resnet import ResNetModule
    from .nn.modules.training import sgd, train_kernel

    return train_kernel(backend, work, host, ResNetModule(network(work)), sgd(RATE), samples(work), implementation)


def array_infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference in array code: the forward pass with running averages."""
    _require_small(backend, work)
    net, xp = network(work), array_module(backend, implementation)
    params, batch = device_weights(backend, host), batch_of(backend, work, host, ["x"])
    return Kernel(lambda: net.infer(xp, params, *batch()), inputs=batch.arrays)


def torch_infer(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of inference in torch: nn.Module in inference mode."""
    from .nn.modules.resnet import ResNetModule
    from .nn.modules.running import infer_kernel

    batch, weights = batch_of(backend, work, host, ["x"]), device_weights(backend, host)
    return infer_kernel(backend, work, ResNetModule(network(work)), weights, batch, implementation)


def _require_small(backend: Backend, work: Work) -> None:
    if network(work).large:
        reason = f"patches of {work['pixels']} pixel images would need most of the memory and time of {backend.name}"
        raise Unsupported("too_slow", reason)


class CnnWorkload(ModelWorkload):
    """Base class of training and inference: sizes and data."""

    traits = Traits(order=6, claims=(Claim.NETWORKS,))
    presets = PRESETS
    quick_forms = ("tuned",)
    per_sample = ("x", "targets")
    compiles_on_cpu = True  # Inductor keeps images in the layout of oneDNN's convolutions and fuses norms and ReLUs

    def variant(self, network: ResNet, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        spelt = "x".join(map(str, network.blocks))
        layers = sum(network.blocks) * (3 if network.bottleneck else 2) + 2
        params = {**asdict(network), "blocks": spelt, "batch": batch}
        size = f"resnet{layers}-{network.pixels}x{network.pixels}-b{batch}"
        return self.work(size, dtype, **params, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net, batch = network(work), work["batch"]
        x = normal(rng, (batch, 3, net.pixels, net.pixels), work.dtype)
        targets = rng.integers(net.classes, size=batch)
        return {"x": x, "targets": targets, **named("weights", net.initial(rng, work.dtype))}


class CnnTrain(CnnWorkload):
    """One training step: forward, backward, SGD at rate 1e-3."""

    name = "cnn_train"
    headline_forms = ("default", "tuned", "channels_last")
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_train, "numpy", "cupy"),
        "torch": by_implementation(torch_train, *TORCH, "channels_last"),
        "torch:cpu": torch_cpu_kernels(torch_train, "channels_last"),
        "torch:cuda": by_implementation(torch_train, *ON_CUDA),
    }

    def costs(self, work: Work) -> Costs:
        """Return `ResNet.train_flops` per image, and `least_bytes` of SGD."""
        net, item = network(work), itemsize(work.dtype)
        flops = float(work["batch"] * net.train_flops())
        return Costs(flops, least_bytes=least_bytes(net.parameters(), item), amounts={"samples": work["batch"]})

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights (4 copies), outputs of convolutions (4 copies) and patches (9 copies for 3x3).

        `large` networks run in torch only, which keeps no patches: outputs are counted 6 times.
        """
        net, item = network(work), itemsize(work.dtype)
        return float(item * (4 * net.parameters() + (13 if not net.large else 6) * work["batch"] * net.activations()))

    def samples(self, work: Work) -> int:
        return samples(work)

    def reference(self, work: Work, host: HostArrays) -> Trained:
        return trained(Repeated(network(work), work["batch"] // samples(work)), partial(Sgd, rate=RATE), host)

    def error(self, work: Work, expected: Trained, answer: HostArrays) -> float:
        return largest_error(answer, expected, work.precision, relu=True)


class CnnInfer(CnnWorkload):
    """Inference: the logits of one batch from a trained network."""

    name = "cnn_infer"
    left_out = (Preset.SMOKE,)
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_infer, "numpy", "cupy"),
        "torch": by_implementation(torch_infer, *TORCH, "channels_last"),
        "torch:cpu": torch_cpu_kernels(torch_infer, "channels_last"),
        "torch:cuda": by_implementation(torch_infer, *ON_CUDA),
    }

    def costs(self, work: Work) -> Costs:
        """Return `ResNet.forward_flops` per image. `least_bytes`: every weight and every pixel is read once."""
        net, batch, item = network(work), work["batch"], itemsize(work.dtype)
        least = float(item * (net.parameters() + batch * 3 * net.pixels**2))
        return Costs(float(batch * net.forward_flops()), least_bytes=least, amounts={"samples": batch})

    def footprint(self, work: Work) -> float:
        """Return the bytes of the weights (2 copies), and of what the largest layer holds.

        That is its input (3 copies: as it is, padded, and that of its block), its output (3 copies), and the patches,
        which only array code makes: it does not run `large` networks.
        """
        net = network(work)
        largest = max(
            3 * (conv.inputs * conv.size**2 + conv.outputs * conv.places**2)
            + (0 if net.large else conv.inputs * conv.kernel**2 * conv.places**2)
            for conv in net.convs()
        )
        return float(itemsize(work.dtype) * (2 * net.parameters() + work["batch"] * largest))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], HARDER * network(work).forward_flops())

    def reference(self, work: Work, host: HostArrays) -> Samples:
        logits = network(work).infer(np, wide_weights(host), distinct(host, "x").astype(np.float64))
        return Samples(logits, order_of(host, "x"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        """Return the relative error of all logits."""
        return expected.error(answer["out"])


@pytest.mark.workload(CnnTrain())
def test_cnn_train(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(CnnInfer())
def test_cnn_infer(measure: Callable[[], None]) -> None:
    measure()
