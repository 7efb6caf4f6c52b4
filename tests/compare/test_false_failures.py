"""The gate for CI fails on equal code in at most 1 of 100 comparisons, on runs that were recorded on a busy machine.

tests/compare/data/README.md says what was recorded. A comparison is made of ten consecutive runs, taken in turns by the
two sides as `bench-core run --runs 5 --against` does: pairs of neighbours, each in random order.
"""

import csv
import functools
from collections import Counter
from pathlib import Path

import numpy as np

from bench_core.compare import CompareOptions, compare
from tests.support.tables import measured, reading, work

RUNS = Path(__file__).parent / "data" / "equal-runs.csv"
PAIRS = 5
COMPARISONS = 200
GATE = CompareOptions(fail_on=("regression",), threshold=0.10)


@functools.cache
def recorded():
    """The p10 and the median of the seconds of a call: (runs, cases, 2)."""
    with RUNS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    seconds = [(float(row["p10"]), float(row["median"])) for row in rows]
    assert [row["case"] for row in rows] == cases * (len(rows) // len(cases))
    return np.array(seconds).reshape(-1, len(cases), 2)


def side(label, runs):
    """The table of one side, as if these runs had been merged."""
    done = [
        measured([low] * 5 + [middle] * 6, work(str(8 + case)), process=process)
        for case in range(runs.shape[1])
        for process, (low, middle) in enumerate(runs[:, case])
    ]
    return reading(done, "m", label=label, about={"series": "s"}, run_id=label)


def outcomes(slower=1.0, seed=1):
    """How many of 200 comparisons fail, pass and are undecided. slower: the times of this side, relative to equal."""
    draw = np.random.default_rng(seed)
    runs = recorded()
    counts = Counter()
    for _ in range(COMPARISONS):
        first = 2 * draw.integers((len(runs) - 2 * PAIRS) // 2 + 1)
        turns = runs[first : first + 2 * PAIRS].reshape(PAIRS, 2, -1, 2)
        against = draw.integers(2, size=PAIRS)
        pairs = np.arange(PAIRS)
        sides = {"against": turns[pairs, against], "this": slower * turns[pairs, 1 - against]}
        result = compare([side(label, own) for label, own in sides.items()], GATE)
        counts["fail" if result.breaches else "undecided" if result.undecided else "pass"] += 1
    return counts


def test_equal_code_fails_in_at_most_1_of_100_comparisons():
    assert len(recorded()) >= 40
    assert outcomes()["fail"] <= COMPARISONS / 100
