"""A training step in JAX: one program from the weights and a batch to the next weights; SGD and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bench_core.workload import Backend, HostArrays, Kernel, Work

from ..nn.batches import batch_of
from ..nn.training import training_kernel
from ..nn.weights import device_weights
from .programs import Program

Array = jax.Array
Params = Mapping[str, Array]
Forward = Callable[[Params, Array], Array]


class State(NamedTuple):
    """What a step changes: the parameters, and what the optimiser remembers."""

    params: dict[str, Array]
    memory: Any = ()


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
        """Return the state before the first step."""
        return State(params)

    def update(self, state: State, gradients: Mapping[str, Array]) -> State:
        """Return the state after a step along these gradients."""
        return State({name: w - self.rate * gradients[name] for name, w in state.params.items()})


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

    def update(self, state: State, gradients: Mapping[str, Array]) -> State:
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
        return State(params, (steps, means, squares))


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the mean over all rows of -log softmax(logits)[target]; logits (..., V), targets (...)."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
    return -picked.mean()


def train_step(forward: Forward, optimiser: Sgd | AdamW, state: State, x: Array, targets: Array) -> Step:
    """Take one training step: loss, gradients by `jax.value_and_grad`, update."""

    def loss_of(params: Params) -> tuple[Array, Array]:
        logits = forward(params, x)
        return cross_entropy(logits, targets), logits

    (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    return Step(loss, logits, gradients, optimiser.update(state, gradients))


class Trainer:
    """The state of a training; `step` replaces it and `reset` restores the first one."""

    def __init__(self, step: Callable[..., Step], first: State) -> None:
        self._step, self._first = step, first
        self.reset()

    def reset(self) -> None:
        """Restore the initial state, as copies: a step may take over their memory."""
        self._now = jax.tree.map(jnp.copy, self._first)

    def step(self, *batch: Array) -> Step:
        """Take a step."""
        done = self._step(self._now, *batch)
        self._now = done.state
        return done

    def state(self) -> dict[str, Array]:
        """Return the current weights."""
        return self._now.params


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

    def step(state: State, x: Array, targets: Array) -> Step:
        return train_step(forward, optimiser, state, x, targets)

    first = optimiser.start(device_weights(backend, host, work.dtype))
    batch = batch_of(backend, work, host)
    program = None if implementation == "eager" else Program(step, [first, *batch()], donated=[0])
    trainer = Trainer(program or step, first)
    kernel = training_kernel(trainer.step, trainer.reset, batch, trainer.state, samples)
    return replace(kernel, prepare=program.compile) if program else kernel
