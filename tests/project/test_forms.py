"""The forms that benchmarks/README.md lists for each workload are those that the workloads have."""

from __future__ import annotations

import os
import re

import pytest

from bench_core.records import Target
from tests.support import ROOT
from tests.support.catalogue import catalogue
from tests.support.planned import WORKLOADS

PATH = ROOT / "benchmarks" / "README.md"
MARKS = re.compile(r"(?<=test_forms.py \(UPDATE_GOLDEN=1\) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
COLUMNS = {
    "NumPy": Target("numpy", "array", "cpu"),
    "CuPy": Target("cupy", "array", "cuda:0"),
    "PyTorch on a CPU": Target("torch", "torch", "cpu"),
    "PyTorch on CUDA": Target("torch", "torch", "cuda:0"),
    "JAX": Target("jax", "jax", "cpu"),
}
# A workload that is in no catalogue is left out, so that none that is added asks for a line.
NAMED = [name for _, _, name in catalogue()]
CATALOGUED = [workload for workload in WORKLOADS if workload.name in NAMED]


def forms(workload, target):
    """Return the implementations besides `default`; a dash where there is not even that."""
    names = list(workload.builders(target))
    return " ".join(f"`{name}`" for name in names if name != "default") if names else "-"


def table():
    rows = [
        (f"`{workload.name}`", *(forms(workload, target) for target in COLUMNS.values())) for workload in CATALOGUED
    ]
    kept = [row for row in rows if {*row[1:]} - {"", "-"}]
    lines = [("workload", *COLUMNS), ("---",) * (1 + len(COLUMNS)), *kept]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |").replace("|  |", "| |") for line in lines)


def test_the_table_lists_the_forms_of_every_workload():
    made, text = table(), PATH.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(MARKS.sub(lambda _: made, text), encoding="utf-8")
    else:
        assert MARKS.search(text)[0] == made


def section():
    return PATH.read_text(encoding="utf-8").partition("## Forms")[2].partition("\n## ")[0]


def test_every_implementation_is_explained():
    explained = set(re.findall(r"^\| `(\w+)`", section(), re.MULTILINE))
    have = {name for workload in CATALOGUED for target in COLUMNS.values() for name in workload.builders(target)}
    assert have - {"default"} <= explained


@pytest.mark.parametrize(("column", "library"), [(1, "NumPy"), (2, "CuPy")])
def test_every_tuned_form_says_why_it_is_faster(column, library):
    """In two sentences at least."""
    why = section().partition("Why `tuned` is faster")[2]
    rows = [line.split("|")[1:] for line in why.splitlines() if line.startswith("| `")]
    said = {name: row[column] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    tuned = {each.name for each in CATALOGUED if "tuned" in each.builders(COLUMNS[library])}
    if library == "NumPy":  # its products are a matter of OpenBLAS alone
        tuned -= {each.name for each in CATALOGUED if each.suite == "matmul"}
    assert {name for name, text in said.items() if text.strip()} == tuned
    assert [name for name in tuned if not _sentences(said[name])] == []


def _sentences(text):
    """Whether there are two sentences: the first ends with a full stop or a colon."""
    return re.search(r"[.:] \S", text) is not None
