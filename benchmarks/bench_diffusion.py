"""A diffusion Transformer (DiT): one denoising step, and all steps from noise to the latent of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core.workload import Backend, Claim, Costs, HostArrays, Kernel, Kernels, Preset, Traits, Work

from .nn.batches import Samples, affordable, batch_of, distinct, order_of
from .nn.dit import Dit, Schedule
from .nn.initial import normal
from .nn.names import named
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

# Standard and full are DiT-S/2 and DiT-B/2 of arXiv:2212.09748 (table 1), with 33 and 131 million parameters. As there,
# latents are 32x32x4 and there are 1000 classes.
PRESETS = {
    Preset.SMOKE: (Dit(layers=2, heads=2, width=64, patch=4, pixels=16, classes=10), 4),
    Preset.QUICK: (Dit(layers=4, heads=4, width=128, patch=4, pixels=32, classes=10), 8),
    Preset.STANDARD: (Dit(layers=12, heads=6, width=384, patch=2, pixels=32), 32),
    Preset.FULL: (Dit(layers=12, heads=12, width=768, patch=2, pixels=32), 64),
}
STEPS = {64: 4, 128: 10, 384: 20, 768: 50}  # number of steps from noise to image, by width of the network
SAMPLED = {Preset.STANDARD: 4}  # batch of diffusion_sample, for which PRESETS' batch would take minutes on a CPU
BATCH = ("noise", "labels")


def network(work: Work) -> Dit:
    """Return the network of a work."""
    return Dit(**{field.name: work[field.name] for field in fields(Dit)})


def array_kernel(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that runs the steps in array code."""
    xp, net = array_module(backend, implementation), network(work)
    params, batch = device_weights(backend, host), batch_of(backend, work, host, BATCH)
    predict = partial(net.predict, xp, params)
    steps = denoiser(predict, Schedule.ddim(work["steps"], work.dtype), work["runs"], backend.from_host)
    return Kernel(lambda: steps(*batch()), inputs=batch.arrays, outputs=outputs)


def torch_kernel(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that runs the steps in torch: nn.Module in inference mode."""
    from .nn.modules import sdpa
    from .nn.modules.dit import DitModule
    from .nn.modules.running import compiled, forward_kernel, inference, is_fixed, load_weights

    net, weights = network(work), device_weights(backend, host)
    batch, first = batch_of(backend, work, host, BATCH), weights["positions"]
    module = DitModule(net).to(first.device, first.dtype).eval()
    load_weights(module, weights)
    predict = compiled(module, first.device, implementation)
    schedule = Schedule.ddim(work["steps"], work.dtype)
    steps = inference(denoiser(predict, schedule, work["runs"], backend.from_host), first.device, work.precision)
    kernel = replace(forward_kernel(steps, batch, implementation, fixed=is_fixed(work)), outputs=outputs)
    attention = sdpa.chosen_for_itself(backend, work, net, net.patches, causal=False, grad=False)
    return sdpa.told(kernel, backend, work, [attention])


def denoiser(predict: Callable[..., Any], schedule: Schedule, runs: int, upload: Callable[..., Any]) -> Any:
    """Return a function that runs the first `runs` steps of a schedule on noise (B, C, pixels, pixels), labels (B).

    The function returns the latents and the sigma predicted by the last step, (B, C, pixels, pixels) each. DDIM does
    not use sigma. It is returned for the check, since it is half of what the network's head computes.
    """
    waves = [upload(wave) for wave in schedule.waves[:runs]]

    def steps(latents: Any, labels: Any) -> tuple[Any, Any]:
        channels = latents.shape[1]
        for time, keep, share in zip(waves, schedule.keep, schedule.noise, strict=False):
            predicted = predict(latents, time, labels)
            latents = keep * latents + share * predicted[:, :channels]
        return latents, predicted[:, channels:]

    return steps


def outputs(reached: tuple[Any, Any]) -> dict[str, Any]:
    """Return the results of the steps by name."""
    latents, sigma = reached
    return {"out": latents, "sigma": sigma}


class DiffusionWorkload(ModelWorkload):
    """Base class of both workloads, which differ only in the number of steps."""

    version = 2  # version 1 had a smaller network: in-context conditioning, 3 channels, 10 classes, no sigma
    traits = Traits(order=9, claims=(Claim.NETWORKS,))
    presets = PRESETS
    per_sample = BATCH
    precisions = ("tf32", "autocast_bfloat16")
    kernels: ClassVar[Kernels] = {
        **array_kernels(array_kernel, "numpy", "cupy"),
        "torch": by_implementation(torch_kernel, *TORCH),
        "torch:cpu": torch_cpu_kernels(torch_kernel),
        "torch:cuda": by_implementation(torch_kernel, *TORCH_CUDA),
    }

    def variant(self, network: Dit, batch: int, dtype: str = "float32", **kind: Any) -> Work:
        size = f"{network.layers}L{network.heads}H{network.width}-{network.pixels}x{network.pixels}-b{batch}"
        steps = STEPS[network.width]
        return self.work(size, dtype, **asdict(network), batch=batch, steps=steps, runs=self.runs(steps), **kind)

    def runs(self, steps: int) -> int:
        """Return the number of steps that one call runs, of a schedule of `steps`."""
        return steps

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net, batch = network(work), work["batch"]
        noise = normal(rng, (batch, net.channels, net.pixels, net.pixels), work.dtype)
        labels = rng.integers(net.classes, size=batch)
        return {"noise": noise, "labels": labels, **named("weights", net.initial(rng, work.dtype))}

    def costs(self, work: Work) -> Costs:
        """Return `Dit.flops` per step. `least_bytes`: each step reads every weight, but one row of the label table."""
        net, batch, runs = network(work), work["batch"], work["runs"]
        weights = net.parameters() - net.classes * net.width
        least = float(runs * weights * itemsize(work.dtype))
        return Costs(runs * net.flops(batch), least_bytes=least, amounts={"samples": float(batch)})

    def footprint(self, work: Work) -> float:
        """Return the bytes of weights (2 copies), 16 C values per token, and one block's attention scores (2 copies).

        The next block reuses the memory of the scores.
        """
        net, item = network(work), itemsize(work.dtype)
        held = work["batch"] * net.patches * (16 * net.width + 2 * net.heads * net.patches)
        return float(item * (2 * net.parameters() + held))

    def samples(self, work: Work) -> int:
        return affordable(work["batch"], work["runs"] * network(work).flops(1), fewest=1)

    def reference(self, work: Work, host: HostArrays) -> dict[str, Samples]:
        """Return the latents after the same steps, and the sigma of the last step, in float64."""
        net, params = network(work), wide_weights(host)
        schedule = Schedule.ddim(work["steps"], "float64")
        # The waves are input data: like the weights, they are rounded to the work's dtype before float64 is computed.
        waves = Schedule.ddim(work["steps"], work.dtype).waves.astype(np.float64)
        schedule = Schedule(waves, schedule.keep, schedule.noise)
        steps = denoiser(partial(net.predict, np, params), schedule, work["runs"], np.asarray)
        reached = outputs(steps(distinct(host, "noise").astype(np.float64), distinct(host, "labels")))
        order = order_of(host, "noise")
        return {name: Samples(rows, order) for name, rows in reached.items()}

    def error(self, work: Work, expected: dict[str, Samples], answer: HostArrays) -> float:  # noqa: ARG002 - not needed
        """Return the larger relative error of latents and sigma."""
        return max(expected[name].error(array) for name, array in answer.items())


class DiffusionSample(DiffusionWorkload):
    """All DDIM steps from noise to the latent of an image."""

    name = "diffusion_sample"
    traits = replace(DiffusionWorkload.traits, claims=(Claim.IMAGES,), sold_as="images generated")
    headline_forms = ("default", "tuned", "scan")
    presets: ClassVar = {preset: (net, SAMPLED.get(preset, batch)) for preset, (net, batch) in PRESETS.items()}


class DiffusionDenoise(DiffusionWorkload):
    """The first DDIM step: predict the noise and remove a part of it."""

    name = "diffusion_denoise"
    left_out = (Preset.SMOKE,)

    def runs(self, steps: int) -> int:  # noqa: ARG002 - always one
        return 1


@pytest.mark.workload(DiffusionDenoise())
def test_diffusion_denoise(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(DiffusionSample())
def test_diffusion_sample(measure: Callable[[], None]) -> None:
    measure()
