"""The documents are correct: examples run, all columns and options are explained, linked files exist."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from bench_core.pytest_options import OPTIONS
from bench_core.records import Row, Status
from tests.support import ROOT
from tests.support.catalogue import catalogue
from tests.support.documents import DOCUMENTS, README, TOLD
from tests.support.planned import FILES, workloads


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)


def test_every_column_and_status_is_explained():
    said = text("results/README.md")
    assert [f.name for f in fields(Row) if f"`{f.name}`" not in said] == []
    assert [status for status in Status if f"`{status}`" not in said] == []


def test_nothing_that_git_ignores_is_committed():
    """Such a file blocks the program that creates it, as a committed file `.venv` blocked the virtual environment."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git here")
    listed = subprocess.run(["git", "ls-files", "-ci", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    assert listed.stdout == b""


def test_every_option_is_explained():
    assert [name for name in OPTIONS if f"--bench-{name}" not in TOLD] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(document):
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    assert [link for link, _ in links if not (document.parent / link).exists()] == []
    targets = [(document.parent / link if link else document, anchor) for link, anchor in links if anchor]
    assert [(path, anchor) for path, anchor in targets if anchor not in anchors(path)] == []


def anchors(path):
    """Return the anchors that GitHub gives to the headings of a file."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_the_workload_of_the_example_measures_itself_and_is_right(installed, tmp_path):
    (example,) = blocks("benchmarks/README.md", "python")
    (tmp_path / "bench_own.py").write_text(example, encoding="utf-8")
    (documented,) = re.findall(r"`pytest (--benchmark-only [^`]*)` measures it", text("benchmarks/README.md"))
    options = ["--bench-preset=smoke", "--bench-backends=numpy,torch:cpu", "--bench-budget=0.02"]
    options += ["-q", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *documented.split(), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "square 1000000 float32" in done.stdout


def test_every_workload_of_the_catalogue_exists_where_it_says():
    """Not the other way round: a workload that is added needs no line in the README."""
    listed = list(catalogue())
    assert len(listed) > 40
    there = {(path.stem, w.suite, w.name) for path in FILES for w in workloads([path])}
    assert [row for row in listed if row not in there] == []
