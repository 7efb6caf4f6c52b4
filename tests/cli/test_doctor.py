"""`bench-core doctor` shows what it found on any machine, and watches the load without counting it twice."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.machine import nvml
from bench_core.plan import findings
from bench_core.plan.discovery import Probe
from tests.standin import install as standin
from tests.support.probes import numpy_probe


@pytest.fixture
def machine(monkeypatch):
    """Replace probes and load readings, so that no process is started and nothing waits."""
    probes = {"numpy": numpy_probe(), "torch": Probe("torch", reason_code="not_installed", reason="torch is [absent]")}
    monkeypatch.setattr(
        "bench_core.plan.discovery.probe", lambda name: probes.get(name, Probe(name, reason_code="crashed", reason="x"))
    )
    monkeypatch.setattr(findings, "LOOK_S", 0.0)
    with standin.pynvml_module() as pynvml:
        nvml._nvml.cache_clear()
        yield SimpleNamespace(probes=probes, pynvml=pynvml)
    nvml._nvml.cache_clear()


def test_command_shows_everything(machine):
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    for words in ("cpu.model", "numpy 2.4 cpu", "torch is [absent]", "NVIDIA H100 80GB HBM3", "85.5 GB", "Advice"):
        assert words in result.output


def test_no_text_of_the_environment_a_driver_or_a_library_reaches_the_terminal_raw(machine, monkeypatch):
    evil = "x\x1b]0;owned\x07\u202ey [red]"
    monkeypatch.setenv("OMP_NUM_THREADS", evil)
    monkeypatch.setattr(machine.pynvml, "driver", None)
    monkeypatch.setattr(nvml, "cards", lambda: (_ for _ in ()).throw(nvml.NoDriver(evil)))
    device = replace(numpy_probe().devices[0], name=evil, library=evil)
    machine.probes |= {"numpy": replace(numpy_probe(), devices=(device,)), "torch": Probe("torch", reason=evil)}
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "".join(result.output.split("\n")).isprintable()
    assert result.output.count(r"x\x1b]0;owned\x07\u202ey [red]") >= 4  # of a variable, a device, backend and driver


def test_command_speaks_json(machine):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    plain = json.loads(result.output)
    assert plain["gpus"][0]["gpu.name"] == {"value": "NVIDIA H100 80GB HBM3", "source": "nvmlDeviceGetName"}
    assert [b["backend"] for b in plain["backends"]] == ["numpy", "cupy", "torch", "jax"]
    assert {"level", "what", "why", "remedy"} == plain["advice"][0].keys()
    assert "01020304" not in result.output


def test_command_fails_where_nothing_can_be_measured(machine):
    machine.probes.clear()
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_command_works_without_a_driver(machine, monkeypatch):
    monkeypatch.setattr(machine.pynvml, "driver", None)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "NVML Shared Library Not Found" in result.output
