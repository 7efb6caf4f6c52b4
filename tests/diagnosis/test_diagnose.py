"""From tables to what is said of each node: findings in all work, in families and in single works, by concern."""

from dataclasses import replace

import pytest

from bench_core.diagnosis import judge, words
from bench_core.diagnosis.diagnose import diagnose_readings
from bench_core.diagnosis.judge import ALARM_RATE, FEWEST_NODES
from bench_core.diagnosis.result import Standing
from tests.support.fleet_tables import fleet, node
from tests.support.identical_machines import identical_machines


def only(readings, **options):
    (found,) = diagnose_readings(readings, **options).fleets
    return found


def standings(found):
    return {report.node: report.standing for report in found.nodes}


def test_a_node_that_is_slow_in_everything_is_so_in_all_work_and_said_once():
    found = only(fleet(12, slow={7: 1.2}, gpu={7: {"gpu.driver": "570.1"}}))
    first, *others = found.nodes
    assert (first.node, first.standing, first.runs) == (node(7), Standing.SLOW, 3)
    assert [finding.group.key for finding in first.said()] == ["all"]
    (said,) = first.said()
    assert said.low < 1.2 < said.high
    assert said.ratio == pytest.approx(1.2, rel=0.01)
    assert any("570.1" in cause for cause in first.causes)
    assert {other.standing for other in others} == {Standing.ALIKE}
    assert [other.distance for other in others] == sorted((other.distance for other in others), reverse=True)
    assert all(other.causes == () for other in others)
    assert found.off == (first,)
    assert (found.alarm_rate, found.reason) == (ALARM_RATE, "")


def test_a_node_that_is_slow_in_one_family_is_so_in_it_alone():
    found = only(fleet(12, slow={3: {"memory": 1.3}}))
    assert found.off[0].node == node(3)
    assert [finding.group.key for finding in found.off[0].said()] == ["memory on cpu"]
    assert [finding.group.label for finding in found.nodes[0].findings][:4] == [
        "all work",
        *(name for name in ("matmul on cpu", "memory on cpu", "model on cuda")),
    ]


def test_groups_are_all_work_then_families_then_the_works_of_families_of_several():
    found = only(fleet(8))
    kinds = [(group.kind, group.works) for group in found.groups]
    assert kinds == [("all", 4), ("family", 2), ("family", 1), ("family", 1), ("work", 1), ("work", 1)]
    assert len({group.key for group in found.groups}) == len(found.groups)
    assert {group.family for group in found.groups if group.kind == "work"} == {"matmul on cpu"}
    assert all(0 <= group.spread < 0.02 for group in found.groups)


def test_with_few_nodes_or_runs_no_node_is_judged_and_the_reason_says_so():
    few = only(fleet(FEWEST_NODES - 1, slow={2: 2.0}))
    assert "4 nodes of this kind with 3 runs or more" in few.reason
    assert {report.standing for report in few.nodes} == {Standing.FEW}
    single = only(fleet(8, runs=2, slow={2: 2.0}))
    assert "0 nodes of this kind" in single.reason
    assert (single.groups, single.off) == ((), ())


def one_work(readings):
    """Return readings with the work of one family alone."""
    return [r.only(r.rows.mask("suite", "memory".__eq__)) for r in readings]


def test_runs_that_are_too_few_for_this_number_of_nodes_are_a_reason_or_a_note(monkeypatch):
    monkeypatch.setattr(judge, "ALARM_RATE", 0.002)
    found = only(one_work(fleet(5, slow={2: 2.0})))
    assert found.reason == "5 nodes of 3 runs are too few to tell a slow node from chance: 4 runs of each are enough"
    assert found.off == ()
    assert only(one_work(fleet(5, runs=4, slow={2: 2.0}))).off[0].node == node(2)
    monkeypatch.undo()
    notes = diagnose_readings(fleet(5, slow={2: {"memory": 2.0}})).notes
    assert [note.partition(": ")[2] for note in notes if "runs of a node" in note] == [
        "with 3 runs of a node nothing is called slow in all work together; 4 are enough",
        "with 3 runs of a node nothing is called slow in a single piece of work; 4 are enough",
    ]


def test_a_node_with_one_run_is_not_judged_beside_others_that_are():
    readings = [r for r in fleet(8, slow={2: 2.0}) if r.rows[0].machine != node(2) or r.rows[0].run_id.endswith("0")]
    found = only(readings)
    assert standings(found)[node(2)] is Standing.FEW
    assert {standing for name, standing in standings(found).items() if name != node(2)} == {Standing.ALIKE}
    assert found.nodes[-1].node == node(2)


def test_a_node_that_has_measured_little_is_not_like_the_fleet():
    readings = [r.only(r.rows.mask("suite", "model".__eq__)) if r.rows[0].machine == node(4) else r for r in fleet(8)]
    found = only(readings)
    assert standings(found)[node(4)] is Standing.FEW
    assert not diagnose_readings(readings).is_decided
    assert diagnose_readings(fleet(8)).is_decided


def test_a_node_of_which_no_value_counts_is_among_the_others_as_one_that_cannot_be_judged():
    spoilt = [replace(r, rows=[replace(row, status="error", value=None) for row in r.rows]) for r in fleet(8)[:3]]
    found = diagnose_readings([*spoilt, *fleet(8)[3:]])
    assert standings(found.fleets[0])[node(1)] is Standing.FEW
    assert found.fleets[0].nodes[-1].runs == 0
    assert not found.is_decided
    assert "1 node has too few results to be judged: node-01" in words.verdict(found.fleets[0])


def test_a_node_that_is_slower_in_most_work_and_faster_in_some_is_said_to_be_both():
    found = only(fleet(20, runs=5, slow={3: {"matmul": 0.8, "memory": 1.3, "model": 1.3}}))
    assert found.nodes[0].node == node(3)
    assert {(f.group.key, f.standing) for f in found.nodes[0].said() if f.group.kind == "family"} == {
        ("matmul on cpu", Standing.FAST),
        ("memory on cpu", Standing.SLOW),
        ("model on cuda", Standing.SLOW),
    }


def test_where_half_of_the_nodes_differ_from_the_others_nobody_is_judged_and_it_is_said():
    half = fleet(10, slow={number: {"memory": 1.5} for number in range(1, 6)})
    found = diagnose_readings(half)
    assert found.fleets[0].off == ()
    assert [group.label for group in found.fleets[0].groups if group.kind == "family"] == [
        "matmul on cpu",
        "model on cuda",
    ]
    assert found.fleets[0].unjudged == ("memory on cpu: there no majority of nodes is alike within 10%",)
    assert not found.is_decided
    assert words.verdict(found.fleets[0]) == (
        "None of 10 nodes is slow or fast. "
        "Nobody is judged in memory on cpu: there no majority of nodes is alike within 10%"
    )
    whole = diagnose_readings(fleet(10, slow=dict.fromkeys(range(1, 6), 1.5)))
    assert whole.fleets[0].reason == "in no work do most nodes agree"
    assert not whole.is_decided


def test_a_family_that_few_nodes_have_measured_is_said_not_to_be_judged():
    few = {node(number) for number in range(1, 5)}
    readings = [r if r.rows[0].machine in few else r.only(r.rows.mask("suite", "memory".__ne__)) for r in fleet(10)]
    found = diagnose_readings(readings)
    assert found.fleets[0].unjudged == ("memory on cpu: 4 nodes with 3 runs there, and 5 are needed",)
    assert not found.is_decided


def test_a_kind_of_which_no_value_counts_at_all_ends_no_diagnosis():
    other = fleet(6, host={6: {"cpu.model": "Another CPU 1"}})
    spoilt = [replace(r, rows=[replace(row, status="error", value=None) for row in r.rows]) for r in other[15:]]
    first, second = diagnose_readings([*other[:15], *spoilt]).fleets
    assert (len(first.nodes), second.reason) == (5, "none of its nodes has a value that counts")
    assert standings(second) == {node(6): Standing.FEW}


def test_nodes_of_another_kind_are_a_fleet_of_their_own():
    others = {number: {"cpu.model": "Another CPU 1"} for number in range(9, 15)}
    first, second = diagnose_readings(fleet(14, host=others, slow={10: 1.3})).fleets
    assert (len(first.nodes), len(second.nodes)) == (8, 6)
    assert first.off == ()
    assert {report.node for report in second.nodes} == {node(number) for number in range(9, 15)}
    assert second.nodes[0].node == node(10)


def test_the_same_tables_have_the_same_diagnosis_in_any_order():
    readings = fleet(12, slow={7: 1.2})
    once = diagnose_readings(readings)
    assert diagnose_readings(readings) == once
    assert diagnose_readings(readings[::-1]) == once


def test_least_is_the_smallest_difference_that_is_called_anything():
    readings = fleet(12, slow={7: 1.05})
    assert only(readings).off[0].node == node(7)
    assert only(readings, least=0.1).off == ()


def test_no_machine_of_a_real_fleet_with_one_figure_each_is_called_slow_although_they_differ_by_27_percent():
    found = only(identical_machines())
    assert len(found.nodes) >= 11
    assert {report.standing for report in found.nodes} == {Standing.FEW}
