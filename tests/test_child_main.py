"""A file of the user with the name of a module of Python hides nothing where that can be, and else is named."""

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

    def write(*names):
        for name in names:
            (folder / f"{name}.py").write_text("", encoding="utf-8")
        return folder

    return write


def test_the_command_line_has_the_working_folder_last(shadowing):
    folder = shadowing("statistics", "signal", "inspect", "queue", "dataclasses", "datetime")
    done = run_in(folder, "-m", "bench_core", "report", "nothing", "-o", "page.html")
    assert done.stderr == "bench-core: nothing: no such file or folder\n"


@pytest.mark.parametrize("command", ["--version", "list"])
def test_the_command_line_names_a_file_that_hides_a_module_of_python_in_one_line(shadowing, tmp_path, command):
    """Found when it starts, and when a command is imported."""
    folder = shadowing("inspect" if command == "--version" else "signal")
    (file,) = folder.iterdir()
    done = run_in(tmp_path, "-m", "bench_core", command, path=[folder])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench-core: {file}: hides a module of Python, rename it (")


def test_a_script_is_told_which_file_beside_it_hides_a_module_of_python(shadowing):
    folder = shadowing("signal", "queue")
    (folder / "mine.py").write_text(SCRIPT, encoding="utf-8")
    done = run_in(folder, "mine.py")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {folder / 'signal.py'}: hides a module of Python, rename it (")


def test_a_file_that_nobody_has_imported_is_not_blamed(shadowing, monkeypatch):
    folder = shadowing("queue", "signal")
    monkeypatch.syspath_prepend(str(folder))
    child_main.name_hiding(ImportError("for another reason"))
    child_main.name_hiding(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    try:
        exec(compile("1 / 0", str(folder / "queue.py"), "exec"))
    except ZeroDivisionError as error:
        with pytest.raises(ImportError, match=r"queue\.py: hides a module of Python, rename it \(division by zero\)"):
            child_main.name_hiding(error)


def test_a_file_that_is_meant_and_works_is_not_blamed_for_what_another_lacks(shadowing):
    """Python's own `sched` is used by nobody here: the script's is a helper, and another module is missing."""
    folder = shadowing("sched")
    (folder / "sched.py").write_text("import bench_core\ndef go():\n    bench_core.measure(abs, 3)\n", encoding="utf-8")
    text = "import sys\nsys.modules['numpy'] = None\nimport sched\nsched.go()\n"
    (folder / "mine.py").write_text(text, encoding="utf-8")
    last = run_in(folder, "mine.py").stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: import of numpy halted; None in sys.modules"
