"""Fleets of nodes whose runs are drawn from real runs of one computer, some of them made slower."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench_core.diagnosis.judge import LEAST, Members, judge
from bench_core.diagnosis.result import Standing

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


def simulate(pool, rng, *, nodes=20, slow=0, by=0.05, family="", runs=3, spread=0.0, least=LEAST):
    """Draw a fleet, and return what was found of it.

    slow: how many nodes take `by` more time, in all work or in that of one family. spread: the standard deviation of
    what healthy nodes differ by.
    """
    every = np.tile(np.arange(pool.logs.shape[1]), (nodes, 1))
    drawn = rng.permuted(every, axis=1)[:, :runs]  # a node has no run twice
    values = pool.logs[:, drawn] + spread * rng.standard_normal((nodes, 1))
    is_slowed = np.array([not family or name == family for name in pool.families])
    values[np.ix_(is_slowed, range(slow))] += np.log1p(by)
    off = {}
    for verdicts in judge(values, pool.groups(), least):
        for node, judged in verdicts.nodes.items():
            if judged.standing in OFF:
                off.setdefault(node, set()).add(judged.standing)
    found = sum(Standing.SLOW in off.get(node, ()) for node in range(slow))
    return Outcome(slow, found, nodes - slow, sum(node >= slow for node in off))
