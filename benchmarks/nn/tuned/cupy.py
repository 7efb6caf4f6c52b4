"""The forms for CuPy: one kernel for what the plain form needs several for.

In the plain form each array operation is a kernel. It reads its operands from memory and writes its result there, and
its launch costs the host several microseconds. Most of these operations do little arithmetic, so memory or launches set
their time. A form here saves both: it computes all that it can while a value is in a register.

The forms are made of what CuPy offers for that:

    ElementwiseKernel   one C++ expression for each element, with broadcasting and several results. An output may be
                        read before it is written: an update in place.
    ReductionKernel     an expression for each element, one that combines two values, and one for each result. A value
                        may be a struct: two sums in one pass.

`cupy.fuse` makes such kernels out of Python functions. It is not used: it can neither index (embedding, cross-entropy)
nor reduce two sums at once, and each call runs more Python. A `RawKernel` could do more (normalise a row that it holds
in registers, never store attention's scores), but then the rows would show our CUDA, not CuPy.

CuPy gives the threads of one block to a result of a reduction, or to a few. So a reduction to few results would leave
most of a GPU idle: such sums are taken in two steps, of parts and then of their results (`_parts`).

Products stay cuBLAS's; batches of them go to it without copies (benchmarks/cublas.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...cublas import batched_product, readable
from .. import activations
from ..convolution import output_size
from ..functions import Array, Cache, linear
from ..normalisation import EPSILON, MOMENTUM
from . import Form, rows_of

PARTS = 64  # parts of a reduction to few results: with 32 columns a block, a width of 256 is then 512 blocks
LONG = 1024  # a reduction over fewer values is not cut into parts: a second launch would cost more than it saves


@dataclass(frozen=True)
class Elementwise:
    """The source of an ElementwiseKernel, compiled at its first call. Numbers among the arguments take the type T."""

    name: str
    inputs: str
    outputs: str
    body: str

    def __call__(self, xp: Any, *arguments: Any) -> Any:
        return _elementwise(xp.module, self)(*arguments)


@dataclass(frozen=True)
class Reduction:
    """The source of a ReductionKernel, compiled at its first call. Several outputs must be given.

    CuPy computes a kernel of one input and one output by CUB, where it can. It then renames both in its expressions,
    wherever their letters occur: with an input `x` it would rename a part of `exp`. So their names are whole words.
    """

    name: str
    inputs: str
    outputs: str
    each: str
    combine: str
    result: str
    identity: str
    type: str | None = None
    preamble: str = ""

    def __call__(self, xp: Any, *arguments: Any, axis: int, keepdims: bool = False) -> Any:
        return _reduction(xp.module, self)(*arguments, axis=axis, keepdims=keepdims)


@functools.cache
def _elementwise(cupy: Any, source: Elementwise) -> Any:
    return cupy.ElementwiseKernel(source.inputs, source.outputs, source.body, f"bench_{source.name}")


@functools.cache
def _reduction(cupy: Any, source: Reduction) -> Any:
    return cupy.ReductionKernel(
        source.inputs, source.outputs, source.each, source.combine, source.result, source.identity,
        f"bench_{source.name}", source.type, preamble=source.preamble,
    )  # fmt: skip


PAIR = """
struct Pair { T first, second; };
__device__ Pair sum(const Pair& a, const Pair& b) {
    return Pair{a.first + b.first, a.second + b.second};
}
"""

# Moments of a set of values: their number, their mean, and the sum of squares of their distances to it. Those of two
# sets give those of their union without cancellation (Chan, Golub and LeVeque, "Algorithms for computing the sample
# variance", 1983). So one pass gives a variance as exact as that of two passes.
MOMENTS = """
struct Moments { T count, mean, squares; };
__device__ Moments united(const Moments& a, const Moments& b) {
    T count = a.count + b.count;
    T share = b.count / max(count, T(1));
    T apart = b.mean - a.mean;
    return Moments{count, a.mean + apart * share, a.squares + b.squares + apart * apart * a.count * share};
}
"""


def _parts(length: int) -> int:
    """Return into how many equal parts a sum over so many values is cut."""
    return math.gcd(length, PARTS) if length >= LONG else 1


def _pair(xp: Any, like: Array, *shape: int) -> tuple[Array, Array]:
    """Return two empty arrays."""
    return xp.empty(shape, dtype=like.dtype), xp.empty(shape, dtype=like.dtype)


# ---------------------------------------------------------------- linear layers, losses


def linear_parameters_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array]:
    """Sum the bias's gradient in two steps."""
    rows, _ = cache
    grad = rows_of(grad)
    parts = _parts(len(grad))
    dbias = grad.reshape(parts, -1, grad.shape[-1]).sum(axis=1)
    return grad.T @ rows, dbias.sum(axis=0) if parts > 1 else dbias[0]


# Two plain reductions. One that keeps largest value and sum together, as a logarithm, would read the logits once less.
# But rounding a logarithm costs exactness where logits are large.
LARGEST = Reduction("largest", "T x", "T top", "x", "max(a, b)", "top = a", "T(-CUDART_INF)")
EXPONENTIALS = Reduction("exponentials", "T x, T top", "T total", "exp(x - top)", "a + b", "total = a", "0")
LOSS = Elementwise(
    "loss", "raw T logits, T top, T total, I target, int64 width", "T loss, int64 place",
    "place = i * width + target; loss = top + log(total) - logits[place]",
)  # fmt: skip
LOSS_BACKWARD = Elementwise(
    "loss_backward", "T x, T top, T total, int64 place, T rows", "T dx",
    "dx = (exp(x - top) / total - (i == place ? T(1) : T(0))) / rows",
)  # fmt: skip


def _exponentials(xp: Any, rows: Array) -> tuple[Array, Array]:
    """Return the largest value of each row, and the sum of exp(x - largest), (rows, 1) each."""
    top, total = _pair(xp, rows, len(rows), 1)
    LARGEST(xp, rows, top, axis=-1, keepdims=True)
    EXPONENTIALS(xp, rows, top, total, axis=-1, keepdims=True)
    return top, total


def cross_entropy(xp: Any, logits: Array, targets: Array) -> tuple[Array, Cache]:
    """Read logits twice, for log(sum(exp(z))); -log softmax(z)[t] is that minus z_t. No probabilities are stored."""
    rows = rows_of(logits)
    top, total = _exponentials(xp, rows)
    losses, places = LOSS(xp, rows, top[:, 0], total[:, 0], targets.reshape(-1), rows.shape[-1])
    return losses.mean(), (rows, top, total, places, logits.shape)


def cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """Compute the probabilities, subtract 1 at the targets and divide by the rows, in one pass over the logits."""
    rows, top, total, places, shape = cache
    return LOSS_BACKWARD(xp, rows, top, total, places[:, None], len(rows)).reshape(shape)


# ---------------------------------------------------------------- activations

RELU_BACKWARD = Elementwise("relu_backward", "T grad, T out", "T dx", "dx = out > 0 ? grad : T(0)")
LEAKY_RELU = Elementwise("leaky_relu", "T x, T slope", "T out", "out = x > 0 ? x : slope * x")
LEAKY_RELU_BACKWARD = Elementwise(
    "leaky_relu_backward", "T grad, T x, T slope", "T dx", "dx = x > 0 ? grad : slope * grad"
)
TANH_BACKWARD = Elementwise("tanh_backward", "T grad, T out", "T dx", "dx = grad * (1 - out * out)")
SIGMOID = Elementwise("sigmoid", "T x, T half", "T out", "out = half + half * tanh(half * x)")
GELU = Elementwise(
    "gelu", "T x, T root, T cubic, T half", "T out", "out = half * x * (1 + tanh(root * x * (1 + cubic * x * x)))"
)
GELU_BACKWARD = Elementwise(
    "gelu_backward", "T grad, T x, T root, T cubic, T half", "T dx",
    """
    T t = tanh(root * x * (1 + cubic * x * x));
    T slope = root * (1 + 3 * cubic * x * x);
    dx = grad * half * (1 + t + x * (1 - t * t) * slope)
    """,
)  # fmt: skip
_GELU = (activations.ROOT, activations.CUBIC, 0.5)


def relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """One kernel, without an array of booleans."""
    return RELU_BACKWARD(xp, grad, *cache)


def leaky_relu(xp: Any, x: Array, slope: float = 0.2) -> tuple[Array, Cache]:
    """One kernel."""
    return LEAKY_RELU(xp, x, slope), (x, slope)


def leaky_relu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """One kernel, without an array of booleans."""
    return LEAKY_RELU_BACKWARD(xp, grad, *cache)


def tanh_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """One kernel."""
    return TANH_BACKWARD(xp, grad, *cache)


def sigmoid(xp: Any, x: Array) -> Array:
    """One kernel."""
    return SIGMOID(xp, x, 0.5)


def gelu(xp: Any, x: Array) -> tuple[Array, Cache]:
    """One kernel. tanh(u) is not stored: computing it again costs less than reading it."""
    return GELU(xp, x, *_GELU), (x,)


def gelu_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """One kernel."""
    return GELU_BACKWARD(xp, grad, *cache, *_GELU)


BINARY_LOSS = Reduction(
    "binary_loss", "T x, T target, T size", "T loss", "max(x, T(0)) - x * target + log1p(exp(-fabs(x)))",
    "a + b", "loss = a / size", "0",
)  # fmt: skip
BINARY_LOSS_BACKWARD = Elementwise(
    "binary_loss_backward", "T x, T target, T size, T half", "T dx",
    "dx = (half + half * tanh(half * x) - target) / size",
)  # fmt: skip


def binary_cross_entropy(xp: Any, logits: Array, target: float) -> tuple[Array, Cache]:
    """One kernel: there is one logit per image, so launches are all that counts."""
    return BINARY_LOSS(xp, logits.reshape(-1), target, logits.size, axis=0), (logits, target)


def binary_cross_entropy_backward(xp: Any, cache: Cache) -> Array:
    """One kernel."""
    logits, target = cache
    return BINARY_LOSS_BACKWARD(xp, logits, target, logits.size, 0.5)


# ---------------------------------------------------------------- normalisation

STATISTICS = Reduction(
    "statistics", "T x, T width, T epsilon", "T centre, T inverse", "Moments{T(1), x, T(0)}", "united(a, b)",
    "centre = a.mean, inverse = rsqrt(a.squares / width + epsilon)", "Moments{T(0), T(0), T(0)}", "Moments", MOMENTS,
)  # fmt: skip
NORMALISE = Elementwise(
    "normalise", "T x, T centre, T inverse, T weight, T bias", "T out", "out = (x - centre) * inverse * weight + bias"
)
MODULATE = Elementwise(
    "modulate", "T x, T centre, T inverse, T scale, T shift", "T out",
    "out = (x - centre) * inverse * (1 + scale) + shift",
)  # fmt: skip
ALONG_ROWS = Reduction(
    "along_rows", "T grad, T x, T centre, T inverse, T weight, T width", "T of_h, T of_hn",
    "Pair{grad * weight, grad * weight * (x - centre) * inverse}", "sum(a, b)",
    "of_h = a.first / width, of_hn = a.second / width", "Pair{T(0), T(0)}", "Pair", PAIR,
)  # fmt: skip
OF_PARAMETERS = Reduction(
    "of_parameters", "T grad, T x, T centre, T inverse", "T dweight, T dbias",
    "Pair{grad * (x - centre) * inverse, grad}", "sum(a, b)", "dweight = a.first, dbias = a.second",
    "Pair{T(0), T(0)}", "Pair", PAIR,
)  # fmt: skip
OF_PARTS = Reduction(
    "of_parts", "T first, T second", "T left, T right", "Pair{first, second}", "sum(a, b)",
    "left = a.first, right = a.second", "Pair{T(0), T(0)}", "Pair", PAIR,
)  # fmt: skip
LAYERNORM_BACKWARD = Elementwise(
    "layernorm_backward", "T grad, T x, T centre, T inverse, T weight, T of_h, T of_hn", "T dx",
    "dx = (grad * weight - of_h - (x - centre) * inverse * of_hn) * inverse",
)  # fmt: skip


def _statistics(xp: Any, rows: Array, epsilon: float) -> tuple[Array, Array]:
    """Return mean and 1 / sqrt(variance + epsilon) of each row, (rows, 1) each, from one pass."""
    # The numbers of two rows do not lie side by side: CuPy gives the threads of a warp to results that do in any input
    # (`_get_contiguous_size` in cupy/_core/_reduction.pyx). So ALONG_ROWS reads whole rows, 1.4 to 1.6 times as fast at
    # widths of 768 and 1024 (H100; 0.84 times at 384). The sums of a softmax are faster without such gaps.
    both = xp.empty((len(rows), 2), dtype=rows.dtype)
    centre, inverse = both[:, :1], both[:, 1:]
    STATISTICS(xp, rows, rows.shape[-1], epsilon, centre, inverse, axis=-1, keepdims=True)
    return centre, inverse


def layernorm(xp: Any, x: Array, weight: Array, bias: Array) -> tuple[Array, Cache]:
    """Read x twice and write once: statistics in one pass, then all the rest. Normalised values are not stored."""
    rows = rows_of(x)
    centre, inverse = _statistics(xp, rows, EPSILON)
    out = NORMALISE(xp, rows, centre, inverse, weight, bias)
    return out.reshape(x.shape), (rows, centre, inverse, weight)


def layernorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Read gradient and x three times: both means of each row, dL/dx, and both sums over the rows."""
    rows, centre, inverse, weight = cache
    shape, grad = grad.shape, rows_of(grad)
    (count, width), parts = rows.shape, _parts(len(rows))
    means = _pair(xp, grad, count, 1)
    ALONG_ROWS(xp, grad, rows, centre, inverse, weight, width, *means, axis=-1, keepdims=True)
    dx = LAYERNORM_BACKWARD(xp, grad, rows, centre, inverse, weight, *means)
    sums = _pair(xp, grad, parts, width)
    cut = (array.reshape(parts, count // parts, -1) for array in (grad, rows, centre, inverse))
    OF_PARAMETERS(xp, *cut, *sums, axis=1)
    return dx.reshape(shape), *_sums_of_parts(xp, sums, axis=0)


def modulated(xp: Any, x: Array, shift: Array, scale: Array) -> Array:
    """Read x twice and write once: as `layernorm`."""
    from .. import dit  # which imports the operations that these forms replace

    centre, inverse = (each.reshape(*x.shape[:-1], 1) for each in _statistics(xp, rows_of(x), dit.EPSILON))
    return MODULATE(xp, x, centre, inverse, scale, shift)


def _sums_of_parts(xp: Any, sums: tuple[Array, Array], axis: int) -> tuple[Array, Array]:
    """Return two sums of parts (2-d) summed along an axis."""
    first, second = sums
    if first.shape[axis] == 1:
        return first.reshape(-1), second.reshape(-1)
    totals = _pair(xp, first, first.shape[1 - axis])
    OF_PARTS(xp, first, second, *totals, axis=axis)
    return totals


MOMENTS_OF_PARTS = Reduction(
    "moments", "T x", "T centre, T squares", "Moments{T(1), x, T(0)}", "united(a, b)",
    "centre = a.mean, squares = a.squares", "Moments{T(0), T(0), T(0)}", "Moments", MOMENTS,
)  # fmt: skip
BATCH_STATISTICS = Reduction(
    "batch_statistics", "T of_part, T squares, T part, T size, T unbiased, T epsilon, T momentum",
    "T centre, T inverse, T running, T running_variance", "Moments{part, of_part, squares}", "united(a, b)",
    "centre = a.mean, inverse = rsqrt(a.squares / size + epsilon), running += momentum * (a.mean - running),"
    " running_variance += momentum * (a.squares / unbiased - running_variance)",  # one line: CuPy makes a macro of it
    "Moments{T(0), T(0), T(0)}", "Moments", MOMENTS,
)  # fmt: skip
BATCHNORM_BACKWARD = Elementwise(
    "batchnorm_backward", "T grad, T x, T centre, T inverse, T weight, T dweight, T dbias, T count", "T dx",
    "dx = weight * inverse * (grad - dbias / count - (x - centre) * inverse * (dweight / count))",
)  # fmt: skip
BATCHNORM_INFERENCE = Elementwise(
    "batchnorm_inference", "T x, T weight, T bias, T centre, T variance, T epsilon", "T out",
    "out = (x - centre) * (weight * rsqrt(variance + epsilon)) + bias",
)  # fmt: skip


def batchnorm(
    xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array, copies: int = 1
) -> tuple[Array, Cache]:
    """Read x twice and write once. The second step of the statistics moves the running averages as well."""
    channels, size = len(x), x.size // len(x)
    rows, parts = x.reshape(channels, size), _parts(size)
    of_parts = _pair(xp, x, channels, parts)
    MOMENTS_OF_PARTS(xp, rows.reshape(channels, parts, -1), *of_parts, axis=-1)
    centre, inverse = _pair(xp, x, channels)
    count = copies * size
    unbiased = size * (count - 1) / count  # the sum of squares over `size` values, as if over `count`, by count - 1
    constants = (size // parts, size, unbiased, EPSILON, MOMENTUM)
    BATCH_STATISTICS(xp, *of_parts, *constants, centre, inverse, mean, variance, axis=-1)
    out = NORMALISE(xp, rows, *_columns(centre, inverse, weight, bias))
    return out.reshape(x.shape), (rows, centre, inverse, weight)


def batchnorm_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Read gradient and x twice: both sums of each channel, and dL/dx."""
    rows, centre, inverse, weight = cache
    shape, grad = grad.shape, grad.reshape(rows.shape)
    (channels, count), parts = rows.shape, _parts(rows.shape[-1])
    sums = _pair(xp, grad, channels, parts)
    cut = (array.reshape(channels, parts, -1) for array in (grad, rows))
    whole = (array.reshape(channels, 1, 1) for array in (centre, inverse))
    OF_PARAMETERS(xp, *cut, *whole, *sums, axis=-1)
    dweight, dbias = _sums_of_parts(xp, sums, axis=1)
    dx = BATCHNORM_BACKWARD(xp, grad, rows, *_columns(centre, inverse, weight, dweight, dbias), count)
    return dx.reshape(shape), dweight, dbias


def batchnorm_inference(xp: Any, x: Array, weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """One kernel."""
    rows = x.reshape(len(x), -1)
    return BATCHNORM_INFERENCE(xp, rows, *_columns(weight, bias, mean, variance), EPSILON).reshape(x.shape)


def _columns(*arrays: Array) -> list[Array]:
    """Return arrays (C) as (C, 1)."""
    return [array[:, None] for array in arrays]


# ---------------------------------------------------------------- attention

SOFTMAX = Elementwise("softmax", "T x, T top, T total", "T out", "out = exp(x - top) / total")
PRODUCT_SUM = Reduction("product_sum", "T x, T y", "T total", "x * y", "a + b", "total = a", "0")
SOFTMAX_BACKWARD = Elementwise("softmax_backward", "T grad, T out, T along", "T dx", "dx = out * (grad - along)")
# `last` is the last key that a query sees.
CAUSAL_LARGEST = Reduction(
    "causal_largest", "T x, int64 column, int64 last", "T top", "column <= last ? x : T(-CUDART_INF)", "max(a, b)",
    "top = a", "T(-CUDART_INF)",
)  # fmt: skip
CAUSAL_EXPONENTIALS = Reduction(
    "causal_exponentials", "T x, T top, int64 column, int64 last", "T total",
    "column <= last ? exp(x - top) : T(0)", "a + b", "total = a", "0",
)  # fmt: skip
CAUSAL_SOFTMAX = Elementwise(
    "causal_softmax", "T top, T total, int64 column, int64 last", "T x",
    "x = column <= last ? exp(x - top) / total : T(0)",
)  # fmt: skip


def softmax(xp: Any, x: Array) -> tuple[Array, Cache]:
    """Read x three times and write once: the largest value, the sum, the quotients."""
    rows = rows_of(x)
    out = SOFTMAX(xp, rows, *_exponentials(xp, rows)).reshape(x.shape)
    return out, (out,)


def softmax_backward(xp: Any, grad: Array, cache: Cache) -> Array:
    """Two passes: sum(g p), then p (g - sum(g p))."""
    (out,) = cache
    rows, grads = rows_of(out), rows_of(grad)
    along = PRODUCT_SUM(xp, grads, rows, axis=-1, keepdims=True)
    return SOFTMAX_BACKWARD(xp, grads, rows, along).reshape(grad.shape)


def attention(xp: Any, q: Array, k: Array, v: Array, *, causal: bool) -> tuple[Array, Cache]:
    """Multiply without copies: cuBLAS reads k^T, and the used part of a KV cache, where they lie, and scales q k^T.

    The mask is a comparison inside of the softmax, which overwrites the scores.
    """
    q, k, v = (readable(xp.module, each) for each in (q, k, v))  # here, since each is read twice, or more in training
    queries, keys = q.shape[-2], k.shape[-2]
    weights = batched_product(xp.module, q, k.swapaxes(-1, -2), scale=1 / math.sqrt(q.shape[-1]))
    if causal and queries > 1:
        columns = xp.arange(keys)
        last = columns[keys - queries :, None]  # the last key that each query sees: its own
        scores = weights.reshape(-1, queries, keys)
        top, total = _pair(xp, scores, *scores.shape[:2], 1)
        CAUSAL_LARGEST(xp, scores, columns, last, top, axis=-1, keepdims=True)
        CAUSAL_EXPONENTIALS(xp, scores, top, columns, last, total, axis=-1, keepdims=True)
        CAUSAL_SOFTMAX(xp, top, total, columns, last, scores)
    else:
        scores = rows_of(weights)
        SOFTMAX(xp, scores, *_exponentials(xp, scores), scores)
    out = batched_product(xp.module, weights, v)
    return out, (q, k, v, weights, out)


def attention_backward(xp: Any, grad: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Multiply without copies of transposed matrices.

    sum_j dL/dp_ij p_ij, over the keys, is sum_d g_id out_id, over the D values of a head: since dL/dp = g v^T and
    out = p v. So no pass over the scores is needed for it (Dao et al., arXiv:2205.14135, appendix B.2).
    """
    q, k, v, weights, out = cache
    product, scale = functools.partial(batched_product, xp.module), 1 / math.sqrt(q.shape[-1])
    grad = readable(xp.module, grad)
    dv = product(weights.swapaxes(-1, -2), grad)
    dscores = product(grad, v.swapaxes(-1, -2))
    along = PRODUCT_SUM(xp, rows_of(grad), rows_of(out), axis=-1, keepdims=True)
    rows = rows_of(dscores)
    SOFTMAX_BACKWARD(xp, rows, rows_of(weights), along, rows)
    return product(dscores, k, scale=scale), product(dscores.swapaxes(-1, -2), q, scale=scale), dv


# ---------------------------------------------------------------- convolutions

FOLD = Elementwise(
    "fold",
    "raw T patches, int32 kernel, int32 batch, int32 height, int32 width, int32 rows, int32 columns, int32 stride,"
    " int32 padding",
    "T x",
    """
    int image = i / (width * height), pixel = i - ptrdiff_t(image) * (width * height);
    int row = pixel / width, column = pixel % width, channel = image / batch, sample = image % batch;
    T total = T(0);
    for (int u = 0; u < kernel; ++u) {
        for (int v = 0; v < kernel; ++v) {
            int down = row + padding - u, along = column + padding - v;
            int y = down / stride, z = along / stride;
            bool on_grid = down >= 0 && along >= 0 && y * stride == down && z * stride == along;
            bool covers = on_grid && y < rows && z < columns;
            ptrdiff_t patch = ptrdiff_t(((channel * kernel + u) * kernel + v) * batch + sample) * (rows * columns);
            total += covers ? patches[patch + y * columns + z] : T(0);
        }
    }
    x = total
    """,
)


def unfold(xp: Any, x: Array, kernel: int, stride: int, padding: int, fill: float = 0) -> Array:
    """Copy all patches at once: they are a view of the images in which pixels occur several times."""
    channels, batch, height, width = x.shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == 1 and padding == 0:
        return x[:, :, ::stride, ::stride].reshape(channels, -1)
    if padding:
        padded = xp.full((channels, batch, height + 2 * padding, width + 2 * padding), fill, dtype=x.dtype)
        padded[:, :, padding : padding + height, padding : padding + width] = x
        x = padded
    channel, image, down, along = x.strides
    shape, strides = (
        (channels, kernel, kernel, batch, rows, columns),
        (channel, down, along, image, stride * down, stride * along),
    )
    return xp.lib.stride_tricks.as_strided(x, shape, strides).reshape(channels * kernel * kernel, -1)


def fold(xp: Any, patches: Array, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Array:
    """One kernel: each pixel gathers its sum, instead of kernel^2 times reading and writing all pixels."""
    _, batch, height, width = shape
    rows, columns = (output_size(side, kernel, stride, padding) for side in (height, width))
    if kernel == stride == 1 and padding == 0:
        return patches.reshape(shape)
    out = xp.empty(shape, dtype=patches.dtype)
    return FOLD(xp, patches, kernel, batch, height, width, rows, columns, stride, padding, out)


# ---------------------------------------------------------------- LSTM

LSTM_STEP = Elementwise(
    "lstm_step", "T zi, T zf, T zg, T zo, T pi, T pf, T pg, T po, T cell, T half", "T hidden, T next_cell",
    """
    T in = half + half * tanh(half * (zi + pi)), forget = half + half * tanh(half * (zf + pf));
    next_cell = forget * cell + in * tanh(zg + pg);
    hidden = (half + half * tanh(half * (zo + po))) * tanh(next_cell)
    """,
)  # fmt: skip


def lstm(xp: Any, x: Array, params: Mapping[str, Array]) -> Array:
    """Two kernels a step: the product, and all the rest.

    The states are stored step by step, (T + 1, B, C), so that the product reads and the kernel writes them in place.
    """
    inputs, _ = linear(xp, x, params["weight_ih_l0"], params["bias_ih_l0"] + params["bias_hh_l0"])
    recurrent = params["weight_hh_l0"]
    batch, times, width = x.shape[0], x.shape[1], recurrent.shape[1]
    hiddens = xp.empty((times + 1, batch, width), dtype=x.dtype)
    hiddens[0] = 0
    product, cell = xp.empty((batch, 4 * width), dtype=x.dtype), xp.zeros((batch, width), dtype=x.dtype)
    for t in range(times):
        xp.matmul(hiddens[t], recurrent.T, out=product)
        next_cell = xp.empty_like(cell)
        LSTM_STEP(xp, *_four(inputs[:, t]), *_four(product), cell, 0.5, hiddens[t + 1], next_cell)
        cell = next_cell
    return hiddens.swapaxes(0, 1)[:, 1:]


def _four(gates: Array) -> list[Array]:
    """Return gates (B, 4 C) as four views (B, C)."""
    width = gates.shape[-1] // 4
    return [gates[:, k * width : (k + 1) * width] for k in range(4)]


# ---------------------------------------------------------------- optimisers, diffusion

SGD = Elementwise("sgd", "T grad, T rate", "T weight", "weight -= rate * grad")
ADAMW = Elementwise(
    "adamw", "T grad, T keep, T beta1, T beta2, T rest1, T rest2, T rate, T correction, T epsilon",
    "T weight, T mean, T square",
    """
    mean = beta1 * mean + rest1 * grad;
    square = beta2 * square + rest2 * grad * grad;
    weight = keep * weight - rate * mean / (sqrt(square) / correction + epsilon)
    """,
)  # fmt: skip
GATED = Elementwise("gated", "T x, T added, T gate", "T out", "out = x + added * gate")


def sgd(xp: Any, vector: Array, grad: Array, rate: float) -> None:
    """One kernel: read weights and gradient, write weights."""
    SGD(xp, grad, rate, vector)


def adamw(xp: Any, vector: Array, mean: Array, square: Array, grad: Array, constants: tuple[float, ...]) -> None:
    """One kernel: read four vectors, write three. The plain form passes over such vectors more than thirty times."""
    keep, beta1, beta2, *others = constants
    ADAMW(xp, grad, keep, beta1, beta2, 1 - beta1, 1 - beta2, *others, vector, mean, square)


def gated(xp: Any, x: Array, added: Array, gate: Array) -> Array:
    """One kernel."""
    return GATED(xp, x, added, gate)


FORMS: dict[str, Form] = {
    form.__name__: form
    for form in (
        linear_parameters_backward, cross_entropy, cross_entropy_backward,
        relu_backward, leaky_relu, leaky_relu_backward, tanh_backward, sigmoid, gelu, gelu_backward,
        binary_cross_entropy, binary_cross_entropy_backward,
        layernorm, layernorm_backward, batchnorm, batchnorm_backward, batchnorm_inference, modulated,
        softmax, softmax_backward, attention, attention_backward, unfold, fold, lstm,
        sgd, adamw, gated,
    )
}  # fmt: skip
