"""What figures say beside their drawings."""

from dataclasses import replace

import pytest

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.analysis.report_data import ReportData
from bench_core.report import captions
from tests.support.ranks import several_devices, with_pairs


def test_the_figure_of_pairs_says_in_a_sentence_which_rank_or_link_is_slow_and_has_a_line_for_each_pair():
    said = "swap_two float32 4 KiB: {} (at most 50.0 % of any other pair)."
    for slow, words in (((2,), "rank 2 is slow"), ((0, 3), "link 0-3 is slow")):
        figure = captions.FIGURES["pairs"](ReportData([with_pairs(4, slow)]))
        assert figure.about.endswith(said.format(words))
        assert len(figure.panels) == 2
        assert len(figure.numbers) == 12
        assert all(len(line) == len(figure.headers) for line in figure.numbers)
    assert figure.numbers[2][3:5] == ("0-3", "500 MB/s")
    assert captions.FIGURES["pairs"](ReportData([with_pairs(4)])).about.endswith(
        "No rank and no link is clearly slower than all others."
    )
    assert "An empty place" not in figure.about
    two = captions.FIGURES["pairs"](ReportData([several_devices(ranks=2, device="cuda:x2")]))
    assert not two.panels
    assert "which tells a slow one" in two.about


def test_the_figures_of_pairs_of_two_targets_name_the_target():
    data = ReportData([several_devices("a"), several_devices("b", 3, "cuda:x3")])
    assert [panel.title for panel in captions.FIGURES["pairs"](data).panels] == [
        "a GPU x4 swap_two float32 16 MiB",
        "b GPU x3 swap_two float32 16 MiB",
    ]


def test_machines_of_which_nothing_but_devices_together_was_measured_have_speed_ups_in_a_colour_of_each():
    data = ReportData([several_devices(machine) for machine in "abc"])
    assert not data.drawn
    figure = captions.FIGURES["speedup"](data)
    (spec,) = (panel.spec() for panel in figure.panels)
    assert len({d["color"] for d in spec["datasets"]["speedups"]}) == len(figure.legend) == 2


def test_a_pair_that_has_no_value_is_said_to_be_an_empty_place():
    reading = with_pairs(4)
    rows = [row for row in reading.rows if "pair=0-1" not in row.params]
    figure = captions.FIGURES["pairs"](ReportData([replace(reading, rows=rows)]))
    assert "An empty place is a pair without a value." in figure.about
