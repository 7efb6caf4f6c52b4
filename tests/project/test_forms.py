"""The implementations that benchmarks/README.md lists for each workload are those that the workloads have."""

from __future__ import annotations

import os
import re

import pytest

from bench_core.backends import registry
from bench_core.errors import Unsupported
from bench_core.records import Case, Machine, Preset, Status, Target
from tests.support import ROOT, kernels
from tests.support.catalogue import catalogue
from tests.support.planned import WORKLOADS

PATH = ROOT / "benchmarks" / "README.md"
MARKS = re.compile(r"(?<=test_forms.py \(UPDATE_GOLDEN=1\) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
MACHINE = Machine(1 << 25, 2, ranks=4)
COLUMNS = {
    "NumPy": Target("numpy", "array", "cpu"),
    "CuPy": Target("cupy", "array", "cuda:0"),
    "PyTorch on a CPU": Target("torch", "torch", "cpu"),
    "PyTorch on CUDA": Target("torch", "torch", "cuda:0"),
    "JAX on a CPU": Target("jax", "jax", "cpu"),
    "JAX on an accelerator": Target("jax", "jax", "cuda:0"),
}
# A workload that is in no catalogue is left out, so that none that is added asks for a line.
BY_NAME = {workload.name: workload for workload in WORKLOADS}
CATALOGUED = [BY_NAME[name] for _, _, name in catalogue()]


def on(target):
    """Return the backend of a target as far as it is known without library and device."""
    made = object.__new__(registry.load(target.backend))
    made.device = target.device
    return made


def exists(workload, target, implementation):
    work = next(iter(workload.works(Preset.FULL, MACHINE)))
    try:
        workload.require_supported(on(target), Case(work, target.backend, target.device, implementation))
    except Unsupported:
        return False
    return True


def forms(workload, target):
    """Return the implementations that a target has, those whose builder could only refuse left out."""
    return [name for name in workload.builders(target) if exists(workload, target, name)]


def table():
    def cell(names):
        return " ".join(f"`{name}`" for name in names) or "-"

    rows = [(f"`{each.name}`", *(cell(forms(each, target)) for target in COLUMNS.values())) for each in CATALOGUED]
    return "".join(
        f"| {' | '.join(line)} |\n" for line in [("workload", *COLUMNS), ("---",) * (1 + len(COLUMNS)), *rows]
    )


def test_the_table_lists_the_implementations_of_every_workload():
    made, text = table(), PATH.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(MARKS.sub(lambda _: made, text), encoding="utf-8")
    else:
        assert MARKS.search(text)[0] == made


FEW = [each for each in CATALOGUED if each.suite in {"latency", "transfer"}]  # their kernels are built at once


@pytest.mark.parametrize("column", [column for column in COLUMNS if column != "PyTorch on CUDA"])
def test_what_the_table_lists_can_be_built_and_what_it_does_not_list_is_unsupported(column):
    """JAX's accelerator is its CPU, which has the same memories."""
    target = COLUMNS[column]
    with kernels.backend(target.backend, gpus=2) as made:
        made.device = target.device
        for workload in FEW:
            work = next(iter(workload.works(Preset.SMOKE, MACHINE)))
            names = forms(workload, target)
            for name in names:
                kernels.kernel(workload, work, made, name).run()
            if not names:
                assert kernels.looked_at(workload, work, made).status is Status.UNSUPPORTED, workload.name


def section():
    return PATH.read_text(encoding="utf-8").partition("## Forms")[2].partition("\n## ")[0]


def test_every_implementation_is_explained():
    explained = set(re.findall(r"^\| `(\w+)`", section(), re.MULTILINE))
    have = {name for workload in CATALOGUED for target in COLUMNS.values() for name in forms(workload, target)}
    assert have - {"default"} <= explained


@pytest.mark.parametrize(("column", "library"), [(1, "NumPy"), (2, "CuPy")])
def test_every_tuned_form_says_why_it_is_faster(column, library):
    """In two sentences at least."""
    why = section().partition("Why `tuned` is faster")[2]
    rows = [line.split("|")[1:] for line in why.splitlines() if line.startswith("| `")]
    said = {name: row[column] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    tuned = {each.name for each in CATALOGUED if "tuned" in forms(each, COLUMNS[library])}
    if library == "NumPy":  # its products are a matter of OpenBLAS alone
        tuned -= {each.name for each in CATALOGUED if each.suite == "matmul"}
    assert {name for name, text in said.items() if text.strip()} == tuned
    assert [name for name in tuned if not _sentences(said[name])] == []


def _sentences(text):
    """Whether there are two sentences: the first ends with a full stop or a colon."""
    return re.search(r"[.:] \S", text) is not None
