"""A/A tests on simulated machines, whose noise is known."""

import math

import numpy as np
import pytest

from bench_core import stats
from bench_core.cli.noise import lines
from bench_core.compare.options import share
from bench_core.errors import UsageError
from bench_core.noise.analysis import CaseNoise, analyse, logs_of
from tests.support.tables import processes, reading, work


def noisy(spread, runs=10, cases=3, seed=0, drift=0.0):
    """Return runs of a machine with this spread between runs, and a drift that is equal for two adjacent runs."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(0, drift, runs // 2), 2)
    return {f"case {i}": list(rng.normal(0, spread, runs) + shared) for i in range(cases)}


def test_the_spread_of_simulated_runs_is_estimated():
    finding = analyse(noisy(0.02, runs=2000))
    for case in finding.cases:
        assert case.spread == pytest.approx(0.02, rel=0.05)
        assert case.difference == pytest.approx(0.02 * math.sqrt(2), rel=0.06)


def test_a_drift_that_pairs_share_does_not_widen_their_difference():
    steady, drifting = (analyse(noisy(0.01, runs=400, drift=d)) for d in (0.0, 0.2))
    assert drifting.cases[0].spread > 5 * steady.cases[0].spread
    assert drifting.cases[0].difference == pytest.approx(steady.cases[0].difference, rel=0.1)


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_smallest_change_is_found_nine_times_in_ten(runs):
    """On simulated pairs with exactly that change, the test of compare detects it with about the stated power."""
    noise = CaseNoise("case", 0.02, 0.02 * math.sqrt(2))
    change = math.log1p(noise.smallest(runs, 1, 0.95))
    rng = np.random.default_rng(runs)
    draws = rng.normal(change, noise.difference, (1000, runs))
    found = sum(stats.paired(list(draw)).p() <= 0.05 for draw in draws)
    assert 0.85 <= found / 1000 <= 0.999


def test_more_runs_and_fewer_cases_show_smaller_changes():
    noise = CaseNoise("case", 0.02, 0.03)
    assert noise.smallest(3, 1, 0.95) > noise.smallest(5, 1, 0.95) > noise.smallest(20, 1, 0.95)
    assert noise.smallest(5, 10, 0.95) > noise.smallest(5, 1, 0.95)


def test_false_alarms_are_rare_where_rough_rules_raise_many():
    rates = [analyse(noisy(0.04, seed=seed)) for seed in range(40)]
    assert np.mean([finding.alarms for finding in rates]) < 0.05
    assert np.mean([finding.rough_alarms for finding in rates]) > 0.5


def test_relabellings_are_all_16_of_ten_runs_and_512_of_forty():
    assert analyse(noisy(0.02, runs=10)).relabellings == 2**4
    assert analyse(noisy(0.02, runs=40)).relabellings == 512


@pytest.mark.parametrize(("spread", "runs", "reachable"), [(0.001, 5, True), (0.02, None, True), (0.5, 20, False)])
def test_what_is_recommended_suits_the_noise(spread, runs, reachable):
    finding = analyse(noisy(spread, runs=200))
    assert finding.reachable is reachable
    assert runs is None or finding.runs == runs
    assert finding.found == max(case.smallest(finding.runs, 3, 0.95) for case in finding.cases)
    assert 0.01 <= finding.min_effect <= max(0.01, finding.found)


def test_what_is_recommended_finds_the_change_by_the_whole_rule_of_compare():
    """A smallest effect equal to that change would discard half of the significant results."""
    finding = analyse(noisy(0.02, runs=200, cases=1))
    (case,), rng = finding.cases, np.random.default_rng(7)
    draws = rng.normal(math.log1p(finding.found), case.difference, (1000, finding.runs))
    least = math.log1p(finding.min_effect)
    found = sum(stats.paired(list(d)).p() <= 0.05 and abs(d.mean()) >= least for d in draws)
    assert 0.85 <= found / 1000 <= 0.999


def test_too_few_runs_are_refused():
    with pytest.raises(UsageError, match="at least four runs"):
        analyse({"case": [0.0, 0.1, 0.2]})
    with pytest.raises(UsageError, match="at least four runs"):
        analyse({})


def test_runs_are_read_in_their_order():
    times = [1.0, 1.2, 0.9, 1.1]
    logs = logs_of(reading([*processes(times), *processes([2.0], work("32"))]))
    assert list(logs) == ["matmul 64 float32 wall numpy default cpu"]
    (values,) = logs.values()
    assert values == pytest.approx([math.log(t) for t in times], abs=0.01)


def test_a_finding_is_told_in_words():
    text = "\n".join(lines(analyse(noisy(0.02, runs=20))))
    assert "20 runs of the same" in text
    assert "5 per side" in text
    assert "too noisy to detect a change of 5 %" in "\n".join(lines(analyse(noisy(0.5))))
    assert max(map(len, text.split("\n"))) <= 100


def test_what_is_recommended_can_be_pasted():
    """The output has valid options of `run` and `compare`, and a share in the format that `compare` accepts."""
    finding = analyse(noisy(0.02, runs=20))
    run, compare = lines(finding)[-2:]
    assert run == f"  bench-core run --runs {finding.runs} --against PYTHON"
    assert compare.startswith("  bench-core compare base=RUN change=RUN --min-effect ")
    assert share("--min-effect", compare.split()[-1]) == pytest.approx(finding.min_effect)
