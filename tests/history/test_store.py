"""The cache holds what the tables say, whatever happens while it is made; nothing else in the folder is written."""

import errno
import gzip
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench_core.errors import TableError, UsageError
from bench_core.files import digest
from bench_core.history import store as module
from bench_core.history.store import VERSION, Store
from bench_core.results.reader import read_rows
from bench_core.results.schema import CACHE, COLUMNS, KINDS
from tests.support import ROOT
from tests.support.histories import added, every_file, held, parquet, truth, write_small
from tests.support.planted_history import write_run_of


def the_cache(folder):
    return folder / CACHE / f"v{VERSION}"


def edit(path, old, new):
    """Change a table and tell run.json."""
    table, about = path / "results.csv", path / "run.json"
    before = digest(table.read_bytes())
    table.write_text(table.read_text().replace(old, new))
    about.write_text(about.read_text().replace(before, digest(table.read_bytes())))


def test_the_cache_holds_every_cell_that_the_reader_reads(tmp_path):
    write_run_of(tmp_path, "desk", 6)
    assert added(tmp_path).new == 1
    (part,) = Store(tmp_path).parts()
    (table,) = tmp_path.glob("*/*/results.csv")
    for row, cells in zip(read_rows(table), parquet.read_table(part.rows).to_pylist(), strict=True):
        expected = {name: getattr(row, name) for name in COLUMNS} | {"month": "2001-06"}
        expected["started_at"] = datetime.fromisoformat(row.started_at).replace(tzinfo=None)
        assert cells == expected


def test_a_run_has_the_facts_of_its_host_those_of_all_workers_and_those_of_each(tmp_path):
    write_run_of(tmp_path, "desk", 6)
    added(tmp_path)
    (part,) = Store(tmp_path).parts()
    (run,) = parquet.read_table(part.run).to_pylist(maps_as_pydicts="strict")
    assert run["facts"] == {
        "cpu.model": "Imaginary CPU",
        "memory.total": "68719476736",
        "cpu.caches": '{"L2": 1048576}',
        "torch": "2.13.0",
        "numpy": "2.4.6",
        "gpu.driver": "590.48",
    }
    assert run["workers"]["e_desk_torch_cuda_2130_59048"] == {"torch": "2.13.0", "gpu.driver": "590.48"}
    assert run["env_ids"] == sorted(run["workers"])
    assert (run["preset"], run["month"], run["started_at"]) == ("standard", "2001-06", datetime(2001, 6, 1, 6))
    assert run["rows"] == parquet.read_metadata(part.rows).num_rows


def test_a_fact_on_which_workers_differ_is_not_one_of_the_run(tmp_path):
    workers = {name: {"threads": {"value": value}, "same": {"value": 1}} for name, value in (("e_1", 1), ("e_2", 2))}
    write_small(tmp_path, "r", about={"environment": {"host": {}, "workers": workers}})
    added(tmp_path)
    (run,) = parquet.read_table(Store(tmp_path).parts()[0].run).to_pylist(maps_as_pydicts="strict")
    assert run["facts"] == {"same": "1"}


@pytest.mark.parametrize("of", [{"run_id": "other", "machine": "a"}, {"run_id": "r", "machine": "b"}])
def test_the_facts_of_another_run_are_not_those_of_this_one(tmp_path, of):
    write_small(tmp_path, "r", about={"run": of, "environment": {"host": {"a": {"value": 1}}, "workers": {}}})
    added(tmp_path)
    (run,) = parquet.read_table(Store(tmp_path).parts()[0].run).to_pylist()
    assert run["facts"] == []


@pytest.mark.parametrize(
    ("written", "month", "moment"),
    [
        ("2001-03-31T23:30:00-02:00", "2001-04", datetime(2001, 4, 1, 1, 30, tzinfo=UTC)),
        ("a while ago", "unknown", None),
    ],
)
def test_months_are_of_utc_and_a_start_that_is_no_moment_is_missing(tmp_path, written, month, moment):
    write_small(tmp_path, "r", started_at=written)
    added(tmp_path)
    (part,) = Store(tmp_path).parts()
    assert part.rows.parent.name == f"month={month}"
    (row, *_) = parquet.read_table(part.rows).to_pylist()
    assert (row["started_at"], row["month"]) == (moment and moment.replace(tzinfo=None), month)


def test_what_is_there_is_not_read_again(tmp_path, monkeypatch):
    paths = [write_small(tmp_path, name) for name in ("one", "two")]
    assert (added(tmp_path).new, Store(tmp_path).parts() != []) == (2, True)
    monkeypatch.setattr(module, "_read", lambda *_: pytest.fail("read again"))
    assert (added(tmp_path).new, added(tmp_path).kept) == (0, 2)
    (the_cache(tmp_path) / "known.json").unlink(missing_ok=True)
    os.utime(paths[0] / "results.csv", (1e9, 1e9))
    assert (added(tmp_path).new, added(tmp_path).kept) == (0, 2)


def test_a_file_with_the_size_and_time_of_before_is_not_even_opened(tmp_path, monkeypatch):
    path = write_small(tmp_path, "one")
    for name in ("results.csv", "run.json"):
        os.utime(path / name, (1e9, 1e9))
    added(tmp_path)
    monkeypatch.setattr(module, "_digest", lambda _: pytest.fail("opened"))
    assert added(tmp_path).kept == 1


def test_where_nothing_is_new_nothing_is_written(tmp_path, monkeypatch):
    """So that the folder of an archive, which may not be written, is asked as any other."""
    path = write_small(tmp_path, "one")
    for name in ("results.csv", "run.json"):
        os.utime(path / name, (1e9, 1e9))
    added(tmp_path)
    monkeypatch.setattr(module, "write_atomically", lambda *_: pytest.fail("written"))
    assert added(tmp_path).kept == 1


def test_a_file_that_was_written_just_now_is_looked_into_again(tmp_path):
    """Within one tick of the file system's time another text of this size may have been written."""
    path = write_small(tmp_path, "one")
    added(tmp_path)
    before = {name: (path / name).stat() for name in ("results.csv", "run.json")}
    edit(path, "SomeBLAS 1", "SomeBLAS 2")
    for name, about in before.items():
        os.utime(path / name, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert added(tmp_path).new == 1


def test_a_table_that_has_changed_replaces_its_part(tmp_path):
    path = write_small(tmp_path, "one")
    added(tmp_path)
    edit(path, "SomeBLAS 1", "OtherBLAS 2")
    done = added(tmp_path)
    assert (done.new, done.kept, done.left) == (1, 0, 0)
    (part,) = Store(tmp_path).parts()
    assert set(parquet.read_table(part.rows)["library"].to_pylist()) == {"OtherBLAS 2"}
    assert len(list(the_cache(tmp_path).rglob("*.parquet"))) == 2


def test_a_run_json_that_has_changed_replaces_the_part(tmp_path):
    path = write_small(tmp_path, "one")
    added(tmp_path)
    about = path / "run.json"
    about.write_text(about.read_text().replace('"host": {}', '"host": {"new": {"value": "fact"}}'))
    assert added(tmp_path).new == 1
    assert parquet.read_table(Store(tmp_path).parts()[0].run)["facts"].to_pylist() == [[("new", "fact")]]


def test_a_run_that_is_no_longer_in_the_folder_leaves_the_cache(tmp_path):
    gone, _ = write_small(tmp_path, "gone"), write_small(tmp_path, "there")
    added(tmp_path)
    shutil.rmtree(gone)
    done = added(tmp_path)
    assert (done.new, done.kept, done.left) == (0, 1, 1)
    assert held(Store(tmp_path)) == truth(tmp_path)
    shutil.rmtree(tmp_path / "a")
    assert added(tmp_path).left == 1
    assert Store(tmp_path).parts() == []


def test_a_cache_is_rebuilt_from_nothing(tmp_path):
    write_small(tmp_path, "one")
    added(tmp_path)
    before = {path: text for path, text in every_file(the_cache(tmp_path)).items() if path.suffix == ".parquet"}
    for path in before:
        (the_cache(tmp_path) / path).write_bytes(b"spoilt")
    assert added(tmp_path).kept == 1
    assert added(tmp_path, rebuild=True).new == 1
    assert {path: (the_cache(tmp_path) / path).read_bytes() for path in before} == before


def test_nothing_in_the_folder_but_the_cache_is_written(tmp_path):
    write_small(tmp_path, "one")
    before = every_file(tmp_path)
    added(tmp_path)
    after = every_file(tmp_path)
    assert {path: text for path, text in after.items() if path.parts[0] != CACHE} == before
    assert "*" in (tmp_path / CACHE / ".gitignore").read_text().splitlines()


def test_a_newer_cache_is_refused_in_one_line_and_not_touched(tmp_path):
    write_small(tmp_path, "one")
    added(tmp_path)
    newer = tmp_path / CACHE / f"v{VERSION + 1}"
    newer.mkdir()
    (newer / "known.json").write_text("{}")
    write_small(tmp_path, "two")
    before = every_file(tmp_path)
    for act in (Store(tmp_path).add, lambda: Store(tmp_path).add(rebuild=True), Store(tmp_path).parts):
        with pytest.raises(TableError) as caught:
            act()
        told = f"a cache of version {VERSION + 1}: this bench-core reads version {VERSION}; install a newer one"
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)
    assert every_file(tmp_path) == before


def test_an_older_cache_is_rebuilt_and_removed(tmp_path):
    older = tmp_path / CACHE / "v0" / "rows"
    older.mkdir(parents=True)
    (older / "part").write_text("old")
    write_small(tmp_path, "one")
    assert added(tmp_path).new == 1
    assert sorted(path.name for path in (tmp_path / CACHE).iterdir()) == [".gitignore", f"v{VERSION}"]


def test_another_schema_is_another_version():
    """A part that was made with other columns must not be taken for one of now: then VERSION rises."""
    columns = ",".join(f"{name}:{KINDS[name].__name__}" for name in COLUMNS)
    assert (VERSION, zlib.crc32(columns.encode())) == (1, 4167546238)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Nth:
    """Lets a function work but for its nth call, which does something else. count: of all calls."""

    def __init__(self, function, n, instead):
        self.count = 0
        self._function, self._n, self._instead = function, n, instead

    def __call__(self, *given, **named):
        self.count += 1
        return (self._instead if self.count == self._n else self._function)(*given, **named)

    def __get__(self, instance, owner):
        return lambda *given, **named: self(instance, *given, **named)


@pytest.mark.parametrize(("place", "name"), [(os, "fsync"), (Path, "replace"), (Path, "mkdir"), (Path, "unlink")])
def test_a_full_disk_at_any_write_leaves_a_cache_that_answers(tmp_path, place, name):
    """Whichever write, rename, folder or removal of an addition fails; then it is done as if nothing had been."""
    folder, kept = tmp_path / "runs", tmp_path / "kept"
    _, changed, gone = (write_small(folder, each) for each in ("old", "changed", "gone"))
    added(folder)
    shutil.copytree(folder / CACHE, kept)
    edit(changed, "SomeBLAS 1", "SomeBLAS 2")
    shutil.rmtree(gone)
    write_small(folder, "new", 3.0, started_at="2001-02-01T00:00:00+00:00")
    lines = []
    for n in itertools.count(1):
        shutil.rmtree(folder / CACHE)
        shutil.copytree(kept, folder / CACHE)
        with pytest.MonkeyPatch.context() as patch:
            nth = Nth(getattr(place, name), n, full)
            patch.setattr(place, name, nth)
            try:
                added(folder)
            except UsageError as error:
                lines.append(str(error))
        there = held(Store(folder))
        assert {run: there.get(("a", run)) for run in ("old", "changed")} == {"old": [1.0], "changed": [1.0]}
        added(folder)
        assert held(Store(folder)) == truth(folder)
        if nth.count < n:  # the last turn: there were not so many
            break
    assert set(lines) == {f"{folder / CACHE}: cannot be written: No space left on device; what was there is kept"}
    assert len(lines) == n - 1


HALF_WRITTEN = {
    "a journal alone": (
        lambda run: (
            [(run / name).unlink() for name in ("results.csv", "run.json", "samples.csv")]
            + [(run / "journal.jsonl").write_text("{}")]
        ),
        "a run that did not end: finish it with `bench-core run --resume",
    ),
    "tables before run.json": (
        lambda run: ((run / "run.json").unlink(), (run / "journal.jsonl").write_text("{}")),
        "a run that did not end: finish it with `bench-core run --resume",
    ),
    "no results.csv": (lambda run: (run / "results.csv").unlink(), "of a run without its table"),
    "a results.csv that is cut": (
        lambda run: os.truncate(run / "results.csv", (run / "results.csv").stat().st_size - 20),
        "was changed after the run or belongs to another run (sha256 in run.json)",
    ),
    "one that is cut, alone": (
        lambda run: ((run / "run.json").unlink(), os.truncate(run / "results.csv", 900)),
        "results.csv:3: 20 cells where the header has 53; the file may be cut off",
    ),
    "an empty one": (lambda run: ((run / "run.json").unlink(), os.truncate(run / "results.csv", 0)), "results.csv"),
    "a broken run.json": (lambda run: os.truncate(run / "run.json", 40), "run.json: not JSON"),
    "a run.json that is a list": (lambda run: (run / "run.json").write_text("[]"), "run.json: not a JSON object"),
    "a packed table": (
        lambda run: (
            (run / "results.csv.gz").write_bytes(gzip.compress((run / "results.csv").read_bytes())),
            (run / "results.csv").unlink(),
        ),
        "results.csv.gz: unpack it, or name it",
    ),
    "a table without rows": (
        lambda run: (
            (run / "run.json").unlink(),
            (run / "results.csv").write_text(",".join(COLUMNS) + "\n"),
        ),
        "results.csv",
    ),
}


@pytest.mark.parametrize("what", HALF_WRITTEN)
def test_a_half_written_run_is_one_line_and_the_others_are_added(tmp_path, what):
    damage, told = HALF_WRITTEN[what]
    damage(write_small(tmp_path, "half"))
    write_small(tmp_path, "whole")
    done = added(tmp_path)
    assert held(Store(tmp_path)) == {("a", "whole"): [1.0]}
    assert done.new == 1
    (line,) = [line for line in (*done.refused, *done.notes) if told in line and "half" in line]
    assert "\n" not in line
    assert len(done.refused) == (0 if "did not end" in told or "without its table" in told else 1)


def test_a_run_that_is_whole_again_is_added(tmp_path):
    path = write_small(tmp_path, "one")
    text = (path / "run.json").read_bytes()
    added(tmp_path)
    (path / "run.json").write_bytes(text[:50])
    assert (added(tmp_path).left, held(Store(tmp_path))) == (1, {})
    (path / "run.json").write_bytes(text)
    assert (added(tmp_path).new, held(Store(tmp_path))) == (1, truth(tmp_path))


def test_a_table_alone_is_added_without_facts_also_packed_under_its_own_name(tmp_path):
    path = write_small(tmp_path, "one")
    (path / "run.json").unlink()
    (path / "results.csv").write_bytes(gzip.compress((path / "results.csv").read_bytes()))
    assert added(tmp_path).refused == ()
    assert held(Store(tmp_path)) == {("a", "one"): [1.0]}


def test_a_table_of_an_earlier_schema_is_read_by_the_houses_reader(tmp_path):
    path = write_small(tmp_path, "one")
    (path / "run.json").unlink()
    lines = [line.split(",") for line in (path / "results.csv").read_text().splitlines()]
    place = lines[0].index("device_name")  # a column that was added later
    (path / "results.csv").write_text("\n".join(",".join(line[:place] + line[place + 1 :]) for line in lines) + "\n")
    assert added(tmp_path).refused == ()
    assert set(parquet.read_table(Store(tmp_path).parts()[0].rows)["device_name"].to_pylist()) == {""}


def test_a_copy_of_a_run_counts_once_and_another_table_of_it_not_at_all(tmp_path):
    path = write_small(tmp_path, "one")
    shutil.copytree(path, tmp_path / "copies" / "one")
    shutil.copytree(path, tmp_path / "copies" / "other")
    edit(tmp_path / "copies" / "other", "SomeBLAS 1", "SomeBLAS 2")
    for _ in range(2):
        done = added(tmp_path)
        assert held(Store(tmp_path)) == {("a", "one"): [1.0]}
        assert [line.partition(": ")[2] for line in done.notes] == [
            f"its run is in {path / 'results.csv'} too: left out here"
        ]
        assert [line.partition(": ")[2] for line in done.refused] == [
            f"its run is in {path / 'results.csv'} too, with other contents: left out here"
        ]
    shutil.rmtree(path)
    shutil.rmtree(tmp_path / "copies" / "one")
    added(tmp_path)
    assert set(parquet.read_table(Store(tmp_path).parts()[0].rows)["library"].to_pylist()) == {"SomeBLAS 2"}


def test_runs_in_one_table_have_a_part_each(tmp_path):
    first, second = (write_small(tmp_path, name, seconds) for name, seconds in (("one", 1.0), ("two", 2.0)))
    lines = (second / "results.csv").read_text().splitlines(keepends=True)
    (first / "results.csv").write_text((first / "results.csv").read_text() + "".join(lines[1:]))
    (first / "run.json").unlink()
    shutil.rmtree(second)
    assert added(tmp_path).new == 2
    assert held(Store(tmp_path)) == {("a", "one"): [1.0], ("a", "two"): [2.0]}
    (lost, *_) = (part.run for part in Store(tmp_path).parts())
    lost.unlink()
    assert added(tmp_path).new == 2
    assert held(Store(tmp_path)) == {("a", "one"): [1.0], ("a", "two"): [2.0]}


@pytest.mark.parametrize("name", ["../../up", "a b/c", "%2F", "é" * 200, "x" * 255, "con", "..", "a'; --"])
def test_a_machine_and_a_run_of_any_name_stay_in_the_cache(tmp_path, name):
    path = write_small(tmp_path / "runs", "one")
    (path / "run.json").unlink()
    table = path / "results.csv"
    text = table.read_text().replace(",a,", f",{name},").replace("\n1,one,", f"\n1,{name},")
    table.write_text(text, encoding="utf-8")
    before = set(tmp_path.rglob("*"))
    assert added(tmp_path / "runs").refused == ()
    assert {run for run, _ in held(Store(tmp_path / "runs"))} == {name}
    assert {path for path in set(tmp_path.rglob("*")) - before if CACHE not in path.parts} == set()


def test_a_part_without_its_rows_does_not_count_and_is_made_again(tmp_path):
    write_small(tmp_path, "one")
    added(tmp_path)
    Store(tmp_path).parts()[0].rows.unlink()
    assert Store(tmp_path).parts() == []
    assert (added(tmp_path).new, held(Store(tmp_path))) == (1, truth(tmp_path))


def test_of_two_parts_of_one_run_the_newer_counts(tmp_path):
    path = write_small(tmp_path, "one")
    added(tmp_path)
    shutil.copytree(the_cache(tmp_path), tmp_path / ".kept")
    for old in the_cache(tmp_path).rglob("*.parquet"):
        os.utime(tmp_path / ".kept" / old.relative_to(the_cache(tmp_path)), (1e9, 1e9))
    edit(path, "SomeBLAS 1", "SomeBLAS 2")
    added(tmp_path)
    shutil.copytree(tmp_path / ".kept", the_cache(tmp_path), dirs_exist_ok=True)
    assert len(list((the_cache(tmp_path) / "runs").rglob("*.parquet"))) == 2
    (part,) = Store(tmp_path).parts()
    assert set(parquet.read_table(part.rows)["library"].to_pylist()) == {"SomeBLAS 2"}


@pytest.mark.parametrize(("age", "stays"), [(60, True), (2 * 3600, False)])
def test_the_temporary_file_of_a_writer_stays_for_an_hour(tmp_path, age, stays):
    write_small(tmp_path, "one")
    added(tmp_path)
    left = Store(tmp_path).parts()[0].rows.with_name(".bench-core-0123.tmp")
    left.touch()
    os.utime(left, (time.time() - age,) * 2)
    added(tmp_path)
    assert left.exists() == stays


def test_links_are_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    folder = tmp_path / "runs"
    write_small(folder, "one")
    (folder / CACHE).symlink_to(elsewhere)
    with pytest.raises(TableError, match="a symbolic link is not followed"):
        added(folder)
    (folder / CACHE).unlink()
    the_cache(folder).mkdir(parents=True)
    (the_cache(folder) / "rows").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="a symbolic link is not followed"):
        added(folder)
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a/one/results.csv": 3}', '{"a/one/results.csv": [[1, 2], "x"]}'])
def test_a_damaged_list_of_what_is_known_costs_work_alone(tmp_path, text):
    write_small(tmp_path, "one")
    added(tmp_path)
    (the_cache(tmp_path) / "known.json").write_text(text)
    assert (added(tmp_path).kept, held(Store(tmp_path))) == (1, truth(tmp_path))


@pytest.mark.parametrize("what", ["missing", "empty", "a file"])
def test_a_folder_without_runs_is_refused_and_gets_no_cache(tmp_path, what):
    folder = tmp_path / "runs"
    if what == "empty":
        folder.mkdir()
    elif what == "a file":
        folder.touch()
    with pytest.raises(TableError) as caught:
        added(folder)
    told = {"missing": "no such file or folder", "empty": "no runs here", "a file": "not a folder of runs"}
    assert str(caught.value) == f"{folder}: {told[what]}"
    assert list(tmp_path.rglob(CACHE)) == []


def test_a_missing_library_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"history needs missing packages: python -m pip install duckdb pyarrow$"):
        added(tmp_path)


def test_a_table_that_changes_while_it_is_read_is_not_added(tmp_path, monkeypatch):
    path = write_small(tmp_path, "one")
    write_small(tmp_path, "two")
    read = module.read_table

    def slow(table):
        if table.parent == path:
            os.utime(table, (1e9, 1e9))
        return read(table)

    monkeypatch.setattr(module, "read_table", slow)
    done = added(tmp_path)
    assert done.refused == (f"{path / 'results.csv'}: changed while it was read: add it again",)
    assert held(Store(tmp_path)) == {("a", "two"): [1.0]}


STEPS = ("survey", "_read", "write_atomically")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_what_another_writer_adds_at_any_moment_is_not_lost(tmp_path, step, after):
    """One adds a run while another one, which may not know it, is before or after each of its steps."""
    original = getattr(module, step)
    for n in itertools.count(1):
        folder = tmp_path / str(n)
        write_small(folder, "old")
        gone = write_small(folder, "gone", started_at="2001-02-01T00:00:00+00:00")
        added(folder)
        shutil.rmtree(gone)
        write_small(folder, "theirs", 2.0)

        def other(*given, folder=folder, **named):
            found = original(*given, **named) if after else None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, step, original)
                write_small(folder, "ours", 3.0)
                added(folder)
            return found if after else original(*given, **named)

        with pytest.MonkeyPatch.context() as patch:
            nth = Nth(original, n, other)
            patch.setattr(module, step, nth)
            added(folder)
        if nth.count < n:
            break
        assert held(Store(folder)) == truth(folder), n
        assert added(folder).new == 0
    assert n > 1


def test_two_processes_at_once_lose_nothing(tmp_path):
    for month in (1, 2, 3):
        write_run_of(tmp_path, "laptop", month)
    command = [sys.executable, "-m", "bench_core", "history", "add", "--rebuild", str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) for _ in range(2)]
    write_run_of(tmp_path, "laptop", 4)
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b""), out
    there = truth(tmp_path)
    now = held(Store(tmp_path))
    assert {run: now[run] for run in there if run in now} == now
    assert len(now) >= 3
    added(tmp_path)
    assert held(Store(tmp_path)) == there


def test_any_order_of_changes_and_additions_ends_with_the_truth(tmp_path):
    draw = random.Random(24)
    known = 0
    for turn in range(40):
        there = sorted(tmp_path.glob("a/*"))
        act = draw.choice(("write", "write", "edit", "remove", "add", "rebuild", "forget"))
        if act == "write" or not there:
            known += 1
            write_small(tmp_path, f"r{known}", 1.0 + turn, started_at=f"2001-{1 + known % 9:02}-01T00:00:00+00:00")
        elif act == "edit":
            edit(draw.choice(there), "SomeBLAS", f"S{turn}BLAS")
        elif act == "remove":
            shutil.rmtree(draw.choice(there))
        elif act == "forget":
            (the_cache(tmp_path) / "known.json").unlink(missing_ok=True)
        else:
            added(tmp_path, rebuild=act == "rebuild")
            assert held(Store(tmp_path)) == truth(tmp_path)
    assert known > 5
