"""The suite's kernels against plain C and against whatever else the libraries here can do, in one interleaved run.

    python -m tests.native.compare [--threads N] [--rounds 30] [--size-mib 256]

Every contender is a process of its own that waits for its turn; a round gives each one turn, in random
order, so that all see the same disturbances. Printed are medians and the median of the ratios within
rounds. For people: nothing here judges a time.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_core.backends import registry
from bench_core.machine import allotment
from bench_core.records import Case
from bench_core.timing.case import generator
from benchmarks import bench_matmul, bench_memory
from tests.support import kernels as support

SOURCE = Path(__file__).with_name("stream.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-ffp-contract=fast", "-fno-tree-loop-distribute-patterns")
OPERATIONS = {"copy": bench_memory.Copy(), "scale": bench_memory.Scale(), "add": bench_memory.Add(),
              "triad": bench_memory.Triad()}  # fmt: skip
PRODUCT_SIZE = 2048
CORES = ("HASWELL", "SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS", "ZEN")  # OpenBLAS's names (TargetList.txt)


def compiler() -> str | None:
    """Return the C compiler of this machine, None if there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)


def build(folder: Path) -> Path:
    """Compile the C program; raises CalledProcessError with what the compiler said."""
    program = folder / "stream"
    command = [compiler() or "cc", *FLAGS, "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(program), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


class Server:
    """A process that answers one line for each line it is asked."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        environment = {**os.environ, **(environment or {})}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)

    def ask(self, line: str) -> str:
        """Return the answer to a line; raises RuntimeError when the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"the process ended with status {self._process.wait()}")
        return answer.strip()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass(frozen=True)
class Contender:
    """Who takes turns: a process, and the line that asks it for one turn's seconds."""

    name: str
    server: Server
    line: str

    def turn(self) -> float:
        """Return the amount per second of the turn's best repetition."""
        amount, _, *seconds = map(float, self.server.ask(self.line).split())
        return amount / min(seconds)


def race(contenders: Sequence[Contender], rounds: int) -> dict[str, list[float]]:
    """Return the rates of every contender, one a round, after one round to warm up."""
    rates: dict[str, list[float]] = {c.name: [] for c in contenders}
    for turn in range(rounds + 1):
        for contender in random.sample(contenders, len(contenders)):
            rate = contender.turn()
            if turn:
                rates[contender.name].append(rate)
    return rates


def show(title: str, rates: dict[str, list[float]], base: str) -> None:
    """Print medians, and ratios to `base` round by round."""
    print(f"\n{title}")
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, rates[base], strict=True)]
        print(f"  {name:46} {statistics.median(values) / 1e9:9.1f} G/s   {statistics.median(ratios):6.3f} of {base}")


@contextmanager
def library(
    backend: str, implementation: str, threads: int, size: int, extra: str = "", **environment: str
) -> Iterator[Server]:
    """Yield a process that serves the suite's own kernels of a backend and implementation."""
    variables = {**registry.load(backend).environ(threads, implementation), **environment}
    command = [
        sys.executable,
        "-m",
        "tests.native.compare",
        "--serve",
        backend,
        implementation,
        str(threads),
        str(size),
    ]
    server = Server([*command, *filter(None, [extra])], variables)
    try:
        yield server
    finally:
        server.close()


def serve(backend: str, implementation: str, threads: int, size: int, extra: str = "") -> None:
    """Answer "KERNEL REPETITIONS" as stream.c does; KERNEL is an operation or a product's dtype."""
    from time import perf_counter

    on = registry.load(backend)("cpu")
    on.set_threads(threads)
    if extra == "bf16-allowed":
        on.xp.backends.mkldnn.matmul.fp32_precision = "bf16"
    kernels = {}
    for line in sys.stdin:
        name, repetitions = line.split()
        if name not in kernels:
            kernels.clear()  # one at a time: memory is finite
            workload = OPERATIONS.get(name) or bench_matmul.Square()
            work = _work(name, size)
            inputs = workload.inputs(work, generator(work.case_id, 0))
            kernel = workload.build(on, Case(work, backend, "cpu", implementation), inputs)
            error = workload.verify(work, workload.reference(work, inputs), support.answer(kernel, on))
            costs = workload.costs(work)
            kernels[name] = kernel.run, costs.bytes or costs.flops, error
        run, amount, error = kernels[name]
        seconds = []
        for _ in range(int(repetitions)):
            start = perf_counter()
            run()
            seconds.append(perf_counter() - start)
        print(amount, error, *seconds, flush=True)


def _work(name: str, size: int):
    if name in OPERATIONS:
        return OPERATIONS[name].array_work(size)
    dtype, _, layout = name.partition("-")
    n = PRODUCT_SIZE
    return bench_matmul.Square().product(str(n), (dtype, "ieee"), n, n, n, **({"layout": layout} if layout else {}))


def streams(program: Path, threads: int, size: int, rounds: int) -> None:
    """Race the four operations of STREAM: C plain and non-temporal, NumPy default and tuned, torch."""
    with ExitStack() as stack:
        c = Server([str(program), str(size), str(threads)])
        stack.callback(c.close)
        numpy, tuned, torch = (
            stack.enter_context(library(backend, implementation, threads, size))
            for backend, implementation in (("numpy", "default"), ("numpy", "tuned"), ("torch", "default"))
        )
        for name in OPERATIONS:
            contenders = [Contender("C", c, f"{name} 3"), Contender("C non-temporal", c, f"{name}_nt 3")]
            contenders += [Contender("numpy", numpy, f"{name} 3"), Contender("numpy tuned", tuned, f"{name} 3"),
                           Contender("torch", torch, f"{name} 3")]  # fmt: skip
            if c.ask(f"{name}_nt 1") == "none":
                contenders.pop(1)
            show(f"{name}, {size >> 20} MiB an array, {threads} threads", race(contenders, rounds), "C")


def matmuls(program: Path, threads: int, rounds: int) -> None:
    """Race products of 2048 through every setting of the libraries here; the FMA loop is what no product can pass."""
    torch_cpu = ("torch", "default"), ("torch", "tuned")
    settings = {
        "float64": [("numpy", core) for core in CORES] + [("numpy", "tuned"), ("torch", "default")],
        "float32": [("numpy", core) for core in CORES] + [("numpy", "tuned"), *torch_cpu, ("torch", "bf16-allowed")],
        "bfloat16": [("torch", "default")],
        "int8": [("torch", "default")],
    }
    layouts = {"bfloat16": ("nn", "nt", "tn", "tt"), "int8": ("nt", "nn")}
    for dtype, contestants in settings.items():
        with ExitStack() as stack:
            c = Server([str(program), str(1 << 20), str(threads)])
            stack.callback(c.close)
            contenders = [Contender("FMA loop", c, f"fma{'64' if dtype == 'float64' else '32'} 5")]
            for backend, setting in contestants:
                implementation = setting if setting in {"default", "tuned"} else "default"
                core = {"OPENBLAS_CORETYPE": setting} if setting in CORES else {}
                extra = "bf16-allowed" if setting == "bf16-allowed" else ""
                server = stack.enter_context(library(backend, implementation, threads, 0, extra, **core))
                for layout in layouts.get(dtype, ("",)):
                    name = " ".join(filter(None, [backend, setting, layout]))
                    contenders.append(Contender(name, server, f"{dtype}{layout and '-' + layout} 2"))
            show(f"{dtype} product of {PRODUCT_SIZE}, {threads} threads", race(contenders, rounds), "FMA loop")


def main() -> None:
    """Compile, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=allotment.usable_cores())
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--only", choices=("streams", "products"))
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        backend, implementation, threads, size, *extra = options.serve
        serve(backend, implementation, int(threads), int(size), *extra)
        return
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        if options.only != "products":
            streams(program, options.threads, options.size_mib << 20, options.rounds)
        if options.only != "streams":
            matmuls(program, options.threads, options.rounds)


if __name__ == "__main__":
    main()
