"""A run is whole if its files are unchanged and of one run, whether one process measured it or several did."""

import json

import pytest

from bench_core.files import digest
from bench_core.results.integrity import Damage, whole
from tests.support import ROOT
from tests.support.contributions import contribute
from tests.support.tables import measured, processes, work


def edit(folder, /, **entries):
    """Change entries of run.json."""
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize("run", sorted(ROOT.glob("results/*/*/run.json")), ids=lambda path: path.parent.name)
def test_the_committed_runs_are_whole(run):
    assert whole(run.parent).run["run_id"] == run.parent.name


def test_a_run_that_is_whole_has_its_rows_statuses_and_machines(tmp_path):
    run = whole(contribute(tmp_path))
    assert (run.statuses, run.machines, run.warnings) == ({"ok": 1}, {"box"}, ())
    assert {row.workload for row in run.rows} == {"matmul"}


def test_a_case_of_several_processes_is_planned_once_for_each(tmp_path):
    run = contribute(tmp_path, processes([1.0, 1.1, 1.2]))
    merged = [{"process": i} for i in range(3)]
    for planned in (1, 2, 3):
        edit(run, planned=planned, statuses={"ok": planned}, processes=merged)
        assert whole(run).statuses == {"ok": planned}
    edit(run, planned=4, statuses={"ok": 4})
    with pytest.raises(Damage, match=r"4 cases are planned, 4 have a status and 1 are in results\.csv"):
        whole(run)


def test_the_fit_of_a_sweep_is_no_planned_case(tmp_path):
    run = contribute(tmp_path, [measured([1.0, 1.1, 1.2]), measured([1.0, 1.1, 1.2], work("8"))])
    table = run / "results.csv"
    table.write_text(table.read_text().replace(",matmul,matmul,1,8,", ",matmul,matmul_fit,1,8,"))
    files = json.loads((run / "run.json").read_text())["files"]
    edit(run, planned=1, statuses={"ok": 1}, files=files | {"results.csv": {"sha256": digest(table.read_bytes())}})
    assert {row.workload for row in whole(run).rows} == {"matmul", "matmul_fit"}


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"planned": 2}, "2 cases are planned, 1 have a status and 1 are in results.csv"),
        ({"planned": "1"}, "run.json is not that of a run: 'planned' is no count"),
        ({"statuses": ["ok"]}, "run.json is not that of a run: 'statuses' is not an object"),
        ({"statuses": {"ok": 2, "oom": -1}}, "run.json is not that of a run: -1 is no count"),
        ({"statuses": {"ok": True}}, "run.json is not that of a run: True is no count"),
        ({"schema_version": 2}, "run.json is of the schema 2, not 1"),
        ({"statuses": {"fine": 1}}, "run.json has the status 'fine', which no case has"),
        ({"planned": 0, "statuses": {}}, "0 cases are planned, 0 have a status and 1 are in results.csv"),
        ({"processes": [{}, {}], "planned": 2, "statuses": {"ok": 2}}, "2 cases are planned, 2 have a status"),
        ({"statuses": {"oom": 1}}, "0 cases of run.json and 1 of results.csv are 'ok'"),
        ({"files": {}}, "results.csv has not the sha256 that run.json says"),
        ({"files": {"results.csv": "x"}}, "results.csv has not the sha256 that run.json says"),
        ({"run": 1}, "run.json is not that of a run: 'run' is not an object"),
        ({"run": {"run_id": "other"}}, "run.json is that of the run 'other'"),
    ],
)
def test_a_run_json_that_does_not_fit_the_table_is_named(tmp_path, entries, text):
    run = contribute(tmp_path)
    edit(run, **entries)
    with pytest.raises(Damage) as raised:
        whole(run)
    assert str(raised.value).startswith(text)


def test_rows_of_another_run_are_named(tmp_path):
    run = contribute(tmp_path, run_id="other")
    run = run.rename(run.with_name("mine"))
    about = json.loads((run / "run.json").read_text())["run"]
    edit(run, run=about | {"run_id": "mine"})
    with pytest.raises(Damage, match=r"results\.csv has rows of the run_id 'other', run\.json 'mine'"):
        whole(run)


@pytest.mark.parametrize(
    ("name", "other"), [("started_at", "2002-01-01T00:00:00+00:00"), ("git_commit", "abc"), ("git_dirty", True)]
)
def test_what_the_table_and_run_json_say_of_the_run_is_the_same(tmp_path, name, other):
    run = contribute(tmp_path)
    about = json.loads((run / "run.json").read_text())["run"]
    edit(run, run=about | {name: other})
    with pytest.raises(Damage, match=rf"results\.csv has rows of the {name} '.*', run\.json '"):
        whole(run)


def test_a_case_has_one_status(tmp_path):
    run = contribute(tmp_path)
    table = run / "results.csv"
    table.write_text(table.read_text().replace(",ok,", ",oom,", 1))
    files = json.loads((run / "run.json").read_text())["files"]
    edit(run, files=files | {"results.csv": {"sha256": digest(table.read_bytes())}})
    with pytest.raises(Damage, match=r"results\.csv has a case of matmul with two statuses"):
        whole(run)
