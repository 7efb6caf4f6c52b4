"""Files, folders, patterns and labels select exactly the intended runs."""

import errno
import json
import os
import shutil
from dataclasses import replace
from itertools import permutations

import pytest

from bench_core.compare import Method, Reading, compare, read
from bench_core.errors import TableError, UsageError
from bench_core.files import digest
from bench_core.results.reader import find_results, read_rows
from bench_core.results.run_files import RunFiles
from bench_core.results.writer import results_text
from tests.support import ROOT, tables
from tests.support.comparisons import FIVE, only
from tests.support.tables import on_host, processes, write


def test_files_folders_patterns_and_labels_name_the_same_runs(tmp_path):
    a, b = write(tmp_path, processes(FIVE), "a"), write(tmp_path, processes([2 * t for t in FIVE]), "b")
    write(tmp_path / "unfinished", processes([9.0]), "a", run_id="part")
    patterns = [f"{tmp_path}/*/*"], [f"{tmp_path}/*"], [f"{tmp_path}/**/results.csv"], [f"{tmp_path}/*/*/*"]
    for arguments in ([str(tmp_path)], [str(a), str(b / "results.csv")], *patterns, [f"a={a}", f"z={b}"]):
        c = only(read(arguments))
        assert (c.method, c.change) == (Method.WELCH, "2.00x slower")
    assert only(read([f"old={a}", f"new={b}"])).side == "new"
    assert [r.input_file.run_ids for r in read([f"{tmp_path}/unfinished/*/*"])] == [("part",)]


def test_a_lone_table_is_judged_by_its_intervals_with_a_note(tmp_path):
    a, b = (write(tmp_path, processes(FIVE), name) for name in "ab")
    lone = shutil.copy(b / "results.csv", tmp_path / "b.csv")
    result = compare(read([str(a), str(lone)]))
    assert result.notes == (f"{lone}: a single table without samples: its intervals are used",)
    assert result.comparisons[0].basis.startswith("median")


def test_a_label_for_two_machines_is_refused(tmp_path):
    for name in "ab":
        write(tmp_path, processes(FIVE), name)
    with pytest.raises(UsageError, match="label 'x' is used for 2 machines: a, b"):
        read([f"x={tmp_path}"])


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(TableError, match="no file matches"):
        read([f"{tmp_path}/*.csv"])


def closed(monkeypatch, folder):
    """Refuse to list a folder. The refusal is injected: no folder is closed to root."""
    scan = os.scandir

    def scandir(path="."):
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("pattern", ["shut/*", "shut/*.csv", "*/x*", "sh*/*/results.csv"])
def test_a_pattern_into_a_folder_that_may_not_be_read_says_so(tmp_path, monkeypatch, pattern):
    (tmp_path / "shut").mkdir()
    closed(monkeypatch, tmp_path / "shut")
    with pytest.raises(TableError) as caught:
        read([f"{tmp_path}/{pattern}"])
    why = f"{tmp_path}/shut: cannot be read: Permission denied"
    assert str(caught.value) == f"{tmp_path}/{pattern}: no file matches; {why}"


def test_a_pattern_that_passes_over_a_closed_folder_says_so_in_a_note(tmp_path, monkeypatch):
    write(tmp_path, processes(FIVE), "a")
    (tmp_path / "shut").mkdir()
    closed(monkeypatch, tmp_path / "shut")
    (reading,) = read([f"{tmp_path}/*/*"])
    assert reading.notes == (f"{tmp_path}/shut: cannot be read: Permission denied",)


def test_a_pattern_in_a_folder_that_is_not_there_names_the_folder(tmp_path):
    with pytest.raises(TableError, match=r"/none/\*: no file matches; .*/none: no such file or folder$"):
        read([f"{tmp_path}/none/*"])


@pytest.mark.parametrize(
    "label",
    ["\U0001f680", "Gr\u00f6\u00dfe", "\u673a\u5668-1", "\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\U0001f469\u200d\U0001f4bb"],
)
def test_a_label_may_be_of_any_script_and_of_emoji(tmp_path, label):
    (reading,) = read([f"{label}={write(tmp_path, processes(FIVE))}"])
    assert {row.machine for row in reading.rows} == {label}


@pytest.mark.parametrize(
    "label", ["a b", "<b>", "$HOME", "\u202eb", "\u00a0", "\x1b[31m", "\u3164", "\ufe0f", "a\u200db"]
)
def test_a_label_that_a_shell_or_a_page_could_take_for_more_is_refused(tmp_path, label):
    with pytest.raises(UsageError, match="is not a name"):
        read([f"{label}={write(tmp_path, processes(FIVE))}"])


@pytest.mark.parametrize("name", ["x" * 300, "a" * 300 + "=b", "x=" + "y" * 300, "*" + "x" * 300, "nul\0byte"])
def test_a_path_that_no_file_can_have_is_one_line(name):
    with pytest.raises((TableError, UsageError)) as caught:
        read([name])
    assert "\n" not in str(caught.value)


def test_what_a_folder_lacks_is_a_note_and_no_warning(tmp_path):
    """A warning of Python would name a line of this program."""
    run = write(tmp_path, processes(FIVE))
    (tmp_path / "link").symlink_to(run)
    (reading,) = read([str(tmp_path)])
    assert reading.notes == (f"{tmp_path}/link: a symbolic link inside a folder is not followed",)


# ---------------------------------------------------------------- two computers with one name

SLOW = [1.47 * t for t in FIVE]
NOTE = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"


def computer(folder, run_id, medians=FIVE, memory=None, **known):
    """Write a run of a machine called "box"; its computer has this memory in bytes, None if unknown."""
    about = on_host(cpu__model="AMD EPYC", memory__total=memory)
    known = {"device_name": "AMD EPYC"} | known
    return write(folder, processes(medians, **known), "box", about, run_id=run_id, started_at=f"2001-01-{run_id}")


@pytest.fixture
def boxes(tmp_path):
    """Runs of two computers with one CPU model and one name: 01 and 03 of the first, 02 of the second."""
    totals = {"01": (FIVE, 25e9), "02": (SLOW, 135e9), "03": (FIVE, 25.5e9)}
    return {run_id: computer(tmp_path, run_id, *known) for run_id, known in totals.items()}


def machines(readings):
    return {row.run_id: row.machine for reading in readings for row in reading.rows}


def test_two_computers_with_one_name_are_two_sides_and_never_replicates_of_each_other(boxes):
    result = compare(read([str(path) for path in boxes.values()]))
    (c,) = result.comparisons
    assert (result.sides, c.change) == (("box", "box:2"), "1.47x slower")
    assert (c.baseline.processes, c.contender.processes) == (10, 5)
    assert "memory.total: 25.0 GB / 25.5 GB against 135 GB" in map(str, result.environment)
    assert result.notes == (NOTE,)


@pytest.mark.parametrize("order", list(permutations(["01", "02", "03"])))
def test_the_order_of_the_arguments_changes_no_name_and_no_note(boxes, order):
    readings = read([str(boxes[run_id]) for run_id in order])
    assert machines(readings) == {"01": "box", "02": "box:2", "03": "box"}
    assert {reading.notes for reading in readings} == {(NOTE,)}
    assert [r.origins for r in readings] == [((run_id, machines(readings)[run_id]),) for run_id in order]
    assert [r.input_file.machines for r in readings] == [(machines(readings)[run_id],) for run_id in order]


def test_a_label_for_two_computers_pools_nothing(boxes):
    readings = read([f"x={boxes['01']}", f"x={boxes['02']}", f"x={boxes['03']}"])
    assert machines(readings) == {"01": "x", "02": "x:2", "03": "x"}
    assert [reading.label for reading in readings] == ["x", "x:2", "x"]
    c = only(readings)
    assert (c.against, c.baseline.processes, c.side, c.contender.processes) == ("x", 10, "x:2", 5)


def test_a_label_for_each_of_two_computers_does_not_make_them_one_machine_of_which_one_side_drifted(boxes):
    readings = read([f"old={boxes['01']}", f"new={boxes['02']}"])
    c = only(readings)
    assert (c.against, c.side, c.change) == ("old", "new", "1.47x slower")
    assert "difference is between these two machines" in c.reason
    assert "drift" not in c.reason
    assert compare(readings).notes == (NOTE.replace("box and box:2", "old and new"),)


@pytest.mark.parametrize("memory", [24.5e9, None])
def test_a_computer_that_is_measured_twice_stays_one(tmp_path, memory):
    """Its kernel may keep more memory for itself, and a fact may be unknown."""
    paths = [computer(tmp_path, "01", memory=25e9), computer(tmp_path, "02", memory=memory)]
    readings = read([*map(str, paths)])
    assert [r.rows for r in readings] == [tuple(read_rows(path / "results.csv")) for path in paths]
    assert [(r.origins, r.notes) for r in readings] == [((("01", "box"),), ()), ((("02", "box"),), ())]


def test_without_run_json_only_the_names_of_devices_tell_computers_apart(tmp_path):
    names = {"01": "AMD EPYC", "02": "AMD EPYC", "03": "Intel Xeon"}
    for run_id, name in names.items():
        (computer(tmp_path, run_id, memory=float(run_id) * 1e9, device_name=name) / "run.json").unlink()
    readings = read([str(tmp_path)])
    assert machines(readings) == {"01": "box", "02": "box", "03": "box:2"}
    assert "box is the name of 2 computers (cpu.model: AMD EPYC against Intel Xeon)" in readings[0].notes[0]


def test_gpus_of_one_address_tell_computers_apart_and_a_run_without_a_gpu_could_be_of_either(tmp_path):
    on_gpu = {"device": "cuda:0", "backend": "torch"}
    computer(tmp_path, "01")
    for run_id, name in (("02", "GPU A"), ("03", "GPU B")):
        computer(tmp_path, run_id, device_name=name, **on_gpu)
    readings = read([str(tmp_path)])
    assert machines(readings) == {"01": "box:3", "02": "box", "03": "box:2"}
    (note,) = readings[0].notes
    assert note == (
        "box is the name of 2 computers (device_name of cuda:0: GPU A against GPU B), kept apart as box and box:2; "
        "box:3 may be one of them"
    )


def joined(path, *others):
    """Append the rows of other runs to the table of a run; its run.json lists the new table, but describes one run."""
    everything = [row for folder in (path, *others) for row in read_rows(folder / "results.csv")]
    text = results_text(everything)
    (path / "results.csv").write_text(text, encoding="utf-8")
    about = json.loads((path / "run.json").read_text())
    about["files"]["results.csv"]["sha256"] = digest(text)
    (path / "run.json").write_text(json.dumps(about))
    return path


def test_the_facts_of_run_json_are_only_those_of_the_run_that_it_names(boxes, tmp_path):
    """The table of run 02 has the rows of run 03 as well, of whose memory nothing is known any more."""
    table = joined(boxes["02"], boxes["03"])
    (alone,) = read([str(table)])
    assert alone.files.facts["memory.total"].value == 135e9
    assert machines([alone]) == {"02": "box", "03": "box"}
    assert machines(read([str(boxes["01"]), str(table)])) == {"01": "box", "02": "box:2", "03": "box:3"}


def test_two_computers_in_one_table_are_two_sides(tmp_path):
    names = {"01": "AMD EPYC", "02": "Intel Xeon"}
    table = joined(*(computer(tmp_path, run_id, device_name=name) for run_id, name in names.items()))
    (reading,) = read([str(table)])
    assert machines([reading]) == {"01": "box", "02": "box:2"}
    assert reading.origins == (("01", "box"), ("02", "box:2"))
    (labelled,) = read([f"x={table}"])
    assert (machines([labelled]), labelled.label) == ({"01": "x", "02": "x:2"}, "x")


def test_a_copy_without_run_json_is_the_same_run_of_the_same_computer(boxes, tmp_path):
    copy = tmp_path / "copy.csv"
    shutil.copy(boxes["02"] / "results.csv", copy)
    readings = read([str(boxes["01"]), str(boxes["02"]), str(copy)])
    assert machines(readings) == {"01": "box", "02": "box:2"}
    result = compare(readings)
    assert only(readings).contender.processes == 5
    said = "rows occur in more than one file and were counted once: such as "
    assert any(f"{said}{boxes['02']}/results.csv:2 and {copy}:2" in note for note in result.notes)


def test_each_folder_of_the_committed_results_is_one_computer():
    readings = read([str(ROOT / "results")])
    assert len(readings) == len(find_results(ROOT / "results")) > 1
    for reading in readings:
        assert {row.machine for row in reading.rows} == {reading.path.split("/")[-3]}
        assert not any("computers" in note for note in reading.notes)
        assert reading.files.facts["memory.total"].value


def test_the_machine_of_a_row_is_found_without_looking_through_all_runs(tmp_path):
    class Counted(tuple):
        """Pairs that count how often they are gone through."""

        times = 0

        def __iter__(self):
            Counted.times += 1
            return super().__iter__()

    (plain,) = read([f"x={write(tmp_path, processes(FIVE))}"])
    labelled = replace(plain, origins=Counted(plain.origins))
    once = Counted.times
    assert {labelled.machine_in_table(row.run_id, row.machine) for row in labelled.rows} == {"a"}
    assert Counted.times == once


def test_a_table_with_rows_of_other_programs_is_said_to_be_imported(tmp_path):
    own = write(tmp_path, processes([1.0]), "a")
    other = write(tmp_path, processes([1.0], backend="prog", flags=("unchecked", "imported")), "b")
    notes = [reading.notes for reading in read([str(own), str(other)])]
    said = f"{other / 'results.csv'}: imported: measured by prog, and not checked by this suite"
    assert (said in notes[1], [n for n in notes[0] if "imported" in n]) == (True, [])


ALONE = [("r1", "a")]
TWO = [("r1", "a"), ("r2", "a")]


@pytest.mark.parametrize(
    ("run", "there", "of_run", "of_machine"),
    [
        ({"run_id": "r1", "machine": "a"}, TWO, {"r1"}, {"r1"}),
        ({"run_id": "r1", "machine": "renamed"}, TWO, {"r1"}, set()),
        ({"run_id": "r1", "machine": ["a"]}, ALONE, {"r1"}, set()),
        ({"run_id": "other", "machine": "a"}, ALONE, set(), set()),
        ({"machine": "a"}, ALONE, {"r1"}, {"r1"}),
        (None, ALONE, {"r1"}, {"r1"}),
        ("r1", TWO, set(), set()),
    ],
)
def test_the_files_beside_a_table_are_of_the_run_that_they_name_or_of_the_only_one(run, there, of_run, of_machine):
    files = RunFiles(about={} if run is None else {"run": run})
    row = tables.reading(processes([1.0])).rows[0]
    table = Reading.of("x/results.csv", [replace(row, run_id=name, machine=machine) for name, machine in there])
    table = replace(table, files=files)
    assert {name for name, _ in there if table.files_of(name) is files} == of_run
    assert all(table.files_of(name) == RunFiles() for name, _ in there if name not in of_run)
    named = {name for name, machine in there if files.are_of(name, machine, is_only=len(there) == 1)}
    assert named == of_machine
