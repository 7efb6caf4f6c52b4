"""The diffusion Transformer in JAX: one denoising step per program, or all steps in one by `lax.scan`."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench_core.workload import Backend, HostArrays, Kernel, Scope, Work

from ..bench_diffusion import BATCH, network, outputs
from ..nn.batches import batch_of
from ..nn.dit import EPSILON, Dit, Schedule
from ..nn.names import scoped
from ..nn.weights import device_weights
from .functions import Array, Params, attention, for_products, linear, normalise, product_format
from .gpt import heads_of, merged, perceptron
from .programs import Program

Reached = tuple[Array, Array]  # the latents after a step, and the sigma that was predicted in it


def predict(net: Dit, params: Params, latents: Array, wave: Array, labels: Array) -> Array:
    """Return noise and sigma, (B, 2 C, pixels, pixels), for latents (B, C, pixels, pixels): see `Dit.predict`."""
    x = linear(net.patchify(latents), params, "patch_embedding") + params["positions"]
    hidden = jax.nn.silu(linear(wave, params, "time.0"))
    # Every modulation applies SiLU to the same conditioning first: it is computed once.
    conditioning = jax.nn.silu(linear(hidden, params, "time.2") + params["labels.weight"][labels])
    for i in range(net.layers):
        x = block(x, conditioning, scoped(params, f"blocks.{i}"), net.heads)
    shift, scale = modulation(conditioning, params, 2)
    return net.unpatchify(linear(modulated(x, shift, scale), params, "head"))


def block(x: Array, conditioning: Array, params: Params, heads: int) -> Array:
    """Return the stream x (B, T, C) after one block, for conditioning (B, C) after SiLU."""
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(conditioning, params, 6)
    attended = attention(*heads_of(modulated(x, shift1, scale1), params, heads))
    x = x + gate1 * linear(merged(attended), params, "attention.out")
    return x + gate2 * perceptron(modulated(x, shift2, scale2), params)


def modulation(conditioning: Array, params: Params, parts: int) -> list[Array]:
    """Return `parts` shifts, scales and gates (B, 1, C) for conditioning (B, C)."""
    return jnp.split(linear(conditioning, params, "modulation.1")[:, None], parts, axis=-1)


def modulated(x: Array, shift: Array, scale: Array) -> Array:
    """Return n (1 + scale) + shift (B, T, C), where n is x normalised over its channels."""
    return normalise(x, EPSILON) * (1 + scale) + shift


def denoise(net: Dit, params: Params, latents: Array, labels: Array, wave: Array, keep: Array, share: Array) -> Reached:
    """Take one step: x' = keep x + share e, where e is the predicted noise (`Schedule`)."""
    noise, sigma = jnp.split(predict(net, params, latents, wave, labels).astype(latents.dtype), 2, axis=1)
    return keep * latents + share * noise, sigma


def with_products_in(dtype: str | None, params: Params) -> Params:
    """Return the parameters with all factors of products in `dtype`, if any. What is added or looked up stays."""
    return {**for_products(params, dtype), **{name: params[name] for name in ("positions", "labels.weight")}}


def one_step(net: Dit, products: str | None, params: Params, latents: Array, labels: Array, *now: Array) -> Reached:
    """Take one step, as `denoise`. products: as in `with_products_in`."""
    return denoise(net, with_products_in(products, params), latents, labels, *now)


def all_steps(net: Dit, products: str | None, params: Params, noise: Array, labels: Array, *schedule: Array) -> Reached:
    """Take all steps of a schedule, whose arrays have a row for each. The weights are cast once for all of them."""
    params = with_products_in(products, params)

    def step(before: Reached, now: tuple[Array, ...]) -> tuple[Reached, None]:
        return denoise(net, params, before[0], labels, *now), None

    reached: Reached
    reached, _ = lax.scan(step, (noise, jnp.zeros_like(noise)), schedule)
    return reached


def steps(implementation: str, backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel that runs the steps of a work: a program call for each, or one for all (`scan`).

    The compile_time is that of the step, or of the loop.
    """
    ddim, runs = Schedule.ddim(work["steps"], work.dtype), work["runs"]
    schedule = [np.asarray(rows[:runs], work.dtype) for rows in (ddim.waves, ddim.keep, ddim.noise)]
    params, batch = device_weights(backend, host), batch_of(backend, work, host, BATCH)
    shape = network(work), product_format(work)
    if implementation == "scan":
        whole = [backend.from_host(rows) for rows in schedule]
        program = Program(partial(all_steps, *shape), [params, *batch(), *whole])

        def run() -> Reached:
            reached: Reached = program(params, *batch(), *whole)
            return reached

    else:
        each = [[backend.from_host(row) for row in now] for now in zip(*schedule, strict=True)]
        # The latents are donated from step to step. The first ones are the noise: one that was not uploaded by this
        # call is read again by the next.
        donates = runs > 1
        copies = donates and work.scope is Scope.RESIDENT
        program = Program(partial(one_step, *shape), [params, *batch(), *each[0]], donated=[1] if donates else [])

        def run() -> Reached:
            latents, labels = batch()
            latents = jnp.copy(latents) if copies else latents
            for now in each:
                latents, sigma = program(params, latents, labels, *now)
            return latents, sigma

    return Kernel(run, inputs=batch.arrays, outputs=outputs, prepare=program.compile)
