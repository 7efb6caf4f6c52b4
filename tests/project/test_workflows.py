"""The workflows of GitHub: what they use is pinned, and the steps of `results` do here what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT

WORKFLOWS = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "bench_core" / "compare" / "README.md"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_leave_no_credentials(path):
    """A tag can be moved to other code; a token left in the checkout could be read by the code under test."""
    used = re.findall(r"^ +- uses: (.*)\n((?: {8,}.*\n)*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used
    for action, options in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert ("persist-credentials: false" in options) is action.startswith("actions/checkout@"), action


def steps(workflow, job):
    """Return the commands of a job, without those that install."""
    described = yaml.safe_load((ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in described["jobs"][job]["steps"] if "run" in step]
    return [command for command in commands if "pip install" not in command]


def test_the_workflow_of_contributed_runs_validates_them_and_builds_the_report_of_all(installed, tmp_path):
    """As GitHub runs it: each step by `bash -e`, in a checkout."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    said = ""
    for command in steps("results", "validate"):
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert "plausible, one label for each computer" in said
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "<title>bench-core results</title>" in page
    for machine in (path.name for path in (ROOT / "results").iterdir() if path.is_dir()):
        assert machine in page


def test_what_a_pull_request_brings_has_no_right_to_publish():
    described = yaml.safe_load((ROOT / ".github" / "workflows" / "results.yml").read_text(encoding="utf-8"))
    assert described["permissions"] == {"contents": "read"}
    writes = {name for name, job in described["jobs"].items() if "write" in str(job.get("permissions"))}
    assert writes == {"pages"}
    assert "github.event_name != 'pull_request'" in described["jobs"]["pages"]["if"]
