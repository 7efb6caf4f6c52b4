"""The folder that is made is a valid one: it is read back without a warning, compared, and shown in a report."""

import json
import warnings

import pytest

import bench_core
from bench_core.compare import CompareOptions, compare, read
from bench_core.errors import UsageError
from bench_core.files import digest
from bench_core.imported import formats, tables
from bench_core.results.reader import read_rows
from bench_core.results.run_files import read_run_files, sample_key
from tests.support.other_programs import HOST, OUTPUTS, google_benchmark, pytest_benchmark


def imported(folder, text, machine="box", started="2026-01-02T03:04:05+00:00"):
    path = folder / "given"
    path.write_text(text, encoding="utf-8")
    made = tables.made(formats.read(path), tables.Options(machine, started_at=started))
    return tables.write(made, folder / "results")


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_written_is_read_back_without_a_warning_and_names_its_source(tmp_path, kind):
    tool, text = OUTPUTS[kind]
    folder = imported(tmp_path, text)
    assert folder.parent == tmp_path / "results" / "box"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_rows(folder / "results.csv")
        files = read_run_files(folder / "results.csv")
        assert len(bench_core.load(tmp_path / "results")) == len(rows) > 0
    assert files.notes == ()
    said = files.about["imported"]
    assert (said["tool"], said["sha256"]) == (tool, digest(text))
    for row in rows:
        assert {"unchecked", "imported"} <= set(row.flags.split(";"))
        assert (row.precision, row.flops, row.rel_error, row.backend) == ("", None, None, tool)
        assert row.value is None or row.value > 0
        assert row.env_id in {"", *files.worker_facts}
    everything = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    assert HOST not in everything


def test_samples_are_those_of_the_file_and_the_row_has_their_median(tmp_path):
    folder = imported(tmp_path, json.dumps(pytest_benchmark()))
    row = read_rows(folder / "results.csv")[0]
    samples = read_run_files(folder / "results.csv").samples
    assert samples[sample_key(row)] == {0: (4.0, 2.0, 3.0)}
    assert (row.value, row.n, row.mean, row.inner_loops, row.git_commit[:4]) == (3.0, 3, 3.0, 3, "5b78")


def test_two_imported_tables_are_compared_with_ratios_and_said_to_be_imported(tmp_path):
    faster = google_benchmark()
    for entry in faster["benchmarks"]:
        if "real_time" in entry:
            entry["real_time"] /= 40
    folders = [imported(tmp_path, json.dumps(d), name) for name, d in (("a", google_benchmark()), ("b", faster))]
    readings = read([str(folder) for folder in folders])
    result = compare(readings, CompareOptions(metrics=("time", "bandwidth")))
    ratios = {(c.key.workload, c.key.metric): (round(c.ratio, 2), c.verdict) for c in result.compared}
    assert ratios["BM_Copy_double", "time"] == (40.0, "indicated")
    assert ratios["BM_Copy_double", "bandwidth"] == (1.0, "unclear")
    assert len(ratios) == 4
    notes = [note for note in result.notes if "measured by google-benchmark, and not checked by this suite" in note]
    assert len(notes) == 2


def test_the_same_case_of_two_files_has_one_case_id_whatever_else_they_hold(tmp_path):
    alone = pytest_benchmark()
    del alone["benchmarks"][1]
    ids = [
        {row.workload: row.case_id for row in read_rows(imported(tmp_path, json.dumps(d), name) / "results.csv")}
        for name, d in (("a", pytest_benchmark()), ("b", alone))
    ]
    assert ids[0]["test_sums/test_sum"] != ids[1]["test_sums/test_sum"]  # the last of two sizes
    assert ids[1]["test_sums/test_sum"] in {
        row.case_id for row in read_rows(next((tmp_path / "results" / "a").glob("*/results.csv")))
    }


def test_a_file_is_imported_once_and_nothing_of_another_try_is_left(tmp_path, monkeypatch):
    text = json.dumps(pytest_benchmark())
    folder = imported(tmp_path, text)
    with pytest.raises(UsageError, match="imported before"):
        imported(tmp_path, text)
    monkeypatch.setattr(tables, "write_run", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        imported(tmp_path, text, "other")
    assert list((tmp_path / "results").glob("*/*")) == [folder]
    assert list((tmp_path / "results" / "other").iterdir()) == []


def test_a_file_that_names_no_machine_needs_a_label(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text(OUTPUTS["BabelStream 3.3"][1], encoding="utf-8")
    with pytest.raises(UsageError, match=r"^--machine: .* does not name the machine: give it a label"):
        tables.made(formats.read(path), tables.Options())


def test_the_device_that_is_given_is_that_of_all_rows(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text(OUTPUTS["BabelStream 3.3"][1], encoding="utf-8")
    made = tables.made(formats.read(path), tables.Options("m", "cuda:1"))
    assert {(row.device_type, row.device) for row in made.rows} == {("cuda", "cuda:1")}


@pytest.mark.parametrize("label", ["a/b", "..", "a b", "-x", "x" * 200, "a\x1b"])
def test_a_label_that_is_no_name_of_a_folder_is_refused(label):
    with pytest.raises(UsageError, match=r"^--machine: "):
        tables.required_machine(label)
