"""What lies beside a table: used if it belongs to it, otherwise left aside with a note."""

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench_core.errors import TableError
from bench_core.records import Clock, Series
from bench_core.results.reader import read_rows
from bench_core.results.rows import rows_of_case
from bench_core.results.run_files import flatten, read_run_files, read_samples, sample_key
from bench_core.results.writer import samples_text, write_run
from tests.support.measurements import RUN, measurement
from tests.support.tables import processes, work, write

ABOUT = {
    "environment": {
        "host": {"cpu": {"model": {"value": "X", "source": "/proc/cpuinfo"}}, "governor": {"reason": "no cpufreq"}},
        "workers": {"e_1": {"threads": {"value": 2, "source": "env"}}},
    }
}


@pytest.fixture
def folder(tmp_path):
    """A run with two processes."""
    return write(tmp_path, processes([1.0, 2.0]), about=ABOUT)


def test_a_whole_run_is_read_whole(folder):
    found = read_run_files(folder / "results.csv")
    (row,) = [r for r in read_rows(folder / "results.csv") if r.metric == "time"]
    assert found.notes == ()
    assert found.samples[sample_key(row)] == {0: (0.99, 1.0, 1.02), 1: (1.98, 2.0, 2.04)}
    assert (found.facts["cpu.model"].value, found.facts["governor"].reason) == ("X", "no cpufreq")
    assert found.worker_facts["e_1"]["threads"].value == 2


def test_samples_that_do_not_count_are_left_out_unless_all_of_a_process_are(tmp_path):
    series = [
        Series("time", Clock.WALL, (1.0, 9.0, 2.0, 8.0), noisy=(1, 3)),
        Series("time", Clock.WALL, (5.0, 6.0), noisy=(0, 1)),
    ]
    done = [measurement(series=(each,), process=process) for process, each in enumerate(series)]
    path = tmp_path / "samples.csv"
    path.write_text(samples_text(done), encoding="utf-8")
    (found,) = read_samples(path).values()
    assert found == {0: (1.0, 2.0), 1: (5.0, 6.0)}


def test_processes_stay_in_the_order_of_measurement_whichever_were_disturbed(tmp_path):
    """Looks at fixed numbers of processes are valid in that order alone."""
    noisy = [(), (0,), (), (1,), ()]
    series = [Series("time", Clock.WALL, (1.0, 2.0), noisy=each) for each in noisy]
    done = [measurement(series=(each,), process=process) for process, each in enumerate(series)]
    path = tmp_path / "samples.csv"
    path.write_text(samples_text(done), encoding="utf-8")
    (found,) = read_samples(path).values()
    assert list(found) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("about", "counted"), [({"disturbed": {}}, (1.0, 2.0)), ({}, (1.0, 9.0, 2.0))])
def test_earlier_versions_counted_the_samples_that_they_marked(tmp_path, about, counted):
    """They marked blocks by their own time: left out, they would make the rest look fast."""
    done = measurement(series=(Series("time", Clock.WALL, (1.0, 9.0, 2.0), noisy=(1,)),))
    write_run(tmp_path, list(rows_of_case(RUN, [done])), [done], about)
    (found,) = read_run_files(tmp_path / "results.csv").samples.values()
    assert found == {0: counted}


def test_a_renamed_table_has_no_run_files_even_beside_a_run(folder):
    """A renamed CSV may lie in anybody's folder; what is beside it is not its own."""
    shutil.copy(folder / "results.csv", folder / "mine.csv")
    found = read_run_files(folder / "mine.csv")
    assert found.samples is None
    assert "a single table" in found.notes[0]


def spoiled(name, change):
    def spoil(folder):
        path = folder / name
        path.write_text(change(path.read_text()))

    return spoil


def fact(text):
    """Write this text in place of the value of a fact."""
    return spoiled("run.json", lambda t: t.replace('"value": 2', f'"value": {text}'))


def linked(name):
    def spoil(folder):
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said", "samples"),
    [
        (spoiled("samples.csv", lambda t: t.replace("0.99", "0.5")), "samples.csv: was changed after the run", False),
        (spoiled("results.csv", lambda t: t.replace("SomeBLAS", "OtherBLAS")), "results.csv: was changed after", False),
        (spoiled("run.json", lambda t: t[:100]), "run.json: not JSON", True),
        (spoiled("run.json", lambda t: "[" * 200_000), "run.json: not JSON", True),
        (spoiled("run.json", lambda t: "[]"), "run.json: not a JSON object", True),
        (fact("1" + "0" * 400), "is no number that a run has", True),
        (fact("1e308"), "1e308 is no number that a run has", True),
        (fact("NaN"), "NaN is no number that a run has", True),
        (fact("9" * 5000), "is no number that a run has", True),
        (fact("[" * 50 + "]" * 50), "nested more than 20 deep", True),
        (spoiled("run.json", lambda t: "{}"), "results.csv: is not listed", False),
        (spoiled("run.json", lambda t: '{"files": 3}'), "results.csv: is not listed", False),
        (lambda f: (f / "run.json").unlink(), "run.json: missing: the environment is unknown", True),
        (lambda f: (f / "samples.csv").unlink(), "samples.csv: missing: the intervals", False),
        (lambda f: os.truncate(f / "samples.csv", 50 << 30), "samples.csv: 53,687,091,200 bytes: more than the", False),
        (lambda f: os.truncate(f / "run.json", 1 << 30), "run.json: 1,073,741,824 bytes: more than the", True),
        (linked("samples.csv"), "samples.csv: missing", False),
        (linked("run.json"), "run.json: missing", True),
    ],
)
def test_damaged_run_files_give_a_note_and_no_numbers(folder, spoil, said, samples):
    spoil(folder)
    found = read_run_files(folder / "results.csv")
    assert any(said in note for note in found.notes), found.notes
    assert all("\n" not in note for note in found.notes)
    assert (found.samples is not None) is samples


@pytest.mark.parametrize(("name", "samples"), [("samples.csv", False), ("run.json", True)])
def test_a_file_that_may_not_be_read_gives_a_note(folder, monkeypatch, name, samples):
    """The refusal is injected: no file is closed to root."""
    read = Path.read_bytes

    def read_bytes(path):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    found = read_run_files(folder / "results.csv")
    (note,) = found.notes
    assert note.startswith(f"{folder / name}: cannot be read: Permission denied; ")
    assert (found.samples is not None) is samples


def test_line_ends_that_git_has_changed_change_no_result(folder):
    """A clone with `core.autocrlf` has CR LF in every text file."""
    whole = read_run_files(folder / "results.csv")
    for name in ("results.csv", "samples.csv", "run.json"):
        (folder / name).write_bytes((folder / name).read_bytes().replace(b"\n", b"\r\n"))
    assert read_run_files(folder / "results.csv") == whole
    assert whole.samples


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("0.99", "nan", 1), ":2: column 'seconds' holds 'nan': not a time"),
        (lambda t: t.replace("0.99", "inf", 1), ":2: column 'seconds' holds 'inf': not a finite number"),
        (lambda t: ",,,\n", ":1: the file is empty"),
        (lambda t: t.partition("\n")[2], ":1: the header is missing"),
        (lambda t: t.replace("0.99", "-1", 1), ":2: column 'seconds' holds '-1': not a time"),
        (lambda t: t.replace("0.99", "x", 1), ":2: column 'seconds' holds 'x'"),
        (lambda t: t.replace("process", "p", 1), ":1: column 'process' is missing"),
    ],
)
def test_samples_are_checked_line_by_line(folder, change, said):
    path = folder / "samples.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(TableError, match=r"samples\.csv") as caught:
        read_samples(path)
    assert said in str(caught.value)


def test_samples_that_another_program_has_saved_again_are_found(tmp_path):
    """Its empty cells are words, its integers decimals; without run.json nothing says that the file has changed."""
    measurements = [*processes([1.0], threads=2), *processes([2.0], device="cuda:0")]
    folder = write(tmp_path, measurements)
    (folder / "run.json").unlink()
    before = read_run_files(folder / "results.csv").samples
    path = folder / "samples.csv"
    frame = pd.read_csv(path)
    assert frame["threads"].dtype == float  # pandas: it has missing values
    frame.assign(process=frame["process"].astype(float)).to_csv(path, index=False, na_rep="NA")
    assert read_run_files(folder / "results.csv").samples == before
    keys = [sample_key(r) for r in read_rows(folder / "results.csv") if r.metric == "time"]
    assert [before[key][0][1] for key in keys] == [1.0, 2.0]


def test_threads_of_the_case_tell_samples_apart(tmp_path):
    folder = write(tmp_path, [*processes([1.0], threads=1), *processes([2.0], threads=2), *processes([3.0], work("2"))])
    samples = read_run_files(folder / "results.csv").samples
    keys = [sample_key(r) for r in read_rows(folder / "results.csv") if r.metric == "time"]
    assert [samples[key][0][1] for key in keys] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("implementation", ["default", "+fma", "'quoted", "@home"])
def test_samples_are_found_whatever_their_implementation_is_called(tmp_path, implementation):
    """A cell that a spreadsheet would run is guarded in both tables, so it is read alike from both."""
    folder = write(tmp_path, processes([1.0], implementation=implementation))
    (row,) = [r for r in read_rows(folder / "results.csv") if r.metric == "time"]
    assert row.implementation == implementation
    assert read_run_files(folder / "results.csv").samples[sample_key(row)] == {0: (0.99, 1.0, 1.02)}


def test_facts_nest_only_so_deep():
    """A file from elsewhere may nest a thousand levels; nobody's stack has to follow."""
    deep = {"value": 1}
    for _ in range(900):
        deep = {"a": deep}
    (name,) = flatten(json.loads(json.dumps(deep)))
    assert name == ".".join("a" * 9)


@pytest.mark.parametrize(
    ("text", "noise", "said"),
    [
        ('{"spreads": []}', {"spreads": []}, []),
        ("{", {}, ["not JSON"]),
        ("[]", {}, ["not a JSON object"]),
        ('{"spreads": [{"spread": 1e308}]}', {}, ["is no number that a run has"]),
    ],
)
def test_the_noise_of_the_machine_is_read_from_the_folder_above(folder, text, noise, said):
    assert read_run_files(folder / "results.csv").noise == {}
    (folder.parent / "noise.json").write_text(text)
    found = read_run_files(folder / "results.csv")
    assert found.noise == noise
    assert [words for words in said if words in found.notes[0]] == said
    assert len(found.notes) == len(said)
