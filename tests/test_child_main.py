"""A file of the user with the name of a module of Python hides nothing where that can be, and is named where it does."""

import os
import subprocess
import sys

import pytest

from bench_core import child_main
from tests.support import ROOT

SCRIPT = """
import bench_core
bench_core.measure(abs, 3)
"""


def run_in(folder, *arguments, path=()):
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, path)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def shadowing(tmp_path):
    folder = tmp_path / "shadowing"
    folder.mkdir()
    for name in ("statistics", "signal", "csv", "queue"):
        (folder / f"{name}.py").write_text("", encoding="utf-8")
    return folder


def test_the_command_line_has_the_working_folder_last(shadowing):
    done = run_in(shadowing, "-m", "bench_core", "plot", "nothing")
    assert done.stderr == "bench-core: nothing: no such file or folder\n"


@pytest.mark.parametrize("command", ["--version", "list"])
def test_the_command_line_names_a_file_that_hides_a_module_of_python_in_one_line(shadowing, tmp_path, command):
    """Found when it starts, and when a command is imported."""
    kept = "csv" if command == "--version" else "signal"
    for file in shadowing.iterdir():
        if file.stem != kept:
            file.unlink()
    done = run_in(tmp_path, "-m", "bench_core", command, path=[shadowing])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench-core: {shadowing / kept}.py: hides a module of Python, rename it (")


def test_a_script_is_told_which_file_beside_it_hides_a_module_of_python(shadowing):
    (shadowing / "mine.py").write_text(SCRIPT, encoding="utf-8")
    done = run_in(shadowing, "mine.py")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {shadowing / 'signal.py'}: hides a module of Python, rename it (")


def test_a_file_that_nobody_has_imported_is_not_blamed(shadowing, monkeypatch):
    monkeypatch.syspath_prepend(str(shadowing))
    child_main.name_hiding(ImportError("for another reason"))
    try:
        exec(compile("1 / 0", str(shadowing / "queue.py"), "exec"))
    except ZeroDivisionError as error:
        with pytest.raises(ImportError, match=r"queue\.py: hides a module of Python, rename it \(division by zero\)"):
            child_main.name_hiding(error)
