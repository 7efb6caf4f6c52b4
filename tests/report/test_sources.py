"""A report shows the commands that repeat its runs, with quoted arguments, and of paths what identifies a run."""

from dataclasses import replace

import pytest

from bench_core.compare.loading import Reading
from bench_core.report import sources
from tests.support import synthetic


def test_options_from_a_file_are_quoted_in_the_command_that_measures_again():
    reading = synthetic.readings("machine-a")[0]
    hostile = replace(reading, files=replace(reading.files, about={"options": {"backends": ["x; rm -rf ~"]}}))
    assert sources.source(hostile).command.endswith("pytest --benchmark-only --bench-backends='x; rm -rf ~'")


def test_merged_runs_are_measured_again_by_the_command_that_merges():
    reading = synthetic.readings("machine-a")[0]
    about = {"options": {"preset": "quick", "seed": 3}, "processes": [{"process": i} for i in range(5)], "seed": 7}
    merged = replace(reading, files=replace(reading.files, about=about))
    command = sources.source(merged).command.splitlines()[-1]
    assert command == "bench-core run --runs 5 --seed 7 --bench-preset=quick --bench-seed=3"


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        ({"precision": 0.03, "time": 1200.0}, "--precision 3% --time 1200s"),
        ({"precision": 0.05, "time": None}, "--precision 5%"),
        ({"precision": "3%; rm -rf ~"}, "--runs 5"),
    ],
)
def test_a_series_with_a_precision_is_measured_again_with_it(precision, said):
    reading = synthetic.readings("machine-a")[0]
    about = {"processes": [{"process": i} for i in range(5)], "seed": 7, "precision": precision}
    again = replace(reading, files=replace(reading.files, about=about))
    assert sources.source(again).command.splitlines()[-1] == f"bench-core run {said} --seed 7"


@pytest.mark.parametrize(
    ("path", "about", "shown"),
    [
        ("/home/alice/pc1.csv", {}, "pc1.csv"),
        ("alice/results/pc1.csv", {}, "pc1.csv"),
        ("pc1.csv", {}, "pc1.csv"),
        ("results/machine-a/20260101T000000Z-0000/results.csv", {"schema": 1}, None),
        ("/home/alice/20260101T000000Z-0000/results.csv", {"schema": 1}, "20260101T000000Z-0000/results.csv"),
        ("20260101T000000Z-0000/results.csv", {"schema": 1}, "20260101T000000Z-0000/results.csv"),
    ],
)
def test_of_a_path_a_page_tells_what_identifies_the_run_and_no_other_folder(path, about, shown):
    reading = synthetic.readings("machine-a")[0]
    reading = Reading.of(path, reading.rows, "", replace(reading.files, about=about))
    assert sources.source(reading).name == (shown or "machine-a/20260101T000000Z-0000/results.csv")


def test_notes_name_files_without_their_folders():
    reading = synthetic.readings("machine-a")[0]
    notes = ("/home/alice/r/results.csv: no run.json", "/home/alice/closed: not entered", "and/or stays", "r.csv: a/b")
    for path, first in (
        ("/home/alice/r/results.csv", "results.csv: no run.json"),
        ("r.csv", "results.csv: no run.json"),
    ):
        source = sources.source(replace(reading, path=path, notes=notes))
        assert source.notes == (first, "closed: not entered", "and/or stays", "r.csv: a/b")
