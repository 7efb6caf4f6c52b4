"""Whatever may be wrong with a table from elsewhere is said in one line, and nothing of it is guessed."""

import csv
import errno
import io
import os
import shutil
import warnings
from dataclasses import replace

import pandas as pd
import pytest

from bench_core import load
from bench_core.errors import TableError
from bench_core.results import reader
from bench_core.results.reader import read_rows
from bench_core.results.schema import COLUMNS, IDENTITY, KINDS
from bench_core.results.strict_csv import Csv
from bench_core.results.writer import results_text
from tests.support.table_files import complaint, good_table, spoil  # noqa: F401 - a fixture
from tests.support.tables import absent, processes, reading, work, write

WIDTH = len(COLUMNS)


def line(number, change):
    """Change one line (counted from 1) of a text."""

    def spoiled(text):
        lines = text.split("\n")
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines)

    return spoiled


def cells(number, **changed):
    """Change cells of one line."""

    def change(text):
        lines = list(csv.DictReader(io.StringIO(text)))
        for name, value in changed.items():
            lines[number - 2][name] = value
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: "", ":1: the file is empty"),
        (lambda t: "\n \n", ":1: the file is empty"),
        (lambda t: ",,,\n", ":1: the file is empty"),
        (lambda t: "sep=,\n , \n", ":1: the file is empty"),
        (line(2, lambda s: s + ",extra"), f":2: {WIDTH + 1} cells where the header has {WIDTH}"),
        (line(3, lambda s: s.rpartition(",")[0]), f":3: {WIDTH - 1} cells where the header has {WIDTH}"),
        (lambda t: t[: len(t) - 60], "; the file may be cut off"),
        (lambda t: t[: len(t) // 3].rpartition("\n")[0] + '\n"half a', ":2: unexpected end of data"),
        (line(1, lambda s: s.replace("case_id", "machine")), ":1: column 'case_id' is missing: not this table"),
        (line(1, lambda s: s + ",machine"), ":1: column 'machine' appears twice"),
        (line(1, lambda s: s.replace("case_id", "id")), ":1: column 'case_id' is missing: not this table, or damaged"),
        (lambda t: "a,a\n1,2\n", ":1: none of the columns of this table is here, such as 'schema_version'"),
        (lambda t: t.partition("\n")[2], ":1: the header is missing: the first line of the table must name"),
        (lambda t: f"Results of today\n\n{t}", ":1: the header is on line 3: move it to the first line"),
        (lambda t: "# a comment\n" + t.replace(",", ";"), ":1: the header is on line 2: move it to the first line"),
        (lambda t: "\n".join(sorted(t.splitlines())) + "\n", ":1: the header is on line 3: move it to the first line"),
        (line(1, lambda s: s.replace("_version", "_v")), ":1: column 'schema_version' is missing (and 2 more): not"),
        (lambda t: t + t, ":4: a second header: pass the files one by one, do not join them"),
        (line(2, lambda s: f"<<<<<<< HEAD\n{s}\n=======\n{s}\n>>>>>>> other"), ":2: a merge conflict marker"),
        (line(3, lambda s: s.replace("numpy", "num\0py")), ":3: holds a NUL byte: damaged, or not text"),
        (line(3, lambda s: s.replace("numpy", "n" * 200_000)), ":3: field larger than field limit (131072)"),
        (line(2, lambda s: "9" + s[1:]), ":2: schema version 9: this bench-core reads up to 1"),
        (line(3, lambda s: "0" + s[1:]), ":3: schema version 0 among rows of version 1"),
        (line(2, lambda s: s[1:]), ":2: the schema version is empty"),
        (lambda t: "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ":1: a Git LFS pointer"),
        (lambda t: "<!DOCTYPE html><html></html>", ":1: an HTML page, not a table"),
        (lambda t: '{"rows": []}', ":1: JSON, not a table"),
        (cells(3, value="-inf"), ":3: column 'value' holds '-inf': not a finite number"),
        (cells(2, machine=""), ":2: column 'machine' is empty"),
        (cells(3, value="1e999"), ":3: column 'value' holds '1e999': not a finite number"),
        (cells(2, value="1,5"), ":2: column 'value' holds '1,5': not a number: decimals are written with a point"),
        (cells(2, git_dirty="unknown"), ":2: column 'git_dirty' holds 'unknown': neither true nor false"),
        (cells(2, value="1_000"), ":2: column 'value' holds '1_000': not a number"),
        (cells(2, status="ok "), ":2: column 'status' holds 'ok ', which is none of: ok, "),
        (cells(2, threads="  "), ":2: column 'threads' holds '  ': not an integer"),
        (cells(2, value="\x1b[31m1"), r":2: column 'value' holds '\x1b[31m1': not a number"),
        (cells(3, n="1.5"), ":3: column 'n' holds '1.5': not an integer"),
        (cells(3, n="1.23E+05"), ":3: column 'n' holds '1.23E+05': not an integer, perhaps rounded by a spreadsheet"),
        (cells(3, n="9007199254740993.0"), ":3: column 'n' holds '9007199254740993.0': not an integer"),
        (cells(3, n="9" * 25), ":3: column 'n' holds '9999999999999999999999999': not an integer"),
        (cells(3, n="\uff19"), ":3: column 'n' holds '\uff19': not an integer"),
        (cells(3, git_dirty="maybe"), ":3: column 'git_dirty' holds 'maybe': neither true nor false"),
        (cells(3, status="fine"), ":3: column 'status' holds 'fine', which is none of: ok, skipped"),
        (cells(3, better="faster"), ":3: column 'better' holds 'faster', which is none of: lower, higher"),
        (cells(2, case_id=""), ":2: column 'case_id' is empty"),
        (cells(2, clock="\x1b]0;\x07"), r":2: column 'clock' holds '\x1b]0;\x07', which is none of: (empty), wall, "),
        (cells(2, scope="<b>"), ":2: column 'scope' holds '<b>', which is none of: resident, end_to_end"),
        (cells(2, cache=""), ":2: column 'cache' is empty"),
        (cells(2, unit="s\n## Verdict"), r":3: column 'unit' holds 's ## Verdict', which is not a unit"),
        (lambda t: t + line(2, lambda s: s + "0")(t).splitlines()[1] + "\n", ":4: two different rows for "),
        (cells(3, unit="@someone"), ":3: column 'unit' holds '@someone', which is not a unit"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(good, change, said):
    spoil(good, change)
    assert said in complaint(good)


def test_neither_a_warning_nor_an_error_shows_a_path_raw(good, tmp_path):
    """Of every kind: a link, what the reader and the format warn of, a table that is none."""
    folder = tmp_path / "a\x1b]0;owned\x07\u202eb"
    (folder / "run").mkdir(parents=True)
    (folder / "link").symlink_to(good)
    table = folder / "run" / "results.csv"
    lines = good.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},new", *(f"{line},1" for line in [*lines[1:], lines[-1]])]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(folder)
        table.write_text("nothing")
        with pytest.raises(TableError) as refused:
            load(folder)
    said = [str(warning.message) for warning in caught] + [str(refused.value)]
    expected = ("symbolic link", "no line feed", "does not know: new", "counted once", "none of the columns")
    assert [text for text in expected if not any(text in message for message in said)] == []
    assert all(message.isprintable() and r"a\x1b]0;owned\x07\u202eb" in message for message in said)


def test_bytes_that_are_no_text_are_named_by_line(good):
    good.write_bytes(good.read_bytes().replace(b"numpy", b"n\xffmpy", 1))
    assert complaint(good) == ":2: is not UTF-8 text: save it as UTF-8"
    good.write_bytes("a,b".encode("utf-16") + b"c")
    assert complaint(good) == ":1: is not UTF-16 text: save it as UTF-8"
    good.write_bytes("a,b".encode("utf-16-le"))
    assert complaint(good) == ":1: looks like UTF-16 without a byte order mark: save it as UTF-8"


def test_paths_that_are_no_table_are_named(tmp_path):
    assert complaint(tmp_path / "nothing.csv") == ": no such file or folder"
    assert complaint(tmp_path) == ": not a file"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert complaint(pipe) == ": not a file"


def test_what_a_spreadsheet_changes_without_harm_is_read(good):
    """A byte order mark, CR LF, capital booleans, blank lines, no last line feed: nothing is lost."""
    rows = read_rows(good)
    spoil(good, lambda t: "\ufeff" + t.replace(",false,", ",FALSE,").replace("\n", "\r\n") + "\r\n\r\n")
    assert read_rows(good) == rows
    spoil(good, lambda t: t.strip())
    with pytest.warns(UserWarning, match=r"t\.csv:3: the last line has no line feed: the file may be cut off"):
        assert read_rows(good) == rows


@pytest.mark.parametrize(
    ("word", "truth"),
    [("True", True), ("1", True), ("1.0", True), ("FALSE", False), ("0", False), ("t", True), ("f", False)],
)
def test_truths_are_read_as_pandas_spreadsheets_and_databases_write_them(good, word, truth):
    spoil(good, cells(2, git_dirty=word))
    assert [row.git_dirty for row in read_rows(good)] == [truth, None]


def test_columns_in_another_order_are_read(good):
    rows = read_rows(good)
    pd.read_csv(good, dtype=str, keep_default_na=False)[list(reversed(COLUMNS))].to_csv(good, index=False)
    assert read_rows(good) == rows


def test_a_word_for_a_missing_value_stays_where_it_may_be_a_name(good):
    """NA is Namibia, and null may be a machine; what is no text of this program's own is never so called."""
    named = {"machine": "NA", "device_type": "null", "size": "none"}
    missing = {"threads": "NA", "std": "NaN", "git_dirty": "NULL", "reason": "NA", "flags": "null", "library": r"\N"}
    spoil(good, cells(2, **named, **missing))
    (row, _) = read_rows(good)
    assert {name: getattr(row, name) for name in named} == named
    assert (row.threads, row.std, row.git_dirty, row.reason, row.flags, row.library) == (None, None, None, "", "", "")


def test_a_row_that_contradicts_another_is_refused_with_both_lines_and_the_first_difference(good):
    second = good.read_text().splitlines()[1]
    spoil(good, lambda t: t + cells(2, value="7.5", mean="8.5")(t).splitlines()[1] + "\n")
    value = second.split(",")[COLUMNS.index("value")]
    assert complaint(good).startswith(":4: two different rows for matmul 64 float32 numpy cpu ")
    assert complaint(good).endswith(f", on lines 2 and 4: value is '{value}' and '7.5'")


def test_unknown_columns_are_kept_and_warned_of(good):
    frame = pd.read_csv(good, dtype=str, keep_default_na=False)
    frame["later"] = "x"
    frame.to_csv(good, index=False)
    with pytest.warns(UserWarning, match=r"t\.csv:1: columns that this version does not know: later"):
        assert load(good)["later"].tolist() == ["x", "x"]


@pytest.mark.parametrize("lost", ["", "NA", "nan"])
def test_a_value_that_was_lost_is_noted_with_its_line_and_costs_no_other_row(good, lost):
    rows = read_rows(good)
    spoil(good, cells(3, value=lost))
    with pytest.warns(UserWarning, match=r"t\.csv:3: column 'value' holds no number, although the status is ok$"):
        read = read_rows(good)
    assert read == [rows[0], replace(rows[1], value=None)]
    assert not read[1].has_value


def test_a_row_that_occurs_twice_is_counted_once_and_its_lines_are_named(good):
    rows, text = read_rows(good), good.read_text()
    good.write_text(text + "".join(text.splitlines(keepends=True)[1:]))
    said = r"t\.csv: the same row on lines 2 and 4, and 1 more such pairs: counted once"
    with pytest.warns(UserWarning, match=said):
        assert read_rows(good) == rows


# ---------------------------------------------------------------- frames


def test_a_missing_text_is_empty_and_a_missing_number_is_na(tmp_path):
    """A column of text that only one of two files has, too."""
    write(tmp_path, [*processes([1.0]), absent()], "a")
    other = write(tmp_path, processes([1.0], replace(work(), params=())), "b") / "results.csv"
    pd.read_csv(other, dtype=str, keep_default_na=False).assign(later="x").to_csv(other, index=False)
    with pytest.warns(UserWarning, match="does not know: later"):
        rows = load(tmp_path)
    texts = [name for name in rows if rows[name].dtype == "string"]
    assert {"params", "flags", "status", "reason", "later"} <= set(texts)
    assert not rows[texts].isna().to_numpy().any()
    assert rows.query("machine == 'b'")["params"].eq("").all()
    assert rows.query("machine == 'a'")["later"].eq("").all()
    assert rows.query("status == 'oom'")["value"].isna().all()
    assert rows.query("status == 'ok'")["value"].notna().all()


@pytest.mark.parametrize("files", [1, 2])
def test_unknown_columns_cost_no_array_each(tmp_path, monkeypatch, files):
    """20,000 columns took 8 seconds."""
    paths = []
    for i in range(files):
        paths.append(tmp_path / f"{i}.csv")
        paths[i].write_text(results_text(reading(processes([1.0]), run_id=f"r{i}").rows))
    header, *lines = paths[0].read_text().splitlines()
    calls = []
    for name in ("array", "Series"):
        make = getattr(pd, name)
        monkeypatch.setattr(pd, name, lambda *a, make=make, **known: calls.append(1) or make(*a, **known))

    def made_for(count):
        names = "".join(f",c{i}" for i in range(count))
        paths[0].write_text("\n".join([header + names, *(line + ",x" * count for line in lines), ""]))
        calls.clear()
        with pytest.warns(UserWarning, match="does not know: c0"):
            frame = load(paths)
        shown = frame[f"c{count - 1}"]
        assert (str(shown.dtype), shown.tolist()) == (
            "string",
            [*("x" for _ in lines), *[""] * (len(frame) - len(lines))],
        )
        return len(calls)

    assert made_for(3) == made_for(300)


def test_a_frame_has_a_numeric_size_and_may_be_written_and_read_again(tmp_path):
    sizes = ["64KiB", "16MiB-pinned", "96x1024x64", "gpt2-up"]
    write(tmp_path, [m for size in sizes for m in processes([1.0], replace(work(), size=size))])
    rows = load(tmp_path)
    assert list(rows) == [*COLUMNS, "size_value"]
    values = rows.drop_duplicates("size").set_index("size")["size_value"]
    assert str(values.dtype) == "Float64"
    assert [values[size] for size in sizes[:3]] == [65536.0, 2.0**24, 96.0]
    assert values["gpt2-up"] is pd.NA
    written = tmp_path / "mine.csv"
    rows.assign(size_value=0.0).to_csv(written, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(load(written), rows)
        assert read_rows(written) == read_rows(tmp_path / "a" / "run-a" / "results.csv")


# ---------------------------------------------------------------- folders


def test_links_inside_a_folder_are_not_followed(tmp_path):
    """A folder from somebody else must not choose which files of this machine are read."""
    secret = write(tmp_path / "elsewhere", processes([1.0]), "secret")
    write(tmp_path / "given", processes([1.0]), "a")
    (tmp_path / "given" / "b").mkdir()
    (tmp_path / "given" / "b" / "results.csv").symlink_to(secret / "results.csv")
    (tmp_path / "given" / "c").symlink_to(secret, target_is_directory=True)
    (tmp_path / "given" / "loop").symlink_to(tmp_path / "given", target_is_directory=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = reader.find_results(tmp_path / "given")
    assert [path.parts[-3] for path in found] == ["a"]
    assert sum("is not followed" in str(w.message) for w in caught) == 3
    assert reader.find_results(tmp_path / "given" / "c") == [tmp_path / "given" / "c" / "results.csv"]


def test_unfinished_runs_are_read_only_where_they_are_named(tmp_path):
    """They would be pooled in silence with the runs that were merged."""
    done = write(tmp_path, processes([1.0]), "a") / "results.csv"
    parts = [write(tmp_path / "unfinished" / "s" / name, processes([1.0])) / "results.csv" for name in ("000", "001")]
    assert reader.find_results(tmp_path) == [done]
    assert reader.find_results(tmp_path / "unfinished") == parts
    assert reader.find_results(parts[0].parent) == parts[:1]
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(TableError) as caught:
        reader.find_results(tmp_path)
    left_out = f"{tmp_path}/unfinished: read only if the path names it"
    assert str(caught.value) == f"{tmp_path}: no results.csv here; {left_out}"


def test_a_folder_without_tables_is_an_error(tmp_path):
    with pytest.raises(TableError, match=r"no results\.csv here$"):
        reader.find_results(tmp_path)
    (tmp_path / "results.csv.gz").touch()
    with pytest.raises(TableError, match=r"here; .*results\.csv\.gz: unpack it, or name it$"):
        reader.find_results(tmp_path)
    (tmp_path / "results.csv.gz").rename(tmp_path / "samples.csv")
    with pytest.raises(TableError, match=r"no results\.csv here; .*: samples\.csv of a run without its table$"):
        reader.find_results(tmp_path)
    (tmp_path / "samples.csv").unlink()
    (tmp_path / "h100.csv").touch()
    with pytest.raises(TableError) as caught:
        reader.find_results(tmp_path)
    name_them = f"to read single tables, name them: {tmp_path}/*.csv"
    assert str(caught.value) == f"{tmp_path}: no results.csv here; {name_them}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("journal.jsonl", "{folder}: a run that did not end: finish it with `bench-core run --resume '{folder}'`"),
        ("run.json", "{folder}: run.json of a run without its table"),
        ("results.CSV", "{folder}/results.CSV: rename it to results.csv, or name it"),
        ("RESULTS.csv.XZ", "{folder}/RESULTS.csv.XZ: unpack it, or name it"),
    ],
)
def test_what_a_folder_has_of_a_run_instead_of_a_table_is_named(tmp_path, name, said):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / name).touch()
    for path in (tmp_path, folder):
        with pytest.raises(TableError) as caught:
            reader.find_results(path)
        assert str(caught.value) == f"{path}: no results.csv here; {said.format(folder=folder)}"


def test_a_packed_table_in_one_of_two_folders_is_not_left_out_in_silence(tmp_path):
    write(tmp_path, processes([1.0]), "a")
    (tmp_path / "a" / "run-a" / "results.csv.gz").touch()  # beside the table it is another copy
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.csv.gz").touch()
    with pytest.warns(UserWarning, match=r"b/results\.csv\.gz: unpack it, or name it$") as caught:
        assert len(reader.find_results(tmp_path)) == 1
    assert len(caught) == 1


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """The refusal is injected: no folder is closed to root."""
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for path in (tmp_path, closed):
        with pytest.raises(TableError) as caught:
            reader.find_results(path)
        assert str(caught.value) == f"{path}: no results.csv here; {closed}: cannot be read: Permission denied"
    write(tmp_path, processes([1.0]), "a")
    with pytest.warns(UserWarning, match=f"^{closed}: cannot be read: Permission denied$"):
        assert len(reader.find_results(tmp_path)) == 1


def test_of_several_rows_that_contradict_others_the_first_in_the_file_is_named(good):
    """It differs in a later column than the second one does."""
    header, *lines = good.read_text().splitlines()
    later = lines[0].split(",")
    later[header.split(",").index("reason")] = "x"
    sooner = lines[1].split(",")
    sooner[header.split(",").index("started_at")] = "2026"
    good.write_text("\n".join([header, *lines, ",".join(later), ",".join(sooner), ""]))
    assert f"lines 2 and {len(lines) + 2}: reason is '' and 'x'" in complaint(good)


def test_rows_are_told_apart_without_looking_at_more_columns_than_it_takes(good, monkeypatch):
    """They are told apart by columns of few distinct texts, never by those of numbers."""
    asked = []
    coded = Csv.coded
    monkeypatch.setattr(Csv, "coded", lambda table, name: asked.append(name) or coded(table, name))
    monkeypatch.setattr(Csv, "texts", lambda table, name: pytest.fail(name))
    read_rows(good)
    assert set(IDENTITY) <= set(asked)
    assert not {name for name in asked if KINDS[name] is float}
