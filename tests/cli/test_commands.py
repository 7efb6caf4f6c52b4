"""The command line as a whole: help, and completion of the commands, which are imported only when they are used."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from typer.testing import CliRunner

from bench_core.cli import COMMANDS, app, limits, module_of
from bench_core.plan.doctor import Findings
from bench_core.run import replicate
from tests.support import TESTS

FAULTS = TESTS / "faulty" / "faults.py"

PROGRAM = (sys.executable, "-m", "bench_core")


def invoke(*arguments):
    return CliRunner().invoke(app, arguments)


HELP = """
import contextlib, os, sys

bare = set(sys.modules)
import bench_core

print(*sys.modules.keys() - bare)
from bench_core.cli import COMMANDS, app

with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    for command in ([], *([name] for name in COMMANDS)):
        app([*command, "--help"], standalone_mode=False)
print(*sys.modules.keys() - bare)
"""
LIBRARIES = {"numpy", "pandas", "scipy", "pytest", "psutil", "altair", "jinja2", "vl_convert", "duckdb", "pyarrow"}
WORK = {
    "records",
    "machine",
    "backends",
    "plan",
    "results",
    "imported",
    "run",
    "compare",
    "analysis",
    "history",
    "fleet",
}
WORK |= {"render", "pytest_plugin"}


def test_the_package_alone_imports_nothing_and_help_neither_a_large_library_nor_what_does_the_work():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60, check=True)
    package, helped = (set(line.split()) for line in done.stdout.splitlines())
    assert package == {"__future__", "bench_core"}
    assert set(map(module_of, COMMANDS)) <= helped
    assert helped & {*LIBRARIES, *(f"bench_core.{name}" for name in WORK)} == set()


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_h_is_help(command):
    short, long = invoke(*command, "-h"), invoke(*command, "--help")
    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert short.stdout.startswith(f"Usage: {' '.join(['bench-core', *command])} ")


@pytest.mark.parametrize(
    ("given", "passed"),
    [(["-kchase"], ["-kchase"]), (["-p", "no:h", "-qh"], ["-p", "no:h", "-qh"]), (["--", "-h"], ["-h"])],
    ids=" ".join,
)
def test_an_h_in_an_option_of_pytest_is_passed_on(monkeypatch, given, passed):
    seen = []

    def become(program, line):
        seen.extend(line[-len(passed) :])
        raise SystemExit(5)

    monkeypatch.setattr(os, "execv", become)
    assert invoke("run", *given).exit_code == 5
    assert seen == passed


@pytest.fixture
def read_only(monkeypatch):
    """A system on which no folder for temporary files can be written."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])


@pytest.mark.parametrize("command", [("run",), ("run", "--runs", "2"), ("noise",), ("check",)], ids=" ".join)
def test_what_measures_needs_a_folder_for_temporary_files_and_says_so_in_one_line(read_only, monkeypatch, command):
    monkeypatch.setattr(limits, "gather_findings", lambda: Findings({}, []))
    for module, start in ((os, "execv"), (replicate, "repeat"), (replicate, "launch")):
        monkeypatch.setattr(module, start, lambda *_, **__: pytest.fail("pytest was started"))
    done = invoke(*command)
    assert done.exit_code == 2
    assert done.stderr == "bench-core: no folder for temporary files can be written: set TMPDIR to one that can\n"


def test_list_needs_no_folder_for_temporary_files(read_only):
    """pytest captures output in temporary files, unless it is told otherwise."""
    options = ["-c", os.devnull, "--rootdir", str(FAULTS.parent), str(FAULTS), "--bench-backends=numpy"]
    done = invoke("list", "--", *options)
    assert done.exit_code == 0, done.output
    assert "to measure, 0 to skip" in done.stdout


def said(command, **environ):
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_commands_by_the_script_that_it_is_given():
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    script = said(PROGRAM, _BENCH_CORE_COMPLETE="source_bash")
    program = "\n".join(PROGRAM)  # the script splits words at ends of lines alone
    asked = f"COMP_WORDS=(bench-core re); COMP_CWORD=1; _bench_core_completion '{program}'; echo ${{COMPREPLY[@]}}"
    assert said(["bash", "-c", f"{script}\n{asked}"]).split() == ["report"]


def test_a_word_after_a_command_that_is_none_is_not_completed_and_is_no_error():
    words = {"_BENCH_CORE_COMPLETE": "complete_bash", "COMP_WORDS": "bench-core lst --f", "COMP_CWORD": "2"}
    assert said(PROGRAM, **words).strip() == ""


def test_zsh_completes_every_command_and_says_what_it_does():
    offered = said(PROGRAM, _BENCH_CORE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="bench-core ").splitlines()
    assert [line.split('"')[-4] for line in offered] == [*COMMANDS]
    assert '"compare":"Compare results' in offered[COMMANDS.index("compare")]


def test_fish_completes_the_options_of_a_command():
    asked = {"_TYPER_COMPLETE_ARGS": "bench-core run --r", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    offered = said(PROGRAM, _BENCH_CORE_COMPLETE="complete_fish", **asked).splitlines()
    assert [line.split()[0] for line in offered] == ["--runs", "--resume"]
