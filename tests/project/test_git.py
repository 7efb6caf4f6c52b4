"""What git and GitHub do with this repository: results keep their bytes, workflows run only what was reviewed."""

import re
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


WORKFLOWS = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "README.md"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_leave_no_credentials(path):
    """A tag can be moved to other code; a token left in the checkout could be read by the code under test."""
    used = re.findall(r"^ +- uses: (.*)\n((?: {8,}.*\n)*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action, options in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert ("persist-credentials: false" in options) is action.startswith("actions/checkout@"), action
