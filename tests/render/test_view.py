"""The view of a comparison: marks at device times that are limited by the host, and lists that are cut."""

from dataclasses import replace

import pytest

from bench_core import render
from bench_core.compare import compare
from bench_core.records import Clock
from bench_core.render import view
from tests.support.comparisons import two
from tests.support.imaginary_machines import times
from tests.support.tables import absent, processes, reading, work


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


def _not_compared(counts):
    """Return the lines of a lone table beside a run in which `counts[i]` cases have no value for reason i."""
    sizes = iter(range(1000))
    missing = [
        absent(work(str(next(sizes))), reason=f"reason {i}") for i, count in enumerate(counts) for _ in range(count)
    ]
    sides = [reading(processes([1.0]), "lone"), reading([*processes([1.0]), *missing], "run")]
    (section,) = [s for s in view.sections(compare(sides)) if s.title == "Not compared"]
    return section.lines


def test_of_the_cases_without_a_value_the_commonest_reasons_are_told_and_the_others_counted():
    told = _not_compared([1, 7, 2, 4, 1, 3])
    kind = "without a value on any side (lone: not measured; run: oom: reason"
    assert [line.partition("):")[0] for line in told[:4]] == [
        f"7 {kind} 1",
        f"4 {kind} 3",
        f"3 {kind} 5",
        f"2 {kind} 2",
    ]
    assert told[4:] == ("2 without a value on any side, for 2 other reasons: see --format json",)


def test_few_reasons_are_all_told():
    assert len(_not_compared([1, 1, 1, 1, 1])) == 5
    assert not [line for line in _not_compared([1, 1, 1, 1, 1]) if "other reasons" in line]


def test_of_many_cases_that_are_counted_only_those_that_are_named_get_a_label(monkeypatch):
    labelled = []
    label = view.label
    monkeypatch.setattr(view, "label", lambda key, fields: labelled.append(key) or label(key, fields))
    (line,) = _not_compared([50])
    assert line.startswith("50 without a value")
    assert line.endswith(", ...")
    assert len(labelled) < 10


def test_the_name_of_a_case_is_made_once_for_the_tables_of_all_sides(monkeypatch):
    named = []
    label = view.label
    monkeypatch.setattr(view, "label", lambda key, fields: named.append(key) or label(key, fields))
    result = compare([reading(processes(times(1.0), work("512")), machine) for machine in "abcde"])
    (ratios,) = [s for s in view.sections(result, sides_per_table=1) if s.title.startswith("time")]
    assert len(ratios.tables) == 4
    assert len(named) == 1
