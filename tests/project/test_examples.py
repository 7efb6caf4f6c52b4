"""The examples do what they say: each is run as its README says, on less work, and its rows are read."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bench_core
from bench_core.records import Status
from tests.support import ROOT
from tests.support.tables import absent, processes, work, write

EXAMPLES = ROOT / "tests" / "examples"
LESS = ("-p", "no:cacheprovider", "--bench-preset=smoke", "--bench-budget=0.02", "--bench-machine=m")


def run(folder, *command, **environ):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {"COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=clean | environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def examples(installed, tmp_path_factory):
    """A copy of the examples, in which the backend is registered as where nothing can be installed."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    project = tomllib.loads((folder / "own_backend" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "own_backend" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    ((group, points),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rows(examples):
    """What `pytest --benchmark-only` measures in the folder, on NumPy and on the backend of one's own."""
    path = os.pathsep.join([str(examples / "own_backend"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = (sys.executable, "-m", "pytest", "--benchmark-only", "--bench-backends=numpy,aligned", *LESS)
    done = run(examples, *command, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return bench_core.load(examples / "results").query("metric == 'time'")


def test_every_function_is_measured_and_checked_as_its_test_says(rows):
    own = rows[rows["workload"] != "square_root"]
    assert set(zip(own["workload"], own["size"], strict=True)) == {
        *(("gelu", size) for size in ("1000", "100000")),
        *((name, "1000") for name in ("cosine", "cosine_unchecked", "sort")),
    }
    flagged = {name: set(";".join(found["flags"]).split(";")) for name, found in own.groupby("workload")}
    assert {name for name, flags in flagged.items() if "unchecked" in flags} == {"cosine_unchecked"}
    assert {name for name, flags in flagged.items() if "unchecked_timing" in flags} == {"cosine"}
    assert not any("not_isolated" in flags for flags in flagged.values())
    errors = own[own["status"] == "ok"].groupby("workload")["rel_error"].max()
    assert list(errors.index[errors.isna()]) == ["cosine_unchecked"]
    assert 0 < errors["gelu"] < 2e-6
    (left_out,) = own[own["status"] != "ok"].to_dict("records")
    assert (left_out["workload"], left_out["backend"], left_out["status"]) == ("sort", "aligned", "unsupported")
    assert left_out["reason"] == "the test measures numpy only"


def test_the_workload_and_the_backend_are_measured_beside_them(rows):
    assert set(rows[rows["status"] == "ok"]["backend"]) == {"numpy", "aligned"}
    workload = rows[rows["workload"] == "square_root"]
    assert list(workload["status"]) == ["ok"] * 4
    assert set(workload["size"]) == {"10000", "100000"}


def test_the_script_prints_what_the_readme_shows(examples):
    """Apart from the numbers and from flags of noise, on NumPy alone."""
    code = (examples / "own_function.py").read_text(encoding="utf-8")
    less = code.replace("reference=gelu,", "reference=gelu, backends='numpy', budget=0.02,")
    assert less != code
    (examples / "less.py").write_text(less, encoding="utf-8")
    done = run(examples, sys.executable, "less.py")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, section = readme.partition("## My own function")
    shown_code, shown = re.findall(r"^```\w+\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[:2]
    assert shown_code == code
    shown = shown.splitlines()
    assert printed[0] == shown[0] == "gelu 1000000 float32"
    assert printed[1].replace("flags", "").split() == shown[1].replace("flags", "").split()
    form = re.compile(r"numpy cpu, \d+ threads? +\S+ [mµ]s +\S+ [mµ]s to \S+ [mµ]s +\S+ [GM]B/s +error \d\.\de-\d\d")
    assert form.match(printed[3])
    assert form.match(shown[3])
    assert "not_isolated" not in done.stdout
    assert {line.split()[0] for line in shown[3:] if not line.startswith(" ")} == {"numpy", "torch", "..."}


@pytest.mark.parametrize(
    ("times", "code", "verdict"),
    [
        ((2.0, 2.002, 1.998, 2.004, 1.996), 1, "change is 2.00x slower than base"),
        ((1.0, 1.001, 0.999, 1.002, 0.998), 0, "1 same"),
        ((1.0, 1.5, 0.7, 1.6, 0.8), 0, "UNDECIDED regression"),
        ((), 1, "FAILED missing: 1 of 2 cases without a comparable value any more"),
    ],
    ids=["slower", "same", "noisy", "broken"],
)
def test_the_gate_fails_if_something_became_slower(installed, tmp_path, times, code, verdict):
    """The runs of both sides are made up; `bench-core compare` is real."""
    usual, other = (1.0, 1.001, 0.999, 1.002, 0.998), work("32")
    for side, seconds in (("against", usual), ("this", times)):
        done = processes(seconds or usual)
        if not times:
            broken = [absent(other, status=Status.ERROR, reason="it raises")]
            done += processes(usual, other) if side == "against" else broken
        write(tmp_path / "made", done, "m", {"series": "s"}, run_id=f"s-{side}")
    script = """#!/bin/sh
    if [ "$1" = run ]; then echo "$@" > said.txt; cp -r made/. "${6#*=}"; else exec "$PYTHON" -m bench_core "$@"; fi
    """
    stand_in = tmp_path / "bin" / "bench-core"
    stand_in.parent.mkdir()
    stand_in.write_text(script, encoding="utf-8")
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), os.environ["PATH"]])
    gate = run(tmp_path, str(EXAMPLES / "ci_gate.sh"), "other/python", "-k", "gelu", PATH=path, PYTHON=sys.executable)
    assert gate.returncode == code, gate.stdout + gate.stderr
    assert verdict in gate.stdout
    *said, output, option, value = (tmp_path / "said.txt").read_text().split()
    assert said == ["run", "--runs", "5", "--against", "other/python"]
    assert (option, value) == ("-k", "gelu")
    assert not Path(output.removeprefix("--bench-output=")).exists(), "it leaves nothing behind"


def test_the_readme_names_every_example():
    said = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([\w.]+)\)", said))
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__", "results"}
    assert there == named
    assert all((EXAMPLES / name).exists() for name in named)


def test_the_tests_of_the_clone_leave_the_examples_out_unless_they_are_named():
    command = (
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "--bench-backends=numpy",
    )
    others = (f"--ignore-glob={path}" for path in EXAMPLES.parent.iterdir() if path.is_dir() and path != EXAMPLES)
    assert "examples/" not in run(ROOT, *command, "tests", "--ignore-glob=*/tests/test_*.py", *others).stdout
    named = run(ROOT, *command, "--benchmark-only", "tests/examples").stdout
    assert "tests/examples/test_own_function.py::test_gelu[numpy-cpu-1000]" in named
    assert "tests/examples/bench_own_workload.py::test_square_root[numpy-cpu-float32-10000]" in named
