"""Output in any encoding; output that is lost ends a command quietly, with an exit code that means nothing else."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_core import child_process, streams
from bench_core.records import Status
from bench_core.results.reader import read_rows
from tests.support import ROOT
from tests.support.tables import processes, write

PROGRAM = (sys.executable, "-m", "bench_core")


def shell(line, *arguments, run=PROGRAM, **environ):
    """Run a line of sh, in which "$@" is a program with these arguments."""
    command = ["sh", "-c", line, "sh", *run, *map(str, arguments)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, env=buffered | environ, capture_output=True, timeout=60, check=False)


@pytest.fixture
def table(tmp_path):
    return write(tmp_path, processes([1.0, 1.0]), "a")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "koi8-r", "ascii"])
def test_what_an_encoding_lacks_is_written_in_ascii(table, encoding):
    done = shell('"$@"', "compare", f"a={table}", f"b={table}", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    rule = "─" if encoding in {"koi8-r", "ascii"} else "-"  # click takes ASCII for a locale that was not set: UTF-8
    assert ("\n" + 5 * rule).encode("utf-8" if encoding == "ascii" else encoding) in done.stdout


def test_text_from_elsewhere_is_an_escape_where_an_encoding_lacks_it(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "cp1252"))
    with streams.guarded():
        print("5 ±1 % 東 \udcff")
    assert shown.getvalue() == rb"5 " + "±".encode("cp1252") + rb"1 % \u6771 \udcff" + os.linesep.encode()


LOST = {  # how: the line of sh, the exit code, what is said of it on stderr
    "full": ('"$@" > /dev/full', streams.OUTPUT_LOST, f"bench-core: stdout: {os.strerror(errno.ENOSPC)}\n"),
    "closed": ('"$@" >&-', streams.OUTPUT_LOST, f"bench-core: stdout: {os.strerror(errno.EBADF)}\n"),
    "pipe": ('{ sleep 0.2; "$@"; echo $? >&2; } | true', 0, f"{streams.NOT_READ}\n"),
}
SUITE = """
from tests.support.workloads import Double
import pytest

@pytest.mark.workload(Double())
def test_double(measure):
    measure()
"""
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


@pytest.mark.parametrize(
    ("command", "how"),
    [
        pytest.param("compare", "full", marks=needs_full),
        ("compare", "closed"),
        ("compare", "pipe"),
        ("--help", "closed"),
    ],
)
def test_lost_output_ends_a_command_in_one_line_at_most(table, how, command):
    line, code, said = LOST[how]
    done = shell(line, command, *([] if command == "--help" else [f"a={table}", f"b={table}"]))
    assert (done.returncode, done.stderr.decode(), done.stdout) == (code, said, b"")


@pytest.mark.parametrize(
    ("how", "unbuffered"), [pytest.param("full", "1", marks=needs_full), ("closed", ""), ("pipe", "")]
)
def test_pytest_goes_on_in_a_child_whose_output_is_lost(tmp_path, how, unbuffered):
    line, code, said = LOST[how]
    (tmp_path / "test_one.py").write_text("def test_one(tmp_path): open('done', 'w').close()")
    run = child_process.command("pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "test_one.py")
    done = shell(f"cd {tmp_path}; {line}", run=run, PYTHONUNBUFFERED=unbuffered, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert (done.returncode, done.stderr.decode(), done.stdout) == (code, said, b"")
    assert (tmp_path / "done").exists()


def test_a_run_whose_stdout_is_closed_measures_and_writes_all(tmp_path):
    line, code, said = LOST["closed"]
    (tmp_path / "bench_one.py").write_text(SUITE)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = ["run", tmp_path, f"--bench-output={tmp_path}", "--bench-backends=numpy", "--bench-budget=0.01"]
    done = shell(line, *options, PYTHONPATH=path)
    assert (done.returncode, done.stderr.decode(), done.stdout) == (code, said, b"")
    (results,) = tmp_path.glob("*/*/results.csv")
    assert {row.status for row in read_rows(results)} == {Status.OK}
    assert (results.parent / "run.json").exists()


@pytest.mark.parametrize(
    ("how", "given", "code", "unbuffered"),
    [
        pytest.param("2> /dev/full", "nosuch.csv", 3, "", marks=needs_full),
        pytest.param("2> /dev/full", "--nosuch", 2, "1", marks=needs_full),
        ("2>&- >&-", "nosuch.csv", 3, ""),
    ],
    ids=["full", "full and unbuffered", "closed"],
)
def test_a_lost_stderr_changes_no_exit_code(how, given, code, unbuffered):
    done = shell(f'"$@" {how}', "compare", given, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_output_to_a_file_needs_no_stdout(table, tmp_path):
    done = shell('"$@" >&-', "compare", f"a={table}", f"b={table}", "-o", tmp_path / "out.csv")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out.csv").read_text().startswith("comparison_version,")


def test_an_error_of_another_file_is_not_taken_for_one_of_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(OSError, match="No space"), streams.guarded():
        raise OSError(errno.ENOSPC, "No space", "table.csv")


def test_the_streams_of_before_are_put_back():
    before = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    with pytest.raises(SystemExit, match="3"), streams.guarded():
        raise SystemExit(3)
    assert (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) == before


def test_what_is_written_to_python_s_first_stream_keeps_its_place():
    """pytest -s and others write there."""
    code = "import sys; from bench_core import streams\nwith streams.guarded():\n"
    code += " sys.stdout.write('a'); sys.__stdout__.write('b'); sys.stdout.write('c')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "abc"


def test_an_output_file_that_is_a_pipe_nobody_reads_ends_as_such_output_does(table):
    line, _, said = LOST["pipe"]
    done = shell(line, "compare", f"a={table}", f"b={table}", "-o", "/dev/stdout", "--format", "csv")
    assert done.stderr.decode() == said


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", "--\xb1"), ("utf-8", "──±"), (None, "──±")])
def test_a_text_is_made_to_fit_the_encoding_of_stdout(monkeypatch, encoding, shown):
    out = io.TextIOWrapper(io.BytesIO(), encoding) if encoding else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert streams.plainer("──±") == shown
