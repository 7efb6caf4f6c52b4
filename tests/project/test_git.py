"""What git does with this repository: results keep their bytes."""

import shutil
import subprocess

import pytest

from tests.support import ROOT
from tests.support.tables import processes, write


def git(*arguments):
    name = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.safecrlf=false"]
    subprocess.run(["git", *name, *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_a_clone_with_other_line_ends_has_the_results_as_they_were_written(tmp_path):
    ours = tmp_path / "ours"
    run = write(ours / "results", processes([1.0]))
    shutil.copy(ROOT / ".gitattributes", ours)
    (ours / "other.txt").write_text("a\n")
    git("init", "-q", ours)
    git("-C", ours, "add", ".")
    git("-C", ours, "commit", "-q", "-m", "a run")
    git("clone", "-q", "-c", "core.autocrlf=true", ours, tmp_path / "theirs")
    assert (tmp_path / "theirs" / "other.txt").read_bytes() == b"a\r\n"
    for path in run.iterdir():
        assert (tmp_path / "theirs" / path.relative_to(ours)).read_bytes() == path.read_bytes()
