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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from bench_core.machine import allotment, host
from benchmarks.bench_memory import OPERATIONS, SCALAR, Arrays, numpy_body
from benchmarks.sizes import KIB, MIB
from benchmarks.threads import in_parallel
from tests.native import compare

STREAMS = ("copy", "scale", "add", "triad")
HUGE_PAGE = 2 * MIB
MALLOC = "16,16,16"  # where glibc's malloc places long arrays, in bytes behind a page: behind its own 16 bytes
LINE = "0,0,0"
STAGGERED = "0,1344,2688"  # a third of a page apart, rounded to cache lines
ONLY_A = "0,16,16"  # stores of whole lines, loads that straddle two
LARGEST_ERROR = 1e-15  # of an element; they are below 2
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
        worst = np.maximum(worst, np.abs(OPERATIONS[operation].answer(**inputs) - part.a).max())  # NaN stays NaN
    return float(worst)


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


@dataclass(frozen=True)
class Entrant:
    """Who takes part, on the side of C or of NumPy.

    options, environment: of its process; entrants that agree in both share one, and so their arrays. form: of C, what
    is added to the name of a kernel; of NumPy, one of FORMS. offsets, block: as in `Streams`, for NumPy only.
    operations: those whose race it enters. alone: whether it differs from others with a single thread as well.
    """

    name: str
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    form: str = ""
    offsets: str = MALLOC
    block: int = 0
    operations: tuple[str, ...] = STREAMS
    alone: bool = True

    def request(self, operation: str, side: str) -> str:
        """Return how its process names the work."""
        return f"{operation}{self.form}" if side == "C" else f"{operation}/{self.form}/{self.offsets}/{self.block}"


IN_C = (
    Entrant("C"),
    Entrant("C: non-temporal stores", form="_nt"),
    Entrant("C: two passes in blocks of 1 MiB", form="_two", operations=("triad",)),
    Entrant("C: small pages", ("pages=small",)),
    Entrant("C: 16 bytes behind a line", (f"offsets={MALLOC}",)),
    Entrant("C: a third of a page apart", (f"offsets={STAGGERED}",)),
    Entrant("C: first touch by one thread", ("touch=1",), alone=False),
    Entrant("C: pinned", environment=(("OMP_PROC_BIND", "true"),), alone=False),
)
_STREAMING = (("GLIBC_TUNABLES", f"glibc.cpu.x86_non_temporal_threshold={LEAST_THRESHOLD}"),)
IN_NUMPY = (
    Entrant("numpy", form="plain"),
    Entrant("numpy: at a line", form="plain", offsets=LINE),
    Entrant("numpy: only a at a line", form="plain", offsets=ONLY_A),
    Entrant("numpy: a third of a page apart", form="plain", offsets=STAGGERED),
    Entrant("numpy: small pages", ("pages=small",), form="plain"),
    Entrant("numpy: vectors of 16 bytes", (), (("NPY_DISABLE_CPU_FEATURES", "X86_V3 X86_V4"),), "plain"),
    Entrant("numpy: first touch by one thread", ("touch=1",), form="plain", alone=False),
    Entrant("numpy: pinned", ("pinned=1",), form="plain", alone=False),
    *(
        Entrant(f"numpy [at a line]: blocks of {block // KIB} KiB", (), (), "plain", LINE, block)
        for block in (64 * KIB, 256 * KIB, MIB, 4 * MIB)
    ),
    *(
        Entrant(f"numpy [at a line]: by a buffer of {block // KIB} KiB", (), (), "buffered", LINE, block)
        for block in (128 * KIB, 512 * KIB)
    ),
    Entrant("numpy [buffer of 512 KiB]: streaming memmove", (), _STREAMING, "buffered", LINE, 512 * KIB),
    Entrant("numpy [at a line]: b copied, then in place", (), (), "copied first", LINE, 256 * KIB, ("scale", "add")),
    Entrant("numpy [at a line]: BLAS, blocks of 256 KiB", (), (), "product", LINE, 256 * KIB, ("add", "triad")),
)


def contenders(
    operation: str, server: Callable[[str, Entrant], compare.Server], threads: int
) -> list[compare.Contender]:
    """Return everyone who takes part in the race of an operation; raises RuntimeError for a wrong answer.

    server: the process of an entrant of a side.
    """
    made: list[compare.Contender] = []
    for side, entrants in (("C", IN_C), ("numpy", IN_NUMPY)):
        for entrant in entrants:
            if operation in entrant.operations and (entrant.alone or threads > 1):
                process, request = server(side, entrant), entrant.request(operation, side)
                if (answer := process.ask(f"{request} 1")) != "none":
                    if not float(answer.split()[1]) < LARGEST_ERROR:
                        raise RuntimeError(f"{entrant.name}: the {operation} is wrong by {answer.split()[1]}")
                    made.append(compare.Contender(entrant.name, process, f"{request} 2"))
    return made


@contextmanager
def processes(program: Path, size: int, threads: int) -> Iterator[Callable[[str, Entrant], compare.Server]]:
    """Yield a function that returns the process of an entrant, started when it is first asked for."""
    known: dict[tuple[object, ...], compare.Server] = {}

    def server(side: str, entrant: Entrant) -> compare.Server:
        key = (side, entrant.options, entrant.environment)
        if key not in known:
            command = [str(program)] if side == "C" else [sys.executable, "-m", "tests.native.factors", "--serve"]
            # The blocks of BLAS run on the threads that share the arrays, one thread each.
            variables = {} if side == "C" else host.thread_environ(1)
            line = [*command, str(size), str(threads), *entrant.options]
            known[key] = compare.Server(line, {**variables, **dict(entrant.environment)})
        return known[key]

    try:
        yield server
    finally:
        for process in known.values():
            process.close()


def main() -> None:
    """Compile, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=allotment.usable_cores())
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=STREAMS, default=STREAMS)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    size = options.size_mib * MIB
    size, threads = options.size_mib * MIB, options.threads
    with tempfile.TemporaryDirectory() as folder, processes(compare.build(Path(folder)), size, threads) as server:
        for name in options.only:
            rates = compare.race(contenders(name, server, threads), options.rounds)
            compare.show(f"{name}, {options.size_mib} MiB an array, {threads} threads", rates, "C")


if __name__ == "__main__":
    main()
