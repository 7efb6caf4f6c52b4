"""The best GPU row is compared with the best CPU row of all machines, and the best CPU row can be the baseline."""

import pytest

from bench_core.compare import BEST_CPU, CompareOptions, best, compare, pairing
from bench_core.errors import NothingToCompare
from tests.support.comparisons import FIVE, mixed
from tests.support.tables import absent, processes, reading, work


def test_the_best_gpu_meets_the_best_cpu_of_all_machines_and_both_are_named():
    (best,) = compare(mixed()).best
    c = best.comparison
    assert (c.contender.name, c.baseline.name, c.change) == ("a torch cuda:0", "b numpy cpu 2t", "2.50x faster")
    assert (best.gpu_runner_up.name, best.cpu_runner_up.name) == ("a cupy cuda:0", "a torch cpu 2t")


def test_the_best_cpu_can_be_the_baseline():
    result = compare(mixed(), CompareOptions(baseline=BEST_CPU))
    said = {(c.side, c.key.get("backend"), c.key.get("device")): c.change for c in result.compared}
    assert said[("a", "torch", "cuda:0")] == "2.50x faster"
    assert said[("a", "numpy", "cpu")] == "1.60x slower"
    assert said[("b", "numpy", "cpu")] == "1.00x"


def test_of_a_rate_the_highest_is_the_best():
    (best,) = compare(mixed(), CompareOptions(metrics=("flop_rate",))).best
    c = best.comparison
    assert (c.contender.name, c.baseline.name) == ("a torch cuda:0", "b numpy cpu 2t")
    assert (best.gpu_runner_up.name, best.cpu_runner_up.name) == ("a cupy cuda:0", "a torch cpu 2t")


def test_work_that_only_cpus_or_only_gpus_have_done_is_not_ranked_in_vain(monkeypatch):
    collected = []
    collect = best.collect_replicates
    monkeypatch.setattr(best, "collect_replicates", lambda *of: collected.append(of) or collect(*of))
    on_cpu = [reading([*processes(FIVE), absent(device="cuda", backend="torch")], machine) for machine in "ab"]
    assert not compare(on_cpu).best
    assert not collected
    assert len(compare(mixed()).best) == 1
    assert collected


def test_failures_are_not_arranged_to_be_ranked(monkeypatch):
    """A run of a machine without a GPU is mostly rows of cases that were not tried."""
    arranged = []
    add = pairing._add_failures
    monkeypatch.setattr(pairing, "_add_failures", lambda *of: arranged.append(len(of[1])) or add(*of))
    compare([reading([*processes(FIVE), absent(work("64"))], "a"), reading(processes(FIVE), "b")])
    assert sorted(arranged) == [0, 1]


def test_of_cases_that_only_cpus_have_done_no_row_is_arranged_for_a_ranking(monkeypatch):
    arranged = []
    arrange = best.arrange

    def counted(readings, options):
        arranged.append(sum(len(r.rows) for r in readings))
        return arrange(readings, options)

    monkeypatch.setattr(best, "arrange", counted)
    on_cpu = [reading(processes(FIVE), machine) for machine in "ab"]
    assert best.rank(on_cpu, CompareOptions(), needs_both=True) == []
    assert len(best.rank(on_cpu, CompareOptions())) == 1
    assert len(best.rank(mixed(), CompareOptions(), needs_both=True)) == 1
    assert arranged[0] == 0
    assert all(arranged[1:])


PLANTED = {"flags": ("unchecked", "imported")}


def test_what_nothing_has_checked_is_not_the_best_and_no_baseline():
    fast = [m for device in ("cuda:0", "cpu") for m in processes([0.01] * 5, backend="other", device=device, **PLANTED)]
    readings = [*mixed(), reading(fast, "c")]
    (found,) = compare(readings).best
    c = found.comparison
    assert (c.contender.name, c.baseline.name) == ("a torch cuda:0", "b numpy cpu 2t")
    assert "other" not in {found.gpu_runner_up.row.backend, found.cpu_runner_up.row.backend}
    result = compare(readings, CompareOptions(baseline=BEST_CPU))
    assert {c.baseline.row.backend for c in result.compared} == {"numpy"}


def test_where_nothing_is_checked_no_one_is_the_best():
    both = [m for device in ("cuda:0", "cpu") for m in processes(FIVE, device=device, **PLANTED)]
    result = compare([reading(both, "a"), reading(both, "b")])
    assert result.best == ()
    assert len(result.compared) == 2
    with pytest.raises(NothingToCompare):
        compare([reading(both, "a")], CompareOptions(baseline=BEST_CPU))
