"""Output in any encoding; output that is lost ends a command quietly, with an exit code that means nothing else."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_core.cli import streams
from tests.support.tables import processes, write

PROGRAM = (sys.executable, "-m", "bench_core")


def shell(line, *arguments, **environ):
    """Run a line of sh, in which "$@" is the command with these arguments."""
    command = ["sh", "-c", line, "sh", *PROGRAM, *map(str, arguments)]
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


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$@" > /dev/full', streams.OUTPUT_LOST, f"bench-core: stdout: {os.strerror(errno.ENOSPC)}\n"),
        ('"$@" >&-', streams.OUTPUT_LOST, f"bench-core: stdout: {os.strerror(errno.EBADF)}\n"),
        ('{ sleep 0.2; "$@"; echo $? >&2; } | true', 0, f"{streams.NOT_READ}\n"),
    ],
    ids=["full", "closed", "pipe"],
)
@pytest.mark.parametrize("command", ["compare", "--help"])
def test_lost_output_ends_a_command_in_one_line_at_most(table, line, code, said, command):
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    done = shell(line, command, *([] if command == "--help" else [f"a={table}", f"b={table}"]))
    assert (done.returncode, done.stderr.decode(), done.stdout) == (code, said, b"")


def test_output_to_a_file_needs_no_stdout(table, tmp_path):
    done = shell('"$@" >&-', "compare", f"a={table}", f"b={table}", "-o", tmp_path / "out.csv")
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out.csv").read_text().startswith("comparison_version,")


def test_an_error_of_another_file_is_not_taken_for_one_of_stdout(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(OSError, match="No space"), streams.guarded():
        raise OSError(errno.ENOSPC, "No space", "table.csv")
