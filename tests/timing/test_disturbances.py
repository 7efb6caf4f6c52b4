"""What changes while a case runs becomes a flag of its row."""

import pytest

from bench_core.machine.nvml import GpuState
from bench_core.timing import disturbances
from bench_core.timing.disturbances import Disturbances, reference_seconds


@pytest.fixture
def machine(monkeypatch):
    """A machine whose every reading the test chooses; quiet unless told otherwise."""
    readings = {"reference": iter([1.0, 1.0]), "gpu": iter([])}
    monkeypatch.setattr(disturbances, "reference_seconds", lambda: next(readings["reference"]))
    monkeypatch.setattr(disturbances.nvml, "state", lambda uuid: next(readings["gpu"]) if uuid else None)
    return readings


def watched(uuid=None, device=None):
    watch = Disturbances(device or ("cuda:0" if uuid else "cpu"), uuid)
    watch.stop()
    return watch


def test_a_quiet_machine_earns_no_flag(machine):
    assert watched().flags() == ()


@pytest.mark.parametrize(("after", "flags"), [(1.09, ()), (1.11, ("drift",)), (0.9, ("drift",))])
def test_a_drift_of_a_tenth_up_or_down_is_flagged(machine, after, flags):
    machine["reference"] = iter([1.0, after])
    assert watched().flags() == flags


def test_the_reference_work_of_the_host_does_not_run_for_a_gpu(machine):
    machine["reference"] = iter([])
    machine["gpu"] = iter([None, None])
    assert watched("GPU-0").flags() == ()


def test_nor_does_it_run_for_a_gpu_that_nvml_does_not_know(machine):
    machine["reference"] = iter([])
    assert watched(device="mps").flags() == ()


def test_a_throttled_gpu_is_flagged_with_its_power_and_clock_at_the_end(machine):
    cool = GpuState(1.98e9, 300.0, 50.0, ())
    hot = GpuState(1.2e9, 700.0, 90.0, ("software_thermal",))
    assert hot.is_limited, "the stand-in must use a word of the driver's list"
    machine["gpu"] = iter([cool, hot])
    watch = watched("GPU-0")
    assert watch.flags() == ("throttled",)
    assert watch.values() == {"gpu_power": 700.0, "gpu_clock": 1.2e9, "gpu_temperature": 90.0}


def test_what_the_driver_does_not_tell_is_not_a_value(machine):
    machine["gpu"] = iter([None, GpuState(None, None, None, ())])
    assert watched("GPU-0").values() == {}


def test_the_reference_work_takes_a_measurable_time():
    assert reference_seconds() > 0
