"""The view of a comparison marks device times that are limited by the host."""

from dataclasses import replace

from bench_core import render
from bench_core.compare import compare
from bench_core.records import Clock
from tests.support.imaginary_machines import times
from tests.support.tables import processes, reading, work


def test_a_comparison_by_the_device_s_clock_says_where_the_time_is_the_host_s():
    def machine_with(flags, name):
        done = processes(times(1.0), work("512"), backend="torch", device="cuda:0")
        device = [replace(m, series=(replace(m.series[0], clock=Clock.DEVICE, flags=flags),)) for m in done]
        return reading(device, name)

    starved = compare([machine_with((), "box-a"), machine_with(("launch_bound",), "box-b")])
    assert "launch_bound in box-b: the device waited for the host" in " ".join(render.text(starved, 140).split())
    fed = compare([machine_with((), "box-a"), machine_with((), "box-b")])
    assert "launch_bound" not in render.text(fed, 140)
