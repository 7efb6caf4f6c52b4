"""The view of a comparison marks device times that are limited by the host."""

from dataclasses import replace

import pytest

from bench_core import render
from bench_core.compare import compare
from bench_core.records import Clock
from bench_core.render import view
from tests.support.comparisons import two
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


@pytest.mark.parametrize(
    ("many", "last"), [(19, "line 18"), (20, "line 19"), (21, "... and 1 more: see --format json")]
)
def test_a_long_list_says_how_much_of_it_is_not_shown_and_nothing_where_all_is(many, last):
    result = replace(compare(two([1.0], [2.0])), implausible=tuple(f"line {i}" for i in range(many)))
    (section,) = [s for s in view.sections(result) if s.title == "Implausible values"]
    assert section.lines[-1] == last
    assert len(section.lines) == min(many, 21)
