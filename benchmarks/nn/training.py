"""One training step in array code, the kernel around it, and the check of its results.

The timed callable itself is checked. Starting from the initial weights, one call of the timed step on the whole batch
must produce the loss, logits, gradients, weights and running averages that the same array code computes in float64 on
NumPy. If the batch is too large for that, the check fills it with few distinct samples (batches.py). A second call must
continue from the first one's result: this checks the optimiser's running means, and detects an implementation that
does its work only every second call. The tests compare the array code itself with autograd and finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from bench_core import check
from bench_core.workload import HostArrays, Kernel, WrongAnswer

from .batches import Batch, distinct, order_of
from .functions import Array, Cache, cross_entropy, cross_entropy_backward
from .optimisers import Optimiser
from .weights import wide_weights

STEPS = 2  # a training kernel is checked after this many steps from the initial weights

# Bounds of the relative error ||C - R|| / ||R|| (and its variants below) for logits, gradients and losses. The lower
# bounds are larger than the error of the next more precise arithmetic: a row labelled TF32 must show TF32's rounding.
TOLERANCES = {
    ("float64", "ieee"): check.Tolerance(1e-10),
    ("float32", "ieee"): check.Tolerance(1e-4),
    ("float32", "tf32"): check.Tolerance(1e-2, low=2e-5),
    ("bfloat16", "ieee"): check.Tolerance(2e-2, low=2e-4),
    ("float32", "autocast_bfloat16"): check.Tolerance(2e-2, low=2e-4),
    ("float32", "autocast_float16"): check.Tolerance(1e-2, low=2e-5),
}
FAR = 0.1  # a larger error of loss or logits cannot be rounding in any format: nothing else is compared then
# In a network with ReLU, gradients may have a larger relative error than logits and losses, by these factors: over all
# tensors in IEEE arithmetic, over all tensors in narrower arithmetic, and in any single tensor in IEEE arithmetic.
# Largest errors measured on NumPy and torch (MLP, CNN and GAN of smoke, quick and standard, three seeds): float32 2.9 %
# over all tensors (bound 6 %) and 4.3 % in one (bound 20 %), in the GAN, whose generator learns from a discriminator
# that Adam has just updated; bfloat16 26 % over all tensors (bound 40 %). In bfloat16 a single tensor can be off by
# 62 %, so single tensors are checked in float32 rows only. Gradients that are too short are detected by their length.
RELU_FACTOR, RELU_FACTOR_NARROW, RELU_FACTOR_OF_ONE = 600, 20, 2000
# The same factor for running averages. The largest measured error is 1.3e-4: the GAN's discriminator, which is updated
# by Adam, then updates its averages from one more batch.
AVERAGE_FACTOR = 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest allowed deviation of a relative length from 1: of all tensors at once (all), of any one tensor (one)."""

    all: float
    one: float


@dataclass(frozen=True, slots=True)
class LastBounds:
    """Bounds of the last step.

    error: largest relative error of loss, logits and running averages. length: largest deviation from 1 of the relative
    length of the step and of the gradient, over all tensors at once.
    """

    error: float
    length: float


# Bounds of gradients and steps, by arithmetic and by whether the network has ReLUs. Largest deviations measured on
# NumPy and torch (smoke and quick, three seeds): IEEE 1e-4 in one tensor, with ReLU 3e-4 over all and 1.5 % in one;
# bfloat16 1.6 % in one, with ReLU 3.8 % over all and 23 % in one, too much for a useful bound.
LENGTHS = {
    ("ieee", False): Bounds(1e-2, 1e-2),
    ("ieee", True): Bounds(1e-2, 4e-2),
    ("narrow", False): Bounds(2e-2, 6e-2),
    ("narrow", True): Bounds(0.1, 0.8),
}
# Bounds of the last step, by arithmetic. Adam and batch norms amplify the rounding of the first step. Largest values
# measured: errors of 3.4e-3 in float32, and 0.6 % of the length (GAN of standard, four samples).
LAST = {"ieee": LastBounds(error=2e-2, length=0.1), "narrow": LastBounds(error=0.3, length=0.3)}
DECAY = 0.3  # allowed relative error of the weight decay; measured: 0.7 % in float32, 9 % in bfloat16
NEAR_ZERO = 0.1  # elements of a gradient below this fraction of its root mean square are ignored in a step
# The step of a single weight in float64 may have a larger relative error than logits, by this factor: Adam divides
# small gradients by their own size, which amplifies their rounding. Measured: 5.6e-10 of the largest step (torch, GPT
# of smoke).
STEP_FACTOR = 100
SMALL_GRADIENT = 1e-2  # errors of tensors below this fraction of the largest gradient are relative to this fraction


class Network(Protocol):
    """The interface of all classifiers here; a language model classifies the next token."""

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits and the cache."""

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A network with batch normalisation that gets each distinct sample once, for a batch with `copies` of each."""

    network: Any
    copies: int

    def forward(self, xp: Any, params: Mapping[str, Array], x: Array) -> tuple[Array, Cache]:
        """Return logits and the cache."""
        logits, cache = self.network.forward(xp, params, x, self.copies)
        return logits, cache

    def backward(self, xp: Any, grad: Array, cache: Cache) -> dict[str, Array]:
        """Return the gradient of every parameter; that of a mean does not change if all samples are repeated."""
        grads: dict[str, Array] = self.network.backward(xp, grad, cache)
        return grads


@dataclass(frozen=True, slots=True)
class Step:
    """The results of one step: loss and logits before the update, and the gradients by parameter name."""

    loss: Array
    logits: Array
    gradients: Mapping[str, Array]


def train_step(xp: Any, network: Network, optimiser: Optimiser, x: Array, targets: Array) -> Step:
    """Take one training step: forward pass, cross-entropy, backward pass, update of the weights in place.

    x: the network's inputs, one row per sample; targets: integer classes, in the shape of the logits without the last
    axis.
    """
    logits, cache = network.forward(xp, optimiser.params, x)
    loss, loss_cache = cross_entropy(xp, logits, targets)
    gradients = network.backward(xp, cross_entropy_backward(xp, loss_cache), cache)
    optimiser.update(gradients)
    return Step(loss, logits, gradients)


def least_bytes(parameters: int, itemsize: int, averages: int = 0) -> float:
    """Return the fewest bytes that a training step moves: itemsize * parameters * (5 + 2 averages).

    Each parameter is read by the forward pass, and read and written by the optimiser; its gradient is written and read:
    5. Each of the optimiser's `averages` (Adam: 2) is read and written. Activations are assumed to stay in a cache.
    """
    return float(itemsize * parameters * (5 + 2 * averages))


def training_kernel(
    step: Callable[..., Step],
    reset: Callable[[], None],
    batch: Batch,
    state: Callable[[], Mapping[str, Any]],
    samples: int,
) -> Kernel:
    """Return the kernel that takes one training step.

    reset: restores the initial weights and the optimiser. state: returns the current weights and running averages, by
    their names among the inputs. samples: the logits of this many samples, the first of the batch, are compared.
    """

    def run() -> Step:
        return step(*batch())

    def outputs(shown: Step) -> dict[str, Any]:
        gradients = {f"gradient.{name}": gradient for name, gradient in shown.gradients.items()}
        held = {f"{'average' if is_average(name) else 'weight'}.{name}": array for name, array in state().items()}
        return {"loss": shown.loss, "logits": shown.logits[:samples], **gradients, **held}

    return Kernel(run, inputs=batch.arrays, outputs=outputs, restart=reset, calls=STEPS, also_first=True)


def is_average(name: str) -> bool:
    """Whether the name is that of a running average, which a network updates but no optimiser trains."""
    return ".running_" in name


@dataclass(frozen=True, slots=True)
class Trained:
    """The reference of a training step, in float64.

    logits: of the first positions of the batch. before, after: all weights and running averages before and after the
    step. decay: the fraction of a weight that weight decay subtracts. last: the reference of the last of STEPS steps.
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
        """The names that a kernel's outputs must have."""
        held = {f"{'average' if is_average(name) else 'weight'}.{name}" for name in self.after}
        return {"loss", "logits", *held, *(f"gradient.{name}" for name in self.gradients)}


def trained(network: Network, optimiser: Callable[..., Optimiser], host: HostArrays) -> Trained:
    """Return the reference of a classifier's training on these inputs, computed in float64 on NumPy."""
    weights = wide_weights(host)
    wide = optimiser(np, weights)
    x, targets = distinct(host, "x"), distinct(host, "targets")
    x = x if x.dtype.kind in "iu" else x.astype(np.float64)  # token ids stay integers; bfloat16 is of kind "V"
    order = order_of(host, "x")
    return trace(lambda: train_step(np, network, wide, x, targets), weights, lambda: wide.params, order, wide.decay)


def trace(
    step: Callable[[], Step],
    before: Mapping[str, np.ndarray],
    state: Callable[[], Mapping[str, np.ndarray]],
    order: np.ndarray,
    decay: float = 0.0,
) -> Trained:
    """Take STEPS steps and return their results: the first step's, with the last step's in `last`.

    before: the initial weights and running averages, which no step may write to. state: returns the current ones.
    order: the index of the sample at each position of the batch. Each step must return new arrays of gradients.
    """
    reached: list[Trained] = []
    while len(reached) < STEPS:
        shown = step()
        after = dict(state())
        if len(reached) < STEPS - 1:  # the next step overwrites them
            after = {name: array.copy() for name, array in after.items()}
        logits = shown.logits[order[: len(shown.logits)]]
        reached.append(Trained(np.array(shown.loss), logits, shown.gradients, before, after, decay))
        before = after
    return replace(reached[0], last=reached[-1])


def largest_error(answer: Mapping[str, np.ndarray], expected: Trained, precision: str, *, relu: bool = False) -> float:
    """Return the largest relative error of the first step's outputs; check those of the last step (`last.`) separately.

    Logits and loss: ||a - r|| / ||r||, for answer a and reference r. If one of these errors exceeds FAR, it is returned
    and nothing else is compared.

    Gradients in IEEE arithmetic: the largest difference divided by the largest entry, tensor by tensor. Where the
    gradient nearly vanishes (that of key biases is exactly zero), the difference is divided by `SMALL_GRADIENT` of the
    largest gradient instead. Gradients in narrower arithmetic: the norm over all tensors at once.

    Gradients of a network with ReLU (`relu`) are discontinuous. Where rounding moves an input across zero, its gradient
    passes completely or not at all. If this happens to a fraction p of the inputs, the gradient's norm changes by about
    sqrt(p), far more than by rounding itself, on any backend. So the norm over all tensors is used, divided by
    `RELU_FACTOR` or `RELU_FACTOR_NARROW`. In IEEE arithmetic the norm of each tensor, divided by `RELU_FACTOR_OF_ONE`,
    is used as well, so that no tensor can be missing.

    These norms do not detect a gradient that is several percent too short. So the length of each gradient along the
    reference, and that of each weight's step, are checked separately: see `_require_lengths`.

    Of the last step only loss, logits, running averages and the length of the whole step are checked, with wider
    bounds: see `LAST`.

    Raise WrongAnswer if names, shapes or lengths differ.
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
    """Yield the errors of gradients, given pairs of answer and reference by name: see `largest_error`."""
    ieee = precision == "ieee"
    if ieee and not relu:
        largest = {name: _largest(r) for name, (_, r) in gradients.items()}
        floor = SMALL_GRADIENT * max(largest.values())
        yield from (_largest_difference(*pair) / max(largest[name], floor) for name, pair in gradients.items())
        return
    squares = {name: check.squares(*pair) for name, pair in gradients.items()}
    off, whole = (math.sqrt(sum(each)) for each in zip(*squares.values(), strict=True))
    factor = RELU_FACTOR if ieee else RELU_FACTOR_NARROW
    yield off / (whole or 1.0) / (factor if relu else 1)
    if ieee:
        sizes = {name: r.size for name, (_, r) in gradients.items()}
        errors = {name: math.sqrt(off / sizes[name]) for name, (off, _) in squares.items()}
        scales = {name: math.sqrt(whole / sizes[name]) for name, (_, whole) in squares.items()}
        floor = SMALL_GRADIENT * max(scales.values())
        yield from (errors[name] / max(scales[name], floor) / RELU_FACTOR_OF_ONE for name in gradients)


def _moved_error(answer: Mapping[str, np.ndarray], expected: Trained, name: str) -> float:
    """Return the error of a running average, relative to how far the step moved it, divided by AVERAGE_FACTOR."""
    before, after = expected.before[name], expected.after[name]
    return check.relative_error(answer[f"average.{name}"] - before, after - before) / AVERAGE_FACTOR


def _step_error(answer: Mapping[str, np.ndarray], expected: Trained, name: str) -> float:
    """Return the largest error of a weight, relative to the largest step of its tensor, divided by STEP_FACTOR."""
    before, after = expected.before[name], expected.after[name]
    return _largest_difference(answer[f"weight.{name}"], after) / _largest_difference(after, before) / STEP_FACTOR


def _require_lengths(answer: Mapping[str, np.ndarray], expected: Trained, precision: str, *, relu: bool) -> None:
    """Raise WrongAnswer if a gradient or a step has the wrong length, or if the weights did not decay.

    The length of `a` along the reference `r` is <a, r> / <r, r>, 1 if both are equal. Tensors whose gradient nearly
    vanishes are ignored, and so are elements of a step whose gradient does: Adam divides a gradient by its own size, so
    there rounding alone decides the direction of the step.
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
    # The difference to the reference along the weights themselves, as a fraction of the weight decay of one step.
    if expected.decay and abs(lacking := decay[0] / (expected.decay * decay[1])) > DECAY:
        raise WrongAnswer(f"weights decayed by {1 - lacking:.2g} times what they should have", code="wrong_training")


def _require_last(
    last: Mapping[str, np.ndarray], expected: Trained, first: Mapping[str, np.ndarray], precision: str
) -> None:
    """Raise WrongAnswer if the last step did not continue from the first one's result, or has the wrong length."""
    bounds = LAST["ieee" if precision == "ieee" else "narrow"]
    for name in ("loss", "logits"):
        error = check.relative_error(last[name], getattr(expected, name))
        if not error <= bounds.error:
            raise WrongAnswer(f"the {name} of the last step is off by {error:.2g}", error, code="wrong_training")
    step, length = np.zeros(2), np.zeros(2)
    for name, moved in _moved(expected).items():
        weight, start = last[f"weight.{name}"], first[f"weight.{name}"]
        step += _summed(_step_along, weight, start, expected.after[name], expected.before[name], moved)
        length += _summed(_along, last[f"gradient.{name}"], expected.gradients[name])
    _require_length("the last step", step, bounds.length)
    _require_length("the gradient of the last step", length, bounds.length)
    for name in filter(is_average, expected.after):
        if not (error := AVERAGE_FACTOR * _moved_error(last, expected, name)) <= bounds.error:
            raise WrongAnswer(f"{name} after the last step is off by {error:.2g}", error, code="wrong_training")


def _moved(expected: Trained) -> dict[str, np.ndarray]:
    """Return a mask of the elements with a gradient not near zero, for each tensor with a gradient not near zero."""
    scales = {name: _root_mean_square(r) for name, r in expected.gradients.items()}
    floor = SMALL_GRADIENT * max(scales.values())
    kept = {name: scale for name, scale in scales.items() if scale >= floor}
    return {name: np.abs(expected.gradients[name]) > NEAR_ZERO * scale for name, scale in kept.items()}


def _summed(products: Callable[..., tuple[np.ndarray, np.ndarray]], *arrays: np.ndarray) -> np.ndarray:
    """Return the sums (2) of the two arrays of products that `products` computes from `arrays`, block by block."""
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
    """Return the terms of <a, r> and <r, r> for the step a = weight - start and its reference r = after - before.

    moved: mask of the elements to use.
    """
    r = (after - before)[moved]
    return (weight.astype(np.float64) - start)[moved] * r, np.square(r)


def _decay_along(
    weight: np.ndarray, before: np.ndarray, after: np.ndarray, moved: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms of <a, r> and <r, r> for a = weight - after, the step's error, and r = before, the old weights.

    moved: mask of the elements to use.
    """
    r = before[moved]
    return (weight - after)[moved] * r, np.square(r)


def _require_length(what: str, products: np.ndarray, bound: float) -> None:
    along, whole = products
    if abs(along / whole - 1) > bound:
        raise WrongAnswer(f"{what} has {along / whole:.3g} times the expected length", code="wrong_training")


def _largest(array: np.ndarray) -> float:
    return float(max(array.max(), -array.min()))


def _largest_difference(given: np.ndarray, r: np.ndarray) -> float:
    return float(np.max([np.abs(a - b).max() for a, b in check.blocks(given, r)]))  # np.max keeps NaN, max() does not


def _root_mean_square(array: np.ndarray) -> float:
    return math.sqrt(sum(float(np.square(part).sum()) for (part,) in check.blocks(array)) / array.size)
