"""`bench-core list`: the plan without a measurement."""

import importlib
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.records import Case, Work
from tests.support import ROOT, TESTS
from tests.support.planned import WORKLOADS
from tests.support.workloads import SMALL_SUITE

listing = importlib.import_module("bench_core.cli.list")

FAULTS = str(TESTS / "faulty" / "faults.py")


APART = """
from package_of_the_root import one

def test_apart(measure):
    measure(abs, one)
"""


def listed(*arguments):
    options = ["-c", "/dev/null", "--rootdir", str(Path(FAULTS).parent), FAULTS]
    return CliRunner().invoke(app, ["list", *arguments, "--", *options, "--bench-backends=numpy,cupy"])


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_it_counts_the_cases_of_each_workload_and_says_why_others_cannot_be_measured():
    done = listed("--ids")
    assert done.exit_code == 0, done.output
    numpy, cupy = (sum(f"[{name}-" in line for line in done.stdout.splitlines()) for name in ("numpy", "cupy"))
    *table, gap, count, skipped = listed().stdout.splitlines()
    backends, header, *rows, total = (line.split() for line in table)
    assert (backends, header) == (["numpy"], ["suite", "workload", "sizes", "dtypes", "cpu"])
    assert total == ["total", str(numpy)]
    assert sum(int(row[-1]) for row in rows) == numpy
    assert (gap, count) == ("", f"{numpy} cases to measure, {cupy} to skip; --ids names each")
    assert skipped.startswith(f"skipped: cupy cuda, {cupy} cases: ")


def test_the_id_of_a_file_is_not_shown_raw(tmp_path):
    path = tmp_path / "bench_\x1b\u202e.py"
    path.write_text("def test_a(measure): ...")
    options = ["-c", "/dev/null", "--rootdir", str(tmp_path), str(path), "--bench-backends=numpy"]
    done = CliRunner().invoke(app, ["list", "--ids", "--", *options])
    assert (done.exit_code, done.stdout) == (0, r"bench_\x1b\u202e.py::test_a[numpy-cpu]" + "\n")


def test_the_plan_of_quick_fits_a_screen_of_80_columns():
    plain = ["list", "--bench-backends=numpy,torch:cpu", str(ROOT / "benchmarks")]
    done = CliRunner().invoke(app, plain, env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 30
    names = {name.strip(",") for line in lines for name in line.split()} & {workload.name for workload in WORKLOADS}
    assert len(names) > 25
    *_, total, gap, count, across = lines
    numpy, torch = map(int, total.removeprefix("total").split())
    assert (gap, count) == ("", f"{numpy + torch} cases to measure, 0 to skip; --ids names each")
    assert across.startswith("only on several devices (--bench-backends=torch:cuda:x8): collectives")


RANKS = str(TESTS / "faulty" / "ranks.py")


@pytest.mark.parametrize(
    ("backends", "said"),
    [
        ("numpy", ["only on several devices (--bench-backends=torch:cuda:x8): faults"]),
        ("numpy,numpy:cpu:x2", ["skipped: numpy cpu:x2, 8 cases: numpy computes on one device at a time"]),
    ],
)
def test_it_says_what_only_several_devices_can_do_unless_there_are_several(tmp_path, backends, said):
    """Workloads that one device can do stay the only ones on one device."""
    plain = tmp_path / f"bench_{tmp_path.name}.py"  # a module is imported once
    plain.write_text(SMALL_SUITE, encoding="utf-8")
    options = ["-c", "/dev/null", "--rootdir", "/", str(plain), RANKS, f"--bench-backends={backends}"]
    lines = CliRunner().invoke(app, ["list", "--", *options]).stdout.splitlines()
    assert [line for line in lines if "several" in line or "skipped" in line] == said
    assert [line.split()[-1] for line in lines if line.startswith("total")] == ["1"]


def test_a_function_of_one_s_own_has_a_case_on_each_single_device(tmp_path):
    path = tmp_path / "bench_of_ones_own.py"
    path.write_text("def test_a(measure): ...")
    options = ["-c", "/dev/null", "--rootdir", str(tmp_path), str(path), "--bench-backends=numpy:cpu:x2,numpy"]
    done = CliRunner().invoke(app, ["list", "--ids", "--", *options])
    assert done.stdout == "bench_of_ones_own.py::test_a[numpy-cpu]\n"


def test_what_only_several_devices_can_do_is_not_told_of_what_was_not_selected():
    options = ["-c", "/dev/null", "--rootdir", "/", FAULTS, RANKS, "--bench-backends=numpy", "-k"]
    assert "several" not in CliRunner().invoke(app, ["list", "--", *options, "test_good"]).output
    assert "only on several devices" in CliRunner().invoke(app, ["list", "--", *options, "test_striking"]).output


def entry(sizes=("1",), dtypes=("float32",), names=("w",), suite="s", devices=(("numpy", "cpu"), ("torch", "cuda:0"))):
    return listing._Entry(suite, names, sizes, dtypes, dict.fromkeys(devices, 12))


def drawn(table, width):
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue().splitlines()


def test_what_does_not_fit_is_counted():
    sizes, dtypes = ("512", "1024", "2048", "4096"), ("float32", "bfloat16", "float8_e4m3fn")
    plan = [entry(sizes, dtypes), entry(names=("other",))]
    tables = {width: drawn(listing._table(plan, width, suites=True), width) for width in (100, 60, 55, 49)}
    assert {width: re.split("  +", lines[2])[2:4] for width, lines in tables.items()} == {
        100: [", ".join(sizes), ", ".join(dtypes)],
        60: ["512 ... 4096 (4)", "float32 +2"],
        55: ["512 +3", "float32 +2"],
        49: ["512 +3", "3 dtypes"],
    }
    for width, lines in tables.items():
        assert max(map(len, lines)) <= width
    assert [listing._fitted(("784x512x10-b128",) * n, 12, "size") for n in (1, 3)] == ["1 size", "3 sizes"]


def test_a_suite_has_a_line_of_its_own_where_a_column_of_suites_leaves_no_room_for_sizes():
    """As with four devices at 80 columns: nothing is cut off."""
    item = SimpleNamespace(get_closest_marker=lambda name: None)
    devices = (("numpy", "cpu"), ("torch", "cpu"), ("cupy", "cuda:0"), ("torch", "cuda:0"))
    works = [Work("model", name, "784x512x512x10-b128", "float32") for name in ("launch_synchronize", "one", "two")]
    cases = [(item, Case(work, *device)) for work in works for device in devices]
    assert drawn(listing._plan(cases, 100), 100)[1].startswith("suite  workload")
    lines = [line.split() for line in drawn(listing._plan(cases, 80), 80)]
    counts = ["784x512x512x10-b128", "float32", *"1111"]
    assert lines[1:4] == [
        ["workload", "sizes", "dtypes", "cpu", "cpu", "cuda:0", "cuda:0"],
        ["model"],
        ["launch_synchronize", *counts],
    ]
    assert lines[4] == ["one,", "two", *counts[:2], *"2222"]


def test_workloads_of_one_suite_with_equal_cases_share_a_line_up_to_a_length():
    item = SimpleNamespace(get_closest_marker=lambda name: None)
    works = [
        ("s", "one", "1"),
        ("s", "two", "1"),
        ("s", "a_name_that_is_too_long", "1"),
        ("s", "big", "2"),
        ("t", "own", "2"),
    ]
    cases = [(item, Case(Work(suite, name, size, "float32"), "numpy", "cpu")) for suite, name, size in works]
    assert [(e.suite, e.names, e.count(("numpy", "cpu"))) for e in listing._entries(cases, 20)] == [
        ("s", "one, two", 2),
        ("s", "a_name_that_is_too_long", 1),
        ("s", "big", 1),
        ("t", "own", 1),
    ]


def test_what_a_run_can_import_is_listed_and_no_folder_is_left(tmp_path, monkeypatch):
    """As `run` does, it finds a package in the working folder, from which the tests lie apart."""
    (tmp_path / "package_of_the_root").mkdir()
    (tmp_path / "package_of_the_root" / "__init__.py").write_text("one = 1", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_apart.py").write_text(APART, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = CliRunner().invoke(app, ["list", "--ids", "tests", "--bench-backends=numpy"])
    assert done.stdout == "tests/test_apart.py::test_apart[numpy-cpu]\n", done.output
    assert {path.name for path in tmp_path.iterdir()} == {"package_of_the_root", "tests", "pytest.ini"}


def test_ids_are_printed_one_a_line():
    done = listed("--ids")
    assert "faults.py::test_good[numpy-cpu-float64-good]" in done.stdout.splitlines()


def test_a_bad_option_is_one_line_and_exit_code_2():
    done = CliRunner().invoke(app, ["list", "--bench-preset=x"])
    assert done.exit_code == 2
    assert (
        done.stderr.strip() == "bench-core: --bench-preset=x: no 'x'; available: smoke, headline, quick, standard, full"
    )


def test_a_plan_without_a_case_is_an_error_that_says_where_to_look():
    done = listed("-k", "nothing_of_the_kind")
    assert done.exit_code == 2
    assert "bench-core list --bench-suite=always" in done.stderr


def test_an_option_that_nobody_knows_is_named():
    done = CliRunner().invoke(app, ["list", "--bench-presett=quick"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "bench-core: unrecognized arguments: --bench-presett=quick"


def test_options_of_pytest_need_no_dashes_before_them():
    plain = ["list", "--ids", FAULTS, "-c", "/dev/null", "-k", "test_good", "--bench-backends=numpy"]
    done = CliRunner().invoke(app, plain)
    assert done.stdout.split() == ["faults.py::test_good[numpy-cpu-float64-good]"]
