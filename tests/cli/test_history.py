"""`bench-core history` from outside: one line for what is wrong, and exit codes."""

import csv
import io
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bench_core import files
from bench_core.cli import app
from bench_core.history import query as query_module
from bench_core.history import store
from tests.support.histories import every_file, parquet, write_small
from tests.support.planted_history import write_history
from tests.support.tables import measured, write


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    write_history(folder, months=(1, 6))
    return folder


def run(*arguments, **environ):
    done = CliRunner().invoke(app, ["history", *map(str, arguments)], env={"COLUMNS": "100", **environ})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def query(sql, *arguments):
    return run("query", sql, *arguments)


def test_runs_are_added_once(tmp_path):
    write_small(tmp_path, "one")
    assert [run("add", tmp_path).stdout for _ in range(2)] == [
        "Runs: 1 added, 0 already there\n",
        "Runs: 0 added, 1 already there\n",
    ]
    assert run("add", tmp_path, "--rebuild").stdout == "Runs: 1 added, 0 already there\n"


def test_the_folder_is_results_unless_another_one_is_given(tmp_path, monkeypatch):
    write_small(tmp_path / "results", "one")
    monkeypatch.chdir(tmp_path)
    assert run("add").stdout == "Runs: 1 added, 0 already there\n"
    assert query("SELECT run_id FROM runs").stdout.splitlines()[2:] == ["one"]


def test_a_damaged_run_is_one_line_with_exit_code_3_and_the_others_are_added(tmp_path):
    write_small(tmp_path, "one")
    (write_small(tmp_path, "two") / "run.json").write_text("{")
    done = run("add", tmp_path)
    assert (done.exit_code, done.stdout) == (3, "Runs: 1 added, 0 already there, 1 damaged\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench-core: {tmp_path / 'a' / 'two' / 'run.json'}: not JSON")
    assert line.endswith("the run is left out")
    asked = query("SELECT run_id FROM runs", tmp_path)
    assert (asked.exit_code, asked.stderr) == (0, done.stderr)
    assert asked.stdout.splitlines()[2:] == ["one"]


def test_a_run_that_did_not_end_is_a_note(tmp_path):
    write_small(tmp_path, "one")
    (tmp_path / "a" / "going").mkdir()
    (tmp_path / "a" / "going" / "journal.jsonl").write_text("{}")
    done = run("add", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "Runs: 1 added, 0 already there\n")
    assert done.stderr.startswith(f"Note: {tmp_path / 'a' / 'going'}: a run that did not end: finish it with")


def test_a_full_disk_is_one_line_and_without_adding_the_old_cache_answers(tmp_path, monkeypatch):
    write_small(tmp_path, "one")
    run("add", tmp_path)
    write_small(tmp_path, "two")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for done in (run("add", tmp_path), query("FROM runs", tmp_path)):
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "cannot be written: No space left on device; what was there is kept" in done.stderr
    assert query("SELECT run_id FROM runs", tmp_path, "--no-add").stdout.splitlines()[2:] == ["one"]


def test_an_answer_has_each_format(history, tmp_path):
    sql = (
        "SELECT machine, count(*) AS runs, any_value(nullif(git_commit, '')) AS missing FROM runs GROUP BY 1 ORDER BY 1"
    )
    table = query(sql, history).stdout.splitlines()
    assert table[0].split() == ["machine", "runs", "missing"]
    assert [line.split() for line in table[2:]] == [["desk", "2"], ["laptop", "2"]]
    expected = [{"machine": name, "runs": 2, "missing": None} for name in ("desk", "laptop")]
    assert json.loads(query(sql, history, "--format", "json").stdout) == expected
    rows = list(csv.DictReader(io.StringIO(query(sql, history, "--format", "csv").stdout)))
    assert rows == [{"machine": name, "runs": "2", "missing": ""} for name in ("desk", "laptop")]
    for name in ("a.json", "a.csv", "a.parquet", "a.txt"):
        done = query(sql, history, "-o", tmp_path / name)
        assert (done.exit_code, done.output) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text()) == expected
    assert list(csv.DictReader((tmp_path / "a.csv").open(newline=""))) == rows
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == expected
    assert (tmp_path / "a.txt").read_text().splitlines() == table


def test_a_terminal_gets_the_first_hundred_rows_and_a_file_all(history, tmp_path):
    sql = "SELECT i FROM range(150) t(i) ORDER BY i"
    done = query(sql, history)
    assert (len(done.stdout.splitlines()), done.stderr) == (102, "The first 100 rows: --limit 0 shows all\n")
    for given in (["--limit", "0"], ["--limit", "150"]):
        done = query(sql, history, *given)
        assert (len(done.stdout.splitlines()), done.stderr) == (152, "")
    assert len(json.loads(query(sql, history, "--format", "json").stdout)) == 150
    assert len(json.loads(query(sql, history, "--format", "json", "--limit", "7").stdout)) == 7
    query(sql, history, "-o", tmp_path / "a.txt")
    assert len((tmp_path / "a.txt").read_text().splitlines()) == 152


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("SELECT 1 FRM x",), 'the query: Parser Error: syntax error at or near "x"'),
        (("DROP VIEW rows",), "the query: one SELECT is asked for, not DROP"),
        (("SELECT 1", "--format", "parquet"), "--format parquet: give --output, because a terminal cannot show it"),
        (
            ("SELECT 1", "--format", "jsno"),
            "--format: no 'jsno'; did you mean 'json'? available: table, csv, json, parquet",
        ),
        (("SELECT 1", "-o", "a.xlsx"), "--output a.xlsx: name it .csv, .json, .parquet or .txt, or give --format"),
    ],
)
def test_what_is_wrong_is_one_line_with_exit_code_2(history, given, told):
    sql, *options = given
    done = query(sql, history, *options)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"bench-core: {told}\n")


def test_no_file_of_a_run_or_the_cache_is_overwritten(history):
    run("add", history)

    def files():
        """Return all files but that of the digests: it grows once the tables are some seconds old."""
        return {path: content for path, content in every_file(history).items() if path.name != "known.json"}

    before = files()
    assert {path.suffix for path in before} >= {".csv", ".json", ".parquet"}
    for suffix in (".csv", ".json", ".parquet"):
        path = min(path for path in before if path.suffix == suffix)
        done = query("SELECT 1", history, "-o", history / path)
        told = "is in the cache of the history" if suffix == ".parquet" else "is one of the files to read"
        assert (done.exit_code, told in done.stderr) == (2, True)
    done = query("SELECT 1", history, "-o", history / ".bench-core-history" / "new.csv")
    assert (done.exit_code, "is in the cache of the history" in done.stderr) == (2, True)
    assert files() == before


def test_what_is_not_there_is_one_line_with_exit_code_3(tmp_path):
    for done in (run("add", tmp_path / "no"), query("SELECT 1", tmp_path / "no"), run("add", tmp_path)):
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    done = query("SELECT 1", tmp_path, "--no-add")
    assert (done.exit_code, done.stderr) == (
        2,
        f"bench-core: {tmp_path}: no runs in the history: `bench-core history add` adds them\n",
    )


def planted(folder, values, machine="a"):
    """Write a run a day of one case."""
    for i, value in enumerate(values):
        write_small(folder, f"run{i:02}", value, machine, started_at=f"2001-01-{i + 1:02}T00:00:00+00:00")
    return folder


WOBBLE = [1 + 0.001 * (i % 2) for i in range(26)]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("steady"), WOBBLE)


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("slower"), [w * (1.3 if i >= 20 else 1.0) for i, w in enumerate(WOBBLE)])


def test_show_tells_the_step_of_a_series(slower):
    done = run("show", slower)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1 step, +30.0 % worse: a matmul" in done.stdout
    assert "2001-01-21" in done.stdout


def test_without_the_extra_the_tables_are_read_and_the_same_is_shown(slower, monkeypatch):
    expected = run("show", slower, "--format", "json").stdout
    monkeypatch.setattr(store, "absent", lambda: ["duckdb"])
    monkeypatch.setattr(query_module, "_connected", None)
    assert run("show", slower, "--format", "json").stdout == expected


def test_two_computers_that_have_one_name_are_kept_apart_with_the_extra_and_without(tmp_path, monkeypatch):
    """Else each run would break the series of the other."""
    for i in range(4):
        known = {"run_id": f"run{i}", "started_at": f"2001-01-0{i + 1}T00:00:00+00:00"}
        facts = {
            "cpu.model": f"CPU {i % 2}",
            "cpu.identity": "1e5",  # a text, though it looks like a number
            "memory.total": (64 + i % 2) << 30,  # as if the kernel had taken a part: no difference
            "cpu.cores": 8 + i % 2,
        }
        host = {name: {"value": value, "source": "planted"} for name, value in facts.items()}
        done = [replace(m, env_id=f"e{i % 2}", device_name="") for m in [measured([1.0] * 3)]]
        write(tmp_path, done, "box", {"environment": {"host": host, "workers": {}}}, **known)
    cached = run("show", tmp_path, "--format", "json")
    assert cached.stderr.startswith("Note: box is the name of 2 computers (cpu.cores: 8 against 9; cpu.model: CPU 0")
    found = json.loads(cached.stdout)["series"]
    assert [series["machine"] for series in found] == ["box", "box:2"]
    assert [[point["run_id"] for point in series["points"]] for series in found] == [["run0", "run2"], ["run1", "run3"]]
    assert not any(series["events"] for series in found)
    assert "1 series" in run("show", tmp_path, "--filter", "machine == 'box:2'").stdout
    monkeypatch.setattr(store, "absent", lambda: ["duckdb"])
    read = run("show", tmp_path, "--format", "json")
    assert (read.stdout, read.stderr) == (cached.stdout, cached.stderr)


@pytest.mark.parametrize(
    "given", [(), ("--format", "csv"), ("--format", "json"), ("--format", "md"), ("-o", "out.txt")]
)
def test_a_new_regression_ends_with_exit_code_1_and_is_named_in_every_format(slower, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("show", slower, "--fail-on", "new-regression", *given)
    assert done.exit_code == 1
    said = done.stderr if given else done.stdout
    assert "FAILED new-regression: a matmul" in said
    assert "+30.0 % worse since 2001-01-21" in said
    assert (given[:1] == ("-o",)) == (tmp_path / "out.txt").is_file()


def test_a_steady_history_passes_and_a_short_one_is_undecided(steady, tmp_path):
    done = run("show", steady, "--fail-on", "new-regression")
    assert (done.exit_code, "passed new-regression: none in 1 series" in done.stdout) == (0, True)
    done = run("show", planted(tmp_path, WOBBLE[:9]), "--fail-on", "new-regression", "--format", "csv")
    assert (done.exit_code, done.stderr.startswith("bench-core: UNDECIDED new-regression: no series has")) == (5, True)


def test_only_the_series_that_pass_the_filter_and_of_the_metric_are_shown(history):
    done = run("show", history, "--filter", "machine == 'laptop' and backend == 'torch'")
    assert "2 series of time of 1 machine, 2 runs each" in done.stdout
    assert "desk" not in done.stdout
    assert "series of energy of 1 machine" in run("show", history, "--metric", "energy").stdout


def test_show_writes_a_file_by_its_extension_and_over_no_file_of_a_run(slower, tmp_path):
    for name, start in (("a.md", "### Verdict"), ("a.csv", "machine,"), ("a.json", "{"), ("a.txt", "Verdict")):
        done = run("show", slower, "-o", tmp_path / name)
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / name).read_text().startswith(start)
    done = run("show", slower, "-o", slower / "a" / "run00" / "results.csv")
    assert (done.exit_code, "is one of the files to read" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--metric", "tim"), "--metric: no metric 'tim'; did you mean 'time'?"),
        (("--metric", "gpu_temperature"), "--metric: gpu_temperature has no relative changes: ratios of"),
        (("--fail-on", "regression"), "--fail-on: no 'regression'; did you mean 'new-regression'?"),
        (("--filter", "status == 'ok'"), "--filter: no column 'status'; available: machine,"),
        (("--filter", "machine == 'b'"), "{}: no series of time passes --filter"),
        (("--metric", "energy"), "{}: no series of energy"),
        (("--format", "parquet"), "--format: no 'parquet'; available: table, md, csv, json"),
        (("-o", "a.html"), "--output a.html: name it .md, .csv, .json or .txt, or give --format"),
    ],
)
def test_what_show_is_not_asked_rightly_is_one_line_with_exit_code_2(steady, given, told):
    done = run("show", steady, *given)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"bench-core: {told.format(steady)}")


def test_a_mistyped_command_is_told_the_nearest():
    done = run("qurey")
    assert (done.exit_code, done.stderr) == (
        2,
        "bench-core: no command 'qurey'; did you mean 'query'? available: add, show, query\n",
    )


def test_no_text_of_a_query_reaches_the_terminal_raw(history):
    evil = "SELECT chr(27) || ']0;x' || chr(8238) AS \"a\x1b[31m\", error('\x1b[31m') AS b"
    for sql in (evil, evil.partition(", error")[0]):
        for given in ((), ("--format", "csv"), ("--format", "json")):
            said = query(sql, history, *given).output
            assert said
            assert not {"\x1b", "\u202e"} & set(said)
