"""Matrix products: operands, kernels and check, shared by all workloads of bench_matmul.py.

A product is a Work with the parameters m, n, k, batch (0: a single product), layout (two letters for A and B: "n" is
stored as it is, "t" is stored as its transpose) and data (the numbers in the operands).

8-bit formats have wider results on every device: float8 gives bfloat16, int8 gives int32. "float8_e5m2" is A in e5m2
times B in e4m3, as in a backward pass: GPU libraries do not multiply e5m2 by e5m2.
"""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from bench_core import check
from bench_core.workload import Backend, Call, Costs, HostArrays, Kernel, Unsupported, Work, WrongAnswer

from .limits import require_short
from .sizes import PERIOD, itemsize

RESULTS = {"float8_e4m3fn": "bfloat16", "float8_e5m2": "bfloat16", "int8": "int32"}
SECOND = {"float8_e5m2": "float8_e4m3fn"}  # the dtype of B where it differs from A's
DATA = ("normal", "uniform", "integers", "zeros")

Product = Callable[[Any, Any, Any], Any]  # of A and B, into C

# A time predicted from a small product is too short, since a small product fits in the caches better.
SHORTEST_SAMPLE_S = 0.25  # a prediction needs a sample product that takes as long or longer; shorter ones are too noisy
LARGE_FLOPS = 2 * 4096**3  # float32 and float64 products up to this size are not predicted: BLAS is fast enough
REFERENCE_FLOPS = 2 * 512**3  # FLOPs that the check may spend on comparing single elements
_CORNER = 256  # rows and columns of the product that oneDNN reports on
LONE = 8  # bound of a single element's error, in tolerances; normally distributed errors reach 5.5 in 10^8 elements


def operands(work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return A (m, k) and B (k, n), with a leading axis `batch` if there is one.

    They are float64 for float64, int8 for int8, else float32, which the backend rounds to its format.

    With data "integers", half of the numbers are 0, a quarter -1 and a quarter 1. Up to k = 4096 bfloat16 holds all
    elements of the product exactly: their standard deviation is sqrt(k) / 2 = 32, and the 8-bit significand holds every
    integer up to 256, which is eight standard deviations.
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
        step = 1 / 32 if work["data"] == "normal" else 1 / 127  # quantisation step: the value of 1 in int8
        numbers = np.rint(numbers / step).clip(-127, 127)
    return np.resize(numbers.astype(np.int8 if work.dtype == "int8" else wide, copy=False), shape)


def costs(work: Work) -> Costs:
    """Return 2 M N K FLOPs per product. `least_bytes`: A, B and C move once. No `bytes`: arithmetic is the limit."""
    m, n, k, products = work["m"], work["n"], work["k"], work["batch"] or 1
    item, result = itemsize(work.dtype), itemsize(RESULTS.get(work.dtype, work.dtype))
    return Costs(
        flops=2.0 * products * m * n * k, least_bytes=float(products * (item * (m * k + k * n) + result * m * n))
    )


# ---------------------------------------------------------------- kernels


def placed(backend: Backend, work: Work, host: HostArrays) -> tuple[Any, Any]:
    """Return A and B on the device, in the layouts and dtypes of the work; shapes as in `operands`."""

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
    """Return the kernel of `matmul` into a preallocated array: BLAS gemm in NumPy, cuBLAS gemmEx in CuPy."""
    xp = backend.xp
    a, b = placed(backend, work, host)
    c = xp.empty(result_shape(work), RESULTS.get(work.dtype) or a.dtype)
    # For int8, NumPy casts to int32 while it multiplies, without BLAS.
    product = partial(xp.matmul, dtype=c.dtype) if c.dtype != a.dtype else xp.matmul
    return finished(backend, work, host, lambda x, y, z: product(x, y, out=z), (a, b, c))


def cupy_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of `array_product`; raise Unsupported for a product that CuPy computes in another format."""
    if work.dtype == "int8":
        raise Unsupported("no_kernel", "cupy has no int8 product that accumulates in int32")
    if work["batch"] and work.precision == "tf32":
        raise Unsupported(
            "no_kernel", "cupy's batched products have no TF32: cupy requests IEEE float32 from cuBLAS; see `tuned`"
        )
    if work["batch"] and work.dtype in {"bfloat16", "float16"}:  # CuPy pull request 10317
        reason = "cupy.matmul widens batches of float16 to float32, and has none of bfloat16; see `tuned`"
        raise Unsupported("no_kernel", reason)
    return array_product(backend, work, host)


def cupy_batched_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of cuBLAS's strided batched product in the format of the work, into a preallocated array.

    16-bit products have float32 sums, as those of `torch.matmul`.
    """
    from .cublas import batched_product

    a, b = placed(backend, work, host)
    c = backend.xp.empty(result_shape(work), a.dtype)
    return Kernel(partial(batched_product, backend.xp, a, b, c, tf32=work.precision == "tf32"), inputs={"a": a, "b": b})


def torch_product(backend: Backend, work: Work, host: HostArrays, *, fast: bool = False) -> Kernel:
    """Return the kernel of `torch.matmul` into a preallocated tensor; `_scaled_mm` for float8, `_int_mm` for int8.

    fast: accumulate float8 products with reduced precision (`use_fast_accum`). In a narrow format on a CPU, `library`
    names what oneDNN runs: which instructions it has for a format decides the rate.
    """
    torch = backend.xp
    a, b = placed(backend, work, host)
    c = torch.empty(result_shape(work), dtype=getattr(torch, RESULTS.get(work.dtype, work.dtype)), device=a.device)
    one = torch.ones((), device=a.device)
    options = {"use_fast_accum": True} if fast else {}  # partial sums with fewer bits; datasheet peaks assume this mode

    def scaled(x: Any, y: Any, z: Any) -> Any:
        return torch._scaled_mm(x, y, one, one, out_dtype=z.dtype, out=z, **options)

    def plain(x: Any, y: Any, z: Any) -> Any:
        return torch.matmul(x, y, out=z)

    def integer(x: Any, y: Any, z: Any) -> Any:
        return torch._int_mm(x, y, out=z)

    product = {"int8": integer, "float8_e4m3fn": scaled, "float8_e5m2": scaled}.get(work.dtype, plain)
    kernel = finished(backend, work, host, product, (a, b, c))
    if backend.device != "cpu" or work.dtype in {"float32", "float64"}:
        return kernel
    small = [x[(slice(0, _CORNER),) * x.ndim] for x in (a, b)]
    small.append(torch.empty((*small[0].shape[:-1], small[1].shape[-1]), dtype=c.dtype))
    return replace(kernel, library=onednn_library(backend, lambda: product(*small)))


def onednn_library(backend: Backend, call: Call) -> str:
    """Return the library of a call on a CPU, with the oneDNN implementations that the call runs.

    Their names end in the instructions that they use: "oneDNN 3.12.0 brg_matmul:avx512_core_bf16", and with AMX
    "brg_matmul:avx10_1_512_amx". "no oneDNN" follows the backend's library if the call runs elsewhere: in MKL, or
    element by element in torch itself.
    """
    names = onednn_names(_onednn_report(backend.xp, call))
    version = re.search(r"oneDNN \S+", backend.library)
    return f"{version[0] if version else 'oneDNN'} {' + '.join(names)}" if names else f"{backend.library}, no oneDNN"


def onednn_names(report: str) -> list[str]:
    """Return the implementations in a report of oneDNN's verbose mode, each once; reorders of data do not count.

    A line is a list separated by commas: onednn_verbose, v1, primitive, exec, cpu, kind of primitive, implementation,
    and more (oneDNN, Developer Guide, "Verbose Mode"). Where the implementation is empty, as of the kind "gemm_api",
    its kind is its name.
    """
    found = re.findall(r"^onednn_verbose,(?:v\d+,)?(?:primitive,)?exec,cpu,(\w+),([^,]*),", report, re.MULTILINE)
    return list(dict.fromkeys(implementation or kind for kind, implementation in found if kind != "reorder"))


def _onednn_report(torch: Any, call: Call) -> str:
    """Return what oneDNN reports of a call; "" if this torch has no oneDNN, or it was built without reports.

    oneDNN writes to the file descriptor of standard output, which is a file while `call` runs.
    """
    onednn = torch.backends.mkldnn
    if not onednn.is_available():
        return ""
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            with onednn.verbose(onednn.VERBOSE_ON):
                call()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        return file.read().decode(errors="replace")


def torch_onednn_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of oneDNN's float32 inner product; `torch.matmul` calls MKL instead.

    On CPUs not made by Intel, MKL runs AVX2 kernels. torch.compile uses the same oneDNN operator for a linear layer; it
    allocates its result. The public setting `fp32_precision = "bf16"` selects oneDNN too, but allows it to round to
    bfloat16.
    """
    if work.dtype != "float32":
        raise Unsupported("no_kernel", f"torch has only one implementation of products of {work.dtype} on a CPU")
    linear = getattr(backend.xp.ops.mkldnn, "_linear_pointwise", None)
    if linear is None:
        raise Unsupported("no_kernel", "this torch was built without oneDNN")
    a, b = placed(backend, work, host)
    require_short_call(backend, work, host, lambda x, y: linear(x, y.t(), None, "none", [], ""))
    version = re.search(r"oneDNN \S+", backend.library)
    library = f"{version[0] if version else 'oneDNN'} inner_product"
    return Kernel(partial(linear, a, b.t(), None, "none", [], ""), inputs={"a": a, "b": b}, library=library)


def torch_packed_product(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of oneDNN's bfloat16 inner product with B in oneDNN's own layout, as a model's weights can be.

    Packing B into that layout is not timed: `restart` does it, as a server does when it loads a model. In the layout,
    the elements that the CPU multiplies together lie next to each other, so B is read once in order of addresses, and
    not rearranged at every call. The gain shrinks as A gets more rows, which share that work.
    """
    ops = backend.xp.ops.mkldnn
    if not (backend.xp.backends.mkldnn.is_available() and ops._is_mkldnn_bf16_supported()):
        raise Unsupported("no_kernel", "oneDNN has no bfloat16 products on this CPU")
    a, b = placed(backend, work, host)
    require_short_call(backend, work, host, lambda x, y: ops._linear_pointwise(x, y.t(), None, "none", [], ""))
    packed = []

    def pack() -> None:
        packed[:] = [ops._reorder_linear_weight(b.t(), work["m"])]

    def run() -> Any:
        return ops._linear_pointwise(a, packed[0], None, "none", [], "")

    pack()
    library = f"{onednn_library(backend, run)}, packed B"
    return Kernel(run, inputs={"a": a, "b": b}, restart=pack, library=library)


def finished(backend: Backend, work: Work, host: HostArrays, product: Product, arrays: tuple[Any, Any, Any]) -> Kernel:
    """Return the kernel of a product into C, given arrays A, B and C; raise TooSlow as `require_short_call` does."""
    a, b, c = arrays

    def fresh(x: Any, y: Any) -> Any:
        return product(x, y, backend.xp.empty_like(c[(0,) * (c.ndim - 2)][: x.shape[0], : y.shape[1]]))

    require_short_call(backend, work, host, fresh)
    return Kernel(partial(product, a, b, c), inputs={"a": a, "b": b})


def require_short_call(backend: Backend, work: Work, host: HostArrays, product: Callable[[Any, Any], Any]) -> None:
    """Raise TooSlow if one call would take a CPU too long, predicted from a smaller one (a sample product).

    The sample product multiplies the upper left corners of A and B. It grows until it takes at least
    SHORTEST_SAMPLE_S, or until it would be the whole product.
    """
    flops = costs(work).flops or 0.0
    if backend.device != "cpu" or (work.dtype in {"float32", "float64"} and flops <= LARGE_FLOPS):
        return
    first = (0,) * bool(work["batch"])
    size = 128
    while (size := size * 3 // 128 * 64) < max(work["m"], work["n"], work["k"]):  # float8 requires multiples of 16
        a, b = placed(backend, work, {name: host[name][first][:size, :size] for name in "ab"})
        if (took := _seconds(product, a, b)) < SHORTEST_SAMPLE_S:
            continue
        if took < 4 * SHORTEST_SAMPLE_S:  # may include loading and compiling: measure again
            took = _seconds(product, a, b)
        expected = took * flops / (2.0 * a.shape[0] * a.shape[1] * b.shape[1])
        require_short(expected, f"one product of {work.dtype}")
        return


def _seconds(product: Callable[[Any, Any], Any], a: Any, b: Any) -> float:
    start = perf_counter()
    product(a, b)
    return perf_counter() - start


# ---------------------------------------------------------------- check


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of one product C.

    chosen: indices of random rows, all if REFERENCE_FLOPS allow it. rows: these rows of C in float64. sketch: for
    Freivalds' check of all of C; None if `rows` are all rows.
    """

    chosen: np.ndarray
    rows: np.ndarray
    sketch: check.ProductSketch | None

    def error(self, c: np.ndarray, bound: float) -> float:
        """Return the relative error of C; raise WrongAnswer if an element's error exceeds LONE * bound."""
        lone = check.largest_error(c[self.chosen], self.rows)
        if lone > LONE * bound:
            raise WrongAnswer(f"an element is off by {lone:.2g} times the root mean square", lone)
        return check.sketch_error(self.sketch, c) if self.sketch else check.relative_error(c, self.rows)


def references(work: Work, host: HostArrays) -> list[Reference]:
    """Return the reference of each product in the batch, or of the single product.

    Single elements are compared in as many random rows as REFERENCE_FLOPS allow. If these are not all rows, Freivalds'
    check estimates the norm of the error of all of C.
    """
    if not work["batch"]:
        return [_reference(host["a"], host["b"], REFERENCE_FLOPS)]
    share = REFERENCE_FLOPS / work["batch"]
    return [_reference(a, b, share) for a, b in zip(host["a"], host["b"], strict=True)]


def _reference(a: np.ndarray, b: np.ndarray, flops: float) -> Reference:
    (m, k), n = a.shape, b.shape[1]
    rows = max(1, min(m, int(flops / (2 * n * k))))
    chosen = np.sort(np.random.default_rng(1979).permutation(m)[:rows])
    # Computed as (B^T A^T)^T: another order of summation, and another BLAS routine, than in the tested product.
    reference = check.times(b.T, a[chosen].astype(np.float64).T).T
    return Reference(chosen, reference, None if rows == m else check.product_sketch(a, b))


def error(work: Work, expected: Sequence[Reference], out: np.ndarray, bound: float) -> float:
    """Return the largest relative error of the products in a batch. bound: the tolerance of a product.

    Raise WrongAnswer if shape or dtype differ, or if an element's error exceeds LONE * bound.
    """
    result = RESULTS.get(work.dtype, work.dtype)
    check.require_dtype("out", out, "float32" if result == "bfloat16" else result)
    check.require_shape(out, result_shape(work))
    entries = out if work["batch"] else out[None]
    return max(one.error(c, bound) for one, c in zip(expected, entries, strict=True))
