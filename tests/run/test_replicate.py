"""Several runs as one: their order, what is merged, what is kept when something goes wrong."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from bench_core.compare import CompareOptions, Method, compare, read
from bench_core.errors import IncompatibleError, UsageError
from bench_core.results import reader
from bench_core.run import journal, replicate
from bench_core.run.replicate import Fixed, Side, command, launch, repeat, turns
from tests.support.pretended_runs import pretend
from tests.support.rates import measured

BOTH = [Side("this", "python-a"), Side("against", "python-b")]


def in_order(sides, rounds, seed):
    """Return the turns of the first rounds."""
    return [turn for pair in islice(turns(sides, seed), rounds) for turn in pair]


# ---------------------------------------------------------------- order


def test_both_sides_of_a_pair_run_next_to_each_other():
    taken = in_order(BOTH, 50, seed=1)
    assert [t.replicate for t in taken] == [i for i in range(50) for _ in BOTH]
    pairs = [taken[i : i + 2] for i in range(0, 100, 2)]
    assert all({t.side.name for t in pair} == {"this", "against"} for pair in pairs)


def test_who_goes_first_is_drawn_in_every_pair():
    """Always the same one first would give it, or the other, whatever a machine does after a pause."""
    first = Counter(t.side.name for t in in_order(BOTH, 200, seed=2)[::2])
    assert 70 < first["this"] < 130


def test_cases_come_in_another_order_in_every_pair_but_the_same_on_both_sides():
    taken = in_order(BOTH, 20, seed=3)
    assert all(a.seed == b.seed for a, b in zip(taken[::2], taken[1::2], strict=True))
    assert len({t.seed for t in taken}) == 20


def test_a_seed_repeats_an_order():
    assert in_order(BOTH, 9, seed=4) == in_order(BOTH, 9, seed=4)
    assert in_order(BOTH, 9, seed=4) != in_order(BOTH, 9, seed=5)


def test_the_output_folder_of_a_run_comes_after_the_user_s_options():
    """Whatever the user passes on, a run writes where it is told to and keeps its journal."""
    turn = in_order(BOTH[1:], 1, seed=0)[0]
    line = command(turn, "out", ["-k", "matmul", "--bench-output=elsewhere"])
    assert line[:3] == ["python-b", "-P", "-c"], "pytest with a bench_core of its own"
    assert "sys.exit(pytest.main())" in line[3]
    assert "--benchmark-only" in line
    assert line.index("--bench-output=elsewhere") < line.index("--bench-output=out")
    assert "--bench-keep-journal" in line


# ---------------------------------------------------------------- runs that need no measuring


def test_runs_become_one_folder_with_a_process_each(tmp_path):
    (folder,) = repeat([Side("this")], Fixed(3), [], tmp_path, seed=1, run_one=pretend({"this": 1.0}))
    assert folder.parent == tmp_path / "box"
    assert sorted(p.name for p in folder.iterdir()) == ["results.csv", "run.json", "samples.csv"]
    rows = {(r.size, r.metric): r for r in reader.read_rows(folder / "results.csv")}
    assert (rows["64", "time"].processes, rows["64", "time"].n) == (3, 9)
    assert rows["16", "time"].status == "unsupported"
    about = json.loads((folder / "run.json").read_text())
    assert [p["process"] for p in about["processes"]] == [0, 1, 2]
    assert (about["planned"], sum(about["statuses"].values())) == (9, 9)
    assert set(about["environment"]["workers"]) == {"e0", "e1", "e2"}
    assert [p.name for p in tmp_path.iterdir()] == ["box"]


def test_a_run_that_failed_among_good_ones_is_a_flag(tmp_path):
    (folder,) = repeat([Side("this")], Fixed(3), [], tmp_path, run_one=pretend({"this": 1.0}))
    (row,) = [r for r in reader.read_rows(folder / "results.csv") if (r.size, r.metric) == ("32", "time")]
    assert (row.processes, row.status) == (2, "ok")
    assert "oom_in_a_process" in row.flags


def test_a_stream_that_the_others_contradict_in_one_process_is_invalid_when_runs_are_merged(tmp_path):
    """The journals hold what was measured; in the second run the triad reads nothing."""
    pretended = pretend({"this": 1.0})

    def run_one(turn, output, arguments):
        code = pretended(turn, output, arguments)
        (path,) = output.rglob("journal.jsonl")
        kept = journal.Journal.reopened(path.parent)
        for workload, rate in (("copy", 30e9), ("scale", 25e9), ("triad", 4e12 if turn.replicate == 1 else 20e9)):
            kept.append(measured("memory", workload, 1e9 / rate, bytes_=1e9))
        kept.close()
        return code

    (folder,) = repeat([Side("this")], Fixed(3), [], tmp_path, run_one=run_one)
    rows = [row for row in reader.read_rows(folder / "results.csv") if row.suite == "memory"]
    assert {(row.workload, row.status) for row in rows} == {("copy", "ok"), ("scale", "ok"), ("triad", "invalid")}
    about = json.loads((folder / "run.json").read_text())
    assert about["statuses"]["invalid"] == 3


def test_two_interpreters_are_compared_in_pairs(tmp_path):
    sides = [Side("this"), Side("against")]
    folders = repeat(sides, Fixed(5), [], tmp_path, seed=1, run_one=pretend({"this": 1.0, "against": 1.2}))
    result = compare(read([f"{s.name}={f}" for s, f in zip(sides, folders, strict=True)]), CompareOptions())
    c = next(c for c in result.comparisons if c.key.size == "64")
    assert (c.method, c.verdict, c.against, c.side) == (Method.PAIRED, "slower", "this", "against")
    assert c.ratio == pytest.approx(1 / 1.2, rel=0.05)


def test_a_run_without_results_is_the_last_and_those_before_it_are_merged(tmp_path):
    told = []
    with pytest.raises(replicate.RunFailed) as caught:
        repeat(
            [Side("this")], Fixed(5), [], tmp_path, run_one=pretend({"this": 1.0}, fail={4}), on_progress=told.append
        )
    assert caught.value.exit_code == 4
    (log,) = (tmp_path / "unfinished").rglob("log.txt")
    said = f"run 5 ended with exit code 4 and left no results: no module named benchmarks (full log: {log})"
    assert str(caught.value) == said
    (merged,) = reader.find_results(tmp_path)
    assert told[-1] == f"stopped early: 4 of 5 runs are complete, results in {merged.parent}"
    assert next(r for r in reader.read_rows(merged) if r.size == "64").processes == 4


def test_a_run_that_was_killed_is_told_by_its_signal(tmp_path):
    def killed(turn, output, arguments):
        output.mkdir(parents=True)
        (output / replicate.LOG).write_text("collected 2 items\n", encoding="utf-8")
        return -9

    said = "run 1 was killed by SIGKILL and left no results: collected 2 items"
    with pytest.raises(replicate.RunFailed, match=said):
        repeat([Side("this")], Fixed(5), [], tmp_path, run_one=killed)


def test_of_two_sides_complete_pairs_are_merged_and_a_lone_run_stays_where_it_is(tmp_path):
    """Its partner would be missing from every pair, and its value would count on one side only."""
    told = []
    sides = [Side("this"), Side("against")]
    run_one = pretend({"this": 1.0, "against": 1.2}, stop=6)
    with pytest.raises(KeyboardInterrupt):
        repeat(sides, Fixed(5), [], tmp_path, run_one=run_one, on_progress=told.append)
    merged = [next(r for r in reader.read_rows(path) if r.size == "64") for path in reader.find_results(tmp_path)]
    assert [row.processes for row in merged] == [2, 2]
    (lone,) = reader.find_results(tmp_path / "unfinished")
    assert told[-1] == f"stopped early: the second run of a pair is missing, the first is in {lone.parent}"
    assert len([line for line in told if "2 of 5 runs are complete, results in" in line]) == 2


def test_an_interrupt_merges_the_runs_that_are_complete(tmp_path):
    told = []
    with pytest.raises(KeyboardInterrupt):
        repeat([Side("this")], Fixed(5), [], tmp_path, run_one=pretend({"this": 1.0}, stop=4), on_progress=told.append)
    (merged,) = reader.find_results(tmp_path / "box")
    assert told[-1] == f"stopped early: 3 of 5 runs are complete, results in {merged.parent}"
    assert next(r for r in reader.read_rows(merged) if r.size == "64").processes == 3


def test_runs_of_two_machines_are_never_merged(tmp_path):
    run_one = pretend({"this": 1.0}, machine=lambda turn: f"box-{turn.replicate}")
    with pytest.raises(IncompatibleError, match="runs of different machines cannot be merged: box-0, box-1"):
        repeat([Side("this")], Fixed(2), [], tmp_path, run_one=run_one)
    assert len(reader.find_results(tmp_path / "unfinished")) == 2


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        ({"memory": lambda turn: (25e9, 135e9)[turn.replicate]}, "memory.total: 25.0 GB against 135 GB"),
        ({"gpu": lambda turn: f"GPU {turn.replicate}"}, "device_name of cuda:0: GPU 0 against GPU 1"),
    ],
)
def test_runs_of_two_computers_with_one_name_are_never_merged_and_the_fact_is_named(tmp_path, differing, said):
    with pytest.raises(IncompatibleError) as caught:
        repeat([Side("this")], Fixed(2), [], tmp_path, run_one=pretend({"this": 1.0}, **differing))
    assert str(caught.value) == f"runs of two computers cannot be merged: {said}"
    assert len(reader.find_results(tmp_path / "unfinished")) == 2


@pytest.mark.parametrize("memory", [(100e9, 98e9), (100e9, None)])
def test_runs_of_one_computer_are_merged_if_its_kernel_keeps_more_memory_or_a_fact_is_unknown(tmp_path, memory):
    run_one = pretend({"this": 1.0}, memory=lambda turn: memory[turn.replicate])
    (folder,) = repeat([Side("this")], Fixed(2), [], tmp_path, run_one=run_one)
    assert len(json.loads((folder / "run.json").read_text())["processes"]) == 2


def test_an_interpreter_without_bench_core_is_refused(tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\necho \"No module named 'bench_core'\" >&2\nexit 1\n")
    empty.chmod(0o755)
    with pytest.raises(UsageError, match="cannot be imported there: No module named 'bench_core'"):
        replicate.require_usable(str(empty))
    with pytest.raises(UsageError, match="cannot be run"):
        replicate.require_usable(str(tmp_path / "nothing"))
    replicate.require_usable(sys.executable)


def test_what_a_run_prints_is_kept(tmp_path):
    turn = replace(in_order([Side("this")], 1, seed=0)[0], side=Side("this", shutil.which("echo")))
    assert launch(turn, tmp_path / "out", ["hello"]) == 0
    assert "--benchmark-only --bench-suite=auto hello" in (tmp_path / "out" / "log.txt").read_text()
