"""Memory: how fast a device moves data, by operation and by footprint, hot and cold.

Bytes are counted as STREAM counts them (McCalpin 1995): every array once per read and once per write. A
plain store into a line that is not in a CPU's cache reads that line first (write-allocate, or read for
ownership), and libraries use plain stores. So the bus of a CPU carries more than is counted: 3/2 for copy
and scale, 4/3 for add and triad, 2 for fill, 1 for dot and sum. GPUs write whole sectors unread: 1 throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.workload import (
    Backend,
    Builder,
    Cache,
    Ceiling,
    Costs,
    HostArrays,
    Kernel,
    Kernels,
    Limit,
    Machine,
    Preset,
    Traffic,
    Traits,
    Work,
    Workload,
)
from benchmarks.caches import flagged
from benchmarks.sizes import KIB, MIB, size_label

SCALAR = math.sqrt(2) - 1  # 2s + s^2 = 1 keeps magnitudes stable through copy, scale, add, triad for ever
STANDARD_SIZE = 256 * MIB  # of one array: the same everywhere, so that machines can be compared
RANDOM_SIZE = 64 * MIB  # of one array that is accessed in random order, which is far slower
LADDER = tuple(4 * KIB << step for step in range(17))  # 4 KiB to 256 MiB: from L1 to memory
COLDEST = (MIB, 16 * MIB)  # between these a cold pass differs from a hot one, and buffer sets stay few
PERIOD = 1_000_003  # a prime: so many normal numbers are drawn, then they repeat
BLOCK = MIB  # bytes per array of a block of NumPy's tuned two-pass triad; three blocks fit in most L2 caches

Body = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Spec:
    """An operation: which arrays it touches (a, b, c, index i), FLOPs an element, its answer in terms of b and c."""

    touched: str
    flops: int
    answer: Callable[..., np.ndarray]


OPERATIONS = {
    "copy": Spec("ab", 0, lambda b: b),
    "scale": Spec("ab", 1, lambda b: SCALAR * b),
    "add": Spec("abc", 1, lambda b, c: b + c),
    "triad": Spec("abc", 2, lambda b, c: b + SCALAR * c),
    "dot": Spec("bc", 2, lambda b, c: b * c),  # and the sum of these
    "sum": Spec("b", 1, lambda b: b),
    "fill": Spec("a", 0, lambda: np.full(1, SCALAR)),
    "gather": Spec("abi", 0, lambda b: b),  # in the order of the index
    "scatter": Spec("abi", 0, lambda b: b),
}


@dataclass(frozen=True, slots=True)
class Arrays:
    """The device arrays of a kernel: `a` is written, `b` and `c` are read, `index` addresses one of them.

    Those that the operation does not touch are empty.
    """

    a: Any
    b: Any
    c: Any
    index: Any


def numpy_body(xp: Any, arrays: Arrays, operation: str) -> Body:
    """Return NumPy's call for an operation. A triad takes two passes, as no call of NumPy's fuses it."""
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index

    def triad() -> Any:
        xp.multiply(c, SCALAR, a)
        return xp.add(a, b, a)

    bodies: Mapping[str, Body] = {
        "copy": partial(xp.copyto, a, b),
        "scale": partial(xp.multiply, b, SCALAR, a),
        "add": partial(xp.add, b, c, a),
        "triad": triad,
        "dot": partial(xp.dot, b, c),
        "sum": partial(xp.add.reduce, b),
        "fill": partial(a.fill, SCALAR),
        # Every index is in range; in any mode but "raise", `take` writes straight to where it should.
        "gather": partial(xp.take, b, index, out=a, mode="wrap"),
        "scatter": partial(a.__setitem__, index, b),
    }
    return bodies[operation]


def cupy_body(xp: Any, arrays: Arrays, operation: str) -> Body:
    """Return CuPy's call for an operation: one kernel, except for the dot product.

    `cupy.dot` of vectors multiplies into a new array and sums that with CUB: four arrays move, where two are
    counted. A fused ReductionKernel would be far slower: with two inputs it runs on a single thread block.
    """
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index
    result = xp.empty((), a.dtype)

    def elementwise(inputs: str, statement: str, *given: Any, out: str = "T a") -> Body:
        return partial(xp.ElementwiseKernel(inputs, out, statement, f"bench_{operation}"), *given, a)

    bodies: Mapping[str, Callable[[], Body]] = {
        "copy": lambda: elementwise("T b", "a = b", b),
        "scale": lambda: elementwise("T b, T s", "a = s * b", b, SCALAR),
        "add": lambda: elementwise("T b, T c", "a = b + c", b, c),
        "triad": lambda: elementwise("T b, T c, T s", "a = b + s * c", b, c, SCALAR),
        "dot": lambda: partial(xp.dot, b, c, out=result),
        "sum": lambda: partial(xp.sum, b, out=result),
        "fill": lambda: partial(a.fill, SCALAR),
        "gather": lambda: partial(xp.take, b, index, out=a),
        # CuPy keeps the name `i` for the loop's own index.
        "scatter": lambda: elementwise("T b, I at", "a[at] = b", b, index, out="raw T a"),
    }
    return bodies[operation]()


def cupy_tuned_dot(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Call the dot product of cuBLAS: one pass, no temporary. CuPy has it outside NumPy's interface."""
    from cupy import cublas

    arrays = device_arrays(backend, work, host)
    result = backend.xp.empty((), work.dtype)
    return finished(backend, work, arrays, partial(cublas.dot, arrays.b, arrays.c, out=result))


def torch_body(torch: Any, arrays: Arrays, operation: str) -> Body:
    """Return PyTorch's call for an operation, each one pass."""
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index
    result = torch.empty((), dtype=a.dtype, device=a.device)
    bodies: Mapping[str, Body] = {
        "copy": partial(a.copy_, b),
        "scale": partial(torch.mul, b, SCALAR, out=a),
        "add": partial(torch.add, b, c, out=a),
        "triad": partial(torch.add, b, c, alpha=SCALAR, out=a),
        "dot": partial(torch.dot, b, c, out=result),
        "sum": partial(torch.sum, b, 0, out=result),
        "fill": partial(a.fill_, SCALAR),
        "gather": partial(torch.index_select, b, 0, index, out=a),
        "scatter": partial(a.scatter_, 0, index, b),
    }
    return bodies[operation]


def single(body: Callable[[Any, Arrays, str], Body]) -> Builder:
    """Return a builder whose kernel makes one call for the whole array."""

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        arrays = device_arrays(backend, work, host)
        return finished(backend, work, arrays, body(backend.xp, arrays, work.workload))

    return build


def numpy_tuned(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """NumPy's operations on as many threads as its BLAS has (they let go of the GIL), a triad block by block."""
    arrays, n = device_arrays(backend, work, host), work["elements"]
    block = BLOCK // np.dtype(work.dtype).itemsize
    threads = max(1, min(backend.threads or 1, n // block))  # less than a block is not worth a thread
    share = -(-n // threads)
    step = block if work.workload == "triad" else share

    def bodies(start: int) -> list[Body]:
        stop = min(start + share, n)
        parts = (part(arrays, work, i, min(i + step, stop)) for i in range(start, stop, step))
        return [numpy_body(backend.xp, each, work.workload) for each in parts]

    def sweep(bodies: Sequence[Body]) -> Any:
        return [body() for body in bodies][-1]

    mine, *others = [bodies(start) for start in range(0, n, share)]
    helpers = pool(threads)

    def run() -> Any:
        futures = [helpers.submit(sweep, theirs) for theirs in others]
        results = [sweep(mine), *(future.result() for future in futures)]
        return arrays.a if arrays.a.size else sum(results)

    return finished(backend, work, arrays, run)


def part(arrays: Arrays, work: Work, start: int, stop: int) -> Arrays:
    """Return views of the elements from `start` to `stop`; what is accessed through the index stays whole."""
    whole = {"gather": "b", "scatter": "a"}.get(work.workload)
    views = {name: getattr(arrays, name)[start:stop] for name in ("a", "b", "c", "index") if name != whole}
    return replace(arrays, **views)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the helpers of the calling thread, one less than `threads`."""
    return ThreadPoolExecutor(max(1, threads - 1))


def device_arrays(backend: Backend, work: Work, host: HostArrays) -> Arrays:
    """Upload the host's numbers and repeat them along arrays of the full size."""
    touched = OPERATIONS[work.workload].touched
    numbers = {"a": np.zeros(period(work), work.dtype), **host}

    def array(name: str) -> Any:
        few = backend.from_host(numbers[name] if name in touched else np.empty(0, work.dtype))
        return backend.xp.tile(few, (-(-work["elements"] // period(work)),))[: work["elements"]]

    return Arrays(array("a"), array("b"), array("c"), backend.from_host(numbers.get("index", np.empty(0, np.int64))))


def period(work: Work) -> int:
    """Return after how many elements the numbers repeat."""
    return min(PERIOD, int(work["elements"]))


def finished(backend: Backend, work: Work, arrays: Arrays, run: Body) -> Kernel:
    """Return the kernel of an operation, flagged by the cache that holds its arrays unless it is measured cold."""
    touched = OPERATIONS[work.workload].touched
    names = {"b": "b", "c": "c", "i": "index"}
    inputs = {names[letter]: getattr(arrays, names[letter]) for letter in touched if letter in names}
    if "a" in touched:
        kernel = Kernel(run, inputs=inputs, outputs=lambda _: {"out": arrays.a})
    else:
        kernel = Kernel(run, inputs=inputs)
    if work.cache is Cache.COLD:
        return kernel
    return flagged(kernel, backend, moved(work), work["elements"] * np.dtype(work.dtype).itemsize)


def moved(work: Work) -> int:
    """Return the bytes of all that an operation touches, each once; an index takes 8."""
    touched = OPERATIONS[work.workload].touched
    itemsize = np.dtype(work.dtype).itemsize
    return int(work["elements"] * sum(8 if name == "i" else itemsize for name in touched))


def bijection(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return every index below n once in random order: int64, a product of two small permutations P and Q.

    A full shuffle of 32 million takes longer than the benchmark. Here element (q, r) of rows x columns is
    P(q) + rows * Q(r). So consecutive elements are at least `rows` apart (for long arrays a cache line), and a
    line is visited again only after a whole pass of `columns` elements. Up to MIB elements it is a full shuffle
    where n is a power of two.
    """
    columns = math.gcd(n, MIB)
    rows = n // columns
    return (rng.permutation(rows)[:, None] + rng.permutation(columns)[None, :] * rows).ravel()


class Operation(Workload):
    """One operation on long arrays. All of its bytes are counted once, as STREAM does."""

    suite = "memory"
    traits = Traits(order=1, headline="bandwidth", traffic=Traffic.MEMORY)
    kernels: ClassVar[Kernels] = {
        "array": {"default": single(numpy_body)},
        "numpy": {"default": single(numpy_body), "tuned": numpy_tuned},
        "cupy": {"default": single(cupy_body)},
        "torch": {"default": single(torch_body)},
    }
    quick: ClassVar[bool] = False
    headline: ClassVar[bool] = False
    laddered: ClassVar[bool] = False  # whether `standard` goes down the caches, and to one core; `full` always does
    size: ClassVar[int] = STANDARD_SIZE

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:
        if preset is Preset.SMOKE:
            return [self.array_work(MIB, dtype) for dtype in ("float64", "float32")]
        if preset is Preset.QUICK:
            return [self.array_work(size) for size in self.sizes(machine)] if self.quick else []
        dtypes = ("float64", "float32") if preset is Preset.FULL else ("float64",)
        works = [self.array_work(size, dtype) for dtype in dtypes for size in self.sizes(machine)]
        ladder = LADDER if preset is Preset.FULL else LADDER[::2] if self.laddered else ()
        works += [self.array_work(size) for size in ladder]
        works += [self.array_work(size, cache=Cache.COLD) for size in ladder if COLDEST[0] <= size <= COLDEST[1]]
        return list(dict.fromkeys(works))

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - in every form
        """Whether it is hot and of the fixed size; where that shows a limit, also of the size that no cache holds."""
        size = work["elements"] * np.dtype(work.dtype).itemsize
        sizes = self.sizes(machine) if self.ceiling else [self.size]
        return self.headline and size in sizes and work.cache is Cache.HOT

    def sizes(self, machine: Machine) -> list[int]:
        """Return the fixed size of an array and, where caches are larger than most, the power of two >= 4x the last."""
        enough = 1 << math.ceil(math.log2(4 * machine.last_level_cache))
        return list(dict.fromkeys([self.size, max(self.size, enough)]))

    def array_work(self, size: int, dtype: str = "float64", **special: Any) -> Work:
        """Return the work on arrays of `size` bytes."""
        return self.work(size_label(size), dtype, elements=size // np.dtype(dtype).itemsize, **special)

    def threads(self, work: Work, preset: Preset) -> Sequence[int | None]:
        whole = work["elements"] * np.dtype(work.dtype).itemsize == self.size
        alone = preset is Preset.FULL or (preset is Preset.STANDARD and self.laddered and whole)
        return (1, None) if alone else (None,)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        touched, dtype = OPERATIONS[self.name].touched, np.dtype(work.dtype).type
        inputs = {name: rng.standard_normal(period(work), dtype) for name in "bc" if name in touched}
        return inputs | ({"index": bijection(work["elements"], rng)} if "i" in touched else {})

    def costs(self, work: Work) -> Costs:
        """Every array touched moves once; FLOPs as STREAM counts them."""
        flops = OPERATIONS[self.name].flops * work["elements"]
        return Costs(float(flops) or None, float(moved(work)), float(moved(work)))

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - the host arrays say all
        """Return the answer in float64: one period of it, or of an array that is accessed by an index all of it."""
        spec = OPERATIONS[self.name]
        few = spec.answer(**{name: host[name].astype(np.float64) for name in "bc" if name in spec.touched})
        return permuted(self.name, few, host["index"]) if "i" in spec.touched else few

    def error(self, work: Work, expected: np.ndarray, answer: HostArrays) -> float:
        """Return the largest error of an element over the root mean square; of a sum, over the sum of magnitudes."""
        spec, out = OPERATIONS[self.name], answer["out"]
        check.require_dtype("out", out, work.dtype)
        if "i" in spec.touched:
            return check.largest_error(out, expected)
        if "a" in spec.touched:
            check.require_shape(out, (work["elements"],))
            return check.periodic_error(out, expected)
        return check.reduction_error(out, expected, work["elements"])


def permuted(name: str, few: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return what a gather or scatter of `few` numbers, repeated along the index, has to give."""
    source = np.resize(few, len(index))
    if name == "gather":
        return np.take(source, index)
    target = np.empty_like(source)
    target[index] = source
    return target


class Stream(Operation):
    """One of the four operations of STREAM, in every preset."""

    traits = replace(Operation.traits, measures=Limit.BANDWIDTH)
    quick = True


class Copy(Stream):
    """a = b."""

    name = "copy"
    ceiling = Ceiling.MEMORY
    headline = True


class Scale(Stream):
    """a = s b."""

    name = "scale"


class Add(Stream):
    """a = b + c."""

    name = "add"


class Triad(Stream):
    """a = b + s c."""

    name = "triad"
    headline = True
    laddered = True


class Dot(Operation):
    """The sum of b c. NumPy's is BLAS's, with threads of its own."""

    name = "dot"
    version = 2  # CuPy's was a fused kernel on a single thread block
    kernels: ClassVar[Kernels] = {
        "array": {"default": single(numpy_body)},
        "numpy": {"default": single(numpy_body)},
        "cupy": {"default": single(cupy_body), "tuned": cupy_tuned_dot},
        "torch": {"default": single(torch_body)},
    }


class Sum(Operation):
    """The sum of b: reading, and nothing else."""

    name = "sum"
    laddered = True


class Fill(Operation):
    """a = s: writing, and nothing else."""

    name = "fill"


class Gather(Operation):
    """a = b[index], the index a random permutation."""

    name = "gather"
    laddered = True
    size = RANDOM_SIZE


class Scatter(Operation):
    """a[index] = b, the index a random permutation."""

    name = "scatter"
    size = RANDOM_SIZE


@pytest.mark.workload(Copy())
def test_copy(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Scale())
def test_scale(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Add())
def test_add(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Triad())
def test_triad(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Dot())
def test_dot(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Sum())
def test_sum(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Fill())
def test_fill(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Gather())
def test_gather(measure: Callable[[], Any]) -> None:
    measure()


@pytest.mark.workload(Scatter())
def test_scatter(measure: Callable[[], Any]) -> None:
    measure()
