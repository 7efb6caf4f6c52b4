"""What charts say on their axes, and where their labels stand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from bench_core.analysis import figures, over_ranks
from bench_core.analysis.report_data import ReportData
from bench_core.report import charts, theme
from tests.support.properties import given, st
from tests.support.ranks import several_devices, with_pairs
from tests.support.reports import data_of_all_machines  # noqa: F401 - a fixture


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
    found = figures.speedups(everything)
    spec = charts.speedup_chart(found, charts.Styles(everything.contenders), found)
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


def lines_of(spec, name):
    return list(dict.fromkeys(d["line"] for d in spec["datasets"][name]))


def test_tall_charts_are_drawn_in_parts_of_equal_axes_with_every_line_once(everything, monkeypatch):
    monkeypatch.setattr(charts, "MOST_LINES", 6)
    cells, ratios = figures.heat(everything), figures.speedups(everything)
    styles = charts.Styles(everything.contenders)
    heat = [charts.heat_chart(part, cells) for part in charts.in_parts(cells, lambda c: c.line)]
    speedups = [charts.speedup_chart(part, styles, ratios) for part in charts.in_parts(ratios, lambda s: s.label)]
    for specs, name, wanted in (
        (heat, "cells", [c.line for c in cells]),
        (speedups, "speedups", [s.label for s in ratios]),
    ):
        lines = [lines_of(spec, name) for spec in specs]
        assert [line for part in lines for line in part] == list(dict.fromkeys(wanted))
        assert max(map(len, lines)) - min(map(len, lines)) <= 1
        assert max(map(len, lines)) <= 6
        channels = [layer["encoding"].get("y", {}) for spec in specs for layer in spec["layer"]]
        assert len({y["axis"]["minExtent"] for y in channels if "axis" in y}) == 1
    domains = [spec["layer"][0]["encoding"]["x"]["scale"]["domain"] for spec in speedups]
    assert len(set(map(tuple, domains))) == 1


def test_on_a_phone_names_stand_above_and_the_chart_is_no_wider(everything):
    for readings in (everything.readings, everything.readings[:1]):
        data = ReportData(readings)
        found = figures.speedups(data)
        spec = charts.narrow_speedup_chart(found, charts.Styles(data.drawn), found)
        assert spec["width"] == charts.NARROW
        named = [d["line"] for d in spec["datasets"]["speedups"] if d["words"]]
        assert named == list(dict.fromkeys(s.label for s in found))  # one text on each line
        assert lines_of(charts.narrow_heat_chart(figures.heat(data)), "names") == lines_of(
            charts.narrow_heat_chart(figures.heat(data)), "cells"
        )
        rates = figures.model_rates(data)[:2]
        spec = charts.narrow_model_chart(
            rates, "a title with the model · its size · its metric in words", charts.Styles(data.drawn)
        )
        assert (spec["width"], len(spec["title"]["text"])) == (charts.NARROW, 2)
        assert {d["line"] for d in spec["datasets"]["rates"]} == {r.contender.label for r in rates}


def test_only_beside_a_gpu_a_cpu_is_dashed_and_backends_have_colours_of_their_own(everything):
    assert [c.is_gpu for c in everything.contenders] == [
        charts.Styles(everything.contenders).of(c)["solid"] for c in everything.contenders
    ]
    data = ReportData(everything.readings[:1])
    styles = [charts.Styles(data.drawn).of(c) for c in data.drawn]
    assert [style["solid"] for style in styles] == [True, True]
    assert len({style["color"] for style in styles}) == len({style["shape"] for style in styles}) == 2
    (s, *_) = figures.speedups(data)
    assert charts.Styles(data.drawn).of(s.contender) == styles[1]


def over_ranks_charts(reading):
    """Return the chart of each work over ranks, by its kind, with the data of the points."""
    found = over_ranks.scalings(ReportData([reading]))
    looks = charts.looks(c.label for s in found for c in s.curves)
    return [(s.kind, charts.ranks_chart(s, looks, found)) for s in found]


def scales(spec):
    return [layer["encoding"]["y"]["scale"] for layer in spec["layer"] if "scale" in layer["encoding"]["y"]]


def test_efficiency_over_ranks_has_a_linear_axis_from_zero_that_its_panels_share_and_speed_up_a_logarithmic_one():
    reading = several_devices()
    best = {"float32": 0.5, "float64": 1.3}  # the second is above 1, as caches can make it
    weak = [row for row in reading.rows if "scaling=weak" in row.params]
    others = [
        replace(row, dtype="float64", value=best["float64"], ci_low=1.2, ci_high=1.4, case_id=f"{row.case_id}x")
        for row in weak
    ]
    found = over_ranks_charts(replace(reading, rows=[*reading.rows, *others]))
    assert [kind for kind, _ in found].count("weak") == 2
    for kind, spec in found:
        for scale in scales(spec):
            if kind == "weak":
                assert scale == {"domain": [0, pytest.approx(1.4 * 1.05)], "nice": False}
            else:
                assert (scale["type"], scale["domain"][0] > 0) == ("log", True)


def test_each_pair_has_two_cells_with_its_value_and_a_rank_none_with_itself():
    small, large = over_ranks.pairs(ReportData([with_pairs(4, (2,))]))
    spec = charts.pairs_chart(small, "title")
    cells = {(d["of"], d["with"]): d for d in spec["datasets"]["cells"]}
    assert cells.keys() == {(a, b) for a in "0123" for b in "0123" if a != b}
    assert {at: d["words"] for at, d in cells.items()} == {at: "500 MB/s" if "2" in at else "1.00 GB/s" for at in cells}
    assert {d["fill"] for at, d in cells.items() if "2" in at} == {theme.HEAT[1]}, "half of the best pair"
    assert {d["fill"] for at, d in cells.items() if "2" not in at} == {theme.HEAT[4]}
    assert cells["1", "2"]["about"] == "ranks 1 and 2: 500 MB/s, torch; 0.5 of the best pair"
    assert {d["fill"] for d in charts.pairs_chart(large, "")["datasets"]["cells"]} == {theme.HEAT[4]}


@pytest.mark.parametrize(("ranks", "marks"), [(12, {"rect", "text"}), (17, {"rect"})])
def test_ranks_are_in_the_order_of_their_numbers_and_the_cells_of_many_are_small_without_text(ranks, marks):
    p, _ = over_ranks.pairs(ReportData([with_pairs(ranks)]))
    spec = charts.pairs_chart(p, "")
    for axis in ("x", "y"):
        assert spec["layer"][0]["encoding"][axis]["scale"]["domain"] == [str(rank) for rank in range(ranks)]
    assert {layer["mark"]["type"] for layer in spec["layer"]} == marks
    assert (ranks * spec["width"]["step"] < 250) == ("text" not in marks)
