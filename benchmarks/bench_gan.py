"""A generative adversarial network (DCGAN), training of both networks and generation of images from noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core.workload import Backend, Claim, Costs, HostArrays, Kernel, Kernels, Preset, Traits, Work

from .nn.batches import HARDER, Samples, affordable, batch_of, distinct, order_of
from .nn.dcgan import KERNEL, Discriminator, Generator, Shape, train_flops, train_step
from .nn.initial import normal
from .nn.names import named, scoped
from .nn.optimisers import AdamW
from .nn.training import STEPS, Step, Trained, largest_error, least_bytes, trace, training_kernel
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

RATE, BETA1 = 2e-4, 0.5  # learning rate and beta1 of both Adam optimisers, as in arXiv:1511.06434; no weight decay
BATCH = ("noise", "images")
# Whether threads share rows of images in NumPy's `tuned`. With both threads of 2 cores inside BLAS instead, calls of
# quick and standard were 1.0 to 1.45 times as fast. Inference of ResNet-18, whose strides are mostly 1, was slower by
# 1.25 to 1.4 times.
SHARED = False

PRESETS = {
    Preset.SMOKE: (Shape(latent=16, width=8, pixels=16), 8),
    Preset.QUICK: (Shape(latent=64, width=32, pixels=32), 32),
    Preset.STANDARD: (Shape(latent=100, width=64, pixels=64), 128),
    Preset.FULL: (Shape(latent=100, width=128, pixels=64), 256),
}


def shape(work: Work) -> Shape:
    """Return the shape of both networks of a work."""
    return Shape(**{field.name: work[field.name] for field in fields(Shape)})


def samples(work: Work) -> int:
    """Return the number of distinct samples in a training check: at least 4, since batch norms need several."""
    return affordable(work["batch"], STEPS * HARDER * train_flops(shape(work)), fewest=4)


class ArrayTrainer:
    """The optimisers of both networks in array code, and the training step."""

    def __init__(self, xp: Any, networks: Shape, params: dict[str, Any], copies: int = 1) -> None:
        self.xp, self.networks, self.copies = xp, networks, copies

        def adam(network: str) -> AdamW:
            return AdamW(xp, scoped(params, network), RATE, decay=0, beta1=BETA1)

        self.optimisers = adam("generator"), adam("discriminator")

    def reset(self) -> None:
        for optimiser in self.optimisers:
            optimiser.reset()

    def step(self, noise: Any, images: Any) -> Step:
        return train_step(self.xp, self.networks, self.optimisers, noise, images, self.copies)

    def state(self) -> dict[str, Any]:
        """Return the current weights and running averages of both networks."""
        generator, discriminator = (optimiser.params for optimiser in self.optimisers)
        return named("generator", generator) | named("discriminator", discriminator)


def array_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in array code: forward, hand-written backward, Adam for both networks."""
    trainer = ArrayTrainer(
        array_module(backend, implementation, shared=SHARED), shape(work), device_weights(backend, host)
    )
    batch = batch_of(backend, work, host, BATCH)
    return training_kernel(trainer.step, trainer.reset, batch, trainer.state, samples(work))


def torch_train(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of a training step in torch: nn.Module, autograd, fused torch.optim.Adam."""
    from .nn.modules.dcgan import GanTrainer
    from .nn.modules.running import CAPTURED
    from .nn.modules.training import as_implementation

    captured = implementation in CAPTURED
    adam = partial(backend.xp.optim.Adam, lr=RATE, betas=(BETA1, 0.999), fused=True, capturable=captured)
    trainer = GanTrainer(shape(work), device_weights(backend, host), adam, work.precision, implementation)
    return as_implementation(implementation, trainer, batch_of(backend, work, host, BATCH), samples(work), work)


def array_generate(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that runs the generator in array code."""
    xp, generator = array_module(backend, implementation, shared=SHARED), Generator(shape(work))
    params, batch = scoped(device_weights(backend, host), "generator"), batch_of(backend, work, host, ["noise"])
    return Kernel(lambda: generator.generate(xp, params, *batch()).swapaxes(0, 1), inputs=batch.arrays)


def torch_generate(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that runs the generator in torch: nn.Module in inference mode."""
    from .nn.modules.dcgan import GeneratorModule
    from .nn.modules.running import infer_kernel

    batch, weights = batch_of(backend, work, host, ["noise"]), scoped(device_weights(backend, host), "generator")
    return infer_kernel(backend, work, GeneratorModule(shape(work)), weights, batch, implementation)


class GanWorkload(ModelWorkload):
    """Base class of training and generation: sizes and data. No float16: it would need a loss scale for each loss."""

    traits = Traits(order=8, claims=(Claim.NETWORKS,))
    presets = PRESETS
    quick_forms = ("tuned",)
    per_sample = BATCH
    compiles_on_cpu = True  # as in bench_cnn.py
    precisions = ("tf32", "autocast_bfloat16")

    def variant(self, network: Shape, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        size = f"{network.pixels}x{network.pixels}-w{network.width}-b{batch}"
        return self.work(size, dtype, **asdict(network), batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net, batch = shape(work), work["batch"]
        noise = normal(rng, (batch, net.latent), work.dtype)
        images = np.tanh(normal(rng, (batch, 3, net.pixels, net.pixels), work.dtype))
        weights = named("generator", Generator(net).initial(rng, work.dtype))
        weights |= named("discriminator", Discriminator(net).initial(rng, work.dtype))
        return {"noise": noise, "images": images, **named("weights", weights)}


class GanTrain(GanWorkload):
    """One training step of the discriminator and one of the generator, with Adam at rate 2e-4."""

    name = "gan_train"
    headline_forms = ("default", "tuned")
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_train, "numpy", "cupy", shared=SHARED),
        "torch": by_implementation(torch_train, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_train),
        "torch:cuda": by_implementation(torch_train, *TORCH_CUDA, "cudnn_benchmark"),
    }

    def costs(self, work: Work) -> Costs:
        """Return `dcgan.train_flops` per image, and `least_bytes` of Adam."""
        net, item = shape(work), itemsize(work.dtype)
        parameters = Generator(net).parameters() + Discriminator(net).parameters()
        flops = float(work["batch"] * train_flops(net))
        return Costs(flops, least_bytes=least_bytes(parameters, item, averages=2), amounts={"samples": work["batch"]})

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights (7 copies), outputs of all layers (4 copies), and their patches (16 copies).

        The largest layer has `width` channels at half the image's size, and each following one half as many values: the
        sum is below twice the largest. Both networks count.
        """
        net, item = shape(work), itemsize(work.dtype)
        parameters = Generator(net).parameters() + Discriminator(net).parameters()
        activations = 2 * net.width * (net.pixels // 2) ** 2
        return float(item * (7 * parameters + 2 * 20 * work["batch"] * activations))

    def samples(self, work: Work) -> int:
        return samples(work)

    def reference(self, work: Work, host: HostArrays) -> Trained:
        noise, images = (distinct(host, name).astype(np.float64) for name in BATCH)
        weights = wide_weights(host)
        trainer = ArrayTrainer(np, shape(work), weights, copies=work["batch"] // len(noise))
        return trace(lambda: trainer.step(noise, images), weights, trainer.state, order_of(host, "noise"))

    def error(self, work: Work, expected: Trained, answer: HostArrays) -> float:
        return largest_error(answer, expected, work.precision, relu=True)


class GanGenerate(GanWorkload):
    """Inference: one batch of images from a trained generator."""

    name = "gan_generate"
    traits = replace(GanWorkload.traits, claims=(Claim.IMAGES,), sold_as="images generated")
    left_out = (Preset.SMOKE,)
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_generate, "numpy", "cupy", shared=SHARED),
        "torch": by_implementation(torch_generate, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_generate),
        "torch:cuda": by_implementation(torch_generate, *TORCH_CUDA, "cudnn_benchmark"),
    }

    def costs(self, work: Work) -> Costs:
        """Return `Generator.flops` per image. `least_bytes`: every weight is read and every pixel written once."""
        net, batch, item = shape(work), work["batch"], itemsize(work.dtype)
        least = float(item * (Generator(net).parameters() + batch * 3 * net.pixels**2))
        return Costs(float(batch * sum(Generator(net).flops())), least_bytes=least, amounts={"samples": batch})

    def footprint(self, work: Work) -> float:
        """Return the bytes of the weights (the generator's twice), and of what the largest layer holds.

        That is its input (2 copies), its patches, and its output (3 copies). All weights are uploaded, though one
        network is used.
        """
        net = shape(work)
        weights = 2 * Generator(net).parameters() + Discriminator(net).parameters()
        largest = max(
            2 * inputs * pixels**2
            + outputs * (KERNEL * pixels) ** 2
            + 3 * outputs * (4 if pixels == 1 else 2 * pixels) ** 2
            for inputs, outputs, _, _, pixels in Generator(net).layers()
        )
        return float(itemsize(work.dtype) * (weights + work["batch"] * largest))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], HARDER * sum(Generator(shape(work)).flops()))

    def reference(self, work: Work, host: HostArrays) -> Samples:
        noise, weights = distinct(host, "noise").astype(np.float64), scoped(wide_weights(host), "generator")
        return Samples(Generator(shape(work)).generate(np, weights, noise).swapaxes(0, 1), order_of(host, "noise"))

    def error(self, work: Work, expected: Samples, answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        """Return the relative error of all images."""
        return expected.error(answer["out"])


@pytest.mark.workload(GanTrain())
def test_gan_train(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(GanGenerate())
def test_gan_generate(measure: Callable[[], None]) -> None:
    measure()
