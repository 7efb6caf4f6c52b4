"""A multi-layer perceptron trained and run: the smallest model that does what all of them do.

The same network, weights and batch on every backend. Training in array code is forward, hand-written
backward and SGD (benchmarks/nn); in torch it is nn.Module, autograd and torch.optim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.backends.base import Backend
from bench_core.model import Costs, Preset, Work
from bench_core.workload import Host, Kernel, Kernels, Machine, Workload
from benchmarks.nn.initial import normal
from benchmarks.nn.mlp import Mlp
from benchmarks.nn.optimisers import Sgd
from benchmarks.nn.training import (
    TOLERANCES,
    Checked,
    largest_error,
    named,
    reference,
    scoped,
    train_step,
    training_kernel,
)

# Small enough that thousands of timed steps on one batch neither diverge nor fit it so well that gradients
# vanish into denormal numbers, which a CPU computes at a fraction of its speed.
RATE = 1e-3

SIZES = {
    Preset.SMOKE: ((64, 128, 10), 32),
    Preset.QUICK: ((784, 512, 512, 10), 128),
    Preset.STANDARD: ((1024, 4096, 4096, 4096, 1000), 512),
    Preset.FULL: ((4096, 8192, 8192, 8192, 8192, 1000), 2048),
}


def network(work: Work) -> Mlp:
    """Return the network that a work names: `widths` is spelt 784x512x512x10."""
    return Mlp(tuple(int(width) for width in work["widths"].split("x")))


def checked(work: Work) -> Checked:
    """Return how much of the training the check repeats."""
    return Checked.affordable(work["batch"], network(work).train_flops())


def array_train(backend: Backend, work: Work, host: Host) -> Kernel:
    """Forward, backward and SGD, by hand."""
    optimiser = Sgd(backend.xp, _weights(backend, host), RATE)
    step = partial(train_step, backend.xp, network(work), optimiser)
    return training_kernel(step, optimiser.reset, _batch(backend, host), checked(work))


def torch_train(backend: Backend, work: Work, host: Host) -> Kernel:
    """nn.Module, autograd, torch.optim.SGD."""
    from benchmarks.nn.modules.mlp import MlpModule
    from benchmarks.nn.modules.training import Trainer

    backend.set_precision(work.precision)
    sgd = partial(backend.xp.optim.SGD, lr=RATE)
    trainer = Trainer(MlpModule(network(work)), _weights(backend, host), sgd)
    return training_kernel(trainer.step, trainer.reset, _batch(backend, host), checked(work))


def array_infer(backend: Backend, work: Work, host: Host) -> Kernel:
    """Run the forward pass alone."""
    net, xp = network(work), backend.xp
    params, x = _weights(backend, host), backend.from_host(host["x"])
    return Kernel(lambda: net.forward(xp, params, x)[0])


def torch_infer(backend: Backend, work: Work, host: Host) -> Kernel:
    """nn.Module in inference mode."""
    from benchmarks.nn.modules.mlp import MlpModule

    backend.set_precision(work.precision)
    torch, x = backend.xp, backend.from_host(host["x"])
    module = MlpModule(network(work)).to(x.device, x.dtype).eval()
    module.load_state_dict(_weights(backend, host))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run() -> Any:
        return module(x)

    return Kernel(run)


def _weights(backend: Backend, host: Host) -> dict[str, Any]:
    return {name: backend.from_host(array) for name, array in scoped(host, "weights").items()}


def _batch(backend: Backend, host: Host) -> tuple[Any, Any]:
    return backend.from_host(host["x"]), backend.from_host(host["targets"])


class MlpWorkload(Workload):
    """What training and inference share: sizes, data, tolerance."""

    suite = "model"

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:  # noqa: ARG002 - the same sizes everywhere
        widths, batch = SIZES[preset]
        yield self._work("float32", widths, batch)
        if preset is Preset.SMOKE:
            yield self._work("float64", widths, batch)

    def _work(self, dtype: str, widths: tuple[int, ...], batch: int, **kind: Any) -> Work:
        spelt = "x".join(map(str, widths))
        return self.work(f"b{batch}", dtype, widths=spelt, batch=batch, **kind)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        net = network(work)
        x = normal(rng, (work["batch"], net.widths[0]), work.dtype)
        targets = rng.integers(net.widths[-1], size=work["batch"])
        return {"x": x, "targets": targets, **named("weights", net.initial(rng, work.dtype))}

    def tolerance(self, work: Work) -> check.Tolerance:
        return TOLERANCES[work.dtype, work.precision]


class MlpTrain(MlpWorkload):
    """One training step on resident data: forward, backward, SGD at rate 1e-3."""

    name = "mlp_train"
    kernels: ClassVar[Kernels] = {"array": {"default": array_train}, "torch": {"default": torch_train}}

    def costs(self, work: Work) -> Costs:
        """`Mlp.train_flops` a sample; at least, weights are read twice and written, gradients written and read."""
        net, itemsize = network(work), np.dtype(work.dtype).itemsize
        flops = float(work["batch"] * net.train_flops())
        return Costs(flops, least_bytes=5.0 * net.parameters() * itemsize, amounts={"samples": work["batch"]})

    def footprint(self, work: Work) -> float:
        """Weights, their initial copy, gradients twice; two copies of every activation and of its gradient."""
        net, itemsize = network(work), np.dtype(work.dtype).itemsize
        return float(itemsize * (4 * net.parameters() + 4 * work["batch"] * sum(net.widths)))

    def error(self, work: Work, host: Host, answer: Host) -> float:
        expected = reference(network(work), partial(Sgd, rate=RATE), host, checked(work))
        return largest_error(answer, expected, exact=work.precision == "ieee")


class MlpInfer(MlpWorkload):
    """One batch of logits from resident data."""

    name = "mlp_infer"
    kernels: ClassVar[Kernels] = {"array": {"default": array_infer}, "torch": {"default": torch_infer}}

    def costs(self, work: Work) -> Costs:
        """`Mlp.forward_flops` a sample; at least, every weight and input is read and every logit written once."""
        net, itemsize = network(work), np.dtype(work.dtype).itemsize
        numbers = net.parameters() + work["batch"] * (net.widths[0] + net.widths[-1])
        flops = float(work["batch"] * net.forward_flops())
        return Costs(flops, least_bytes=float(numbers * itemsize), amounts={"samples": work["batch"]})

    def error(self, work: Work, host: Host, answer: Host) -> float:
        """Compare the logits of the first samples, as many as the check can afford."""
        net, out = network(work), answer["out"]
        check.require_dtype("out", out, work.dtype)
        params = {name: array.astype(np.float64) for name, array in scoped(host, "weights").items()}
        some = Checked.affordable(work["batch"], net.forward_flops()).samples
        expected, _ = net.forward(np, params, host["x"][:some].astype(np.float64))
        return check.relative_error(out[:some], expected)


@pytest.mark.workload(MlpTrain())
def test_mlp_train(measure: Callable[[], None]) -> None:
    measure()


@pytest.mark.workload(MlpInfer())
def test_mlp_infer(measure: Callable[[], None]) -> None:
    measure()
