"""What the JSON of pytest-benchmark says becomes columns, also of a file that pytest-benchmark itself has just made."""

import json
import subprocess
import sys

import pytest

from bench_core.errors import TableError
from bench_core.imported.pytest_benchmark import read
from tests.support.other_programs import HOST, pytest_benchmark

TESTS = """
import pytest

@pytest.mark.parametrize("n", [10, 20])
def test_total(benchmark, n):
    benchmark.pedantic(sum, args=(range(n),), rounds=4, iterations=2)
"""


def imported(document):
    return read("b.json", json.dumps(document))


def test_each_test_is_a_case_with_its_rounds_and_the_file_says_where_and_when():
    found = imported(pytest_benchmark())
    plain, given = found.entries
    assert (plain.workload, plain.suite, plain.params) == ("test_sums/test_sum", "pytest-benchmark", {})
    assert (given.suite, given.params) == ("pytest-benchmark/sums", {"n": "1000", "kind": "a,b:c"})
    (time,) = plain.quantities
    assert (time.metric, time.clock, time.samples, time.inner_loops) == ("time", "wall", (4.0, 2.0, 3.0), 3)
    assert (time.statistics["value"], time.statistics["n"], time.statistics["min"]) == (3.0, 3, 2.0)
    assert (found.version, found.started_at, found.machine) == ("5.3.1", "2026-11-27T12:00:00+00:00", "amd-epyc-7763")
    assert (found.git_commit[:7], found.git_dirty) == ("5b78858", True)
    facts = {name: fact.value for name, fact in found.facts.items()}
    assert facts["cpu.threads"] == 128
    assert facts["cpu.frequency"] == 2450000000
    assert found.worker_facts["python.version"].value == "3.11.8"
    assert HOST not in repr(found)


def test_a_saved_run_without_rounds_has_its_statistics_and_the_median_is_the_value():
    document = pytest_benchmark()
    for benchmark in document["benchmarks"]:
        del benchmark["stats"]["data"]
    first, second = imported(document).entries
    of_all = {"value": 3.0, "n": 3, "mean": 3.0, "std": 0.25, "min": 2.0, "p25": 2.0, "p75": 4.0, "max": 4.0}
    assert first.quantities[0].statistics == of_all
    assert "std" not in second.quantities[0].statistics  # of one round


def test_what_is_no_commit_is_none():
    document = pytest_benchmark() | {"commit_info": {"id": "unversioned", "dirty": False}}
    assert (imported(document).git_commit, imported(document).git_dirty) == ("", None)


def test_a_round_of_no_time_makes_a_case_invalid():
    document = pytest_benchmark()
    document["benchmarks"][0]["stats"]["data"][1] = 0.0
    first, second = imported(document).entries
    assert (first.status, first.reason_code, first.quantities, second.status) == ("invalid", "no_time", (), "ok")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((0, "stats", "data", 1), "x", r"benchmarks\[0\].stats.data\[1\]: 'x' is not a number"),
        ((1, "stats", "data", 0), float("nan"), r"benchmarks\[1\].stats.data\[0\]: nan is not a number that can"),
        ((1, "stats"), None, r"benchmarks\[1\].stats: is missing"),
        ((1, "stats", "data"), {"a": 1}, r"benchmarks\[1\].stats.data: not a list"),
    ],
)
def test_a_wrong_field_is_named(path, value, said):
    document = pytest_benchmark()
    *outer, last = path
    node = document["benchmarks"]
    for name in outer:
        node = node[name]
    node[last] = value
    with pytest.raises(TableError, match=f"^b.json: {said}"):
        imported(document)


def test_a_file_that_pytest_benchmark_makes_is_read(tmp_path):
    (tmp_path / "test_sums.py").write_text(TESTS, encoding="utf-8")
    plain = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:bench_core", "--rootdir=."]
    made = subprocess.run(
        [*plain, "--benchmark-json=b.json", "--benchmark-autosave", "test_sums.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (saved,) = tmp_path.glob(".benchmarks/*/*.json")
    whole, short = (read(path, path.read_text(encoding="utf-8")) for path in (tmp_path / "b.json", saved))
    assert [(e.workload, e.size, e.params) for e in whole.entries] == [
        ("test_sums/test_total", "", {"n": "10"}),
        ("test_sums/test_total", "", {"n": "20"}),
    ]
    assert [(len(e.quantities[0].samples), e.quantities[0].inner_loops) for e in whole.entries] == [(4, 2), (4, 2)]
    for one, other in zip(whole.entries, short.entries, strict=True):
        assert other.quantities[0].samples == ()
        assert other.quantities[0].statistics["value"] == pytest.approx(one.quantities[0].statistics["value"])
    assert whole.started_at
    assert whole.version
