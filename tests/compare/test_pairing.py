"""Rows are compared only if they are of the same work, each on its side."""

from dataclasses import replace

import pytest

from bench_core.compare import CompareOptions, Verdict, compare, pairing
from bench_core.errors import NothingToCompare, TableError
from bench_core.records import Scope, Status
from tests.support.comparisons import FIVE, two
from tests.support.ranks import across
from tests.support.tables import absent, processes, reading, work

# ---------------------------------------------------------------- the same work


@pytest.mark.parametrize(
    "other",
    [
        {"version": 2},
        {"precision": "tf32"},
        {"scope": Scope.END_TO_END},
        {"dtype": "float64"},
        {"size": "65"},
    ],
)
def test_work_that_differs_never_pairs(other):
    shared = processes(FIVE, of=work("32"))
    a = reading([*shared, *processes(FIVE)], "a")
    b = reading([*shared, *processes(FIVE, of=work(**{"size": "64", **other}))], "b")
    result = compare([a, b])
    assert [c.key.size for c in result.compared] == ["32"]
    field = {"version": "workload_version"}.get(next(iter(other)), next(iter(other)))
    if field == "size":
        assert {c.verdict for c in result.unmatched} == {Verdict.MISSING}
    else:
        (c,) = result.unmatched
        assert c.verdict is Verdict.INCOMPARABLE
        assert c.reason.startswith(f"not the same work: {field} ")


def test_a_forged_case_id_does_not_pair_different_work():
    a = reading(processes(FIVE), "a")
    b = reading(processes(FIVE), "b")
    forged = replace(b, rows=tuple(replace(row, params="k=1") for row in b.rows))
    with pytest.raises(NothingToCompare):
        compare([a, forged])


def test_rates_by_different_formulas_are_not_compared():
    a, b = reading(processes(FIVE, flops=1e6), "a"), reading(processes(FIVE, flops=2e6), "b")
    shared = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    (c,) = compare([a, b, *shared]).unmatched
    assert (c.verdict, c.reason) == (Verdict.INCOMPARABLE, "not the same work: flops 1000000.0 against 2000000.0")


def test_backends_and_devices_are_never_mixed_up():
    a = reading([*processes(FIVE), *processes([9 * t for t in FIVE], backend="torch")], "a")
    b = reading([*processes(FIVE, backend="torch"), *processes([9 * t for t in FIVE])], "b")
    said = {c.key.get("backend"): c.change for c in compare([a, b]).comparisons}
    assert said == {"numpy": "9.00x slower", "torch": "9.00x faster"}


def test_all_threads_pair_with_all_threads_and_equal_counts_with_each_other():
    a = reading([*processes(FIVE, threads=64), *processes([4 * t for t in FIVE], threads=1)], "a")
    b = reading([*processes([2 * t for t in FIVE], threads=2), *processes([3 * t for t in FIVE], threads=1)], "b")
    said = {c.key.get("threads"): (c.change, [str(d) for d in c.conditions]) for c in compare([a, b]).comparisons}
    assert said == {"": ("2.00x slower", ["threads: 64 against 2"]), "1": ("1.33x faster", [])}


def test_two_different_rows_for_one_result_are_refused_with_their_lines_and_the_first_difference():
    a, b = two(FIVE, FIVE)
    (first, *_) = a.rows
    doubled = tuple(replace(row, value=row.value * 2) for row in a.rows)
    twice = replace(a, path="copy.csv", rows=doubled, lines=tuple(range(7, 99))[: len(doubled)])
    with pytest.raises(TableError) as caught:
        compare([a, twice, b])
    said = f"copy.csv:7: two different rows for matmul 64 numpy cpu of run run-a, see {a.path}: "
    assert str(caught.value) == f"{said}value is '{first.value}' and '{first.value * 2}'"


def test_a_row_in_two_files_is_counted_once_and_both_lines_are_named():
    a, b = two(FIVE, FIVE)
    lines = tuple(range(2, 2 + len(a.rows)))
    copy = replace(a, path="copy.csv", rows=tuple(map(replace, a.rows)), lines=tuple(line + 5 for line in lines))
    (note,) = (note for note in compare([replace(a, lines=lines), copy, b]).notes if "more than one file" in note)
    such = f"such as {a.path}:2 and copy.csv:7"
    assert note == f"{len(lines)} rows occur in more than one file and were counted once: {such}"


# ---------------------------------------------------------------- sides and their order


def test_a_backend_of_which_nothing_could_be_tried_is_left_out_with_its_reason():
    here = [*processes(FIVE), *processes([2 * t for t in FIVE], backend="torch")]
    gone = [absent(backend="cupy", device="cuda", status=Status.SKIPPED, reason="cupy is not installed")]
    found = compare([reading([*here, *gone])], CompareOptions(columns=("backend",)))
    assert found.sides == ("numpy", "torch")
    assert [mean.side for mean in found.means] == ["torch"]
    assert "cupy: left out, no case could be tried: cupy is not installed" in found.notes


def test_a_backend_that_failed_stays_a_side():
    here = [*processes(FIVE), *processes(FIVE, backend="torch"), absent(backend="cupy", status=Status.CRASHED)]
    assert compare([reading(here)], CompareOptions(columns=("backend",))).sides == ("numpy", "cupy", "torch")


def test_a_machine_on_which_nothing_could_be_tried_stays_a_side_for_the_gate_to_see():
    gone = [absent(status=Status.SKIPPED, reason="no device")]
    tables = [reading(processes(FIVE), "a"), reading(processes(FIVE), "b"), reading(gone, "c")]
    assert compare(tables, CompareOptions()).sides == ("a", "b", "c")


def test_sides_of_one_machine_stand_in_an_order_that_no_shuffle_changes():
    """CPU first, then by backend: the baseline must not depend on the order in which a run measured its cases."""
    gpu = [*processes(FIVE, backend="torch", device="cuda:0"), *processes(FIVE, backend="cupy", device="cuda:0")]
    cpu = [*processes(FIVE, backend="torch"), *processes(FIVE, implementation="tuned"), *processes(FIVE)]
    columns = ("backend", "device")
    for order in (gpu + cpu, cpu[::-1] + gpu[::-1]):
        sides = compare([reading(order)], CompareOptions(columns=columns, rows=("implementation",))).sides
        assert sides == ("numpy cpu", "torch cpu", "cupy cuda:0", "torch cuda:0")


def test_sides_without_numpy_are_ordered_by_backend_before_implementation():
    """The implementation that comes first in the alphabet must not become the baseline."""
    torch = processes(FIVE, backend="torch", device="cuda:0", implementation="channels_last")
    rows = [
        *torch,
        *processes(FIVE, backend="cupy", device="cuda:0"),
        *processes(FIVE, backend="torch", device="cuda:0"),
    ]
    options = CompareOptions(columns=("implementation",), rows=("backend",))
    assert compare([reading(rows)], options).sides == ("default", "channels_last")


# ---------------------------------------------------------------- what failed


def test_a_failure_is_named_whatever_metric_is_compared():
    """A failed case has one row, with the metric `time`; its rate is reported missing with the same reason."""
    a = reading([*processes(FIVE), *processes(FIVE, of=work("32"))], "a")
    b = reading([absent(), *processes(FIVE, of=work("32"))], "b")
    (c,) = compare([a, b], CompareOptions(metrics=("flop_rate",))).unmatched
    assert (c.key.metric, c.reason) == ("flop_rate", "b: oom: out of memory: 3 GiB asked for")


def test_a_machine_without_a_gpu_says_so_for_every_gpu():
    gpu = processes(FIVE, backend="torch", device="cuda:0")
    none = absent(backend="torch", device="cuda", status=Status.SKIPPED, reason="no CUDA device")
    result = compare([reading([*processes(FIVE), *gpu], "a"), reading([*processes(FIVE), none], "b")])
    (c,) = result.unmatched
    assert (c.key.get("device"), c.reason) == ("cuda:0", "b: skipped: no CUDA device")


def test_failures_of_a_case_make_no_key_each(monkeypatch):
    """A run of a machine without a GPU is mostly rows of cases that were not tried."""
    made = []
    key = pairing._key
    monkeypatch.setattr(pairing, "_key", lambda *of: made.append(of) or key(*of))
    failed = [reading([absent(work("64"))], "b", run_id=f"r{i}") for i in range(9)]
    compare(
        [
            reading([*processes(FIVE, of=work("32")), *processes(FIVE, of=work("64"))], "a"),
            *failed,
            reading(processes(FIVE, of=work("32")), "b"),
        ]
    )
    assert len(made) < len(failed)


def test_a_side_is_named_once_for_all_its_rows():
    name = pairing.namer(("backend", "device"))
    first, second = (reading(processes(FIVE), run_id=run_id).rows[0] for run_id in ("r1", "r2"))
    assert name(first) is name(second)
    assert name(first) == "numpy cpu"


# ---------------------------------------------------------------- works across ranks


def together(ranks, device, factor=1.0, **known):
    """Return five processes of a step on so many ranks of a target of several devices."""
    return [
        across([t * 0.99, t, t * 1.01], ranks, device=device, process=i, **known) for i, t in enumerate(scaled(factor))
    ]


def scaled(factor):
    return [factor * seconds for seconds in FIVE]


def test_machines_with_other_numbers_of_devices_are_compared_on_as_many_ranks():
    eight = [m for ranks in (1, 2, 4, 8) for m in together(ranks, "cuda:x8")]
    four = [m for ranks in (1, 2, 4) for m in together(ranks, "cuda:x4", 2.0)]
    result = compare([reading(eight, "a"), reading(four, "b")])
    assert {(c.key.get("device"), c.change) for c in result.compared} == {
        (f"cuda:x{ranks}", "2.00x slower") for ranks in (1, 2, 4)
    }
    (lost,) = result.unmatched
    assert (lost.verdict, lost.key.size, lost.key.get("device")) == (Verdict.MISSING, "tiny-x8", "cuda:x8")
    assert lost.baseline.row.device == "cuda:x8"


def test_ranks_of_a_cpu_have_other_cores_on_another_target():
    two, four = ([m for ranks in (1, 2) for m in together(ranks, f"cpu:x{n}")] for n in (2, 4))
    with pytest.raises(NothingToCompare, match="no case has values on two of the sides a, b"):
        compare([reading(two, "a"), reading(four, "b")])


def test_other_numbers_of_ranks_are_other_work():
    a, b = reading(together(2, "cuda:x2"), "a"), reading(together(8, "cuda:x8"), "b")
    shared = [reading(processes(FIVE), name, run_id=f"more-{name}") for name in "ab"]
    result = compare([a, b, *shared])
    assert [c.key.workload for c in result.compared] == ["matmul"]
    assert {c.key.size for c in result.unmatched} == {"tiny-x2", "tiny-x8"}


def test_a_failure_on_more_devices_than_the_work_needs_is_the_reason_why_it_is_missing():
    failed = replace(together(2, "cuda:x8")[0], status=Status.OOM, reason="rank 1: no memory", series=())
    a, b = reading(together(2, "cuda:x4"), "a"), reading([failed, *together(4, "cuda:x8")], "b")
    result = compare([a, b, reading(together(4, "cuda:x4"), "a", run_id="more")])
    (lost,) = result.unmatched
    assert (lost.key.get("device"), "rank 1: no memory" in lost.reason) == ("cuda:x2", True)


def test_of_two_targets_of_a_machine_the_smaller_is_paired_and_the_other_never_pooled_with_it():
    both = [*together(2, "cuda:x8", 8.0), *together(2, "cuda:x2")]
    result = compare([reading(both, "a"), reading(together(2, "cuda:x4", 2.0), "b")])
    assert [(c.key.get("device"), c.change) for c in result.compared] == [("cuda:x2", "2.00x slower")]
    assert [(c.key.get("device"), c.verdict) for c in result.unmatched] == [("cuda:x8", Verdict.MISSING)]


def test_on_one_machine_a_device_and_several_together_stay_sides_of_their_own():
    both = [*together(2, "cuda:x4"), *together(2, "cuda:x8", 2.0)]
    (c,) = compare([reading(both, "a")], CompareOptions(columns=("device",))).compared
    assert {c.baseline.row.device, c.contender.row.device} == {"cuda:x4", "cuda:x8"}


def test_devices_together_are_no_side_beside_single_ones_that_cannot_do_their_work():
    """All of their work would be missing on the others, and the other way round."""
    single = [*processes(FIVE), *processes(scaled(2.0), backend="torch")]
    both = reading([*single, *together(2, "cpu:x2")], "a")
    result = compare([both], CompareOptions(columns=("backend", "device")))
    assert (result.sides, result.unmatched) == (("numpy cpu", "torch cpu"), ())
    assert "torch cpu:x2: left out, no other side measured its 1 case of devices together" in result.notes
