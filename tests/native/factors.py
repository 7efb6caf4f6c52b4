"""What makes a stream of NumPy slower or faster than plain C: one cause at a time, in one interleaved run.

    python -m tests.native.factors [--threads N] [--rounds 10] [--size-mib 256] [--only add triad]

Everyone does the same work on arrays of the same size with the same number of threads. The ruler is "C": plain stores,
huge pages, arrays that start at a cache line, each thread on the pages that it wrote first. "numpy" is what a newcomer
gets, on all threads: one call for each thread's share, on arrays 16 bytes behind a cache line, as malloc places them.
Every other contender differs from one of the two in the one thing that its name says; a name in brackets says which
contender it differs from. Each turn is 2 calls, of which the faster counts. For people: nothing here judges a time.

What NumPy does, read in its source (2.4.6): add and multiply load and store 32 bytes at a time where the CPU has AVX2,
also with AVX-512, by instructions that need no alignment (umath/loops_arithm_fp.dispatch.c.src). No function of NumPy
has non-temporal stores. A contiguous copy is one memmove (multiarray/lowlevel_strided_loops.c.src), and the C library
has: glibc from `x86_non_temporal_threshold` bytes on, by default 3/4 of a thread's share of the last-level cache.
Arrays of 4 MiB and more ask for huge pages (multiarray/alloc.c).
"""

from __future__ import annotations

import argparse
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from bench_core.machine import host
from benchmarks.bench_memory import OPERATIONS, SCALAR, Arrays, numpy_body
from benchmarks.sizes import KIB, MIB
from benchmarks.threads import in_parallel
from tests.native import compare

STREAMS = ("copy", "scale", "add", "triad")
HUGE_PAGE = 2 * MIB
MALLOC = "16,16,16"  # where glibc's malloc places long arrays, in bytes behind a page: behind its own 16 bytes
LINE = "0,0,0"
STAGGERED = "0,1344,2688"  # a third of a page apart, rounded to cache lines
UNLIKE = "0,16,16"  # stores of whole lines, loads that straddle two
LEAST_THRESHOLD = 0x4040  # glibc accepts no lower one

Call = Callable[[], object]


# ---------------------------------------------------------------- the process that computes by NumPy


def allocated(size: int, pages: str) -> np.ndarray:
    """Return bytes from a boundary of 2 MiB on, with room for an offset of up to 1 MiB. pages: as in stream.c."""
    memory = mmap.mmap(-1, size + 2 * HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE") and pages != "any":
        memory.madvise(mmap.MADV_HUGEPAGE if pages == "huge" else mmap.MADV_NOHUGEPAGE)
    whole = np.frombuffer(memory, np.uint8)
    return whole[-whole.ctypes.data % HUGE_PAGE :][: size + MIB]


class Streams:
    """The arrays of one process, and the forms of the operations on them.

    pages, touch: as in stream.c. pinned: whether each thread gets a core of its own.
    """

    def __init__(self, size: int, threads: int, *, pages: str = "huge", touch: int = 0, pinned: bool = False) -> None:
        self.size, self.threads = size, threads
        if pinned:
            self._pin()
        touch = touch or threads
        self._memory = {name: allocated(size, pages).view(np.float64) for name in "abc"}
        step = -(-len(self._memory["a"]) // touch)
        numbers = {"a": np.zeros(1), "b": np.arange(1021) / 1021, "c": np.arange(1019) / 1019}
        for name, memory in self._memory.items():
            parts = [memory[start : start + step] for start in range(0, len(memory), step)]
            in_parallel(touch, [partial(_repeat, part, numbers[name]) for part in parts])

    def _pin(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        meeting = threading.Barrier(self.threads)  # so that every thread runs exactly one of the tasks

        def pin(core: int) -> None:
            os.sched_setaffinity(0, {core})
            meeting.wait()

        in_parallel(self.threads, [partial(pin, cores[i % len(cores)]) for i in range(self.threads)])

    def arrays(self, offsets: str) -> Arrays:
        """Return a, b and c at offsets in bytes, "A,B,C"."""
        starts = dict(zip("abc", map(int, offsets.split(",")), strict=True))
        views = {name: memory[starts[name] // 8 :][: self.size // 8] for name, memory in self._memory.items()}
        return Arrays(**views, index=np.empty(0, np.int64))

    def call(self, name: str) -> tuple[Call, float]:
        """Return the call for "OPERATION/FORM/OFFSETS/BLOCK" and the largest error of an element after one call.

        BLOCK is in bytes per array, 0 for one call for each thread's share.
        """
        operation, form, offsets, block = name.split("/")
        arrays = self.arrays(offsets)
        share = -(-self.size // 8 // self.threads)
        step = int(block) // 8 or share
        tasks = []
        for start in range(0, self.size // 8, share):
            stop = min(start + share, self.size // 8)
            parts = [_part(arrays, i, min(i + step, stop)) for i in range(start, stop, step)]
            tasks.append(partial(_all, FORMS[form](operation, parts)))
        call = partial(in_parallel, self.threads, tasks)
        arrays.a.fill(np.nan)
        call()
        return call, _error(operation, arrays)


def _repeat(part: np.ndarray, numbers: np.ndarray) -> None:
    for start in range(0, len(part), MIB):
        part[start : start + MIB] = np.resize(numbers, len(part[start : start + MIB]))


def _part(arrays: Arrays, start: int, stop: int) -> Arrays:
    return Arrays(arrays.a[start:stop], arrays.b[start:stop], arrays.c[start:stop], arrays.index)


def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _error(operation: str, arrays: Arrays) -> float:
    worst = 0.0
    for start in range(0, len(arrays.a), MIB):
        part = _part(arrays, start, start + MIB)
        inputs = {name: getattr(part, name) for name in "bc" if name in OPERATIONS[operation].touched}
        worst = max(worst, float(np.abs(OPERATIONS[operation].answer(**inputs) - part.a).max()))
    return worst


def plain(operation: str, parts: Sequence[Arrays]) -> list[Call]:
    """Return the suite's calls for each part."""
    return [numpy_body(np, part, operation) for part in parts]


def buffered(operation: str, parts: Sequence[Arrays]) -> list[Call]:
    """Return calls that compute each part in one small buffer, which stays in the cache, and copy it from there.

    The copy is a memmove, and may use stores that do not read the line first.
    """
    room = np.empty(len(parts[0].a) + 8)
    buffer = room[-room.ctypes.data % 64 // 8 :][: len(parts[0].a)]
    calls: list[Call] = []
    for part in parts:
        here = buffer[: len(part.a)]
        calls += [numpy_body(np, replace(part, a=here), operation), partial(np.copyto, part.a, here)]
    return calls


def copied_first(operation: str, parts: Sequence[Arrays]) -> list[Call]:
    """Return calls that copy b to a, part by part, and then change a in place: the copy may not read a first."""
    calls: list[Call] = []
    for part in parts:
        calls.append(partial(np.copyto, part.a, part.b))
        if operation == "scale":
            calls.append(partial(np.multiply, part.a, SCALAR, part.a))
        elif operation == "add":
            calls.append(partial(np.add, part.a, part.c, part.a))
    return calls


def product(operation: str, parts: Sequence[Arrays]) -> list[Call]:
    """Return a product of the row (1, s) and the matrix of the rows b and c, for each part: BLAS, one call."""
    row = np.array([1.0, SCALAR if operation == "triad" else 1.0])
    apart = parts[0].c.ctypes.data - parts[0].b.ctypes.data
    rows = [np.lib.stride_tricks.as_strided(part.b, (2, len(part.b)), (apart, 8)) for part in parts]
    return [partial(np.matmul, row, two, part.a) for two, part in zip(rows, parts, strict=True)]


FORMS = {"plain": plain, "buffered": buffered, "copied first": copied_first, "product": product}


def serve(size: str, threads: str, *options: str) -> None:
    """Answer "OPERATION/FORM/OFFSETS/BLOCK REPETITIONS" as stream.c answers. options: pages=, touch=, pinned=."""
    chosen = dict(option.split("=") for option in options)
    streams = Streams(
        *(int(size), int(threads)),
        pages=chosen.get("pages", "huge"),
        touch=int(chosen.get("touch", 0)),
        pinned="pinned" in chosen,
    )
    known: dict[str, tuple[Call, float]] = {}
    for line in sys.stdin:
        name, repetitions = line.rsplit(maxsplit=1)
        if name not in known:
            known[name] = streams.call(name)
        call, error = known[name]
        seconds = []
        for _ in range(int(repetitions)):
            start = perf_counter()
            call()
            seconds.append(perf_counter() - start)
        moved = len(OPERATIONS[name.partition("/")[0]].touched) * int(size)
        print(moved, error, *seconds, flush=True)


# ---------------------------------------------------------------- the race


class Servers:
    """The processes of a race, each started when it is first asked for."""

    def __init__(self, program: Path, size: int, threads: int, stack: ExitStack) -> None:
        self._program, self._size, self._threads, self._stack = program, size, threads, stack
        self._known: dict[tuple[str, ...], compare.Server] = {}

    def c(self, *options: str, **environment: str) -> compare.Server:
        """Return a process of stream.c."""
        return self._server([str(self._program)], options, environment)

    def numpy(self, *options: str, **environment: str) -> compare.Server:
        """Return a process of `serve`."""
        return self._server([sys.executable, "-m", "tests.native.factors", "--serve"], options, environment)

    def _server(self, command: list[str], options: Sequence[str], environment: dict[str, str]) -> compare.Server:
        key = (*command, *options, *map(str, environment.items()))
        if key not in self._known:
            line = [*command, str(self._size), str(self._threads), *options]
            server = compare.Server(line, {**host.thread_environ(1), **environment} if "-m" in command else environment)
            self._known[key] = server
            self._stack.callback(server.close)
        return self._known[key]


def contenders(operation: str, servers: Servers, threads: int) -> list[compare.Contender]:
    """Return everyone who takes part in the race of an operation."""
    made: list[compare.Contender] = []

    def c(name: str, server: compare.Server, store: str = "") -> None:
        if server.ask(f"{operation}{store} 1") != "none":
            made.append(compare.Contender(name, server, f"{operation}{store} 2"))

    def numpy(name: str, server: compare.Server, form: str = "plain", offsets: str = MALLOC, block: int = 0) -> None:
        made.append(compare.Contender(name, server, f"{operation}/{form}/{offsets}/{block} 2"))

    c("C", servers.c())
    c("C: non-temporal stores", servers.c(), "_nt")
    c("C: small pages", servers.c("pages=small"))
    c("C: 16 bytes behind a line", servers.c(f"offsets={MALLOC}"))
    c("C: arrays a third of a page apart", servers.c(f"offsets={STAGGERED}"))
    usual = servers.numpy()
    numpy("numpy", usual)
    numpy("numpy: at a line", usual, offsets=LINE)
    numpy("numpy: only a at a line", usual, offsets=UNLIKE)
    numpy("numpy: a third of a page apart", usual, offsets=STAGGERED)
    numpy("numpy: small pages", servers.numpy("pages=small"))
    numpy("numpy: vectors of 16 bytes", servers.numpy(NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4"))
    if threads > 1:
        c("C: first touch by one thread", servers.c("touch=1"))
        c("C: pinned", servers.c(OMP_PROC_BIND="true"))
        numpy("numpy: first touch by one thread", servers.numpy("touch=1"))
        if hasattr(os, "sched_setaffinity"):
            numpy("numpy: pinned", servers.numpy("pinned=1"))
    for block in BLOCKS:
        numpy(f"numpy [at a line]: blocks of {block // KIB} KiB", usual, offsets=LINE, block=block)
    for block in BUFFERS:
        numpy(f"numpy [at a line]: by a buffer of {block // KIB} KiB", usual, "buffered", LINE, block)
    streaming = servers.numpy(GLIBC_TUNABLES=f"glibc.cpu.x86_non_temporal_threshold={LEAST_THRESHOLD}")
    numpy("numpy [at a line]: the same, 128 KiB, non-temporal memmove", streaming, "buffered", LINE, 128 * KIB)
    if operation in {"scale", "add"}:
        numpy("numpy [at a line]: a = b in blocks, then in place", usual, "copied first", LINE, 256 * KIB)
    if operation in {"add", "triad"}:
        numpy("numpy [at a line]: BLAS, blocks of 256 KiB", usual, "product", LINE, 256 * KIB)
    return made


BLOCKS = (64 * KIB, 256 * KIB, MIB, 4 * MIB)
BUFFERS = (32 * KIB, 128 * KIB, 512 * KIB)


def main() -> None:
    """Compile, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=host.usable_cores())
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=STREAMS, default=STREAMS)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    size = options.size_mib * MIB
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = Servers(compare.build(Path(folder)), size, options.threads, stack)
        for name in options.only:
            rates = compare.race(contenders(name, servers, options.threads), options.rounds)
            compare.show(f"{name}, {options.size_mib} MiB an array, {options.threads} threads", rates, "C")


if __name__ == "__main__":
    main()
