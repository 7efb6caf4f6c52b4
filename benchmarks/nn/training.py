"""One training step in array code, the kernel around it, and the proof that it is right.

What is timed is checked: from the initial weights, a call of the timed step on the whole batch must leave the loss, the
logits, every gradient, every weight and every running average that the same array code reaches in float64 on NumPy. A
batch too large for that is one of few samples, each many times (batches.py). A second call must go on from there: it
shows what the first did to the optimiser's averages, and that not every other call works. The tests hold the array code
itself against autograd and finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bench_core import check
from bench_core.workload import HostArrays, Kernel, WrongAnswer
from benchmarks.nn.batches import Batch, distinct, order_of
from benchmarks.nn.functions import Array, Cache, cross_entropy, cross_entropy_backward
from benchmarks.nn.optimisers import Optimiser
from benchmarks.nn.weights import wide_weights

STEPS = 2  # from the initial weights, after which a training kernel is checked

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
FAR = 0.1  # an error of loss or logits that no arithmetic explains: more need not be looked at
# How many times more the gradients of a network with ReLU may err than logits and losses: over all tensors in IEEE and
# in narrower arithmetic, and in any one tensor in IEEE. Measured on NumPy and torch (MLP, CNN and GAN of smoke, quick
# and standard, three seeds): float32 up to 2.9 % over all and 4.3 % in one (the GAN's generator learns from a
# discriminator that Adam has just moved), where 6 % and 20 % pass; bfloat16 up to 26 % over all, where 40 % pass. There
# one tensor errs by up to 62 %, which says little: float32 rows prove each. What is too short shows in its length.
RELU_FACTOR, RELU_FACTOR_NARROW, RELU_FACTOR_OF_ONE = 600, 20, 2000
# The same of running averages: a GAN's discriminator has a batch of its own behind that step of Adam's (1.3e-4 seen).
AVERAGE_FACTOR = 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a length may be from 1: that of all gradients (or of all steps) at once, and that of any one tensor's."""

    all: float
    one: float


# By arithmetic, and whether there are ReLUs. Measured on NumPy and torch (smoke and quick, three seeds), gradients and
# steps: IEEE 1e-4 in one tensor, with ReLU 3e-4 over all and 1.5 % in one; bfloat16 1.6 % in one, with ReLU 3.8 % over
# all and 23 % in one, which then says nothing.
LENGTHS = {
    ("ieee", False): Bounds(1e-2, 1e-2),
    ("ieee", True): Bounds(1e-2, 4e-2),
    ("narrow", False): Bounds(2e-2, 6e-2),
    ("narrow", True): Bounds(0.1, 0.8),
}
# The same of the last step's loss and logits (one) and of its length (all). What the first has left of rounding, Adam
# and batch norms have made larger by then: to 3.4e-3 in float32, 0.6 % of the length (GAN of standard, four samples).
LAST = {"ieee": Bounds(0.1, 2e-2), "narrow": Bounds(0.3, 0.3)}
DECAY = 0.3  # share of the weights' decay that may be missing, or too much: 0.7 % in float32, 9 % in bfloat16
NEAR_ZERO = 0.1  # elements of a gradient this much below its root mean square are not looked at in a step
# How many times more a single weight's step may err in float64: Adam divides small gradients by their own size, and
# their rounding with them. Measured: 5.6e-10 of the largest step (torch, GPT of smoke).
STEP_FACTOR = 100
SMALL_GRADIENT = 1e-2  # tensors this much below the largest gradient are measured against this share of it


class Network(Protocol):
    """What every classifier here offers; a language model classifies the next token."""

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits and the cache."""

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A network with batch normalisation, given one of each sample of a batch in which there are `copies` of each."""

    network: Any
    copies: int

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits and the cache."""
        logits, cache = self.network.forward(xp, params, x, self.copies)
        return logits, cache

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter: the mean's is the same, however often each sample stands in it."""
        grads: dict[str, Array] = self.network.backward(xp, grad, cache)
        return grads


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


def training_kernel(
    step: Callable[..., Step],
    reset: Callable[[], None],
    batch: Batch,
    state: Callable[[], Mapping[str, Any]],
    samples: int,
) -> Kernel:
    """Return the kernel that takes one step.

    reset: restores the initial weights and the optimiser. state: the weights and running averages as they are now, by
    the names that they have among the inputs. samples: how many logits are compared, of the first of the batch.
    """

    def run() -> Step:
        return step(*batch())

    def outputs(shown: Step) -> dict[str, Any]:
        gradients = {f"gradient.{name}": gradient for name, gradient in shown.gradients.items()}
        held = {f"{'average' if is_average(name) else 'weight'}.{name}": array for name, array in state().items()}
        return {"loss": shown.loss, "logits": shown.logits[:samples], **gradients, **held}

    return Kernel(run, inputs=batch.arrays, outputs=outputs, restart=reset, calls=STEPS, also_first=True)


def is_average(name: str) -> bool:
    """Whether a network keeps what has this name without training it."""
    return ".running_" in name


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training kernel must have reached after a step, in float64.

    logits: of the first places of the batch. before, after: all weights and running averages. decay: the share of a
    weight that decay alone takes off. last: what it must have reached after the last of STEPS steps.
    """

    loss: np.ndarray
    logits: np.ndarray
    gradients: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]
    decay: float = 0.0
    last: Trained | None = None

    @property
    def names(self) -> set[str]:
        """The names of a kernel's outputs."""
        held = {f"{'average' if is_average(name) else 'weight'}.{name}" for name in self.after}
        return {"loss", "logits", *held, *(f"gradient.{name}" for name in self.gradients)}


def trained(network: Network, optimiser: Callable[..., Optimiser], host: HostArrays) -> Trained:
    """Return what a classifier's training on these inputs reaches, computed by NumPy."""
    weights = wide_weights(host)
    wide = optimiser(np, weights)
    x, targets = distinct(host, "x"), distinct(host, "targets")
    x = x if x.dtype.kind in "iu" else x.astype(np.float64)  # token numbers stay; bfloat16 is of kind "V"
    order = order_of(host, "x")
    return trace(lambda: train_step(np, network, wide, x, targets), weights, lambda: wide.params, order, wide.decay)


def trace(
    step: Callable[[], Step],
    before: Mapping[str, np.ndarray],
    state: Callable[[], Mapping[str, np.ndarray]],
    order: np.ndarray,
    decay: float = 0.0,
) -> Trained:
    """Take STEPS steps and return what they reach.

    before: the initial weights and running averages, which no step changes. state: what has become of them. order:
    which sample stands at each place of the batch. Each step's gradients are arrays of its own.
    """
    reached: list[Trained] = []
    while len(reached) < STEPS:
        shown = step()
        after = dict(state())
        if len(reached) < STEPS - 1:  # the next step moves them
            after = {name: array.copy() for name, array in after.items()}
        logits = shown.logits[order[: len(shown.logits)]]
        reached.append(Trained(np.array(shown.loss), logits, shown.gradients, before, after, decay))
        before = after
    return replace(reached[0], last=reached[-1])


def largest_error(answer: Mapping[str, np.ndarray], expected: Trained, precision: str, *, relu: bool = False) -> float:
    """Return the worst relative error among all named arrays, those of the last step (`last.`) included.

    Logits and loss: ||a - r|| / ||r||. Gradients in IEEE arithmetic: the largest difference over the largest
    entry, tensor by tensor; tensors whose gradient nearly vanishes (key biases: it is zero) are measured against
    `SMALL_GRADIENT` of the largest gradient. In narrower arithmetic: the norm over all tensors at once.

    A network with ReLU (`relu`) has gradients that jump: an input that rounding moves across zero passes all of
    its gradient or none. A share p of inputs moved is an error of about sqrt(p) in the gradient's norm, far
    more than the rounding itself, in any backend. The norm over all tensors is taken, divided by `RELU_FACTOR` or
    `RELU_FACTOR_NARROW`; in IEEE arithmetic also each tensor's own norm, divided by `RELU_FACTOR_OF_ONE`, so that
    none is missing.

    Norms let a gradient pass that is too short by several percent. So its length along the reference's, and that of the
    step that the weights have taken, are compared by themselves: see `_require_lengths`.

    Of the last step loss, logits and the length of the whole step count, with wider bounds: see `LAST`.

    Where loss or logits are further off than FAR, theirs is the error that is told.

    Raises WrongAnswer if names or shapes differ, or a length does.
    """
    last = {name.removeprefix("last."): array for name, array in answer.items() if name.startswith("last.")}
    answer = {name: array for name, array in answer.items() if not name.startswith("last.")}
    for given in (answer, last) if expected.last else (answer,):
        if set(given) != expected.names:
            raise WrongAnswer(f"answers are missing or unknown: {sorted(set(given) ^ expected.names)}")
    errors = [check.relative_error(answer[name], getattr(expected, name)) for name in ("loss", "logits")]
    if max(errors) > FAR:
        return max(errors)
    gradients = {name: (answer[f"gradient.{name}"], r) for name, r in expected.gradients.items()}
    for given, r in gradients.values():
        check.require_shape(given, r.shape)
    errors += _gradient_errors(gradients, precision, relu=relu)
    errors += [_moved_error(answer, expected, name) for name in expected.after if is_average(name)]
    if answer["loss"].dtype == np.float64:
        errors += [_step_error(answer, expected, name) for name in expected.gradients]
    _require_lengths(answer, expected, precision, relu=relu)
    if expected.last:
        _require_last(last, expected.last, answer, precision)
    return max(errors)


def _gradient_errors(
    gradients: Mapping[str, tuple[np.ndarray, np.ndarray]], precision: str, *, relu: bool
) -> Iterator[float]:
    ieee = precision == "ieee"
    squares = {name: check.squares(*pair) for name, pair in gradients.items()}
    if relu or not ieee:
        off, whole = (math.sqrt(sum(each)) for each in zip(*squares.values(), strict=True))
        factor = RELU_FACTOR if ieee else RELU_FACTOR_NARROW
        yield off / (whole or 1.0) / (factor if relu else 1)
    if ieee and relu:
        sizes = {name: r.size for name, (_, r) in gradients.items()}
        errors = {name: math.sqrt(off / sizes[name]) for name, (off, _) in squares.items()}
        scales = {name: math.sqrt(whole / sizes[name]) for name, (_, whole) in squares.items()}
        floor = SMALL_GRADIENT * max(scales.values())
        yield from (errors[name] / max(scales[name], floor) / RELU_FACTOR_OF_ONE for name in gradients)
    elif ieee:
        floor = SMALL_GRADIENT * max(_largest(r) for _, r in gradients.values())
        yield from (_largest_difference(*pair) / max(_largest(pair[1]), floor) for pair in gradients.values())


def _moved_error(answer: Mapping[str, np.ndarray], expected: Trained, name: str) -> float:
    """Return the error of a running average as a share of how far the step has moved it, over AVERAGE_FACTOR."""
    before, after = expected.before[name], expected.after[name]
    return check.relative_error(answer[f"average.{name}"] - before, after - before) / AVERAGE_FACTOR


def _step_error(answer: Mapping[str, np.ndarray], expected: Trained, name: str) -> float:
    """Return the largest error of a weight, as a share of the largest step of its tensor, divided by STEP_FACTOR."""
    before, after = expected.before[name], expected.after[name]
    return _largest_difference(answer[f"weight.{name}"], after) / _largest_difference(after, before) / STEP_FACTOR


def _require_lengths(answer: Mapping[str, np.ndarray], expected: Trained, precision: str, *, relu: bool) -> None:
    """Raise WrongAnswer if a gradient or a step is too long or too short, or if weights have not decayed.

    The length of `a` along the reference `r` is <a, r> / <r, r>. Tensors whose gradient nearly vanishes are left out,
    and so are the elements of a step whose gradient does: Adam moves them by the sign of their rounding.
    """
    bounds = LENGTHS["ieee" if precision == "ieee" else "narrow", relu]
    gradients, steps, decay = np.zeros(2), np.zeros(2), np.zeros(2)
    for name, moved in _moved(expected).items():
        r, before, after = (side[name] for side in (expected.gradients, expected.before, expected.after))
        weight = answer[f"weight.{name}"]
        of_gradient = _summed(_along, answer[f"gradient.{name}"], r)
        of_step = _summed(_step_along, weight, before, after, before, moved)
        _require_length(f"the gradient of {name}", of_gradient, bounds.one)
        _require_length(f"the step of {name}", of_step, bounds.one)
        gradients, steps = gradients + of_gradient, steps + of_step
        if expected.decay:
            decay += _summed(_decay_along, weight, before, after, moved)
    _require_length("the gradient", gradients, bounds.all)
    _require_length("the step", steps, bounds.all)
    # What a step lacks along the weights themselves, as a share of what decay alone takes off.
    if expected.decay and abs(lacking := decay[0] / (expected.decay * decay[1])) > DECAY:
        raise WrongAnswer(f"weights decayed by {1 - lacking:.2g} of what they should have", code="wrong_training")


def _require_last(
    last: Mapping[str, np.ndarray], expected: Trained, first: Mapping[str, np.ndarray], precision: str
) -> None:
    """Raise WrongAnswer if the last step was not taken from what the first has reached, or was no whole step."""
    bounds = LAST["ieee" if precision == "ieee" else "narrow"]
    for name in ("loss", "logits"):
        error = check.relative_error(last[name], getattr(expected, name))
        if not error <= bounds.one:
            raise WrongAnswer(f"the {name} of the last step is off by {error:.2g}", error, code="wrong_training")
    step, length = np.zeros(2), np.zeros(2)
    for name, moved in _moved(expected).items():
        weight, start = last[f"weight.{name}"], first[f"weight.{name}"]
        step += _summed(_step_along, weight, start, expected.after[name], expected.before[name], moved)
        length += _summed(_along, last[f"gradient.{name}"], expected.gradients[name])
    _require_length("the last step", step, bounds.all)
    _require_length("the gradient of the last step", length, bounds.all)
    for name in filter(is_average, expected.after):
        if not (error := AVERAGE_FACTOR * _moved_error(last, expected, name)) <= bounds.one:
            raise WrongAnswer(f"{name} after the last step is off by {error:.2g}", error, code="wrong_training")


def _moved(expected: Trained) -> dict[str, np.ndarray]:
    """Return, of each tensor whose gradient does not nearly vanish, which elements have one that does not either."""
    scales = {name: _root_mean_square(r) for name, r in expected.gradients.items()}
    floor = SMALL_GRADIENT * max(scales.values())
    kept = {name: scale for name, scale in scales.items() if scale >= floor}
    return {name: np.abs(expected.gradients[name]) > NEAR_ZERO * scale for name, scale in kept.items()}


def _summed(products: Callable[..., tuple[np.ndarray, np.ndarray]], *arrays: np.ndarray) -> np.ndarray:
    """Return the sums of the two products that are made of arrays of one size."""
    total = np.zeros(2)
    for parts in check.blocks(*arrays):
        total += [product.sum() for product in products(*parts)]
    return total


def _along(given: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of <a, r> and <r, r>."""
    return given * r, np.square(r)


def _step_along(
    weight: np.ndarray, start: np.ndarray, after: np.ndarray, before: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of `_along` of a step from `start` to `weight`, at its reference, where that has moved."""
    r = (after - before)[moved]
    return (weight.astype(np.float64) - start)[moved] * r, np.square(r)


def _decay_along(
    weight: np.ndarray, before: np.ndarray, after: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of `_along` of what a step lacks, at the weights that it began with."""
    r = before[moved]
    return (weight - after)[moved] * r, np.square(r)


def _require_length(what: str, products: np.ndarray, bound: float) -> None:
    along, whole = products
    if abs(along / whole - 1) > bound:
        raise WrongAnswer(f"{what} has {along / whole:.3g} of the length that it should have", code="wrong_training")


def _largest(array: np.ndarray) -> float:
    return float(max(array.max(), -array.min()))


def _largest_difference(given: np.ndarray, r: np.ndarray) -> float:
    return float(np.max([np.abs(a - b).max() for a, b in check.blocks(given, r)]))  # of NaN NaN, unlike Python's max


def _root_mean_square(array: np.ndarray) -> float:
    return math.sqrt(sum(float(np.square(part).sum()) for (part,) in check.blocks(array)) / array.size)
