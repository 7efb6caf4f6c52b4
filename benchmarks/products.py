"""Matrix products: operands, kernels and proof, shared by all workloads of bench_matmul.py.

A product is a Work with the parameters m, n, k, batch (0: none), layout (two letters, n or t: how A and B
lie in memory; "nt" has B stored as its transpose) and data (what the operands hold).

Formats with fewer than 32 bits give wider results, as on every device: float8 gives bfloat16, int8 gives
int32. "float8_e5m2" is A in e5m2 times B in e4m3, the pair of a backward pass: libraries for GPUs do not
multiply e5m2 by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from bench_core import check
from bench_core.workload import Backend, Costs, HostArrays, Kernel, Unsupported, Work, WrongAnswer
from benchmarks.limits import require_short

RESULTS = {"float8_e4m3fn": "bfloat16", "float8_e5m2": "bfloat16", "int8": "int32"}
SECOND = {"float8_e5m2": "float8_e4m3fn"}  # the dtype of B where it differs from A's
ITEMSIZES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2}
PERIOD = 1_000_003  # a prime: so many numbers are drawn, then they repeat, and no two rows of a matrix are alike
DATA = ("normal", "uniform", "integers", "zeros")

Product = Callable[[Any, Any, Any], Any]  # of A and B, into C

# The prediction from a small product is optimistic: it fits the caches better.
SHORTEST_PROBE_S = 0.25  # shortest probe that a prediction is made from; shorter ones are noise
LARGE_FLOPS = 2 * 4096**3  # up to here float32 and float64 are not probed: BLAS is fast enough
REFERENCE_FLOPS = 2 * 512**3  # that the check may spend on comparing single elements
LONE = 8  # a single element may be off by so many tolerances: normal errors reach 5.5 in 10^8 elements


def operands(work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return A and B: float64 for float64, int8 for int8, else float32, which the backend rounds to its format.

    Integers are 0 for one half and -1 or 1 for the other. Up to k = 4096 bfloat16 holds their products exactly:
    a sum deviates by sqrt(k) / 2 = 32, and every integer up to 256, eight times that, fits its 8 bits.
    """
    lead = (work["batch"],) * bool(work["batch"])
    shapes = {"a": (*lead, work["m"], work["k"]), "b": (*lead, work["k"], work["n"])}
    return {name: _numbers(work, shape, rng) for name, shape in shapes.items()}


def _numbers(work: Work, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    wide: Any = np.float64 if work.dtype == "float64" else np.float32
    few = min(math.prod(shape), PERIOD)
    makers: dict[str, Callable[[], Any]] = {
        "normal": lambda: rng.standard_normal(few, wide),
        "uniform": lambda: 2 * rng.random(few, wide) - 1,
        "integers": lambda: rng.integers(0, 2, few, np.int8) - rng.integers(0, 2, few, np.int8),
        "zeros": lambda: np.zeros(few, np.int8),
    }
    numbers: np.ndarray = makers[work["data"]]()
    if work.dtype == "int8" and numbers.dtype != np.int8:
        step = 1 / 32 if work["data"] == "normal" else 1 / 127  # of the quantisation
        numbers = np.rint(numbers / step).clip(-127, 127)
    return np.resize(numbers.astype(np.int8 if work.dtype == "int8" else wide, copy=False), shape)


def costs(work: Work) -> Costs:
    """2 M N K FLOPs a product; at least, A, B and C move once. A product is no stream: its bytes are not counted."""
    m, n, k, products = work["m"], work["n"], work["k"], work["batch"] or 1
    item, result = itemsize(work.dtype), itemsize(RESULTS.get(work.dtype, work.dtype))
    return Costs(
        flops=2.0 * products * m * n * k, least_bytes=float(products * (item * (m * k + k * n) + result * m * n))
    )


def itemsize(dtype: str) -> int:
    """Return the bytes of an element, of formats that NumPy lacks too."""
    return ITEMSIZES.get(dtype) or np.dtype(dtype).itemsize


# ---------------------------------------------------------------- kernels


def placed(backend: Backend, work: Work, host: HostArrays) -> tuple[Any, Any]:
    """Return A and B on the device, each in the layout that the work names."""

    def place(name: str, layout: str, dtype: str) -> Any:
        if layout == "n":
            return backend.from_host(host[name], dtype)
        return backend.from_host(np.ascontiguousarray(host[name].swapaxes(-1, -2)), dtype).swapaxes(-1, -2)

    a_layout, b_layout = work["layout"]
    return place("a", a_layout, work.dtype), place("b", b_layout, SECOND.get(work.dtype, work.dtype))


def result_shape(work: Work) -> tuple[int, ...]:
    """Return the shape of C."""
    return (*(work["batch"],) * bool(work["batch"]), work["m"], work["n"])


def array_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """`matmul` into a given array: BLAS gemm in NumPy, cuBLAS gemmEx in CuPy."""
    xp = backend.xp
    a, b = placed(backend, work, host)
    c = xp.empty(result_shape(work), RESULTS.get(work.dtype) or a.dtype)
    # NumPy casts int8 to int32 as it goes, without BLAS.
    product = partial(xp.matmul, dtype=c.dtype) if c.dtype != a.dtype else xp.matmul
    return finished(backend, work, host, lambda x, y, z: product(x, y, out=z), (a, b, c))


def cupy_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return `array_product`, or raise Unsupported for a product that CuPy would compute in another format."""
    if work.dtype == "int8":
        raise Unsupported("no_kernel", "cupy has no product of int8 that accumulates in int32")
    if work["batch"] and work.precision == "tf32":
        raise Unsupported("no_kernel", "cupy's batched products have no TF32: it asks cuBLAS for IEEE float32")
    if work["batch"] and work.dtype in {"bfloat16", "float16"}:  # CuPy pull request 10317
        raise Unsupported("no_kernel", f"cupy's batched products of {work.dtype} are computed in float32")
    return array_product(backend, work, host)


def torch_product(backend: Backend, work: Work, host: HostArrays, *, fast: bool = False) -> Kernel:
    """`torch.matmul` into a given tensor; `_scaled_mm` for float8 (`fast`: accumulated fast) and `_int_mm` for int8."""
    torch = backend.xp
    a, b = placed(backend, work, host)
    c = torch.empty(result_shape(work), dtype=getattr(torch, RESULTS.get(work.dtype, work.dtype)), device=a.device)
    one = torch.ones((), device=a.device)
    options = {"use_fast_accum": True} if fast else {}  # partial sums in fewer bits, which is what peaks are quoted for

    def scaled(x: Any, y: Any, z: Any) -> Any:
        return torch._scaled_mm(x, y, one, one, out_dtype=z.dtype, out=z, **options)

    def plain(x: Any, y: Any, z: Any) -> Any:
        return torch.matmul(x, y, out=z)

    def integer(x: Any, y: Any, z: Any) -> Any:
        return torch._int_mm(x, y, out=z)

    product = {"int8": integer, "float8_e4m3fn": scaled, "float8_e5m2": scaled}.get(work.dtype, plain)
    return finished(backend, work, host, product, (a, b, c))


def torch_onednn_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Use the inner product of oneDNN for float32, which `torch.matmul` gives to MKL.

    MKL runs AVX2 kernels on CPUs that are not Intel's. The operator is the one that torch.compile emits for a
    linear layer; it allocates its result. The public switch `fp32_precision = "bf16"` takes oneDNN's route
    too, but lets it round to bfloat16.
    """
    if work.dtype != "float32":
        raise Unsupported("no_kernel", f"torch has but one route for products of {work.dtype} on a CPU")
    linear = getattr(backend.xp.ops.mkldnn, "_linear_pointwise", None)
    if linear is None:
        raise Unsupported("no_kernel", "this torch was built without oneDNN")
    a, b = placed(backend, work, host)
    require_short_call(backend, work, host, lambda x, y: linear(x, y.t(), None, "none", [], ""))
    version = re.search(r"oneDNN \S+", backend.library)
    library = f"{version[0] if version else 'oneDNN'} inner_product"
    return Kernel(partial(linear, a, b.t(), None, "none", [], ""), inputs={"a": a, "b": b}, library=library)


def finished(backend: Backend, work: Work, host: HostArrays, product: Product, arrays: tuple[Any, Any, Any]) -> Kernel:
    """Return the kernel of a product into C; raises TooSlow as `require_short_call` does."""
    a, b, c = arrays

    def fresh(x: Any, y: Any) -> Any:
        return product(x, y, backend.xp.empty_like(c[(0,) * (c.ndim - 2)][: x.shape[0], : y.shape[1]]))

    require_short_call(backend, work, host, fresh)
    return Kernel(partial(product, a, b, c), inputs={"a": a, "b": b})


def require_short_call(backend: Backend, work: Work, host: HostArrays, product: Callable[[Any, Any], Any]) -> None:
    """Raise TooSlow if, judged by a corner of the product, one call takes a CPU too long.

    The corner grows until it takes at least SHORTEST_PROBE_S, or is the whole.
    """
    flops = costs(work).flops or 0.0
    if backend.device != "cpu" or (work.dtype in {"float32", "float64"} and flops <= LARGE_FLOPS):
        return
    first = (0,) * bool(work["batch"])
    size = 128
    while (size := size * 3 // 128 * 64) < max(work["m"], work["n"], work["k"]):  # float8 wants multiples of 16
        a, b = placed(backend, work, {name: host[name][first][:size, :size] for name in "ab"})
        if (took := _seconds(product, a, b)) < SHORTEST_PROBE_S:
            continue
        if took < 4 * SHORTEST_PROBE_S:  # loading and compiling may be a part of so little
            took = _seconds(product, a, b)
        expected = took * flops / (2.0 * a.shape[0] * a.shape[1] * b.shape[1])
        require_short(expected, f"one product of {work.dtype}")
        return


def _seconds(product: Callable[[Any, Any], Any], a: Any, b: Any) -> float:
    start = perf_counter()
    product(a, b)
    return perf_counter() - start


# ---------------------------------------------------------------- proof


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of one right C: random rows of it (all, where they are affordable), and a sketch of all others."""

    chosen: np.ndarray
    rows: np.ndarray
    sketch: check.ProductSketch | None

    def error(self, c: np.ndarray, bound: float) -> float:
        """Return the relative error of C; raises WrongAnswer for an element that is off by more than LONE bounds."""
        lone = check.largest_error(c[self.chosen], self.rows)
        if lone > LONE * bound:
            raise WrongAnswer(f"an element is off by {lone:.2g} of the root mean square", lone)
        return check.sketch_error(self.sketch, c) if self.sketch else check.relative_error(c, self.rows)


def references(work: Work, host: HostArrays) -> list[Reference]:
    """Return what is known of C, of each in a batch.

    The norm of the whole error is estimated by Freivalds' check where not all of C is compared, and single elements are
    compared in as many random rows as REFERENCE_FLOPS allow.
    """
    if not work["batch"]:
        return [_reference(host["a"], host["b"], REFERENCE_FLOPS)]
    share = REFERENCE_FLOPS / work["batch"]
    return [_reference(a, b, share) for a, b in zip(host["a"], host["b"], strict=True)]


def _reference(a: np.ndarray, b: np.ndarray, flops: float) -> Reference:
    (m, k), n = a.shape, b.shape[1]
    rows = max(1, min(m, int(flops / (2 * n * k))))
    chosen = np.sort(np.random.default_rng(1979).permutation(m)[:rows])
    # Summed along B's rows: another order, and another routine, than that of the product under test.
    reference = check.times(b.T, a[chosen].astype(np.float64).T).T
    return Reference(chosen, reference, None if rows == m else check.product_sketch(a, b))


def error(work: Work, expected: Sequence[Reference], out: np.ndarray, bound: float) -> float:
    """Return the relative error of C, batch entry by batch entry: the worst.

    Raises WrongAnswer for another shape or dtype, and for an element that is off by more than LONE tolerances.
    """
    result = RESULTS.get(work.dtype, work.dtype)
    check.require_dtype("out", out, "float32" if result == "bfloat16" else result)
    check.require_shape(out, result_shape(work))
    entries = out if work["batch"] else out[None]
    return max(one.error(c, bound) for one, c in zip(expected, entries, strict=True))
