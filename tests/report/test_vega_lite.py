"""Specifications of charts are valid Vega-Lite, and each is made, drawn and serialised once."""

from collections import Counter

import pytest

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.analysis.report_data import ReportData
from bench_core.report import captions, packed_table, page, svg
from bench_core.report.vega_lite import Layer, constant, end, nominal, quantitative
from tests.support import synthetic
from tests.support.ranks import several_devices


def specs_of_each_chart():
    """Yield each chart of several machines, wide and for a phone, the bars of one with a GPU, and those over ranks."""
    several, one = (ReportData(synthetic.readings(*labels)) for labels in (("machine-c", "machine-d"), ("machine-b",)))
    together = ReportData([several_devices()])
    apart = captions.names_on_page(several)
    for data, names in ((several, apart), (one, ["speedup"]), (together, captions.OF_SEVERAL)):
        for name in names:
            panel = captions.FIGURES[name](data).panels[0]
            yield name, panel.spec()
            if panel.narrow:
                yield name, panel.narrow()


def test_every_chart_is_valid_by_the_schema_of_vega_lite():
    altair = pytest.importorskip("altair", reason="the schema is Altair's")
    seen = Counter()
    for name, spec in specs_of_each_chart():
        few = spec | {"datasets": {dataset: data[:1] for dataset, data in spec["datasets"].items()}}
        altair.LayerChart.validate(few)
        seen[name] += 1
    assert seen == dict.fromkeys(captions.FIGURES, 1) | {"speedup": 4, "models": 2, "heatmap": 2}
    wrong = few | {"layer": [{**few["layer"][0], "mark": {"type": "pont"}}]}
    with pytest.raises(Exception, match="'pont'"):
        altair.LayerChart.validate(wrong)


def test_a_layer_keeps_what_it_was_made_of():
    base = Layer("points").encode(x=quantitative("x", axis=None), y=nominal("name"))
    low = base.where("datum.low != null").marked("rule", size=2).encode(x=quantitative("low"), x2=end("high"))
    assert low.spec() == {
        "data": {"name": "points"},
        "mark": {"type": "rule", "size": 2},
        "encoding": {
            "x": {"field": "low", "type": "quantitative"},
            "y": {"field": "name", "type": "nominal"},
            "x2": {"field": "high"},
        },
        "transform": [{"filter": "datum.low != null"}],
    }
    named = base.marked("text").encode(x=constant(0)).spec()
    assert named["encoding"]["x"] == {"value": 0}
    assert "transform" not in named


def test_a_page_that_is_too_large_draws_and_serialises_each_chart_once_and_packs_the_cells_once(monkeypatch):
    count = Counter()

    def counted(owner, name, real):
        def call(*given, **known):
            count[name] += 1
            return real(*given, **known)

        monkeypatch.setattr(owner, name, call)

    counted(svg.vl_convert, "vegalite_to_svg", lambda *_, **__: f'<svg xmlns="{svg.NAMESPACE}" width="9" height="9"/>')
    counted(svg, "inline", svg.inline)
    counted(packed_table, "Packed", packed_table.Packed)
    counted(page.jinja2.Template, "render", page.jinja2.Template.render)
    monkeypatch.setattr(page, "MOST_BYTES", 100_000)
    readings = synthetic.readings("machine-b")
    text = page.render(readings)
    assert f"This page contains 100 of {len(readings[0].rows)} rows" in text
    drawn = text.count('role="img"')
    assert drawn > 20
    assert count == {"vegalite_to_svg": drawn, "inline": drawn, "Packed": 1, "render": 2}
