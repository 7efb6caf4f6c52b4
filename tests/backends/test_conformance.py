"""The tests for any backend pass for ours, and fail for backends that are broken on purpose."""

import os
import subprocess
import sys

import pytest

from tests.standin import install
from tests.support import ROOT

BROKEN = """
import numpy as np
from bench_core.backends.base import Memory, Timed
from bench_core.backends.numpy import NumpyBackend


class ForgetsTheDtype(NumpyBackend):
    name = "forgets_the_dtype"

    def from_host(self, array, dtype=None):
        return np.array(array)


class SharesMemory(NumpyBackend):
    name = "shares_memory"

    def from_host(self, array, dtype=None):
        return np.asarray(array, dtype)


class HasAClockThatStands(NumpyBackend):
    name, has_device_clock = "has_a_clock_that_stands", True

    def device_time(self, call, calls):
        return Timed(1e-9 * calls)


class HasNoMemory(NumpyBackend):
    name = "has_no_memory"

    def memory(self):
        return Memory(0, 0, 0)


class TakesEveryErrorForMemory(NumpyBackend):
    name = "takes_every_error_for_memory"

    def is_out_of_memory(self, error):
        return isinstance(error, Exception)


class IgnoresThreads(NumpyBackend):
    name = "ignores_threads"

    @classmethod
    def environ(cls, threads, implementation):
        return {}


class IsOnAnyDevice(NumpyBackend):
    name = "is_on_any_device"

    def __init__(self, device):
        super().__init__("cpu")
        self.device = device


class RoundsToFloat32(NumpyBackend):
    name = "rounds_to_float32"

    def from_host(self, array, dtype=None):
        return np.array(array, dtype=dtype).astype(np.float32)
"""
NAMES = {
    "forgets_the_dtype": "ForgetsTheDtype",
    "shares_memory": "SharesMemory",
    "has_a_clock_that_stands": "HasAClockThatStands",
    "has_no_memory": "HasNoMemory",
    "takes_every_error_for_memory": "TakesEveryErrorForMemory",
    "ignores_threads": "IgnoresThreads",
    "is_on_any_device": "IsOnAnyDevice",
    "rounds_to_float32": "RoundsToFloat32",
}


def conform(*given, folder, **environ):
    """Run the tests for these backends, with these options, in an empty folder; return their report."""
    backends = [each for each in given if not each.startswith("-")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs"]
    command += ["bench_core.backends.conformance", f"--bench-backends={','.join(backends)}"]
    command += [each for each in given if each.startswith("-")]
    path = os.pathsep.join(filter(None, [environ.pop("PYTHONPATH", ""), str(ROOT)]))
    env = {**os.environ, **environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_every_backend_of_ours_conforms(tmp_path):
    done = conform("numpy", "torch", "jax", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "numpy:cpu" not in done.stdout, "nothing of numpy fails"


def test_cupy_conforms_on_the_stand_in(tmp_path):
    """But for its times: the stand-in's work is done by the host, at once."""
    timed = "waits_for_its_work or device_clock"
    done = conform("cupy", f"-knot ({timed})", folder=tmp_path, **install.environ())
    assert done.returncode == 0, done.stdout


def test_a_backend_that_is_not_installed_is_skipped_with_the_reason(tmp_path):
    done = conform("cupy", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "skipped" in done.stdout


def test_each_fault_is_found(tmp_path):
    """In one run: of each broken backend something fails, and of the sound one beside them nothing."""
    (tmp_path / "broken_backends.py").write_text(BROKEN, encoding="utf-8")
    metadata = tmp_path / "broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n", encoding="utf-8")
    points = "".join(f"{name} = broken_backends:{kind}\n" for name, kind in NAMES.items())
    (metadata / "entry_points.txt").write_text(f"[bench_core.backends]\n{points}", encoding="utf-8")
    done = conform("numpy", *NAMES, folder=tmp_path, PYTHONPATH=str(tmp_path))
    failed = {line.partition("[")[2].partition(":")[0] for line in done.stdout.splitlines() if "FAILED" in line}
    assert failed == set(NAMES), done.stdout


@pytest.mark.parametrize("entry", ["no_such_backend"])
def test_an_unknown_backend_is_one_line(tmp_path, entry):
    done = conform(entry, folder=tmp_path)
    assert done.returncode != 0
    assert "no backend 'no_such_backend'" in done.stdout + done.stderr
