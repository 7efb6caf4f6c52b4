"""Fleets of nodes whose runs are drawn from real runs of one computer, some of them made slower."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench_core.diagnosis.judge import LEAST, Members, judge
from bench_core.diagnosis.result import Standing

APART = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / 3**0.5,
    "exponential": lambda rng, shape: rng.standard_exponential(shape),
}
REAL = Path(__file__).with_name("real_runs.csv")
OFF = {Standing.SLOW, Standing.FAST}


@dataclass(frozen=True)
class Pool:
    """Real runs of one computer.

    logs: natural logarithms of p10 seconds, axes work, run. families: that of each work.
    """

    logs: np.ndarray
    families: tuple[str, ...]

    def groups(self):
        """Return all work, the families, and the works of families of several."""
        names = list(dict.fromkeys(self.families))
        works = range(len(self.families))
        of = [tuple(i for i in works if self.families[i] == name) for name in names]
        return [
            Members("all", tuple(works)),
            *(Members("family", members) for members in of),
            *(Members("work", (i,)) for members in of if len(members) > 1 for i in members),
        ]


def real_pool():
    """Return the runs of real_runs.csv, which says how they were measured."""
    lines = [line for line in REAL.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.reader(lines))[1:]
    return Pool(np.log([[float(cell) for cell in row[2:]] for row in rows]), tuple(row[1] for row in rows))


@dataclass(frozen=True)
class Outcome:
    """found: how many of the slow nodes were called slow. false: how many of the healthy ones were called anything."""

    slow: int
    found: int
    healthy: int
    false: int


def simulate(pool, rng, *, nodes=20, slow=0, by=0.05, family="", runs=3, spread=0.0, apart="normal", least=LEAST):
    """Draw a fleet, and return what was found of it.

    slow: how many nodes take `by` more time, in all work or in that of one family. spread: the standard deviation of
    what healthy nodes differ by, of a distribution in APART.
    """
    every = np.tile(np.arange(pool.logs.shape[1]), (nodes, 1))
    drawn = rng.permuted(every, axis=1)[:, :runs]  # a node has no run twice
    values = pool.logs[:, drawn] + spread * APART[apart](rng, (nodes, 1))
    is_slowed = np.array([not family or name == family for name in pool.families])
    values[np.ix_(is_slowed, range(slow))] += np.log1p(by)
    off = {}
    for verdicts in judge(values, pool.groups(), least):
        for node, judged in verdicts.nodes.items():
            if judged.standing in OFF:
                off.setdefault(node, set()).add(judged.standing)
    found = sum(Standing.SLOW in off.get(node, ()) for node in range(slow))
    return Outcome(slow, found, nodes - slow, sum(node >= slow for node in off))


def total(outcomes):
    """Return the share of slow nodes that were found, and that of healthy nodes that were called anything."""
    every = [*outcomes]
    slow, healthy = sum(o.slow for o in every), sum(o.healthy for o in every)
    return sum(o.found for o in every) / max(slow, 1), sum(o.false for o in every) / healthy


def pool_of(make, works=16, runs=600):
    """Return simulated runs of four families. make: draws the noise of works x runs."""
    return Pool(make(np.random.default_rng(6), (works, runs)), tuple(f"family {i % 4}" for i in range(works)))


def normal(drawn, shape):
    return 0.008 * drawn.standard_normal(shape) + 0.008 * drawn.standard_normal((1, shape[1]))


def heavy(drawn, shape):
    """Student's t with 3 degrees of freedom, shared by the works of a run for the half of it."""
    return 0.006 * drawn.standard_t(3, shape) + 0.006 * drawn.standard_t(3, (1, shape[1]))


def disturbed(drawn, shape):
    """One run of ten is slower in everything, and one work of ten by itself, by up to 20 %."""
    runs = (drawn.random((1, shape[1])) < 0.1) * drawn.uniform(0, 0.2, (1, shape[1]))
    return 0.006 * drawn.standard_normal(shape) + runs + (drawn.random(shape) < 0.1) * drawn.uniform(0, 0.2, shape)


POOLS = {"normal": normal, "heavy": heavy, "disturbed": disturbed}
