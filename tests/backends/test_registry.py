"""A backend is found by its name, that of another package by its entry point."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench_core.backends import registry
from bench_core.errors import Unavailable, UsageError
from bench_core.plan import discovery, doctor
from bench_core.plan.discovery import Device, Probe
from bench_core.plan.targets import Targets, require_known


def test_an_unknown_backend_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="no backend 'mlx'; available: numpy, cupy, torch, jax"):
        registry.load("mlx")


def test_a_third_party_adds_a_backend_through_its_entry_point(tmp_path):
    """A package on the path with an entry point and nothing else: it is listed, loaded and probed."""
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[bench_core.backends]\nother = other_backend:Other\n")
    source = "from bench_core.backends.numpy import NumpyBackend\nclass Other(NumpyBackend):\n    name = 'other'\n"
    (tmp_path / "other_backend.py").write_text(source)
    code = "from bench_core.backends import registry; from bench_core.plan.discovery import probe; "
    code += "print(registry.names()[-1], probe('other').devices[0].device)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["other", "cpu"]


def test_the_packages_are_searched_once_and_never_for_a_backend_of_ours(monkeypatch):
    """A search reads a file of every installed package, and a run asks for the class of a backend in every case."""
    searched = []
    monkeypatch.setattr(registry, "entry_points", lambda group: searched.append(group) or [])
    monkeypatch.setattr(sys, "path", [*sys.path, "a folder of its own"])
    for name in ("numpy", "torch", "numpy"):
        registry.require(name)
        registry.load(name)
    assert searched == []
    assert [registry.names() for _ in range(3)] == [["numpy", "cupy", "torch", "jax"]] * 3
    assert searched == ["bench_core.backends"]


class Half:
    dialect = "array"


@pytest.mark.parametrize(
    ("loads", "code", "words"),
    [
        (
            lambda: __import__("no_such"),
            "import_failed",
            "ModuleNotFoundError: No module named 'no_such'",
        ),
        (lambda: sys.exit("go away"), "import_failed", "SystemExit: go away"),
        (lambda: Half, "no_backend", "lacks devices_expected, devices, environ"),
    ],
    ids=["a module is missing", "it exits", "it is no backend"],
)
def test_a_plug_in_that_cannot_be_loaded_is_one_backend_less_and_nothing_more(monkeypatch, loads, code, words):
    """The plan goes on with the others and says why; who asks for it is told in one line; doctor explains it."""
    point = SimpleNamespace(name="mine", value="my_package:Mine", load=loads)
    monkeypatch.setattr(registry, "_registered", lambda path: {"mine": point})
    with pytest.raises(Unavailable, match=re.escape(words)) as caught:
        registry.load("mine")
    assert caught.value.code == code
    found = discovery.discover("mine")
    assert (found.reason_code, found.devices) == (code, ())
    numpy = Probe("numpy", "2", (Device("cpu"),))
    monkeypatch.setattr(discovery, "probe", {"mine": found, "numpy": numpy}.get)
    targets = Targets(["numpy", "mine"], discovery.probe_all(["numpy", "mine"]))
    assert [target.backend for target in targets.taking_part] == ["numpy"]
    assert words in " ".join(targets.left_out())
    for refuse in (lambda: require_known(["mine"], "--bench-backends"), lambda: targets.require(["mine"])):
        with pytest.raises(UsageError, match=re.escape(words)):
            refuse()
    advice = doctor.examine(doctor.Findings({}, [numpy, found]))
    assert [words in item.why for item in advice] == [True]
