"""The gate for CI fails on equal code in at most 1 of 100 comparisons, on runs that were recorded on a busy machine.

tests/compare/data/README.md says what was recorded. A comparison is made of ten consecutive runs, taken in turns by the
two sides as `bench-core run --runs 5 --against` does: pairs of neighbours, each in random order.
"""

import csv
import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_core.compare import CompareOptions, compare
from bench_core.results.run_files import sample_key
from tests.support.tables import measured, reading, work

RUNS = Path(__file__).parent / "data" / "equal-runs.csv"
PAIRS = 5
# Statistics of the template, which are not of these runs.
UNKNOWN = dict.fromkeys(("ci_low", "ci_high", "mean", "std", "min", "p10", "p25", "p75", "p90", "max"))
GATE = CompareOptions(fail_on=("regression", "missing"), threshold=0.10)  # of README and tests/examples/ci_gate.sh


def lines():
    with RUNS.open(newline="") as file:
        return list(csv.DictReader(file))


def names():
    return list(dict.fromkeys(row["case"] for row in lines()))


@functools.cache
def recorded():
    """The p10 and the median of the seconds of a call: (runs, cases, 2)."""
    rows, cases = lines(), names()
    seconds = [(float(row["p10"]), float(row["median"])) for row in rows]
    assert [row["case"] for row in rows] == cases * (len(rows) // len(cases))
    return np.array(seconds).reshape(-1, len(cases), 2)


@functools.cache
def template(label):
    """The table of one side, whose samples are replaced for each comparison: that takes a tenth of the time."""
    cases = [work(str(8 + case)) for case in range(recorded().shape[1])]
    done = [measured([1.0] * 11, of, process=process) for of in cases for process in range(PAIRS)]
    return reading(done, "m", label=label, about={"series": "s"}, run_id=label)


def side(label, runs):
    """The table of one side, as if these runs had been merged: samples with the p10 and the median of each run."""
    table, samples, rows = template(label), {}, []
    times = [row for row in table.rows if row.metric == "time"]
    for case, row in enumerate(times):
        samples[sample_key(row)] = {
            n: (low,) * 5 + (middle,) * 6 for n, (low, middle) in enumerate(runs[:, case].tolist())
        }
        middle = float(np.median(runs[:, case, 1]))
        rows.append(replace(row, value=middle, **UNKNOWN))
    return replace(table, rows=tuple(rows), files=replace(table.files, samples=samples))


def outcomes(comparisons, slower=None):
    """How many comparisons fail, pass and are undecided. slower: factors of this side's times, by case."""
    draw = np.random.default_rng(1)
    runs = recorded()
    factors = np.ones(runs.shape[1]) if slower is None else np.asarray(slower)
    counts = Counter()
    for _ in range(comparisons):
        first = 2 * draw.integers((len(runs) - 2 * PAIRS) // 2 + 1)
        turns = runs[first : first + 2 * PAIRS].reshape(PAIRS, 2, -1, 2)
        against = draw.integers(2, size=PAIRS)
        pairs = np.arange(PAIRS)
        sides = {"against": turns[pairs, against], "this": factors[:, None] * turns[pairs, 1 - against]}
        result = compare([side(label, own) for label, own in sides.items()], GATE)
        assert not result.implausible
        counts["fail" if result.breaches else "undecided" if result.undecided else "pass"] += 1
    return counts


def test_equal_code_fails_in_at_most_1_of_100_comparisons_and_most_are_decided():
    assert len(recorded()) >= 40
    counts = outcomes(200)
    assert counts["fail"] <= 2
    assert counts["pass"] >= 190


def test_code_that_is_slower_by_a_fifth_fails():
    """Otherwise a gate that never fails would pass the test above."""
    assert outcomes(40, slower=[1.2] * recorded().shape[1])["fail"] >= 38


@pytest.mark.parametrize(("case", "slower", "least", "most"), [("launch", 1.2, 29, 30), ("mlp_infer", 2.0, 0, 5)])
def test_of_one_case_alone_it_finds_what_its_noise_allows(case, slower, least, most):
    """As bench_core/compare/README.md says: 20 % where runs agree, not even a doubling where they vary tenfold."""
    (place,) = (i for i, name in enumerate(names()) if name.split()[0] == case)
    factors = [slower if i == place else 1.0 for i in range(len(names()))]
    assert least <= outcomes(30, factors)["fail"] <= most
