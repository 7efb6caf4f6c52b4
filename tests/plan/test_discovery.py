"""A probe answers whatever the library does to its process."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.plan import discovery
from bench_core.plan.discovery import Device, Probe, probe
from bench_core.records import Fact


@pytest.fixture
def with_cupy(tmp_path):
    """Return a function that installs a package called cupy for child processes only."""

    def install(source: str) -> dict[str, str]:
        (tmp_path / "cupy").mkdir()
        (tmp_path / "cupy" / "__init__.py").write_text(source)
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return install


def test_numpy_is_found_with_its_library():
    found = probe("numpy")
    assert found.available
    assert [d.device for d in found.devices] == ["cpu"]
    assert found.devices[0].facts["numpy"] == Fact(found.version, "numpy.__version__")


def test_missing_library_is_a_reason(tmp_path):
    found = probe("cupy", environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (found.available, found.reason_code, found.devices) == (False, "not_installed", ())


def test_unknown_backend_is_a_reason():
    assert probe("nonesuch").reason_code == "unknown_backend"


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("raise RuntimeError('libcuda.so.1: no such file')", "import_failed", "libcuda.so.1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "SIGSEGV"),
        ("import os; os._exit(3)", "crashed", "exit code 3"),
        ("import sys; sys.exit('go away')", "crashed", "go away"),
        ("while True: pass", "timeout", "1.5 s"),
    ],
)
def test_broken_library_is_a_reason(with_cupy, source, code, words):
    found = probe("cupy", timeout=1.5 if code == "timeout" else 60, environ=with_cupy(source))
    assert found.reason_code == code
    assert words in found.reason


def test_reason_names_no_folder(with_cupy, tmp_path):
    """Messages of libraries hold paths, and reasons end up in published tables."""
    found = probe("cupy", environ=with_cupy("raise OSError(f'cannot load {__file__}')"))
    assert "__init__.py" in found.reason
    assert tmp_path.name not in found.reason


def test_garbage_on_standard_output_does_not_hide_the_answer(with_cupy):
    """Both Python's print and a write to the file descriptor end up on standard error."""
    source = "import os\nprint('{\"backend\": \"cupy\"}')\nos.write(1, b'noise\\xff')\nraise ImportError('broken')"
    command = [sys.executable, "-m", "bench_core.plan.discovery", "cupy"]
    child = subprocess.run(command, env=with_cupy(source), capture_output=True, check=True)
    assert json.loads(child.stdout)["reason_code"] == "import_failed"
    assert b"noise" in child.stderr


def test_library_that_crashes_on_exit_has_answered(with_cupy):
    source = "import atexit, os\natexit.register(os.abort)\nraise ImportError('broken')"
    assert probe("cupy", environ=with_cupy(source)).reason_code == "import_failed"


class Partly(NumpyBackend):
    """gpu:1 has no compiler, gpu:2 cannot add."""

    def __init__(self, device):
        super().__init__("cpu")
        self.device = device

    def from_host(self, array, dtype=None):
        if self.device == "gpu:1":
            raise RuntimeError("no compiler")
        return array + (self.device == "gpu:2")


@pytest.mark.parametrize(
    ("devices", "usable", "code", "reason"),
    [
        (["gpu:0"], ["gpu:0"], "", ""),
        (["gpu:1"], [], "kernel_failed", "gpu:1 cannot run a kernel: RuntimeError: no compiler"),
        (["gpu:0", "gpu:1"], ["gpu:0"], "", "gpu:1 cannot run a kernel: RuntimeError: no compiler"),
        (["gpu:1", "gpu:0"], ["gpu:0"], "", "gpu:1 cannot run a kernel: RuntimeError: no compiler"),
        (["gpu:2"], [], "kernel_failed", "gpu:2 cannot run a kernel: ArithmeticError: it computes 1 + 1 = 4"),
    ],
)
def test_a_device_that_runs_no_kernel_is_left_out_with_its_reason(monkeypatch, devices, usable, code, reason):
    monkeypatch.setattr(Partly, "devices", lambda: devices)
    monkeypatch.setattr(discovery.registry, "load", lambda name: Partly)
    found = discovery.discover("array")
    assert ([d.device for d in found.devices], found.reason_code) == (usable, code)
    assert [found.reason, *found.broken.values()] == (
        ["", reason] if usable and reason else [reason] * (1 + bool(code))
    )
    assert discovery._parse(json.dumps(discovery.probe_to_json(found))) == found


def test_each_device_is_done_with_before_the_next_one_is_chosen(monkeypatch):
    """Where a library computes on the device chosen last, no device may be judged by another's answer."""
    chosen = []

    class Choosing(NumpyBackend):
        def __init__(self, device):
            super().__init__("cpu")
            self.device = device
            chosen.append(device)

        def from_host(self, array, dtype=None):
            assert chosen[-1] == self.device
            return array

    monkeypatch.setattr(Choosing, "devices", lambda: ["gpu:0", "gpu:1"])
    monkeypatch.setattr(discovery.registry, "load", lambda name: Choosing)
    found = discovery.discover("array")
    assert ([d.device for d in found.devices], found.broken) == (["gpu:0", "gpu:1"], {})


def test_a_probe_survives_the_way_through_json():
    facts = {"gpu.memory": Fact(80, "driver"), "gpu.ecc": Fact(reason="not supported")}
    found = Probe("cupy", "14.0", (Device("cuda:0", "H100", "cuBLAS 13.0.2", facts),))
    assert discovery._parse(json.dumps(discovery.probe_to_json(found))) == found


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", '{"backend": "x", "devices": [1]}', '{"a": 1}'])
def test_other_output_is_not_taken_for_an_answer(line):
    assert discovery._parse(line) is None


def test_importing_the_module_imports_no_array_library():
    code = "import sys, bench_core.plan.discovery; print([m for m in ('torch', 'cupy') if m in sys.modules])"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert child.stdout.strip() == "[]"


def test_probes_that_a_file_has_are_not_made_again_and_others_are_added_to_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(discovery, "probe", lambda name: made.append(name) or Probe(name, "1", (Device("cpu", name),)))
    kept = tmp_path / "probes.jsonl"
    first = discovery.probe_all(["numpy"], kept)
    assert discovery.probe_all(["numpy", "torch:cpu", "numpy:cpu"], kept)["numpy"] == first["numpy"]
    assert made == ["numpy", "torch"]
    assert set(discovery.probe_all(["torch", "numpy"], kept)) == {"torch", "numpy"}
    assert made == ["numpy", "torch"]


def test_a_process_that_the_system_refuses_is_a_reason(monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(discovery.subprocess, "Popen", refuse)
    found = probe("numpy")
    assert (found.reason_code, found.devices) == ("not_started", ())
    assert os.strerror(errno.EAGAIN) in found.reason
