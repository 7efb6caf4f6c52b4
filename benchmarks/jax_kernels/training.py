"""A training step in JAX: one program from the weights and a batch to the next weights; SGD and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..nn.batches import Batch, batch_of
from ..nn.training import is_average, training_kernel
from ..nn.weights import device_weights
from .functions import Array, Params, product_format, widened
from .programs import Program

# (parameters, running averages, x) -> (logits, new running averages)
Forward = Callable[[Params, Params, Array], tuple[Array, dict[str, Array]]]

# Loss scale of float16, as for PyTorch (benchmarks/nn/modules/training.py).
SCALE = 1024.0


class State(NamedTuple):
    """What a step changes: the parameters, what the optimiser remembers, and the running averages of batch norms."""

    params: dict[str, Array]
    memory: Any = ()
    averages: dict[str, Array] = {}  # noqa: RUF012 - nothing writes to it


class Step(NamedTuple):
    """The results of a step: the loss and the logits before it, the gradients, and the state after it.

    A pytree, so that all of it can be awaited.
    """

    loss: Array
    logits: Array
    gradients: dict[str, Array]
    state: State


class Sgd(NamedTuple):
    """Stochastic gradient descent without momentum: w -= rate g."""

    rate: float

    def start(self, params: dict[str, Array]) -> State:
        """Return the state before the first step; none is remembered."""
        return State(params)

    def update(self, state: State, gradients: Params) -> State:
        """Return the state after a step along these gradients."""
        return state._replace(params={name: w - self.rate * gradients[name] for name, w in state.params.items()})


class AdamW(NamedTuple):
    """Adam with decoupled weight decay; formulas, defaults and source as in benchmarks/nn/optimisers.py."""

    rate: float
    decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self, params: dict[str, Array]) -> State:
        """Return the state before the first step: no step, both averages zero."""
        zeros = jax.tree.map(jnp.zeros_like, params)
        first = next(iter(params.values()))
        return State(params, (jnp.zeros((), first.dtype), zeros, jax.tree.map(jnp.copy, zeros)))

    def update(self, state: State, gradients: Params) -> State:
        """Return the state after a step along these gradients."""
        steps, means, squares = state.memory
        steps = steps + 1
        means = {name: self.beta1 * m + (1 - self.beta1) * gradients[name] for name, m in means.items()}
        squares = {name: self.beta2 * v + (1 - self.beta2) * gradients[name] ** 2 for name, v in squares.items()}
        rate, correction = self.rate / (1 - self.beta1**steps), jnp.sqrt(1 - self.beta2**steps)
        params = {
            name: w * (1 - self.rate * self.decay)
            - rate * means[name] / (jnp.sqrt(squares[name]) / correction + self.epsilon)
            for name, w in state.params.items()
        }
        return state._replace(params=params, memory=(steps, means, squares))


def started(optimiser: Sgd | AdamW, weights: Mapping[str, Array]) -> State:
    """Return the state before the first step, with copies of the weights and running averages of a network.

    Copies, because a step takes over the memory of its state.
    """
    trained = {name: jnp.copy(array) for name, array in weights.items() if not is_average(name)}
    averages = {name: jnp.copy(array) for name, array in weights.items() if is_average(name)}
    return optimiser.start(trained)._replace(averages=averages)


def without_averages(forward: Callable[[Params, Array], Array]) -> Forward:
    """Return the forward pass of a network without batch norms in the form that `train_step` calls."""
    return lambda params, averages, x: (forward(params, x), dict(averages))


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the mean over all rows of -log softmax(logits)[target]; logits (..., V), targets (...).

    It is computed in float32 if the logits are in a narrower format.
    """
    picked = jnp.take_along_axis(jax.nn.log_softmax(widened(logits)), targets[..., None], axis=-1)
    return -picked.mean()


def train_step(
    forward: Forward, optimiser: Sgd | AdamW, scale: float | None, state: State, x: Array, targets: Array
) -> Step:
    """Take one training step: loss, gradients by `jax.value_and_grad`, update. scale: of the loss, for float16."""

    def loss_of(params: Params) -> tuple[Array, tuple[Array, Array, dict[str, Array]]]:
        logits, averages = forward(params, state.averages, x)
        loss = cross_entropy(logits, targets)
        return loss if scale is None else scale * loss, (loss, logits, averages)

    gradients, (loss, logits, averages) = jax.grad(loss_of, has_aux=True)(state.params)
    if scale is not None:
        gradients = jax.tree.map(lambda gradient: gradient / scale, gradients)
    after = optimiser.update(state, gradients)
    if scale is not None:
        after = _unless_overflown(gradients, after, state)
    return Step(loss, logits, gradients, after._replace(averages=averages))


def _unless_overflown(gradients: Params, after: State, before: State) -> State:
    """Return the state after a step, or the one before it if any gradient is infinite or NaN."""
    finite = jnp.stack([jnp.isfinite(gradient).all() for gradient in gradients.values()]).all()
    return jax.tree.map(partial(jnp.where, finite), after, before)


class Trainer:
    """The state of a training; `step` replaces it and `reset` makes the first one again."""

    def __init__(self, step: Callable[..., Step], start: Callable[[], Any]) -> None:
        self._step, self._start, self._now = step, start, start()

    def reset(self) -> None:
        """Begin again."""
        self._now = None  # its memory is free before that of the next is asked for
        self._now = self._start()

    def step(self, *batch: Array) -> Step:
        """Take a step."""
        done = self._step(self._now, *batch)
        self._now = done.state
        return done

    def state(self) -> dict[str, Array]:
        """Return the current weights and running averages."""
        return {**self._now.params, **self._now.averages}


def train_kernel(
    implementation: str,
    backend: Backend,
    work: Work,
    host: HostArrays,
    forward: Forward,
    optimiser: Sgd | AdamW,
    samples: int,
) -> Kernel:
    """Return the kernel of a training step. samples: as in `nn.training.training_kernel`.

    The state is donated: a step writes the next weights into the memory of the last ones. `eager` calls the operations
    one by one, and donates nothing.
    """
    step = partial(train_step, forward, optimiser, SCALE if product_format(work) == "float16" else None)
    start = partial(started, optimiser, device_weights(backend, host, work.dtype))
    return trainer_kernel(step, start, batch_of(backend, work, host), samples, implementation)


def trainer_kernel(
    step: Callable[..., Step], start: Callable[[], Any], batch: Batch, samples: int, implementation: str = "default"
) -> Kernel:
    """Return the kernel of a step(state, *batch) that begins with the state start(): see `train_kernel`."""
    like = [jax.eval_shape(start), *batch()]
    program = None if implementation == "eager" else Program(step, like, donated=[0])
    trainer = Trainer(program or step, start)
    kernel = training_kernel(trainer.step, trainer.reset, batch, trainer.state, samples)
    return replace(kernel, prepare=program.compile) if program else kernel
