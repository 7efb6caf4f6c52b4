"""A query sees the rows and runs of a folder and nothing else of this machine, and changes nothing."""

import os
import shutil
import signal
import threading

import pytest

from bench_core.errors import TableError, UsageError
from bench_core.history import query
from bench_core.history.query import SERIES, History
from bench_core.history.store import VERSION, Store
from bench_core.render import answer_csv
from bench_core.results.schema import CACHE
from tests.support.histories import added, every_file, parquet, truth, write_small
from tests.support.planted_history import write_history


@pytest.fixture
def folder(tmp_path):
    write_small(tmp_path / "runs", "one", 1.0)
    write_small(tmp_path / "runs", "two", 2.0, "b", started_at="2001-02-01T00:00:00+00:00")
    added(tmp_path / "runs")
    return tmp_path / "runs"


def asked(folder, sql, limit=None):
    with History(Store(folder)) as opened:
        return opened.ask(sql, limit)


def test_the_views_hold_all_rows_and_runs(folder):
    found = asked(folder, "SELECT machine, run_id, value FROM rows WHERE metric = 'time' ORDER BY ALL").rows()
    assert {(machine, run): [value] for machine, run, value in found} == truth(folder)
    runs = asked(
        folder, "SELECT run_id, month, started_at < TIMESTAMP '2001-01-15', rows, facts FROM runs ORDER BY ALL"
    )
    assert runs.rows() == [("one", "2001-01", True, 2, {}), ("two", "2001-02", False, 2, {})]
    assert runs.names[:2] == ("run_id", "month")
    assert asked(folder, "SHOW TABLES").rows() == [("rows",), ("runs",)]


def test_a_limit_cuts_and_says_so(folder):
    assert [asked(folder, "FROM range(3)", limit).is_cut for limit in (2, 3, None)] == [True, False, False]
    assert asked(folder, "FROM range(3) t(i) ORDER BY i DESC", 2).rows() == [(2,), (1,)]
    nothing = asked(folder, "SELECT value FROM rows WHERE false", 2)
    assert (nothing.names, nothing.rows(), nothing.is_cut) == (("value",), [], False)
    assert asked(folder, "SELECT 1 AS a, 2 AS a", 5).rows() == [(1, 2)]


# What a query must not do; {secret}: a file beside the folder, {own}: a file of the cache, {out}: one to be written.
FORBIDDEN = {
    "SELECT * FROM read_csv('{secret}')": "file system operations are disabled",
    "SELECT * FROM '{secret}'": "file system operations are disabled",
    "SELECT * FROM read_text('{secret}')": "file system operations are disabled",
    "SELECT * FROM read_blob('{secret}')": "file system operations are disabled",
    "SELECT * FROM read_json('{secret}')": "file system operations are disabled",
    "SELECT * FROM read_parquet('{copy}')": "file system operations are disabled",
    "SELECT * FROM parquet_metadata('{copy}')": "file system operations are disabled",
    "SELECT * FROM sniff_csv('{secret}')": "file system operations are disabled",
    "SELECT * FROM query_table('{secret}')": "file system operations are disabled",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')": "file system operations are disabled",
    "SELECT * FROM glob('{folder}/*')": "file system operations are disabled",
    "SELECT * FROM read_text('{own}/../../../../../../secret.csv')": "file system operations are disabled",
    "SELECT * FROM read_csv('https://example.com/a.csv')": "file system operations are disabled",
    "SELECT * FROM read_parquet('s3://bucket/a.parquet')": "file system operations are disabled",
    "SELECT getenv('HOME')": "getenv does not exist",
    "SELECT * FROM folder": "Table with name folder does not exist",
    "COPY (SELECT 1) TO '{out}'": "one SELECT is asked for, not COPY",
    "COPY (SELECT 1) TO '{own}'": "one SELECT is asked for, not COPY",
    "EXPORT DATABASE '{out}'": "one SELECT is asked for, not EXPORT",
    "ATTACH '{out}'": "one SELECT is asked for, not ATTACH",
    "INSTALL httpfs": "one SELECT is asked for, not LOAD",
    "LOAD httpfs": "one SELECT is asked for, not LOAD",
    "SET threads = 1": "one SELECT is asked for, not SET",
    "SET enable_external_access = true": "one SELECT is asked for, not SET",
    "RESET allowed_paths": "one SELECT is asked for, not SET",
    "PRAGMA threads = 1": "one SELECT is asked for, not",
    "CALL pragma_version()": "one SELECT is asked for, not CALL",
    "CREATE TABLE t AS SELECT 1": "one SELECT is asked for, not CREATE",
    "CREATE SECRET (TYPE s3)": "one SELECT is asked for, not",
    "DROP VIEW rows": "one SELECT is asked for, not DROP",
    "DELETE FROM rows": "one SELECT is asked for, not DELETE",
    "INSERT INTO runs SELECT * FROM runs": "one SELECT is asked for, not INSERT",
    "WITH x AS (INSERT INTO runs SELECT * FROM runs RETURNING *) SELECT * FROM x": "",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'": "one SELECT is asked for, not EXPLAIN",
    "SELECT 1; COPY (SELECT 1) TO '{out}'": "one SELECT is asked for, not 2 statements",
    "": "one SELECT is asked for, not 0 statements",
    "-- nothing": "one SELECT is asked for, not 0 statements",
    "UPDATE EXTENSIONS": "one SELECT is asked for, not another kind of statement",  # of which Python has no name
    "SELECT '\udcff'": r"is not UTF-8: SELECT '\udcff'",  # as Python reads such a byte in the command line
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{secret}'')'))": (
        "file system operations are disabled"
    ),
    "SELECT * FROM enable_logging('HTTP', storage = 'file', storage_config = {{'path': '{out}'}})": "locked",
    "SELECT * FROM copy_database('memory', 'x')": "does not exist",
}


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_query_reads_no_other_file_writes_nothing_and_sets_nothing(folder, tmp_path, sql, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret, copy, own = tmp_path / "secret.csv", tmp_path / "copy.parquet", Store(folder).parts()[0].rows
    secret.write_text("secret\n1\n")
    shutil.copy(own, copy)
    names = {"secret": secret, "copy": copy, "own": own, "out": tmp_path / "out", "folder": folder}
    before = every_file(tmp_path)
    with History(Store(folder)) as opened:
        with pytest.raises(UsageError) as caught:
            opened.ask(sql.format(**names))
        assert FORBIDDEN[sql] in str(caught.value)
        assert str(caught.value).startswith("the query: ")
        assert "\n" not in str(caught.value)
        assert opened.ask("SELECT count(*) FROM runs").rows() == [(2,)]
    assert every_file(tmp_path) == before


def test_the_settings_are_locked_under_the_check_of_statements(folder):
    """Each of the two guards holds without the other one."""
    duckdb = pytest.importorskip("duckdb")
    with History(Store(folder)) as opened:
        connection = opened._connection
        for sql in ("SET enable_external_access = true", "SET allowed_paths = ['/']", "RESET allowed_paths"):
            with pytest.raises(duckdb.Error, match="configuration has been locked"):
                connection.execute(sql)
        for sql in ("COPY (SELECT 1) TO '{}'", "ATTACH '{}'", "EXPORT DATABASE '{}'"):
            with pytest.raises(duckdb.Error, match="file system operations are disabled"):
                connection.execute(sql.format(folder / "out"))
        for sql in ("INSTALL httpfs", "LOAD httpfs"):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)
        asked_for = "autoload_known_extensions autoinstall_known_extensions allow_unsigned_extensions "
        asked_for += "python_enable_replacements temp_directory"
        settings = [connection.sql(f"SELECT current_setting('{name}')").fetchall()[0][0] for name in asked_for.split()]
        assert settings == [False, False, False, False, ""]


def test_an_error_is_one_line_that_names_it(folder):
    for sql, told in (
        ("SELECT 1 FRM x", 'the query: Parser Error: syntax error at or near "x"'),
        ("SELECT valeu FROM rows", 'the query: Binder Error: Referenced column "valeu" not found in FROM clause!'),
        ("SELECT error('a\x1b[31m\nb')", "the query: Invalid Input Error: a\\x1b[31m b"),
        ("SELECT run_id::INT FROM runs", "the query: Conversion Error: Could not convert string 'one' to INT32"),
    ):
        with pytest.raises(UsageError) as caught:
            asked(folder, sql)
        assert str(caught.value).startswith(told)
        assert "LINE" not in str(caught.value)


@pytest.mark.parametrize("sql", ["SELECT date 'infinity'", "SELECT timestamp 'infinity'", "SELECT map{[1]: 2}"])
def test_a_value_without_a_type_in_python_is_refused(folder, sql):
    with pytest.raises(UsageError, match="a value of the answer cannot be shown"):
        asked(folder, sql).rows()


@pytest.mark.parametrize("sql", ["SELECT max(started_at) - min(started_at) FROM runs", "SELECT union_value(a := 1)"])
def test_a_value_without_a_type_in_parquet_is_refused(folder, sql):
    with pytest.raises(UsageError, match=r"the answer as Parquet: .*; cast it in the SQL") as caught:
        asked(folder, sql).parquet()
    assert "\n" not in str(caught.value)


def test_a_span_of_time_is_shown_as_one(folder):
    answer = asked(folder, "SELECT max(started_at) - min(started_at) AS span FROM runs")
    assert answer_csv(answer) == "span\nP0M31DT0S\n"


def test_a_query_that_needs_more_memory_than_there_is_fails_in_one_line_without_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(query._SETTINGS, "memory_limit", "20MB")
    with pytest.raises(UsageError, match="the query needs more memory than there is: Out of Memory Error"):
        asked(folder, "SELECT list(i) FROM range(10000000) t(i)")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.fixture
def obeys_ctrl_c():
    """A background job of a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("obeys_ctrl_c")
def test_ctrl_c_ends_a_query(folder):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    endless = "SELECT count(*) FROM range(1000000) a(x), range(1000000) b(y) WHERE (x * y) % 7 = 3"
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        asked(folder, endless)


@pytest.mark.parametrize("name", ["a[1]*?", "it's", 'a "b"', "{x}", "ä b", "-- c"])
def test_a_folder_may_have_any_name(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "a1bc")  # which a pattern of the first name would match
    write_small(tmp_path / "a1bc", "three")
    added(tmp_path / "a1bc")
    shutil.move(folder, tmp_path / name)
    assert asked(tmp_path / name, "SELECT count(*) FROM rows, runs").rows() == [(8,)]


def test_a_folder_is_found_from_where_the_user_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert asked(".", "SELECT count(*) FROM runs").rows() == [(2,)]


def test_a_query_goes_on_where_another_process_replaces_a_part_of_the_cache(folder):
    with History(Store(folder)) as opened:
        shutil.rmtree(folder / "b")
        write_small(folder, "two", 7.0, "b", started_at="2001-02-01T00:00:00+00:00")
        added(folder)
        found = opened.ask("SELECT run_id, value FROM rows WHERE metric = 'time' ORDER BY ALL").rows()
    assert found == [("one", 1.0), ("two", 7.0)]


def test_a_query_goes_on_however_often_the_cache_changes_under_it(folder, monkeypatch):
    original = query.History._asked
    values = iter((7.0, 8.0, 9.0))

    def late(self, *given):
        if (value := next(values, None)) is not None:
            shutil.rmtree(folder / "b")
            write_small(folder, "two", value, "b", started_at="2001-02-01T00:00:00+00:00")
            added(folder)
        return original(self, *given)

    monkeypatch.setattr(query.History, "_asked", late)
    assert asked(folder, "SELECT max(value) FROM rows WHERE metric = 'time'").rows() == [(9.0,)]


def test_a_query_begins_anew_where_a_part_goes_while_it_opens(folder, monkeypatch):
    connected = query._connected

    def late(parts):
        if (folder / "b").is_dir():
            shutil.rmtree(folder / "b")
            added(folder)
        return connected(parts)

    monkeypatch.setattr(query, "_connected", late)
    assert asked(folder, "SELECT run_id FROM runs").rows() == [("one",)]


def test_a_part_that_is_damaged_is_named(folder):
    part = Store(folder).parts()[0].rows
    part.write_bytes(b"PAR1 not quite")
    with pytest.raises(UsageError, match=r"the cache: Invalid Input Error: .*one-\w+-1.parquet"):
        asked(folder, "SELECT count(*) FROM runs")


def test_without_a_cache_or_with_a_newer_one_there_is_no_answer(tmp_path):
    with pytest.raises(UsageError, match="no runs in the history: `bench-core history add` adds them"):
        History(Store(tmp_path))
    (tmp_path / CACHE / f"v{VERSION + 1}").mkdir(parents=True)
    with pytest.raises(TableError, match="a cache of version"):
        History(Store(tmp_path))


def test_queries_of_this_package_have_parameters(folder):
    with History(Store(folder)) as opened:
        found = opened.table("SELECT value FROM rows WHERE machine = ? AND metric = ?", ["b", "time"])
    assert found.to_pydict() == {"value": [2.0]}


def test_all_series_come_in_order_and_one_by_its_columns(tmp_path):
    write_history(tmp_path, months=(3, 1, 2))
    added(tmp_path)
    with History(Store(tmp_path)) as opened:
        every = opened.values(metric="time", clock="wall").to_pylist()
        (case,) = {row["case_id"] for row in every if row["workload"] == "gpt_train"}
        one = opened.values(metric="time", case_id=case, device="cuda:0", threads=None).to_pylist()
        with pytest.raises(KeyError):
            opened.values(metrik="time")
    assert [row["started_at"].month for row in every] == [1, 2, 3] * (len(every) // 3)
    assert len({tuple(row[name] for name in SERIES) for row in every}) == len(every) // 3 == 10
    assert one == [row for row in every if (row["case_id"], row["device"]) == (case, "cuda:0")]
    assert len(one) == 3


def test_an_answer_is_a_parquet_file(folder, tmp_path):
    (tmp_path / "x.parquet").write_bytes(asked(folder, "SELECT run_id, rows FROM runs ORDER BY ALL").parquet())
    assert parquet.read_table(tmp_path / "x.parquet").to_pydict() == {"run_id": ["one", "two"], "rows": [2, 2]}
