"""A backend is found by its name, that of another package by its entry point."""

import os
import subprocess
import sys

import pytest

from bench_core.backends import registry
from bench_core.errors import UsageError


def test_an_unknown_backend_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="no backend 'jax'; available: numpy, cupy, torch"):
        registry.load("jax")


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
