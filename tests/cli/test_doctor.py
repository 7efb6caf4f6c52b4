"""`bench-core doctor` shows what it found on any machine, and watches the load without counting it twice."""

from __future__ import annotations

import json
import re
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
    monkeypatch.setattr(nvml, "cards", lambda: (_ for _ in ()).throw(nvml.NotTold(evil)))
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


def test_the_link_of_one_gpu_has_one_line(machine):
    assert topology_shown() == ["  GPU 0  PCIe 5.0 x16"]


def test_the_links_of_several_gpus_are_shown_together(machine):
    machine.pynvml.devices[:] = machine.pynvml.connected(8, "NVSwitch")
    assert topology_shown() == [
        "  GPUs 0-3          NUMA node 0, PCIe 5.0 x16, NVLink 4: 18 of 18 links up",
        "  GPUs 4-7          NUMA node 1, PCIe 5.0 x16, NVLink 4: 18 of 18 links up",
        "  between each two  NVLink x18 through NVSwitch, P2P",
    ]


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_that_are_too_long_for_the_terminal_go_on_indented(machine, columns):
    machine.pynvml.devices[:] = machine.pynvml.connected(8, "PCIe")
    shown = topology_shown(columns)
    assert len(shown) > 4
    assert all(line.startswith("  ") and len(line) <= columns for line in shown)


def test_a_lost_gpu_stays_in_the_topology_beside_a_warning(machine):
    machine.pynvml.devices[:] = machine.pynvml.connected(2, "PCIe")
    machine.pynvml.devices[1].lost = True
    assert topology_shown() == ["  GPU 0  NUMA node 0, PCIe 5.0 x16", "  GPU 1  GPU is lost"]
    machine.pynvml.devices[0].lost = True
    assert topology_shown() == ["  GPUs 0-1  GPU is lost"]
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)
    assert found["topology"]["silent"] == [{"number": number, "reason": "GPU is lost"} for number in (0, 1)]
    whats = [item["what"] for item in found["advice"] if item["level"] == "warning"]
    assert {f"GPU {number} does not answer: GPU is lost" for number in (0, 1)} <= set(whats)


def topology_shown(columns=200):
    """Return the lines of the section; what is unknown of the NUMA node depends on the machine that tests run on."""
    shown = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": f"{columns}"}).output
    (section,) = re.findall(r"\nTopology, numbered as by the driver\n(.*?)\n\nAdvice", shown, re.DOTALL)
    return [re.sub(r"NUMA node unknown \(.*?\), ", "", line.rstrip()) for line in section.splitlines()]


def test_the_links_are_in_the_json(machine):
    machine.pynvml.devices[:] = machine.pynvml.connected(2, {(0, 1): 4}, P2PStatus=None)
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)["topology"]
    assert [gpu["gpu"] for gpu in found["gpus"]] == [0, 1]
    assert found["gpus"][0]["nvlink_rate"] == {"value": 26.562e9, "source": "NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON"}
    assert found["pairs"] == [
        {
            "gpus": [0, 1],
            "nvlinks": 4,
            "through_nvswitch": False,
            "peer_access": {"value": None, "reason": "nvmlDeviceGetP2PStatus: Not Supported"},
            "pcie": {"value": "several PCIe switches", "source": "nvmlDeviceGetTopologyCommonAncestor"},
        }
    ]


@pytest.mark.parametrize("driver", [None, "580.65.06"])
def test_without_a_gpu_nothing_is_said_of_links(machine, monkeypatch, driver):
    monkeypatch.setattr(machine.pynvml, "driver", driver)
    machine.pynvml.devices[:] = []
    shown = CliRunner().invoke(app, ["doctor"]).output
    assert "Advice" in shown
    assert not re.search("topology|nvlink|p2p", shown, re.IGNORECASE)


def test_command_fails_where_nothing_can_be_measured(machine):
    machine.probes.clear()
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_command_works_without_a_driver(machine, monkeypatch):
    monkeypatch.setattr(machine.pynvml, "driver", None)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "NVML Shared Library Not Found" in result.output
