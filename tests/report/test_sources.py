"""A report shows the commands that repeat its runs, with quoted arguments."""

from dataclasses import replace

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
