"""What a minute of measuring is worth: this suite against other ways, on the same six kernels of the CPU.

    python -m tests.native.minutes [--minutes 10] [--seed N]

The ways, each as its users start it, in fresh processes:

- this suite: a round of `bench-core run --precision 3%`, which is a session of all six;
- pytest-benchmark: one pytest process without this suite's plugin, all options at their defaults;
- torch.utils.benchmark: a script that calls Timer.blocked_autorange() for each, on as many threads as the suite uses;
- like pyperf: 20 processes of 3 values after one to warm up, each of a single kernel. Imitated are its numbers of
  processes, values and loops, and its statistics (six_kernels.py and ways.py name the sources); not its metadata.

Turns of all ways alternate at random until the time is up. Printed is, from these samples, after how many minutes each
way says that all six are known within 3 %, and after how many they are: ways.py says how. A/A comparisons of the same
samples give the false alarms of the rule that its users use. For people: nothing here judges a time. The more of the
machine is free, the more it says; where a cell has ">", or "-", the time was too short: half an hour fills all cells.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import monotonic

from bench_core import sequential
from bench_core.backends import registry
from bench_core.machine import allotment
from bench_core.plan import discovery
from bench_core.records import Status
from bench_core.render.text_table import Table, layout
from bench_core.results.schema import JOURNAL
from bench_core.run import journal, replicate
from tests.native import six_kernels, ways
from tests.native.six_kernels import KERNELS
from tests.native.ways import Record, Turn, Way, Worth
from tests.support import ROOT

Now = Callable[[], float]
Collect = Callable[[], Turn]
BACKENDS = tuple(dict.fromkeys(six.backend for six in KERNELS.values()))
PLAIN = """
import pytest
from tests.native.six_kernels import KERNELS, built

@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark, name):
    benchmark(built(name).run)
"""
SUITE = """
import pytest
from tests.native.six_kernels import KERNELS
""" + "".join(
    f"""
@pytest.mark.workload(KERNELS[{name!r}].workload)
def test_{i}(measure):
    measure()
"""
    for i, name in enumerate(name for name, six in KERNELS.items() if six.backend == BACKENDS[0])
)


@dataclass(frozen=True)
class Entrant:
    """A way that takes turns. begin: prepares it and returns the seconds that every whole measurement pays once."""

    way: Way
    begin: Callable[[], float]
    turn: Collect

    @property
    def wanted(self) -> int:
        """The turns of two whole measurements, or of as many short ones as show how they differ."""
        return 2 * max(self.way.least, 10) if self.way.half else 4 * sequential.FIRST


def collect(entrants: Sequence[Entrant], seconds: float, draw: random.Random, now: Now = monotonic) -> list[Record]:
    """Let all take turns in random order until the next would begin after `seconds`; return the record of each.

    Among as many turns as all want together, each has those that it wants. Each has one, however short the time.
    """
    end = now() + seconds
    once = [entrant.begin() for entrant in entrants]
    turns: list[list[Turn]] = [[] for _ in entrants]
    order = draw.sample(range(len(entrants)), len(entrants))
    every = list(chain.from_iterable([i] * entrant.wanted for i, entrant in enumerate(entrants)))
    while order or now() < end:
        order = order or draw.sample(every, len(every))
        i = order.pop()
        if now() < end or not turns[i]:
            turns[i].append(entrants[i].turn())
        elif all(turns):
            break
    return [Record(each, paid) for each, paid in zip(turns, once, strict=True)]


# ---------------------------------------------------------------- real turns


def _nothing() -> float:
    return 0.0


def _child(*arguments: str) -> str:
    """Run a process of six_kernels.py, with the suite's variables for threads, and return what it printed."""
    return _run([sys.executable, "-m", six_kernels.__name__, *arguments])


def _run(command: Sequence[str], folder: Path = ROOT) -> str:
    """Run a command and return what it printed; raises RuntimeError with its last line if it fails."""
    variables: dict[str, str] = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    for backend in BACKENDS:
        variables |= registry.load(backend).environ(allotment.usable_cores(), "default")
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])}: {replicate.last_error(done.stdout + done.stderr)}")
    return done.stdout


def suite(folder: Path, draw: random.Random) -> Entrant:
    """Return this suite. A round is a session of its own that keeps its journal; backends are probed once."""
    probes, file = folder / "probes.jsonl", folder / "bench_six.py"
    file.write_text(SUITE)
    names = {(six.work.workload, six.backend): name for name, six in KERNELS.items()}
    backends = ",".join(f"{backend}:cpu" for backend in BACKENDS)
    options = (
        f"--bench-probes={probes}",
        f"--bench-backends={backends}",
        f"--rootdir={folder}",
        "-p",
        "no:cacheprovider",
    )

    def begin() -> float:
        start = monotonic()
        discovery.probe_all(BACKENDS, probes)
        return monotonic() - start

    def turn() -> Turn:
        of = replicate.Turn(replicate.Side("this"), 0, draw.randrange(2**31))
        with tempfile.TemporaryDirectory(dir=folder) as output:
            start = monotonic()
            said = _run(replicate.command(of, Path(output), [*options, str(file)]), folder)
            took = monotonic() - start
            found = sorted(Path(output).glob(f"*/*/{JOURNAL}"))
            if not found:
                raise RuntimeError(f"the suite left no journal: {replicate.last_error(said)}")
            kept = journal.read(found[0]).measurements
        values, alone = {}, {}
        for m in kept:
            name = names.get((m.case.work.workload, m.case.backend))
            if name and m.status is not Status.OK:
                raise RuntimeError(f"{name}: {m.reason}")
            if name:
                values[name], alone[name] = next(s.seconds for s in m.series if s.metric == "time"), m.elapsed_s
        return Turn(took, {name: values[name] for name in KERNELS}, alone)

    return Entrant(ways.SUITE, begin, turn)


def pytest_benchmark(folder: Path) -> Entrant:
    """Return pytest-benchmark in a project that has nothing of this suite but the kernels."""
    file, results = folder / "plain" / "test_six.py", folder / "plain" / "results.json"
    file.parent.mkdir()
    file.write_text(PLAIN)
    file.with_name("pytest.ini").write_text("[pytest]\n")
    without = ("-p", "no:bench_core.pytest_plugin", "-p", "no:bench_core", "-p", "no:cacheprovider")

    def turn() -> Turn:
        start = monotonic()
        command = (sys.executable, "-m", "pytest", "-q", *without, f"--benchmark-json={results}", file.name)
        _run(command, file.parent)
        took = monotonic() - start
        found = json.loads(results.read_text(encoding="utf-8"))["benchmarks"]
        return Turn(took, {each["params"]["name"]: each["stats"]["data"] for each in found})

    return Entrant(ways.PYTEST_BENCHMARK, _nothing, turn)


def torch_timer() -> Entrant:
    """Return torch's Timer in a script of its own."""

    def turn() -> Turn:
        start = monotonic()
        values = json.loads(_child("timer"))
        return Turn(monotonic() - start, values)

    return Entrant(ways.TIMER, _nothing, turn)


def like_pyperf(draw: random.Random) -> Entrant:
    """Return what resembles pyperf: a process that calibrates for each kernel, then one process of each in a turn."""
    loops: dict[str, str] = {}

    def begin() -> float:
        start = monotonic()
        loops.update({name: _child("pyperf", name).strip() for name in KERNELS})
        return monotonic() - start

    def turn() -> Turn:
        start = monotonic()
        order = draw.sample(list(KERNELS), len(KERNELS))
        found = {name: json.loads(_child("pyperf", name, loops[name])) for name in order}
        return Turn(monotonic() - start, {name: found[name] for name in KERNELS})

    return Entrant(ways.PYPERF, begin, turn)


# ---------------------------------------------------------------- the tables


def lines(found: Sequence[Worth], minutes: float) -> list[str]:
    """Return what was found as lines of text."""
    turns = ", ".join(f"{each.turns} of {each.way}" for each in found)
    told = [
        f"Six kernels, {minutes:.3g} minutes of turns in random order: {turns}",
        "",
        f"Minutes until all six are known within {_percent(ways.PRECISION)}, and how well they are known then",
        "",
    ]
    header = ("way", "says so after", "says", "is", "so in truth after")
    told += layout(Table(header, tuple(map(_row, found)), frozenset({1, 2, 3, 4})), 100)
    told += [
        "",
        "says: the widest of the six intervals. is: how far apart repeated measurements lie, divided by the root of 2.",
        '">": longer than all of its turns; says and is are then those of its first measurement. "-": too few turns.',
        '"!": it says 3 % and is not.',
        "",
        "Each kernel, as the way says / as it is",
        "",
    ]
    names = list(found[0].by_kernel)
    by_kernel = [(name, *(_both(*each.by_kernel[name]) for each in found)) for name in names]
    header = ("kernel", *(each.way for each in found))
    told += layout(Table(header, tuple(by_kernel), frozenset(range(1, len(header)))), 120)
    told += ["", "False alarms: comparisons of the six with themselves in which at least one is claimed different", ""]
    alarms = [
        (a.way, a.rule, _percent(a.share), str(a.comparisons), str(a.apart)) for each in found for a in each.alarms
    ]
    header = ("way", "rule", "false alarms", "comparisons", "of these with no turn in common")
    return [*told, *layout(Table(header, tuple(alarms), frozenset({2, 3, 4})), 100)]


def _row(of: Worth) -> tuple[str, ...]:
    said, true = _minutes(of.says_after, of), _minutes(of.true_after, of)
    return (of.way, said, _percent(of.says), _truth(of.truth, of.says), true)


def _minutes(minutes: float | None, of: Worth) -> str:
    return f"> {of.longest:.2g}" if minutes is None else f"{minutes:.2g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"


def _truth(truth: float | None, says: float | None) -> str:
    is_wrong = None not in (says, truth) and says <= ways.PRECISION < truth
    return _percent(truth) + " !" * is_wrong


def _both(says: float | None, truth: float | None) -> str:
    return f"{_percent(says)} / {_truth(truth, says)}"


def measured(seconds: float, draw: random.Random, now: Now = monotonic) -> Mapping[str, Record]:
    """Measure for so many seconds and return the record of each way by its name."""
    with tempfile.TemporaryDirectory(prefix="minutes-") as name:
        folder = Path(name)
        entrants = [suite(folder, draw), pytest_benchmark(folder), torch_timer(), like_pyperf(draw)]
        records = collect(entrants, seconds, draw, now)
    return {entrant.way.name: record for entrant, record in zip(entrants, records, strict=True)}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to measure, at least one turn of each")
    parser.add_argument("--seed", type=int, help="of the order of turns and kernels; default: random")
    options = parser.parse_args()
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes:g}: must be above 0")
    begin = monotonic()
    records = measured(60 * options.minutes, random.Random(options.seed))
    minutes = (monotonic() - begin) / 60
    print("\n".join(lines([ways.worth(way, records[way.name]) for way in ways.WAYS], minutes)))


if __name__ == "__main__":
    main()
