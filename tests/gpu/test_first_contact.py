"""The script for the first minutes on a GPU machine still runs: its text, on the stand-ins, from a bare checkout."""

import ast
import csv
import os
import re
import subprocess
import sys
import tarfile
from importlib import import_module

import pytest

from bench_core.backends import registry
from bench_core.backends.cupy import CupyBackend
from bench_core.machine import nvml
from tests.standin import install as standin
from tests.support import bare

SCRIPT = bare.ROOT / "tests" / "gpu" / "first_contact.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")
# A python3 that measures less, and no PyTorch: the stand-ins are CuPy and the driver.
LESS = """#!/bin/sh
[ "$2" = pytest ] || exec {python} "$@"
for given; do
  shift
  case $given in
    --bench-preset=*) given=--bench-preset=smoke;;
    --bench-backends=*) given=--bench-backends=cupy;;
    --bench-budget=*) given=--bench-budget=0.01;;
  esac
  set -- "$@" "$given"
done
exec {python} "$@" --bench-budget=0.01 -k "triad and float64"
"""


def test_it_can_be_pasted_and_says_what_it_does():
    assert len(TEXT) < 2000
    assert TEXT.startswith("# First contact")
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0


def test_its_parts_end_within_nine_minutes():
    """A call on a machine that is lent has ten; what is still to come is cut to what is left of the nine."""
    (limit,) = re.findall(r"t=\$\(\((\d+)-SECONDS\)\)", TEXT)
    (grace,) = re.findall(r"timeout -k (\d+)", TEXT)
    assert int(limit) + int(grace) <= 9 * 60


def test_every_name_that_its_python_uses_exists():
    """Every name of PyTorch and of the suite that its lines of Python use."""
    torch = pytest.importorskip("torch")
    (source,) = re.findall(r"<<'P'\n(.*?)^P$", TEXT, re.DOTALL | re.MULTILINE)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(import_module(node.module), name.name) for name in node.names)
    known = {"torch": torch, "nvml": nvml}
    backend = [CupyBackend, registry.load("torch")]
    for text in {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}:
        first, _, rest = text.partition(".")
        if first == "b":
            assert all(hasattr(kind, rest) for kind in backend), text
        elif first in known:
            found = known[first]
            for name in rest.split("."):
                found = getattr(found, name)


def test_each_of_its_choices_selects_a_case():
    """A case that is renamed would leave its choice empty, and the run would not say so."""
    (chosen,) = re.findall(r'-k "(.*?)"$', TEXT, re.MULTILINE)
    options = ("--benchmark-only", "--bench-preset=standard", "--bench-backends=cupy,torch:cuda", "--collect-only")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "benchmarks", *options, "-q"]
    done = subprocess.run(command, cwd=bare.ROOT, capture_output=True, text=True, check=True)
    ids = [line.lower() for line in done.stdout.splitlines() if "[" in line]
    assert ids
    for choice in chosen.split(" or "):
        words = re.sub(r"\b(?!(?:and|or|not)\b)\w+", lambda word: f"({word[0]!r} in item)", choice)
        assert [item for item in ids if eval(words, {"item": item})], choice


@pytest.fixture(scope="module")
def contact(tmp_path_factory):
    """The script's run on a machine with the stand-ins and no nvidia-smi: what it printed, and the folder it filled."""
    folder = tmp_path_factory.mktemp("contact")
    checkout = bare.make(folder)
    python3 = folder / "programs" / "python3"
    python3.parent.mkdir()
    python3.write_text(LESS.format(python=checkout.python), encoding="utf-8")
    python3.chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "CUDA"))}
    path = f"{python3.parent}{os.pathsep}{os.environ['PATH']}"
    environ = clean | {"PATH": path, "PYTHONPATH": str(standin.FOLDER), "OUT": str(folder / "out"), "COLUMNS": "100"}
    environ["STANDIN_EAGER"] = "1"
    pasted = ["bash", "-c", TEXT]
    done = subprocess.run(
        pasted, cwd=checkout.checkout, env=environ, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder / "out"


def test_it_tells_what_the_machine_is(contact):
    said, out = contact
    assert "NVIDIA H100 80GB HBM3" in (out / "env.log").read_text(encoding="utf-8")
    assert "Advice" in said
    assert re.search(r"^ms: energy [\d.e-]+ state [\d.e-]+$", said, re.MULTILINE)


@pytest.mark.parametrize("part", ["smoke", "part", "quick"])
def test_each_part_shows_its_table_and_its_rows_come_back(contact, part):
    """Even where the lines of Python before it failed: there is no GPU that PyTorch could use."""
    said, out = contact
    shown = said.partition(f"== {part} rc=0 ")[2].partition("== ")[0]
    assert re.search(r"^triad 1MiB float64 +cupy +(?:\? )?\S+ [MG]B/s", shown, re.MULTILINE), said
    with tarfile.open(out / "r.tgz") as archive:
        names = [name for name in archive.getnames() if re.search(rf"/{part}/.*/results\.csv$", name)]
        (name,) = names
        rows = list(csv.DictReader(archive.extractfile(name).read().decode("utf-8").splitlines()))
    assert {(row["backend"], row["device_type"], row["status"]) for row in rows} == {("cupy", "cuda", "ok")}
    assert {row["clock"] for row in rows if row["metric"] in {"time", "device_time"}} >= {"wall"}


def test_the_archive_holds_the_journal_of_each_run(contact):
    _, out = contact
    with tarfile.open(out / "r.tgz") as archive:
        assert len([name for name in archive.getnames() if name.endswith("journal.jsonl")]) == 3
