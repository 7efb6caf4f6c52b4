"""Computers of one name are told apart by the facts of their runs, whatever the order of the runs."""

from itertools import combinations, permutations

import pytest

from bench_core.compare.computers import TableRun, names, told_apart
from bench_core.machine.facts import contradictions
from bench_core.records import identifier
from tests.support.properties import given, st


def run(run_id, label="", machine="box", started_at=None, **lasting):
    """A run that started in the order of its run_id, unless a time is given."""
    return TableRun(label, machine, run_id, started_at or run_id, lasting)


def shown(runs):
    return {identity[2]: found.shown for identity, found in names(runs).items()}


SMALL, LARGE = {"memory.total": 25e9}, {"memory.total": 135e9}


def test_runs_that_contradict_each_other_are_of_two_computers_and_the_earliest_keeps_the_name():
    runs = [run("3", **SMALL), run("2", **LARGE), run("1", **SMALL)]
    assert shown(runs) == {"1": "box", "2": "box:2", "3": "box"}
    assert {found.machine for found in names(runs).values()} == {"box", "box:2"}
    said = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"
    assert {found.notes for found in names(runs).values()} == {(said,)}


def test_three_computers_are_named_with_all_facts_that_differ():
    runs = [run("1", **SMALL), run("2", **LARGE, **{"cpu.cores": 8}), run("3", **LARGE, **{"cpu.cores": 4})]
    (note,) = names(runs)["", "box", "1"].notes
    assert note == (
        "box is the name of 3 computers (memory.total: 25.0 GB against 135 GB against 135 GB; "
        "cpu.cores: unknown against 8 against 4), kept apart as box and box:2 and box:3"
    )


def test_without_a_contradiction_nothing_is_renamed_or_noted():
    runs = [run("1", **SMALL), run("2"), run("3", **{"memory.total": 25.5e9}), run("4", **{"cpu.cores": 2})]
    assert {(found.machine, found.shown, found.notes) for found in names(runs).values()} == {("box", "box", ())}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_run_that_fits_both_of_two_computers_is_pooled_with_neither(order):
    """The earliest run knows too little; joined to either, its values could be those of the other computer."""
    runs = [run("1"), run("2", **SMALL), run("3", **LARGE), run("4", **LARGE, **{"cpu.cores": 2})]
    found = [runs[i] for i in order]
    assert shown(found) == {"1": "box:3", "2": "box", "3": "box:2", "4": "box:2"}
    (note,) = names(found)["", "box", "1"].notes
    assert note == (
        "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2; "
        "box:3 may be one of them"
    )


def test_memory_in_small_steps_does_not_join_two_computers():
    """100 GB is within 3 % of the middle, and the middle of 105, but the ends are two computers."""
    runs = [run(i, **{"memory.total": total}) for i, total in (("1", 100e9), ("2", 102.5e9), ("3", 105e9))]
    assert shown(runs) == {"1": "box", "2": "box:3", "3": "box:2"}


def test_runs_that_know_different_facts_are_counted_as_no_more_computers_than_there_must_be():
    """The pair that differs in memory may be the pair that differs in cores."""
    runs = [run("1", **SMALL), run("2", **{"cpu.cores": 2}), run("3", **LARGE), run("4", **{"cpu.cores": 4})]
    assert len(set(shown(runs).values())) == 4
    assert names(runs)["", "box", "4"].notes[0].startswith("box is the name of 2 computers (memory.total: 25.0 GB")
    assert names(runs)["", "box", "4"].notes[0].endswith("; box:3, box:4 may be one of them")


def test_other_machines_keep_their_names_and_get_no_note():
    found = names([run("1", **SMALL), run("2", **LARGE), run("3", machine="other", **LARGE)])
    assert (found["", "other", "3"].shown, found["", "other", "3"].notes) == ("other", ())


def test_a_number_that_is_the_name_of_another_machine_or_label_is_left_out():
    runs = [run("1", **SMALL), run("2", **LARGE), run("3", machine="box:2"), run("4", "box:3", "far")]
    assert shown(runs) == {"1": "box", "2": "box:4", "3": "box:2", "4": "box:3"}
    assert all(identifier(name) for name in shown(runs).values())


def test_a_label_for_two_computers_is_numbered_and_its_note_names_it():
    runs = [run("1", "x", **SMALL), run("2", "x", **LARGE)]
    assert shown(runs) == {"1": "x", "2": "x:2"}
    assert names(runs)["x", "box", "1"].notes == (
        "x is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as x and x:2",
    )


def test_two_labels_for_two_computers_stay_and_their_machines_are_two():
    """Nothing is pooled, but a change from old to new would be one of the computer."""
    found = names([run("1", "old", **SMALL), run("2", "new", **LARGE)])
    assert [(name.machine, name.shown) for name in found.values()] == [("box", "old"), ("box:2", "new")]
    assert found["old", "box", "1"].notes == (
        "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as old and new",
    )


def test_a_label_that_is_another_machine_s_name_does_not_pool_the_two():
    runs = [run("1", "box", "far", **SMALL), run("2", **LARGE)]
    assert shown(runs) == {"1": "box", "2": "box:2"}
    assert len(names(runs)["", "box", "2"].notes) == 1


def test_copies_of_a_run_are_one_run_and_what_one_copy_knows_counts_for_all():
    runs = [run("1", **SMALL), run("1"), run("2", **LARGE)]
    assert shown(runs) == {"1": "box", "2": "box:2"}
    assert [len(computer.runs) for computer in told_apart(runs)] == [2, 1]


def test_a_fact_on_which_copies_of_a_run_disagree_is_unknown():
    assert len(told_apart([run("1", **SMALL), run("1", **LARGE), run("2", **SMALL)])) == 1


FACTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu.cores": st.sampled_from([2, 4]),
        "memory.total": st.sampled_from([100e9, 102.5e9, 105e9, 200e9]),
        "system.virtual_machine": st.sampled_from(["none", "QEMU", "of unknown make"]),
        "device_name of cuda:0": st.sampled_from(["GPU A", "GPU B"]),
    },
)
RUNS = st.lists(
    st.builds(
        TableRun,
        st.sampled_from(["", "", "x", "box"]),
        st.sampled_from(["box", "far", "box:2"]),
        st.sampled_from("12345"),
        st.sampled_from(["2001", "2002"]),
        FACTS,
    ),
    max_size=8,
)


@given(RUNS, st.randoms(use_true_random=False))
def test_names_and_notes_do_not_depend_on_the_order_of_the_runs(runs, random):
    shuffled = list(runs)
    random.shuffle(shuffled)
    assert names(shuffled) == names(runs)


@given(RUNS)
def test_no_two_runs_that_contradict_each_other_have_one_name(runs):
    found = names(runs)
    single = [run for run in runs if [r.run_id for r in runs].count(run.run_id) == 1]  # copies may disagree
    for one, other in combinations(single, 2):
        if contradictions(one.lasting, other.lasting):
            a, b = found[one.identity], found[other.identity]
            assert a.shown != b.shown
            assert a.machine != b.machine or one.machine != other.machine


@given(RUNS)
def test_names_change_only_where_a_note_says_so_and_are_never_those_of_another(runs):
    existing = {run.machine for run in runs} | {run.label for run in runs}
    for (label, machine, _), found in names(runs).items():
        if not found.notes:
            assert (found.machine, found.shown) == (machine, label or machine)
        assert found.machine == machine or found.machine not in existing
        assert found.shown in {label, found.machine} or found.shown not in existing


@given(RUNS)
def test_surely_different_computers_contradict_each_other(runs):
    computers = told_apart(runs)
    sure = [computer for computer in computers if not computer.unsure]
    assert len(computers) < 2 or len(sure) > 1
    for one, other in combinations(sure, 2):
        assert any(contradictions(a, b) for a in one.known for b in other.known)
