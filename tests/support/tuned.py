"""What the tests of tuned forms share: operations with their inputs, and the workloads that have a tuned form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from bench_core.records import Preset, Work
from bench_core.workload import Workload
from benchmarks.nn import (
    activations,
    attention,
    convolution,
    dit,
    functions,
    normalisation,
    optimisers,
    recurrent,
)
from benchmarks.nn.tuned import Tuned
from tests.gpu import claims
from tests.support.nn import download, upload

Arrays = Mapping[str, Any]

# ---------------------------------------------------------------- operations


def drawn(rng: np.random.Generator, **shapes: Any) -> dict[str, np.ndarray]:
    """Return normally distributed float64 arrays; a shape may be an array already."""
    return {name: s if isinstance(s, np.ndarray) else rng.standard_normal(s) for name, s in shapes.items()}


def typed(arrays: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """Return copies of arrays, floating-point numbers in another type; operations may overwrite them."""
    return {name: array.astype(dtype if array.dtype == np.float64 else array.dtype) for name, array in arrays.items()}


def pair(forward: Any, backward: Any, *extra: Any, **options: Any) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """Return what calls a forward and its backward pass: all arrays but `grad` are arguments of the forward."""

    def run(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        grad = arrays.pop("grad")
        out, cache = forward(xp, *arrays.values(), *extra, **options)
        grads = backward(xp, grad, cache)
        return {"out": out, "grads": grads if isinstance(grads, tuple) else (grads,)}

    return run


def loss(forward: Any, backward: Any, *extra: Any) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    def run(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        out, cache = forward(xp, *arrays.values(), *extra)
        return {"out": out, "grads": (backward(xp, cache),)}

    return run


def scattered(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    functions.scatter_add(xp, *arrays.values())
    return {"out": arrays["total"]}


def embedded(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    return {"out": functions.embedding(xp, arrays["ids"], arrays["weight"])[0]}


def batch_normed(copies: int, xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    grad = arrays.pop("grad")
    out, cache = normalisation.batchnorm(xp, *arrays.values(), copies)
    averages = (arrays["mean"], arrays["variance"])
    return {"out": out, "grads": (*normalisation.batchnorm_backward(xp, grad, cache), *averages)}


def decoded(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """One query for each head, with the used part of a KV cache."""
    used = arrays["cache"].shape[-2] - 2
    keys, values = arrays["cache"][0][:, :, :used], arrays["cache"][1][:, :, :used]
    return {"out": attention.attention(xp, arrays["q"], keys, values, causal=True)[0]}


def transposed_backward(xp: Any, grad: Any, cache: Any) -> tuple[Any, ...]:
    """Return both gradients, and that of the weight once more: a first layer asks for it alone."""
    both = convolution.conv_transpose2d_backward(xp, grad, cache)
    return *both, convolution.conv_transpose2d_weight_backward(xp, grad, cache)


def extended(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Fewer queries than keys: those of the last tokens."""
    return {"out": attention.attention(xp, *arrays.values(), causal=True)[0]}


def attended(causal: bool, xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Attention between heads that are views of one projection, as in a network."""
    heads = attention.split_heads(arrays["qkv"], 3)
    out, cache = attention.attention(xp, *heads, causal=causal)
    grad = arrays["grad"].reshape(*arrays["grad"].shape[:2], 3, -1).transpose(0, 2, 1, 3)
    return {"out": out, "grads": attention.attention_backward(xp, grad, cache)}


def recurred(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    return {"out": recurrent.lstm(xp, arrays.pop("x"), arrays)}


def called(function: Any, *names: str, **options: Any) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """Return what calls an operation without a backward pass; names: the arrays that it changes, else its result."""

    def run(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        out = function(xp, *arrays.values(), **options)
        return {name: arrays[name] for name in names} if names else {"out": out}

    return run


def adam(xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    optimisers.adamw(xp, *arrays.values(), (0.999, 0.9, 0.99, 1e-2, 0.3, 1e-8))
    return {name: arrays[name] for name in ("vector", "mean", "square")}


LSTM = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
IMAGES = {  # kernel, stride, padding
    "3x3": (3, 1, 1), "strided": (3, 2, 1), "4x4": (4, 2, 1), "1x1": (1, 1, 0), "1x1-strided": (1, 2, 0),
    "whole": (4, 1, 0),
}  # fmt: skip


def operations(rng: np.random.Generator, rows: int, width: int) -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    """Return what calls each operation, and its inputs in float64: rows and width of what has rows."""
    x, twice, channels = (rows, width), (2, rows, width), rng.standard_normal(width)
    norm, ids = {"weight": channels, "bias": channels + 1}, rng.integers(5, size=(2, rows))
    image, per_channel = (3, 2, rows, width), {"weight": (3,), "bias": (3,)}
    averages = {"mean": (3,), "variance": rng.random(3)}
    positive, square = {"square": rng.random(width)}, partial(drawn, rng)
    a, f, n = activations, functions, normalisation
    return {
        "linear": (pair(f.linear, f.linear_backward), square(x=twice, weight=(4, width), bias=(4,), grad=(2, rows, 4))),
        "cross_entropy": (
            loss(f.cross_entropy, f.cross_entropy_backward),
            square(logits=twice, targets=rng.integers(width, size=(2, rows))),
        ),
        "embedding": (embedded, square(ids=ids, weight=(5, width))),
        "scatter_add": (scattered, square(total=(5, width), ids=ids, values=twice)),
        "relu": (pair(a.relu, a.relu_backward), square(x=x, grad=x)),
        "leaky_relu": (pair(a.leaky_relu, a.leaky_relu_backward), square(x=x, grad=x)),
        "tanh": (pair(a.tanh, a.tanh_backward), square(x=x, grad=x)),
        "sigmoid": (called(a.sigmoid), square(x=x)),
        "gelu": (pair(a.gelu, a.gelu_backward), square(x=twice, grad=twice)),
        "binary_cross_entropy": (
            loss(a.binary_cross_entropy, a.binary_cross_entropy_backward, 1.0), square(logits=(1, rows, 1, width))
        ),
        "softmax": (pair(attention.softmax, attention.softmax_backward), square(x=twice, grad=twice)),
        "normalise": (called(n.normalise, epsilon=n.EPSILON), square(x=twice)),
        "layernorm": (pair(n.layernorm, n.layernorm_backward), square(x=twice, **norm, grad=twice)),
        "batchnorm": (partial(batch_normed, 3), square(x=image, **per_channel, **averages, grad=image)),
        "batchnorm_inference": (called(n.batchnorm_inference), square(x=image, **per_channel, **averages)),
        "modulated": (called(dit.modulated), square(x=twice, shift=(2, 1, width), scale=(2, 1, width))),
        "gated": (called(dit.gated), square(x=twice, added=twice, gate=(2, 1, width))),
        "sgd": (called(optimisers.sgd, "vector", rate=0.1), square(vector=(width,), grad=(width,))),
        "adamw": (adam, square(vector=(width,), mean=(width,), **positive, grad=(width,))),
    }  # fmt: skip


def fixed_operations(rng: np.random.Generator) -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    """Return the same of operations on other shapes."""
    c, square = convolution, partial(drawn, rng)
    found: dict[str, tuple[Any, dict[str, np.ndarray]]] = {
        "attention": (partial(attended, False), square(qkv=(2, 7, 36), grad=(2, 7, 12))),
        "attention-causal": (partial(attended, True), square(qkv=(2, 7, 36), grad=(2, 7, 12))),
        "attention-decode": (decoded, square(q=(2, 3, 1, 4), cache=(2, 2, 3, 9, 4))),
        "attention-extend": (extended, square(q=(2, 3, 2, 4), k=(2, 3, 5, 4), v=(2, 3, 5, 4))),
        "lstm": (recurred, square(x=(2, 4, 3), **LSTM)),
    }
    for name, (kernel, stride, padding) in IMAGES.items():
        rows, columns = (c.output_size(side, kernel, stride, padding) for side in (6, 5))
        places, image = 2 * rows * columns, (3, 2, 6, 5)
        options = {"kernel": kernel, "stride": stride, "padding": padding}
        found |= {
            f"unfold-{name}": (called(c.unfold, fill=-1.5, **options), square(x=image)),
            f"fold-{name}": (called(c.fold, shape=image, **options), square(patches=(3 * kernel**2, places))),
            f"conv2d-{name}": (
                pair(c.conv2d, c.conv2d_backward, stride, padding),
                square(x=image, weight=(4, 3, kernel, kernel), grad=(4, 2, rows, columns)),
            ),
        }
        if kernel > 1:
            height, across = ((side - 1) * stride + kernel - 2 * padding for side in (6, 5))
            found |= {
                f"conv_transpose2d-{name}": (
                    pair(c.conv_transpose2d, transposed_backward, stride, padding),
                    square(x=image, weight=(3, 4, kernel, kernel), grad=(4, 2, height, across)),
                ),
                f"conv_transpose2d-weight-{name}": (
                    pair(c.conv_transpose2d, c.conv_transpose2d_weight_backward, stride, padding),
                    square(x=image, weight=(3, 4, kernel, kernel), grad=(4, 2, height, across)),
                ),
                f"max_pool-{name}": (
                    pair(c.max_pool, c.max_pool_backward, kernel, stride, padding),
                    square(x=image, grad=(3, 2, rows, columns)),
                ),
            }
    return found


BOUNDS = {"float64": 1e-11, "float32": 2e-5}  # of the largest difference, beside the largest value or 1


def results(xp: Any, run: Any, inputs: Arrays, dtype: str) -> list[np.ndarray]:
    """Return all that an operation computes, as host arrays."""
    module = xp.module if isinstance(xp, Tuned) else xp
    made = run(xp, upload(module, typed(inputs, dtype)))
    flat = [part for value in made.values() for part in (value if isinstance(value, tuple) else (value,))]
    return [np.array(download(module, part)) for part in flat]


def require_equal(xp: Tuned, run: Any, inputs: Arrays, dtype: str) -> None:
    """Fail unless the forms give what the plain ones give in float64 on NumPy, in the type of the inputs."""
    own, plain = results(xp, run, inputs, dtype), results(np, run, inputs, "float64")
    assert [array.shape for array in own] == [array.shape for array in plain]
    for mine, expected in zip(own, plain, strict=True):
        assert mine.dtype == dtype
        bound = BOUNDS[dtype] * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(mine, expected, rtol=0, atol=bound)


# ---------------------------------------------------------------- workloads


def workloads(backend: str) -> list[Workload]:
    """Return the models and layers that have a tuned form for a backend."""
    return [each for each in claims.workloads() if each.suite == "model" and "tuned" in each.kernels.get(backend, {})]


def works(workload: Any) -> Iterator[Work]:
    """Yield the work of smoke's size in float32 and float64; some workloads have one that the preset leaves out."""
    if hasattr(workload, "variant"):
        work = workload.variant(*workload.presets[Preset.SMOKE])
    else:
        shape = workload.sizes[Preset.SMOKE]
        work = workload.work("smoke", "float32", **dict(zip(workload.axes, shape, strict=True)))
    yield from (replace(work, dtype=dtype) for dtype in ("float32", "float64"))
