"""One training step in array code, the kernel around it, and the proof that it is right.

A training kernel answers with the logits and gradients of its first step and the losses of several steps, from the
initial weights. A large batch is cut to its first samples for that, since the reference is the same array code in
float64 on NumPy. What is timed is a step on the whole batch, which may be another program (compiled, captured, or
other library kernels): the logits of its first step are compared as well, where there is something to compare with
(`training_kernel`, `prepared_kernel`). The tests hold the array code itself against autograd and finite differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench_core import check
from bench_core.workload import Backend, HostArrays, Kernel, Scope, Work, WrongAnswer
from benchmarks.nn.functions import Array, Cache, cross_entropy, cross_entropy_backward
from benchmarks.nn.optimisers import Optimiser
from benchmarks.nn.weights import wide_weights

# What ||C - R|| / ||R|| and its kin may be for logits, gradients and losses. The lower bounds lie above the
# error of the next finer arithmetic: a row that claims TF32 must show TF32's rounding.
TOLERANCES = {
    ("float64", "ieee"): check.Tolerance(1e-10),
    ("float32", "ieee"): check.Tolerance(1e-4),
    ("float32", "tf32"): check.Tolerance(1e-2, low=2e-5),
    ("bfloat16", "ieee"): check.Tolerance(2e-2, low=2e-4),
    ("float32", "autocast_bfloat16"): check.Tolerance(2e-2, low=2e-4),
    ("float32", "autocast_float16"): check.Tolerance(1e-2, low=2e-5),
}
CHECK_FLOPS = 20e9  # of float64 on the host that one check may cost, about a second on two cores
HARDER = 3  # a reference made of patches costs this many times what its FLOPs would cost in large products
MOST_STEPS, FEWEST_STEPS = 10, 2
# How many times more the gradients of a network with ReLU may err than logits and losses: over all tensors in IEEE and
# in narrower arithmetic, and in any one tensor in IEEE. Measured on NumPy and torch (MLP, CNN and GAN of smoke and
# quick, three seeds): float32 up to 0.7 % over all and 2.1 % in one, where 3 % and 10 % pass; bfloat16 up to 26 % over
# all, where 40 % pass. There one tensor errs by up to 62 %, which says little: float32 rows prove each tensor.
RELU_FACTOR, RELU_FACTOR_NARROW, RELU_FACTOR_OF_ONE = 300, 20, 1000
SMALL_GRADIENT = 1e-2  # tensors this much below the largest gradient are measured against this share of it


class Network(Protocol):
    """What every classifier here offers; a language model classifies the next token."""

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits and the cache."""

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter."""


@dataclass(frozen=True, slots=True)
class Step:
    """Results of one step: the loss before the update, the logits, the gradients."""

    loss: Array
    logits: Array
    gradients: Mapping[str, Array]


def train_step(xp: Any, network: Network, optimiser: Optimiser, x: Array, targets: Array) -> Step:
    """Predict, measure the error, trace it back to every weight, and move the weights a little."""
    logits, cache = network.forward(xp, optimiser.params, x)
    loss, loss_cache = cross_entropy(xp, logits, targets)
    gradients = network.backward(xp, cross_entropy_backward(xp, loss_cache), cache)
    optimiser.update(gradients)
    return Step(loss, logits, gradients)


def least_bytes(parameters: int, itemsize: int, averages: int = 0) -> float:
    """Return the fewest bytes that a training step moves: every trained number is read by the forward pass.

    The optimiser reads and writes it and each of the optimiser's `averages` (Adam: 2); its gradient is written and
    read. Activations may all stay in a cache.
    """
    return float(itemsize * parameters * (5 + 2 * averages))


Loader = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Checked:
    """How much of a training run the check repeats in float64.

    steps: how many, on the first `samples` samples of the batch. independent: whether a sample's logits depend on
    that sample alone, so that those of a cut batch are those of the whole one; batch normalisation mixes samples.
    """

    samples: int
    steps: int
    independent: bool = True

    @classmethod
    def affordable(cls, samples: int, flops_per_sample: float, fewest: int = 4, *, independent: bool = True) -> Checked:
        """Return the whole batch and ten steps, or what `CHECK_FLOPS` pay for: at least two steps of `fewest`."""
        afford = int(CHECK_FLOPS / flops_per_sample)
        checked = min(samples, max(fewest, afford // FEWEST_STEPS))
        return cls(checked, min(MOST_STEPS, max(FEWEST_STEPS, afford // checked)), independent)

    def part(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the first `samples` samples of every array of a batch."""
        return tuple(array[: self.samples] for array in batch)

    def cuts(self, batch: tuple[Any, ...]) -> bool:
        """Whether a batch has more samples than are checked."""
        return self.samples < len(batch[0])


def loader(backend: Backend, work: Work, host: HostArrays, names: Sequence[str] = ("x", "targets")) -> Loader:
    """Return what gives a step its batch: arrays already on the device, or (end_to_end) copied there every time.

    end_to_end covers the input alone, from pageable memory; results stay on the device. PyTorch waits for such a copy.
    CuPy first copies it on the host, into pinned memory, and uploads that while the host goes on; the host's array may
    be changed as soon as the call returns. Either way the copy is in the time: it is in the stream of the step.
    """

    def upload() -> tuple[Any, ...]:
        return tuple(backend.from_host(host[name]) for name in names)

    if work.scope is Scope.END_TO_END:
        return upload
    batch = upload()
    return lambda: batch


def training_kernel(step: Callable[..., Step], reset: Callable[[], None], load: Loader, plan: Checked) -> Kernel:
    """Return the kernel that takes one step; its answer starts from the initial weights and goes back to them.

    The answer is that of `trace`. If the check cuts the batch and samples are independent, it also has the logits of
    the first step on the whole batch, "whole.logits", for the checked samples: the first call of `run` keeps them.
    """
    seen: list[Any] = []
    watched = plan.cuts(load()) and plan.independent

    def run() -> Step:
        shown = step(*load())
        if watched and not seen:
            seen.append(shown.logits[: plan.samples] * 1)
        return shown

    def answer() -> dict[str, Any]:
        reset()
        shown = dict(trace(step, plan.part(load()), plan.steps))
        reset()
        if watched:
            shown["whole.logits"] = seen[0] if seen else plan.part((step(*load()).logits,))[0] * 1
            reset()
        return shown

    return Kernel(run, answer)


def prepared_kernel(
    step: Callable[..., Step], eager: Callable[..., Step], reset: Callable[[], None], load: Loader, plan: Checked
) -> Kernel:
    """Return the kernel of a step that its first call on new shapes compiles or captures; `eager` is the same step.

    Such a call may move the weights several times, so the answer rehearses the step before it takes it. If the check
    cuts the batch, the answer also has "whole.logits", of a step on the whole batch. Where samples are not independent
    these are compared with those of `eager`, "whole.eager".
    """
    expected: list[Any] = []
    cut = plan.cuts(load())

    def whole(form: Callable[..., Step]) -> Any:
        reset()
        return plan.part((form(*load()).logits,))[0] * 1

    def run() -> Step:
        return step(*load())

    def answer() -> dict[str, Any]:
        first = plan.part(load())
        if cut and not plan.independent and not expected:
            # Before the rehearsal: a capture puts gradients into memory of its own, an eager step takes them out.
            expected.append(whole(eager))
        step(*first)
        reset()
        shown = dict(trace(step, first, plan.steps))
        if cut:
            shown["whole.logits"] = whole(step)
        if expected:
            shown["whole.eager"] = expected[0]
        reset()
        return shown

    return Kernel(run, answer, prepare=run)


def trace(step: Callable[..., Step], batch: tuple[Any, ...], steps: int) -> Iterator[tuple[str, Any]]:
    """Take `steps` steps and yield what they show, by name; copies, since a step may reuse its memory."""
    for i in range(steps):
        shown = step(*batch)
        if i == 0:
            yield "logits", shown.logits * 1
            for name, gradient in shown.gradients.items():
                yield f"gradient.{name}", gradient * 1
        yield f"loss.{i}", shown.loss * 1


def reference(network: Network, optimiser: Callable[..., Optimiser], host: Mapping[str, Any], plan: Checked) -> Any:
    """Return what a training kernel must answer, computed in float64 by NumPy."""
    wide = optimiser(np, wide_weights(host))
    x, targets = (host[name][: plan.samples] for name in ("x", "targets"))
    x = x if x.dtype.kind in "iu" else x.astype(np.float64)  # token numbers stay; bfloat16 is of kind "V"

    def step() -> Step:
        return train_step(np, network, wide, x, targets)

    return dict(trace(step, (), plan.steps))


def largest_error(
    answer: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], precision: str, *, relu: bool = False
) -> float:
    """Return the worst relative error among all named arrays.

    Logits and losses: ||a - r|| / ||r||. Gradients in IEEE arithmetic: the largest difference over the largest
    entry, tensor by tensor; tensors whose gradient nearly vanishes (key biases: it is zero) are measured against
    `SMALL_GRADIENT` of the largest gradient. In narrower arithmetic: the norm over all tensors at once.

    A network with ReLU (`relu`) has gradients that jump: an input that rounding moves across zero passes all of
    its gradient or none. A share p of inputs moved is an error of about sqrt(p) in the gradient's norm, far
    more than the rounding itself, in any backend. The norm over all tensors is taken, divided by `RELU_FACTOR` or
    `RELU_FACTOR_NARROW`; in IEEE arithmetic also each tensor's own norm, divided by `RELU_FACTOR_OF_ONE`, so that
    none is missing.

    "whole.logits" of the answer are compared with "whole.eager" if there is one, else with the expected logits.

    Raises WrongAnswer if names or shapes differ.
    """
    whole = {name: array for name, array in answer.items() if name.startswith("whole.")}
    answer = {name: array for name, array in answer.items() if name not in whole}
    if set(answer) != set(expected):
        raise WrongAnswer(f"answers are missing or unknown: {sorted(set(answer) ^ set(expected))}")
    kept = {name: r for name, r in expected.items() if not name.startswith("gradient.")}
    gradients = {name: r for name, r in expected.items() if name not in kept}
    errors = [check.relative_error(answer[name], r) for name, r in kept.items()]
    if whole:
        errors.append(check.relative_error(whole["whole.logits"], whole.get("whole.eager", expected["logits"])))
    for name, r in gradients.items():
        check.require_shape(answer[name], r.shape)
    return max([*errors, *_gradient_errors(answer, gradients, precision, relu=relu)])


def _gradient_errors(
    answer: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray], precision: str, *, relu: bool
) -> Iterator[float]:
    if not gradients:
        return
    ieee = precision == "ieee"
    if relu or not ieee:
        both = [np.concatenate([side[name].ravel() for name in gradients]) for side in (answer, gradients)]
        factor = RELU_FACTOR if ieee else RELU_FACTOR_NARROW
        yield check.relative_error(*both) / (factor if relu else 1)
    if ieee:
        size, share = (_root_mean_square, RELU_FACTOR_OF_ONE) if relu else (_largest, 1)
        floor = SMALL_GRADIENT * max(size(r) for r in gradients.values())
        yield from (size(answer[name] - r) / max(size(r), floor) / share for name, r in gradients.items())


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array).max())


def _root_mean_square(array: np.ndarray) -> float:
    return float(np.sqrt(np.square(array, dtype=np.float64).mean()))
