"""Memory: the bandwidth of a device by operation and by footprint, with hot and cold caches.

Bytes are counted as in STREAM (McCalpin 1995): every array once per read and once per write. A plain store into a line
that is not in a CPU's cache reads that line first (write-allocate, or read for ownership). So with plain stores the
memory bus of a CPU transfers more bytes than are counted, by a factor of 3/2 for copy and scale, 4/3 for add and
triad, 2 for fill, 1 for dot and sum. NumPy's arithmetic has plain stores only. Its copy is one memmove, for which the C
library may choose non-temporal stores, which do not read the line: glibc does so above a size that it derives from the
CPU's caches, from about a million bytes to some hundred million. Some CPUs also recognise that whole lines are
overwritten, and leave out the read. Then the factor is 1 on a CPU too. GPUs write whole sectors without reading them:
the factor is always 1.

NumPy's `tuned` rows have the best that its calls can do, but no call of NumPy does a triad in one pass: multiply and
add each read and write their arrays. In blocks the second pass finds the block of a in the cache and moves no more
memory than C does, yet each pass takes its own time: C in the same two passes was 0.90 of C in one, on one thread of an
EPYC of 2024, and NumPy 0.84. tests/native/factors.py measures this and whatever else may make a difference: alignment,
pages, first touch, affinity, size of blocks, kind of stores.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from bench_core import check
from bench_core.caches import flagged, flagged_cold
from bench_core.workload import (
    Backend,
    Builder,
    Cache,
    Call,
    Ceiling,
    Claim,
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

from .sizes import KIB, MIB, PERIOD, itemsize, size_label
from .threads import in_parallel

SCALAR = math.sqrt(2) - 1  # s: as 2s + s^2 = 1, repeating copy, scale, add, triad keeps the size of the numbers
STANDARD_SIZE = 256 * MIB  # bytes of one array; the same on every machine, so that machines can be compared
# Bytes of an array of quick, which has one size, at most: 4 times a cache of 384 MiB. From the other size on, quick
# measures the ceiling alone, because each array takes a second to make.
QUICK_LARGEST, QUICK_LARGE = 1536 * MIB, 1024 * MIB
RANDOM_SIZE = 64 * MIB  # bytes of one array for gather and scatter, whose random access is far slower
LADDER = tuple(4 * KIB << step for step in range(17))  # 4 KiB to 256 MiB: from L1 to memory
COLDEST = (MIB, 16 * MIB)  # range of sizes for which cold and hot times differ and few sets of buffers are needed
BLOCK = MIB  # bytes per array of a block of NumPy's tuned two-pass triad; a block of a fits in most L2 caches
LINE = 64  # bytes of a cache line of most CPUs
HUGE = 4 * MIB  # bytes from which NumPy asks for huge pages (numpy/_core/src/multiarray/alloc.c)


@dataclass(frozen=True, slots=True)
class Spec:
    """An operation.

    touched: the arrays that it reads or writes (a, b, c; i for the index). flops: per element. answer: the result as a
    function of b and c.
    """

    touched: str
    flops: int
    answer: Callable[..., np.ndarray]


OPERATIONS = {
    "copy": Spec("ab", 0, lambda b: b),
    "scale": Spec("ab", 1, lambda b: SCALAR * b),
    "add": Spec("abc", 1, lambda b, c: b + c),
    "triad": Spec("abc", 2, lambda b, c: b + SCALAR * c),
    "dot": Spec("bc", 2, lambda b, c: b * c),  # the terms; the check sums them
    "sum": Spec("b", 1, lambda b: b),
    "fill": Spec("a", 0, lambda: np.full(1, SCALAR)),
    "gather": Spec("abi", 0, lambda b: b),  # then permuted by the index
    "scatter": Spec("abi", 0, lambda b: b),
}


@dataclass(frozen=True, slots=True)
class Arrays:
    """The device arrays of a kernel: `a` is written, `b` and `c` are read, `index` (int64) selects elements of a or b.

    Arrays that the operation does not use are empty.
    """

    a: Any
    b: Any
    c: Any
    index: Any


def numpy_body(xp: Any, arrays: Arrays, operation: str) -> Call:
    """Return NumPy's call for an operation. The triad takes two passes, since NumPy has no fused call for it."""
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index

    def triad() -> Any:
        xp.multiply(c, SCALAR, a)
        return xp.add(a, b, a)

    bodies: Mapping[str, Call] = {
        "copy": partial(xp.copyto, a, b),
        "scale": partial(xp.multiply, b, SCALAR, a),
        "add": partial(xp.add, b, c, a),
        "triad": triad,
        "dot": partial(xp.dot, b, c),
        "sum": partial(xp.add.reduce, b),
        "fill": partial(a.fill, SCALAR),
        # Every index is in range. With mode="raise", the default, `take` would write to a temporary buffer first.
        "gather": partial(xp.take, b, index, out=a, mode="wrap"),
        "scatter": partial(a.__setitem__, index, b),
    }
    return bodies[operation]


def cupy_body(xp: Any, arrays: Arrays, operation: str) -> Call:
    """Return CuPy's call for an operation: one kernel, except for the dot product.

    `cupy.dot` multiplies vectors into a new array and sums that with CUB: four arrays move, while two are counted. A
    fused ReductionKernel would be far slower: with two inputs it runs on a single thread block.
    """
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index
    result = xp.empty((), a.dtype)

    def elementwise(inputs: str, statement: str, *given: Any, out: str = "T a") -> Call:
        return partial(xp.ElementwiseKernel(inputs, out, statement, f"bench_{operation}"), *given, a)

    bodies: Mapping[str, Callable[[], Call]] = {
        "copy": lambda: elementwise("T b", "a = b", b),
        "scale": lambda: elementwise("T b, T s", "a = s * b", b, SCALAR),
        "add": lambda: elementwise("T b, T c", "a = b + c", b, c),
        "triad": lambda: elementwise("T b, T c, T s", "a = b + s * c", b, c, SCALAR),
        "dot": lambda: partial(xp.dot, b, c, out=result),
        "sum": lambda: partial(xp.sum, b, out=result),
        "fill": lambda: partial(a.fill, SCALAR),
        "gather": lambda: partial(xp.take, b, index, out=a),
        # CuPy reserves the name `i` for the index of the loop.
        "scatter": lambda: elementwise("T b, I at", "a[at] = b", b, index, out="raw T a"),
    }
    return bodies[operation]()


def cupy_tuned_dot(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of cuBLAS's dot product: one pass, no temporary array. CuPy offers it in `cupy.cublas`."""
    from cupy import cublas

    arrays = device_arrays(backend, work, host)
    result = backend.xp.empty((), work.dtype)
    return finished(backend, work, arrays, partial(cublas.dot, arrays.b, arrays.c, out=result))


def torch_body(torch: Any, arrays: Arrays, operation: str) -> Call:
    """Return PyTorch's call for an operation; each takes one pass."""
    a, b, c, index = arrays.a, arrays.b, arrays.c, arrays.index
    result = torch.empty((), dtype=a.dtype, device=a.device)
    bodies: Mapping[str, Call] = {
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


def single(body: Callable[[Any, Arrays, str], Call], first_touch: int | None = None) -> Builder:
    """Return a builder whose kernel makes one call for the whole array. first_touch: as in `Kernel`."""

    def build(backend: Backend, work: Work, host: HostArrays) -> Kernel:
        arrays = device_arrays(backend, work, host)
        return finished(backend, work, arrays, body(backend.xp, arrays, work.workload), first_touch)

    return build


def numpy_tuned(backend: Backend, work: Work, host: HostArrays) -> Kernel:
    """Return the kernel of NumPy's operation on as many threads as its BLAS uses; the triad runs block by block.

    NumPy releases the GIL while it computes, so threads run in parallel. Each has one share of all arrays, which it has
    also written first, and which begins at a cache line. One call for a share is faster than many for blocks: between
    two calls a thread has to wait for the GIL. Only the triad gains by blocks, for its second pass then finds the
    results of the first in the cache.
    """
    n, item = work["elements"], itemsize(work.dtype)
    block = BLOCK // item
    threads = max(1, min(backend.threads or 1, n // block))  # each thread gets at least one block
    line = LINE // item
    share = -(-n // (threads * line)) * line
    starts = range(0, n, share)
    arrays = placed_arrays(work, host, threads, share)
    step = block if work.workload == "triad" else share

    def bodies(start: int) -> list[Call]:
        stop = min(start + share, n)
        parts = (part(arrays, work, i, min(i + step, stop)) for i in range(start, stop, step))
        return [numpy_body(backend.xp, each, work.workload) for each in parts]

    def sweep(bodies: Sequence[Call]) -> Any:
        return [body() for body in bodies][-1]

    sweeps = [partial(sweep, bodies(start)) for start in starts]

    def run() -> Any:
        results = in_parallel(threads, sweeps)
        return arrays.a if arrays.a.size else sum(results)

    return finished(backend, work, arrays, run, first_touch=len(starts))


def part(arrays: Arrays, work: Work, start: int, stop: int) -> Arrays:
    """Return views of the elements from `start` to `stop`; the array that the index selects from stays whole."""
    whole = {"gather": "b", "scatter": "a"}.get(work.workload)
    views = {name: getattr(arrays, name)[start:stop] for name in ("a", "b", "c", "index") if name != whole}
    return replace(arrays, **views)


def placed_arrays(work: Work, host: HostArrays, threads: int, share: int) -> Arrays:
    """Return NumPy arrays in new pages; each thread writes its shares of `share` elements first.

    They hold the numbers of `device_arrays`.
    """
    n, numbers = work["elements"], source_numbers(work, host)

    def write(start: int) -> None:
        for name, array in arrays.items():
            repeat(array[start : start + share], numbers[name], start)

    arrays = {name: in_new_pages(n if len(few) else 0, few.dtype) for name, few in numbers.items()}
    in_parallel(threads, [partial(write, start) for start in range(0, n, share)])
    return Arrays(**arrays)


def in_new_pages(n: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a vector (n) of zeros in pages that nobody has written to, in huge ones if it is large, as NumPy does.

    malloc aligns to 16 bytes only, not to a cache line, and may reuse pages that another thread has written first.
    """
    size = n * dtype.itemsize
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), **private)
    if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype, n)


def repeat(target: np.ndarray, few: np.ndarray, start: int) -> None:
    """Fill `target` with `few`, repeated without end, from its element `start` on."""
    filled = 0
    while filled < len(target):
        at = (start + filled) % len(few)
        some = few[at : at + len(target) - filled]
        target[filled : filled + len(some)] = some
        filled += len(some)


def source_numbers(work: Work, host: HostArrays) -> dict[str, np.ndarray]:
    """Return what the arrays of an operation are filled with, by name; empty for arrays that it does not use."""
    touched = OPERATIONS[work.workload].touched
    numbers = {"a": np.zeros(period(work), work.dtype), **host}
    used = {name: numbers[name] if name in touched else np.empty(0, work.dtype) for name in "abc"}
    return {**used, "index": numbers.get("index", np.empty(0, np.int64))}


def device_arrays(backend: Backend, work: Work, host: HostArrays) -> Arrays:
    """Upload the host's numbers and repeat them to arrays of the full size."""
    numbers = source_numbers(work, host)

    def array(name: str) -> Any:
        few = backend.from_host(numbers[name])
        return backend.xp.tile(few, (-(-work["elements"] // period(work)),))[: work["elements"]]

    return Arrays(array("a"), array("b"), array("c"), backend.from_host(numbers["index"]))


def period(work: Work) -> int:
    """Return the number of elements after which the numbers repeat."""
    return min(PERIOD, int(work["elements"]))


def finished(backend: Backend, work: Work, arrays: Arrays, run: Call, first_touch: int | None = None) -> Kernel:
    """Return the kernel of an operation, flagged if its arrays fit in a cache or if no cache is known.

    Arrays that are measured cold fit in a cache as well, but other arrays are read between two calls.
    """
    inputs = read_arrays(work, arrays)
    if "a" in OPERATIONS[work.workload].touched:
        kernel = Kernel(run, inputs=inputs, outputs=lambda _: {"out": arrays.a}, first_touch=first_touch)
    else:
        kernel = Kernel(run, inputs=inputs, first_touch=first_touch)
    return flagged_by_cache(kernel, backend, work)


def read_arrays(work: Work, arrays: Arrays) -> dict[str, Any]:
    """Return the arrays that an operation reads, by the names of the inputs."""
    names = {"b": "b", "c": "c", "i": "index"}
    touched = OPERATIONS[work.workload].touched
    return {names[letter]: getattr(arrays, names[letter]) for letter in touched if letter in names}


def flagged_by_cache(kernel: Kernel, backend: Backend, work: Work) -> Kernel:
    """Return the kernel of an operation, flagged as `finished` says."""
    if work.cache is Cache.COLD:
        return flagged_cold(kernel, backend)
    return flagged(kernel, backend, moved(work), work["elements"] * itemsize(work.dtype))


def moved(work: Work) -> int:
    """Return the bytes of all arrays that an operation touches, each counted once; an index has 8 bytes per element."""
    touched = OPERATIONS[work.workload].touched
    item = itemsize(work.dtype)
    return int(work["elements"] * sum(8 if name == "i" else item for name in touched))


def bijection(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a permutation (n) of all indices below n, int64, made of two small random permutations P and Q.

    Shuffling 32 million indices would take longer than the benchmark. Instead, element (q, r) of a matrix of
    rows x columns is P(q) + rows * Q(r), with columns = gcd(n, 2^20). Consecutive elements are at least `rows` apart
    (for long arrays a cache line or more), and a line is accessed again only after a pass of `columns` elements. If n
    is a power of two up to 2^20, this is a full shuffle.
    """
    columns = math.gcd(n, MIB)
    rows = n // columns
    return (rng.permutation(rows)[:, None] + rng.permutation(columns)[None, :] * rows).ravel()


def quick_size(cache: int) -> int:
    """Return the bytes of an array of quick: a multiple of STANDARD_SIZE, 4 times the last-level cache if it may be."""
    return min(QUICK_LARGEST, STANDARD_SIZE * max(1, math.ceil(4 * cache / STANDARD_SIZE)))


class Operation(Workload):
    """Base class: one operation on long arrays, with bytes counted as in STREAM.

    Its fastest rows are the ceiling of memory, unless it accesses memory at random (`Random`).
    """

    suite = "memory"
    traits = Traits(order=1, headline="bandwidth", measures=Limit.BANDWIDTH, traffic=Traffic.MEMORY)
    kernels: ClassVar[Kernels] = {
        "array": {"default": single(numpy_body)},
        "numpy": {"default": single(numpy_body, first_touch=1), "tuned": numpy_tuned},
        "cupy": {"default": single(cupy_body)},
        "torch": {"default": single(torch_body)},
    }
    in_quick: ClassVar[bool] = False
    in_headline: ClassVar[bool] = False
    laddered: ClassVar[bool] = False  # whether standard measures LADDER and one thread as well; full always does
    size: ClassVar[int] = STANDARD_SIZE

    def works(self, preset: Preset, machine: Machine) -> Iterable[Work]:
        if preset is Preset.SMOKE:
            return [self.array_work(MIB, dtype) for dtype in ("float64", "float32")]
        if preset is Preset.QUICK:
            size = quick_size(machine.last_level_cache)
            return [self.array_work(size)] if self.in_quick and (size < QUICK_LARGE or self.ceiling) else []
        dtypes = ("float64", "float32") if preset is Preset.FULL else ("float64",)
        works = [self.array_work(size, dtype) for dtype in dtypes for size in self.sizes(machine)]
        ladder = LADDER if preset is Preset.FULL else LADDER[::2] if self.laddered else ()
        works += [self.array_work(size) for size in ladder]
        works += [self.array_work(size, cache=Cache.COLD) for size in ladder if COLDEST[0] <= size <= COLDEST[1]]
        return list(dict.fromkeys(works))

    def is_headline(self, work: Work, implementation: str, machine: Machine) -> bool:  # noqa: ARG002 - in every implementation
        """Whether the preset headline has it: hot, of the fixed size; with a `ceiling`, also of the larger size."""
        size = work["elements"] * itemsize(work.dtype)
        sizes = self.sizes(machine) if self.ceiling else [self.size]
        return self.in_headline and size in sizes and work.cache is Cache.HOT

    def sizes(self, machine: Machine) -> list[int]:
        """Return the fixed size of an array, and a power of two of at least 4 times the last-level cache if larger."""
        enough = 1 << math.ceil(math.log2(4 * machine.last_level_cache))
        return list(dict.fromkeys([self.size, max(self.size, enough)]))

    def array_work(self, size: int, dtype: str = "float64", **special: Any) -> Work:
        """Return the work on arrays of `size` bytes."""
        return self.work(size_label(size), dtype, elements=size // itemsize(dtype), **special)

    def threads(self, work: Work, preset: Preset) -> Sequence[int | None]:
        whole = work["elements"] * itemsize(work.dtype) == self.size
        alone = preset is Preset.FULL or (preset is Preset.STANDARD and self.laddered and whole)
        return (1, None) if alone else (None,)

    def inputs(self, work: Work, rng: np.random.Generator) -> dict[str, np.ndarray]:
        touched, dtype = OPERATIONS[self.name].touched, np.dtype(work.dtype).type
        inputs = {name: rng.standard_normal(period(work), dtype) for name in "bc" if name in touched}
        return inputs | ({"index": bijection(work["elements"], rng)} if "i" in touched else {})

    def costs(self, work: Work) -> Costs:
        """Return the bytes of every array touched, once each, and FLOPs as STREAM counts them."""
        flops = OPERATIONS[self.name].flops * work["elements"]
        return Costs(float(flops) or None, float(moved(work)), float(moved(work)))

    def reference(self, work: Work, host: HostArrays) -> np.ndarray:  # noqa: ARG002 - not needed
        """Return the answer in float64: one period of it, or all of it for gather and scatter."""
        spec = OPERATIONS[self.name]
        few = spec.answer(**{name: host[name].astype(np.float64) for name in "bc" if name in spec.touched})
        return permuted(self.name, few, host["index"]) if "i" in spec.touched else few

    def error(self, work: Work, expected: np.ndarray, answer: HostArrays) -> float:
        """Return the largest error of an element, relative to the root mean square of all elements.

        For `dot` and `sum`: the error of the sum, relative to the sum of the terms' magnitudes.
        """
        spec, out = OPERATIONS[self.name], answer["out"]
        check.require_dtype("out", out, work.dtype)
        if "i" in spec.touched:
            return check.largest_error(out, expected)
        if "a" in spec.touched:
            check.require_shape(out, (work["elements"],))
            return check.periodic_error(out, expected)
        return check.reduction_error(out, expected, work["elements"])


def permuted(name: str, few: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the expected result of a gather or scatter of `few` numbers, repeated to the length of the index."""
    source = np.resize(few, len(index))
    if name == "gather":
        return np.take(source, index)
    target = np.empty_like(source)
    target[index] = source
    return target


class Copy(Operation):
    """a = b."""

    name = "copy"
    traits = replace(Operation.traits, claims=(Claim.BANDWIDTH,))
    ceiling = Ceiling.MEMORY
    in_quick = in_headline = True


class Scale(Operation):
    """a = s b."""

    name = "scale"


class Add(Operation):
    """a = b + c."""

    name = "add"


class Triad(Operation):
    """a = b + s c."""

    name = "triad"
    traits = replace(Operation.traits, claims=(Claim.BANDWIDTH,))
    in_quick = in_headline = True
    laddered = True


class Dot(Operation):
    """The sum of b c. NumPy calls BLAS, which uses its own threads."""

    name = "dot"
    version = 2  # in version 1, CuPy used a fused kernel on a single thread block
    kernels: ClassVar[Kernels] = {
        "array": {"default": single(numpy_body)},
        "numpy": {"default": single(numpy_body, first_touch=1)},
        "cupy": {"default": single(cupy_body), "tuned": cupy_tuned_dot},
        "torch": {"default": single(torch_body)},
    }


class Sum(Operation):
    """The sum of b: reads only."""

    name = "sum"
    traits = replace(Operation.traits, claims=(Claim.BANDWIDTH,))
    laddered = True


class Fill(Operation):
    """a = s: writes only."""

    name = "fill"


class Random(Operation):
    """Base class of operations with random access, whose bandwidth is no ceiling for other work."""

    traits = replace(Operation.traits, measures=None)
    size = RANDOM_SIZE


class Gather(Random):
    """a = b[index], with a random permutation as index."""

    name = "gather"
    laddered = True


class Scatter(Random):
    """a[index] = b, with a random permutation as index."""

    name = "scatter"


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
