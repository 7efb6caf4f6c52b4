"""What charts say on their axes, and where their labels stand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support.properties import given, st
from tests.support.reports import data_of_all_machines  # noqa: F401 - a fixture

pytest.importorskip("altair", reason="charts need the extra `report`")

from bench_core.analysis import figures
from bench_core.report import charts


def axis_of(spec, channel):
    """Return the title and the expression of the labels of an axis."""
    found = [
        layer["encoding"][channel]["axis"] for layer in spec["layer"] if "axis" in layer["encoding"].get(channel, {})
    ]
    return found[0]["title"], found[0]["labelExpr"]


def test_sizes_in_bytes_are_labelled_in_bytes_and_other_sizes_are_plain(everything):
    sizes_of_memory = replace(figures.ladders(everything)[0], x_kind="size")
    sides_of_matrices = figures.sweeps(everything)[0]
    styles = charts.Styles(everything.contenders)
    title, labels = axis_of(charts.sweep_chart(sizes_of_memory, styles), "x")
    assert title == "Size"
    assert "32 KiB" in labels
    assert "128 MiB" in labels
    assert '"1024"' in axis_of(charts.sweep_chart(sides_of_matrices, styles), "x")[1]


def test_the_only_crossover_is_said_below_the_title(everything):
    """There it cannot lie over a line; with several the rings alone are drawn."""
    sweep = figures.sweeps(everything)[0]
    styles = charts.Styles(everything.contenders)
    one = replace(sweep, crossovers=sweep.crossovers[:1])
    assert charts.sweep_chart(one, styles)["title"]["subtitle"] == f"GPU {sweep.crossovers[0].text}"
    assert "subtitle" not in charts.sweep_chart(sweep, styles)["title"]


def test_of_many_gpus_only_the_best_is_named_to_the_right_of_all(everything):
    spec = charts.speedup_chart(figures.speedups(everything), charts.Styles(everything.contenders))
    data = spec["datasets"]["speedups"]
    for label in {d["line"] for d in data}:
        line = [d for d in data if d["line"] == label]
        (named,) = [d for d in line if d["words"]]
        assert named["ratio"] == max(d["ratio"] for d in line)
        assert named["end"] >= max(d["high"] or d["ratio"] for d in line)


@given(st.lists(st.floats(0, 270), min_size=1, max_size=12))
def test_names_are_apart_in_order_and_inside(wanted):
    found = charts.spread(sorted(wanted), 13, 263)
    assert len(found) == len(wanted)
    assert all(later - earlier >= 13 - 1e-6 for earlier, later in pairwise(found))
    assert max(found) <= 263 + 1e-6


def test_a_name_with_room_stays_at_its_line_and_neighbours_share_the_way():
    assert charts.spread([10.0, 100.0, 104.0], 13, 263) == pytest.approx([10.0, 95.5, 108.5])


def test_a_tall_heat_map_is_drawn_in_charts_of_equal_width_with_every_line_once(everything, monkeypatch):
    monkeypatch.setattr(charts, "HEAT_LINES", 6)
    cells = figures.heat(everything)
    specs = charts.heat_charts(cells)
    lines = [list(dict.fromkeys(d["line"] for d in spec["datasets"]["cells"])) for spec in specs]
    assert [line for part in lines for line in part] == list(dict.fromkeys(c.line for c in cells))
    assert max(map(len, lines)) == 6
    extents = {layer["encoding"]["y"]["axis"]["minExtent"] for spec in specs for layer in spec["layer"]}
    assert len(extents) == 1
