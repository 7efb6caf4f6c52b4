"""The driver's facts belong to the device that computes, whatever its number, and no failure spreads."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench_core.machine import host, nvml
from bench_core.records import Fact
from tests.support import TESTS

FIRST = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"
SECOND = "GPU-aaaaaaaa-0506-0708-090a-0b0c0d0e0f10"
SLICE = "MIG-bbbbbbbb-0506-0708-090a-0b0c0d0e0f10"


def test_facts_are_in_base_units_with_their_source(pynvml):
    facts = nvml.facts(FIRST)
    assert facts["gpu.name"] == Fact("NVIDIA H100 80GB HBM3", "nvmlDeviceGetName")
    assert facts["gpu.sm_clock_max"].value == 1.98e9
    assert facts["gpu.power_limit"].value == 700.0
    assert facts["gpu.driver_cuda"].value == "13.0"
    assert facts["gpu.ecc"].value is True
    assert facts["gpu.throttle_reasons"].value == []
    assert (facts["gpu.ecc_errors"].value, facts["gpu.remapped_rows"].value) == (0, 0)
    assert all(fact.source and not fact.reason for fact in facts.values())


def test_every_function_asked_exists_in_nvidia_ml_py():
    """The stand-in answers to the same names as the real module."""
    real = importlib.import_module("pynvml")
    assert not Path(real.__file__).is_relative_to(TESTS)
    sources = {source for source, _ in nvml._QUERIES.values()}
    others = {"nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlInit"}
    others |= {"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetUUID", "NVMLError_FunctionNotFound"}
    assert [name for name in sources | others if not hasattr(real, name)] == []


@pytest.mark.parametrize(
    "uuid",
    [SECOND, SECOND.removeprefix("GPU-"), SECOND.upper(), "GPU-aaaaaaaa050607", "aaaaaaaa-0506-0708-090a-0b0c0d0e0f10"],
)
def test_device_is_found_by_uuid_however_it_is_spelt(pynvml, uuid):
    """CUDA's device 0 may be the driver's device 1."""
    pynvml.devices[:] = [pynvml.h100(FIRST), pynvml.h100(SECOND, Name="NVIDIA L4")]
    assert nvml.facts(uuid)["gpu.name"].value == "NVIDIA L4"


@pytest.mark.parametrize(
    ("uuid", "reason"),
    [
        ("GPU-cccccccc", "the driver has no devices with the UUID of this one"),
        ("GPU-", "the array library does not report the UUID of its device"),
        (None, "the array library does not report the UUID of its device"),
        ("GPU-01", "the driver has 2 devices with the UUID of this one"),
    ],
)
def test_a_uuid_that_fits_no_single_device_has_a_reason_and_no_facts(pynvml, uuid, reason):
    pynvml.devices[:] = [pynvml.h100(FIRST), pynvml.h100("GPU-01ffffff-0506-0708-090a-0b0c0d0e0f10")]
    assert nvml.facts(uuid) == {"gpu.driver": Fact(reason=reason)}
    assert nvml.state(uuid) is None


def test_mig_slice_has_its_own_memory_and_its_card_s_clocks(pynvml):
    card = pynvml.h100(FIRST, MigMode=[1, 1])
    memory = SimpleNamespace(total=10 * 1024**3)
    card.slices = [pynvml.Device(SLICE, {"Name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "MemoryInfo": memory})]
    pynvml.devices[:] = [card]
    facts = nvml.facts(SLICE)
    assert facts["gpu.memory"].value == memory.total
    assert facts["gpu.name"].value.endswith("MIG 1g.10gb")
    assert (facts["gpu.sm_clock"].value, facts["gpu.mig"].value) == (1.98e9, True)


@pytest.mark.parametrize("uuid", [FIRST, SLICE])
def test_a_slice_is_not_given_the_power_of_its_card_whichever_uuid_the_library_tells(pynvml, uuid):
    card = pynvml.h100(FIRST, MigMode=[1, 1])
    card.slices = [pynvml.Device(SLICE, {"Name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb"})]
    pynvml.devices[:] = [card]
    assert (nvml.state(uuid).power, nvml.energy(uuid)) == (None, None)
    assert "sum over its MIG slices" in nvml.facts(uuid)["gpu.power"].reason


@pytest.mark.parametrize("mode", [[0, 0], [1, 1], None])
def test_the_mode_of_slices_is_asked_once_of_a_card_and_never_between_readings(pynvml, monkeypatch, mode):
    """A question takes up to milliseconds, in which a GPU that has just been waited for is idle."""
    pynvml.devices[:] = [pynvml.h100(FIRST, MigMode=mode)]
    asked, ask = [], pynvml.nvmlDeviceGetMigMode
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", lambda card: asked.append(card) or ask(card))
    readings = [(nvml.energy(FIRST), nvml.state(FIRST).power) for _ in range(10)]
    assert readings == ([(None, None)] if mode == [1, 1] else [(1000.0, 120.0)]) * 10
    assert asked == pynvml.devices


def test_what_a_device_does_not_support_is_a_reason(pynvml):
    """A GeForce has no ECC and no MIG; nothing else suffers."""
    pynvml.devices[:] = [pynvml.h100(EccMode=None, MigMode=None)]
    facts = nvml.facts(FIRST)
    assert facts["gpu.ecc"] == Fact(reason="nvmlDeviceGetEccMode: Not Supported")
    assert facts["gpu.power"].value == 120.0


def test_missing_driver_is_one_reason_for_all(pynvml, monkeypatch):
    monkeypatch.setattr(pynvml, "driver", None)
    assert nvml.facts(FIRST) == {"gpu.driver": Fact(reason="no NVIDIA driver: NVML Shared Library Not Found")}
    assert nvml.state(FIRST) is None
    with pytest.raises(nvml.NotTold):
        nvml.cards()


def test_device_that_disappears_leaves_reasons(pynvml):
    """First it answers, then it is lost: facts say so, the state is none, and nothing raises."""
    assert nvml.state(FIRST) is not None
    pynvml.devices[0].lost = True
    facts = nvml.facts(FIRST)
    assert facts["gpu.power"] == Fact(reason="nvmlDeviceGetPowerUsage: GPU is lost")
    assert facts["gpu.driver"].value == "580.65.06"
    assert nvml.state(FIRST) is None
    assert nvml.cards() == []


def test_lost_device_does_not_hide_the_others(pynvml):
    pynvml.devices[:] = [pynvml.h100(FIRST), pynvml.h100(SECOND)]
    pynvml.devices[0].lost = True
    assert nvml.facts(SECOND)["gpu.power"].value == 120.0
    assert [card["gpu.number"].value for card in nvml.cards()] == [1]
    assert nvml.silent() == [nvml.Silent(0, "GPU is lost")]
    assert "the driver has no devices" in nvml.facts(FIRST)["gpu.driver"].reason


@pytest.mark.parametrize(
    ("bits", "reasons", "throttled"),
    [
        (0x0, (), False),
        (0x1, ("idle",), False),
        (0x3, ("idle", "application_clocks"), False),
        (0x4, ("power_cap",), True),
        (0x48, ("hardware_slowdown", "hardware_thermal"), True),
        (0x20 | 0x80 | 0x100, ("software_thermal", "power_brake", "display_clocks"), True),
        (0x200, ("board_limit",), True),
        (0x400, ("reliability",), True),
    ],
)
def test_state_tells_throttling_from_resting(pynvml, bits, reasons, throttled):
    pynvml.devices[:] = [pynvml.h100(CurrentClocksEventReasons=bits)]
    state = nvml.state(FIRST)
    assert (state.reasons, state.is_limited) == (reasons, throttled)
    assert (state.sm_clock, state.power, state.temperature) == (1.98e9, 120.0, 34)


@pytest.mark.parametrize(("bits", "slowed"), [(0x0, False), (0x1, False), (0x4, False), (0x24, True), (0x8, True)])
def test_a_power_limit_slows_no_gpu_more_than_its_work_always_does(pynvml, bits, slowed):
    pynvml.devices[:] = [pynvml.h100(CurrentClocksEventReasons=bits)]
    assert nvml.state(FIRST).is_limited_by_heat_or_fault is slowed


def test_the_reasons_of_a_load_are_read_before_the_gpu_rests(pynvml, monkeypatch):
    """The stand-in GPU is throttled at the first question and idle at any later one."""
    asked = []

    class Cooling(dict):
        def __contains__(self, name):
            asked.append(name)
            return super().__contains__(name)

        def __getitem__(self, name):
            return (
                (0x4 if asked == [name] else 0x1) if name == "CurrentClocksEventReasons" else super().__getitem__(name)
            )

    pynvml.devices[:] = [pynvml.h100()]
    nvml.state(FIRST)  # a first time before the load: there the device is looked for
    pynvml.devices[0].answers = Cooling(pynvml.devices[0].answers)
    assert nvml.state(FIRST).reasons == ("power_cap",)


def test_older_drivers_know_throttle_reasons_by_another_name(pynvml):
    missing = pynvml.NVMLError_FunctionNotFound
    pynvml.devices[:] = [pynvml.h100(CurrentClocksEventReasons=missing, CurrentClocksThrottleReasons=0x4)]
    assert nvml.state(FIRST).is_limited


def test_other_processes_are_counted_without_this_one(pynvml, monkeypatch):
    processes = [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1), SimpleNamespace(pid=2)]
    pynvml.devices[:] = [pynvml.h100(ComputeRunningProcesses=processes)]
    assert nvml.facts(FIRST)["gpu.other_processes"].value == 2
    del processes[0]
    monkeypatch.setattr(host, "container", lambda: Fact("none"))
    assert nvml.facts(FIRST)["gpu.other_processes"].value == 2
    monkeypatch.setattr(host, "container", lambda: Fact("docker"))
    fact = nvml.facts(FIRST)["gpu.other_processes"]
    assert fact.value is None
    assert "a container hides process ids" in fact.reason


def test_no_fact_holds_a_uuid(pynvml):
    text = str(nvml.facts(FIRST)) + str(nvml.cards()) + str(nvml.facts("GPU-cccccccc"))
    assert "0102" not in text
    assert "cccc" not in text


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ("", Fact("", "CUDA_VISIBLE_DEVICES")),
        ("-1", Fact("-1", "CUDA_VISIBLE_DEVICES")),
        ("1,0", Fact("1,0", "CUDA_VISIBLE_DEVICES")),
        (f"{FIRST},{SECOND}", Fact("<GPU id>,<GPU id>", "CUDA_VISIBLE_DEVICES")),
        (SLICE, Fact("<MIG id>", "CUDA_VISIBLE_DEVICES")),
        (f"MIG-{FIRST}/1/0", Fact("<MIG id>", "CUDA_VISIBLE_DEVICES")),
    ],
)
def test_selection_of_devices_is_shown_without_ids(value, fact):
    assert nvml.visible_devices(value) == fact
