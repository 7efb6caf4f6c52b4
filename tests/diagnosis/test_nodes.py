"""Nodes are made of tables: machines of one kind, a number for each work and process, and what is left out is said."""

import math
from dataclasses import replace
from itertools import chain

import pytest

from bench_core.compare.apart import kept_apart
from bench_core.compare.loading import Reading, read
from bench_core.diagnosis.nodes import nodes_of
from bench_core.records import IMPORTED, UNCHECKED, Costs, Work
from bench_core.results.run_files import RunFiles
from tests.support.fleet_tables import COPY, WORKS, fleet, node, reading_of, write_fleet
from tests.support.tables import measured, processes, reading


def only(readings):
    (found,) = nodes_of(readings)
    return found


def of(hardware, workload, size=""):
    (work,) = (w for w in hardware.works if w.label.startswith(f"{workload} {size}".strip()))
    return hardware.values[work]


def renamed(readings, **known):
    """Return readings whose rows have other values in some columns."""
    return [Reading.of(r.path, [replace(row, **known) for row in r.rows], "", r.files) for r in readings]


def test_every_process_gives_the_logarithm_of_the_p10_of_its_seconds_for_each_work():
    found = only(fleet(3, runs=2))
    assert found.machines == ("node-01", "node-02", "node-03")
    assert found.notes == ()
    assert len(found.works) == len(WORKS)
    copies = of(found, "copy")
    assert [len(runs) for runs in copies.values()] == [2, 2, 2]
    table = reading_of(2, 1)
    (row,) = (row for row in table.rows if (row.workload, row.metric) == ("copy", "time"))
    assert copies["node-02"]["node-02-run-1 0"] == pytest.approx(math.log(row.p10))


def test_a_process_has_one_name_in_all_works():
    found = only(fleet(3, runs=2))
    names = {tuple(runs) for by_machine in found.values.values() for runs in by_machine.values()}
    assert names == {(f"{node(n)}-run-0 0", f"{node(n)}-run-1 0") for n in (1, 2, 3)}


def test_processes_of_a_merged_run_are_told_apart():
    found = only([reading(processes([1.0, 2.0, 4.0]), machine) for machine in ("a", "b")])
    (by_machine,) = found.values.values()
    assert [*by_machine["a"]] == ["run-a 0", "run-a 1", "run-a 2"]
    assert [round(value / math.log(2)) for value in by_machine["a"].values()] == [0, 1, 2]


def test_sides_that_were_measured_in_turns_are_not_taken_for_one_process():
    """Their runs have one series, by which a comparison pairs them."""
    sides = [
        reading(processes([t, t]), "a", run_id=f"s-{name}", about={"series": "s"}) for name, t in (("x", 1), ("y", 2))
    ]
    (by_machine,) = only(sides).values.values()
    assert [*by_machine["a"]] == ["s-x 0", "s-x 1", "s-y 0", "s-y 1"]


def test_a_run_that_is_in_several_tables_counts_once():
    once = fleet(3, runs=2)
    assert nodes_of(once + once) == nodes_of(once)


def test_the_order_of_the_tables_does_not_matter():
    readings = fleet(4, host={4: {"memory.total": 64e9}})
    assert nodes_of(readings) == nodes_of(readings[::-1])
    assert [*map(hash, nodes_of(readings)[0].works)] == [*map(hash, nodes_of(readings[::-1])[0].works)]


def test_work_without_a_time_has_its_headline_metric_turned_so_that_larger_is_slower():
    def rates(machine, factor):
        done = processes([1.0 * factor, 1.1 * factor], COPY)
        table = reading([replace(m, costs=Costs(bytes=1e9)) for m in done], machine)
        return table.only(table.rows.mask("metric", "bandwidth".__eq__))

    found = only([rates("a", 1.0), rates("b", 2.0)])
    ((work, by_machine),) = found.values.items()
    assert work.metric == "bandwidth"
    slower = [b - a for a, b in zip(by_machine["a"].values(), by_machine["b"].values(), strict=True)]
    assert slower == pytest.approx([math.log(2)] * 2)


def test_of_work_with_a_time_its_rates_are_not_counted_again():
    (work,) = only([reading([replace(m, costs=Costs(bytes=1e9)) for m in processes([1.0, 1.1], COPY)])]).works
    assert work.metric == "time"


@pytest.mark.parametrize("spoilt", [{"status": "error", "value": None}, {"clock": "device"}, {"flags": UNCHECKED}])
def test_rows_that_failed_or_are_unchecked_or_by_the_clock_of_the_device_do_not_count(spoilt):
    good, bad = fleet(3), renamed([reading_of(4, 0)], **spoilt)
    *kinds, last = nodes_of(good + bad)
    assert "node-04" not in chain.from_iterable(kind.machines for kind in (*kinds, last))
    assert "node-04: no value that counts" in chain.from_iterable(kind.notes for kind in (*kinds, last))


def test_tables_of_other_programs_count_though_nobody_has_checked_them():
    flags = f"{UNCHECKED};{IMPORTED}"
    found = only(renamed(fleet(3), flags=flags))
    assert [len(runs) for runs in of(found, "copy").values()] == [3, 3, 3]


def test_where_one_process_has_only_a_median_all_are_compared_by_their_medians():
    """A p10 is below the median: beside it a healthy node would look slow."""
    lacking = reading_of(3, 0)
    rows = [replace(row, p10=None) for row in lacking.rows]
    lacking = Reading.of(lacking.path, rows, "", replace(lacking.files, samples=None))
    medians = [row.value for row in lacking.rows if row.workload == "copy" and row.metric == "time"]
    copies = of(only([*fleet(2, runs=1), lacking]), "copy")
    assert [*copies["node-03"].values()] == pytest.approx([math.log(m) for m in medians])
    assert [*copies["node-01"].values()] == pytest.approx([*copies["node-03"].values()], abs=0.005)
    p10 = of(only(fleet(2, runs=1)), "copy")
    assert min(p10["node-01"].values()) < min(copies["node-01"].values()) - 0.005


def test_a_merged_row_without_samples_is_one_process():
    tables = [reading(processes([1.0, 1.1, 1.2]), name, samples=False) for name in ("a", "b")]
    (by_machine,) = only(tables).values.values()
    assert [[*runs] for runs in by_machine.values()] == [["run-a 0"], ["run-b 0"]]


def test_works_have_families_and_labels_that_tell_them_apart():
    found = only(fleet(2))
    assert [(work.family, work.label) for work in found.works] == [
        ("matmul on cpu", "matmul 1024 float32 numpy cpu"),
        ("matmul on cpu", "matmul 2048 float32 numpy cpu"),
        ("memory on cpu", "copy 1GiB float32 numpy cpu"),
        ("model on cuda", "gpt_decode 124M float32 torch cuda:0"),
    ]
    together = Work("collectives", "all_reduce", "1MiB", "float32", (("ranks", 2),))
    (work,) = only([reading([measured([1.0], together, "torch", "cuda:x2")])]).works
    assert work.family == "collectives on several cuda"


def test_works_that_differ_in_nothing_but_their_costs_have_different_labels():
    readings = fleet(3)
    readings += renamed([reading_of(4, 0)], flops=5.0)
    labels = [work.label for work in only(readings).works]
    assert labels[:2] == ["matmul 1024 float32 numpy cpu", "matmul 1024 float32 numpy cpu (2)"]
    assert len(set(labels)) == len(labels)


# ---------------------------------------------------------------- kinds


def test_machines_of_other_hardware_are_another_kind():
    other = {"cpu.model": "Imaginary CPU 1", "cpu.cores": 4}
    kinds = nodes_of(fleet(7, host=dict.fromkeys((2, 4, 6), other)))
    assert [kind.machines for kind in kinds] == [
        ("node-01", "node-03", "node-05", "node-07"),
        ("node-02", "node-04", "node-06"),
    ]
    assert [kind.name for kind in kinds] == [
        "The cuda:0 of all, Imaginary CPU 9000, 16 cores, 128 GB",
        "The cuda:0 of all, Imaginary CPU 1, 4 cores, 128 GB",
    ]
    assert all(set(by_machine) <= set(kind.machines) for kind in kinds for by_machine in kind.values.values())


def test_a_stepping_and_the_kernel_s_share_of_memory_make_no_kind():
    host = {1: {"cpu.identity": "family 6 model 85 stepping 4", "memory.total": 126e9}}
    assert only(fleet(4, host=host)).machines == tuple(map(node, range(1, 5)))


def test_a_node_that_lacks_memory_is_named_with_what_differs():
    *_, alone = nodes_of(fleet(5, host={3: {"memory.total": 64e9}}))
    assert alone.machines == ("node-03",)
    assert alone.notes == ("node-03 is of another kind than most: memory.total: 64.0 GB against 128 GB",)


def test_kinds_have_different_names():
    host = {number: {"system.virtual_machine": "none" if number < 4 else "KVM"} for number in range(1, 7)}
    names = [kind.name for kind in nodes_of(fleet(6, host=host))]
    assert names[1] == f"{names[0]} (2)"


def test_a_machine_that_fits_two_kinds_is_left_out_and_named():
    unknown = dict.fromkeys(("cpu.model", "cpu.cores"))
    host = {4: {"cpu.cores": 8}, 5: {"cpu.cores": 8}, 6: {"cpu.cores": 8}, 7: unknown}
    readings = renamed(fleet(7, host=host), device_name="")
    kinds = nodes_of(readings)
    assert [len(kind.machines) for kind in kinds] == [3, 3]
    assert kinds[0].notes == ("node-07 is left out: what is known of it fits 2 kinds of machines",)


def test_without_any_facts_all_machines_are_one_kind():
    bare = [Reading.of(r.path, [replace(row, device_name="") for row in r.rows], "", RunFiles()) for r in fleet(3)]
    found = only(bare)
    assert found.machines == ("node-01", "node-02", "node-03")
    assert found.name == "machines of unknown hardware"


def test_machines_are_in_natural_order():
    named = [reading_of(n, 0, name=name) for n, name in enumerate(("n10", "n9", "n1"))]
    assert only(named).machines == ("n1", "n9", "n10")


# ---------------------------------------------------------------- what is left out or odd


def overlapping(second, **about):
    """Return a fleet of which node 2 has a second run that begins so long after another."""
    odd = reading_of(2, 0)
    told = {**odd.files.about, "run": {"run_id": "other", "started_at": f"2001-01-01T{second}+00:00"}, **about}
    rows = [replace(row, run_id="other") for row in odd.rows]
    return [*fleet(4), Reading.of(odd.path, rows, "", replace(odd.files, about=told))]


def test_two_computers_with_one_label_are_left_out_because_their_runs_overlap():
    found = only(overlapping("00:05:00"))
    assert found.machines == ("node-01", "node-03", "node-04")
    (note,) = found.notes
    assert note.startswith("node-02 is left out: its runs node-02-run-0 and other overlap in time, so two computers ")


@pytest.mark.parametrize(
    ("second", "about"),
    [
        ("00:10:00", {}),  # when the first ends
        ("00:09:59", {}),  # starts are in whole seconds
        ("00:05:00", {"resumed": True}),
        ("00:05:00", {"time": {}}),
        ("00:05:00", {"time": {"total_s": "long"}}),
        ("00:05:00", {"time": [], "processes": {}}),
        ("00:05:00", {"processes": [{"started_at": "9999-12-31T23:59:59+00:00"}, 1]}),
    ],
)
def test_runs_one_after_another_and_those_whose_end_is_unknown_do_not_overlap(second, about):
    found = only(overlapping(second, **about))
    assert found.machines == tuple(map(node, range(1, 5)))


def test_sides_of_one_series_are_measured_in_turns():
    readings = overlapping("00:05:00", series="s")
    readings = [replace(r, files=replace(r.files, about={**r.files.about, "series": "s"})) for r in readings]
    assert "node-02" in only(readings).machines


def test_merged_runs_overlap_if_their_processes_do():
    starts = [{"started_at": f"2001-01-01T00:{minute}:00+00:00"} for minute in ("12", "25", "45")]
    kept = only(overlapping("00:12:00", processes=starts, time={"total_s": 1500.0}))
    assert "node-02" in kept.machines
    starts[0] = {"started_at": "2001-01-01T00:05:00+00:00"}
    assert "node-02" not in only(overlapping("00:05:00", processes=starts, time={"total_s": 1500.0})).machines


def test_other_commits_versions_and_options_are_told_with_the_nodes_that_have_them():
    readings = fleet(5, host={2: {"package.bench-core": "0.9"}})
    about = {"options": {"preset": "full", "seed": 0}}
    readings += [reading_of(6, 0, about=about), *renamed([reading_of(7, 0)], git_commit="a" * 40, git_dirty=True)]
    readings[0] = renamed(readings[:1], git_commit="b" * 40)[0]
    found = only(readings)
    assert set(found.notes) == {
        "bench-core differs: 0.9 on node-02; 1.0 on 6 nodes",
        "option preset differs: full on node-06; quick on 6 nodes",
        "git commit differs: bbbbbbbbb on node-01; aaaaaaaaa+ on 1 node",
    } or set(found.notes) == {
        "bench-core differs: 0.9 on node-02; 1.0 on 6 nodes",
        "option preset differs: full on node-06; quick on 6 nodes",
        "git commit differs: aaaaaaaaa+ on node-07; bbbbbbbbb on 1 node",
    }


def test_a_node_that_lacks_works_is_named():
    readings = fleet(4)
    readings[-3:] = [r.only(~r.rows.mask("device", "cuda:0".__eq__)) for r in readings[-3:]]
    assert only(readings).notes == ("node-04 lacks 1 of the 4 works that most nodes have, all on cuda:0",)


def test_rows_of_other_quantities_are_left_out_and_said():
    readings = fleet(3)
    readings[0] = renamed(readings[:1], unit="ms")[0]
    found = only(readings)
    assert found.notes[-1].startswith("Left out, because compare keeps it apart, 4 values: time in ms instead of s")
    assert len(of(found, "copy")["node-01"]) == 2


def test_readings_that_were_kept_apart_before_give_the_same():
    readings = fleet(3)
    assert nodes_of(kept_apart(readings).readings) == nodes_of(readings)


def test_nothing_is_made_of_no_tables_and_of_empty_ones():
    assert nodes_of([]) == []
    empty = reading_of(1, 0)
    assert nodes_of([empty.only(empty.rows.mask("status", "none".__eq__))]) == []


def test_a_folder_gives_the_same_as_its_readings_in_memory(tmp_path):
    (on_disk,) = nodes_of(read([str(write_fleet(tmp_path, 3, slow={2: 1.05}))]))
    in_memory = only(fleet(3, slow={2: 1.05}))
    assert (on_disk.name, on_disk.machines, on_disk.works) == (in_memory.name, in_memory.machines, in_memory.works)
    for work, by_machine in in_memory.values.items():
        for machine, runs in by_machine.items():
            assert on_disk.values[work][machine] == pytest.approx(runs)
