"""`bench-core plot`: the charts of the report as files of their own."""

import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support import ranks, synthetic, tables

pytest.importorskip("vl_convert", reason="charts need the extra `report`")
pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.analysis.report_data import ReportData
from bench_core.cli import plot as plot_module
from bench_core.cli.plot import Chart, beside
from bench_core.compare import read
from bench_core.report import captions, charts, svg
from bench_core.report.captions import FIGURES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for machine in synthetic.MACHINES[:2]:
        synthetic.write(folder, machine)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Return the folder of a run of devices that compute together."""
    return ranks.write(tmp_path_factory.mktemp("together"))


def plot(*arguments):
    return CliRunner().invoke(app, ["plot", *map(str, arguments)])


def test_the_command_knows_every_chart_of_the_report():
    assert [chart.value for chart in Chart] == list(FIGURES)


@pytest.mark.parametrize("chart", list(Chart))
def test_every_chart_becomes_an_svg_that_stands_alone(runs, together, tmp_path, chart):
    output = tmp_path / "chart.svg"
    result = plot(together if chart in captions.OF_SEVERAL else runs, "--chart", chart, "-o", output)
    assert result.exit_code == 0, result.output
    root = ET.parse(output).getroot()
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert (
        {"path", "text"}
        <= tags
        <= {"svg", "title", "desc", "style", "rect", "g", "path", "text", "tspan", "line"}
        | {"defs", "pattern", "clipPath"}
    )
    width, height = float(root.get("width")), float(root.get("height"))
    for panel in root.iter(f"{SVG}svg"):
        if panel is not root:
            assert float(panel.get("x")) + float(panel.get("width")) <= width
            assert float(panel.get("y")) + float(panel.get("height")) <= height


def test_a_chart_that_fits_no_page_goes_to_several(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(svg, "PAGE", 0.6)
    result = plot(runs, "--chart", "scaling", "-o", tmp_path / "x.svg")
    assert [line.partition(": ")[0] for line in result.output.splitlines()] == [
        str(tmp_path / "x.svg"),
        str(tmp_path / "x-2.svg"),
    ]
    for place, name in enumerate(("x.svg", "x-2.svg"), start=1):
        root = ET.parse(tmp_path / name).getroot()
        assert root.find(f"{SVG}title").text.endswith(f"({place} of 2)")
        assert len(root.findall(f"{SVG}g/{SVG}svg")) == 2
        assert float(root.get("height")) <= 0.6 * float(root.get("width"))


def test_what_a_page_has_no_room_for_is_named_there_and_drawn_by_plot(runs, tmp_path, monkeypatch):
    for module, name, most in ((captions, "MOST_PANELS", 1), (captions, "MOST_WIDE", 1), (charts, "MOST_LINES", 8)):
        monkeypatch.setattr(module, name, most)
    data = ReportData(read([str(runs)]))
    for chart in ("scaling", "speedup"):
        left = captions.figure_on_page(data, chart)
        every = captions.FIGURES[chart](data).panels
        assert len(left.drawings) == 1 < len(every)
        shown = [name for panel in every for name in panel.shows]
        assert left.note.startswith(
            f"Not drawn on this page: {', '.join(shown[len(every[0].shows) :])}. "
            f"All are drawn by: bench-core plot RESULTS --chart {chart} -o {chart}.svg"
        )
        result = plot(runs, "--chart", chart, "-o", tmp_path / f"{chart}.svg")
        assert "Not drawn" not in result.output
        texts = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob(f"{chart}*.svg"))
        assert all(f">{name}</text>" in texts for name in shown)


def test_every_panel_becomes_a_file_that_is_named_after_it(runs, tmp_path):
    result = plot(runs, "--chart", "scaling", "-o", tmp_path / "x.svg", "--panels")
    assert result.exit_code == 0, result.output
    dtypes = ("bfloat16", "float32", "float32-tf32", "float64")
    assert {path.name for path in tmp_path.iterdir()} == {f"x-matmul-{dtype}.svg" for dtype in dtypes}
    root = ET.parse(tmp_path / "x-matmul-float64.svg").getroot()
    assert root.find(f"{SVG}title").text == "matmul float64"
    assert len(root.findall(f"{SVG}g/{SVG}svg")) == 1


def test_names_of_panels_are_safe_and_none_is_written_twice():
    names = ["../../etc/passwd", "A B", "a b", "a-b", "", "", "CON\x00:*?\u202e", "x" * 500]
    found = [path.name for path in beside(Path("out/x.svg"), names)]
    assert found[:6] == ["x-etc-passwd.svg", "x-a-b.svg", "x-a-b-2.svg", "x-a-b-3.svg", "x.svg", "x-2.svg"]
    assert found[6:] == ["x-con.svg", f"x-{'x' * 60}.svg"]
    assert {path.parent for path in beside(Path("out/x.svg"), names)} == {Path("out")}


def test_a_png_has_the_pixels_that_were_asked_for(runs, tmp_path):
    sizes = []
    for scale in (1, 2):
        output = tmp_path / f"{scale}.png"
        assert plot(runs, "--chart", "ladder", "-o", output, "--scale", scale).exit_code == 0
        start = output.read_bytes()[:24]
        assert start.startswith(b"\x89PNG\r\n")
        sizes.append(struct.unpack(">II", start[16:24]))
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


def test_a_chart_with_a_filter_shows_matching_rows_alone(runs, tmp_path):
    output = tmp_path / "one.svg"
    assert plot(runs, "--chart", "ladder", "-o", output, "--filter", "workload == 'copy'").exit_code == 0
    text = output.read_text(encoding="utf-8")
    assert "copy float32" in text
    assert "triad" not in text


def test_a_chart_with_nothing_to_show_says_why_and_writes_nothing(runs, tmp_path):
    output = tmp_path / "none.svg"
    result = plot(runs / "machine-a", "--chart", "speedup", "-o", output, "--filter", "backend == 'numpy'")
    assert result.exit_code == 3
    assert "No piece of work was measured on two devices" in " ".join(result.output.split())
    assert not output.exists()


@pytest.mark.parametrize("name", ["chart.gif", "chart", "chart.svg.exe"])
def test_other_formats_are_a_usage_error(runs, tmp_path, name):
    result = plot(runs, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert "must end in .svg or .png" in result.output


def test_a_place_that_cannot_be_written_is_a_usage_error(runs, tmp_path):
    result = plot(runs / "machine-a", "--chart", "ladder", "-o", tmp_path / "no" / "such" / "folder.svg")
    assert result.exit_code == 2
    assert "cannot be written" in result.output


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": -1.0}, "b cpu has no value in its only case (1 invalid: the value -1 is not positive)."),
        ({"unit": "ms"}, "Left out, because compare keeps it apart, 1 value: time in ms instead of s."),
        ({"params": "x=1"}, "1 row: params k=64;m=64;n=64 against x=1."),
        ({"flops": 9.0}, "1 row: flops 1000000.0 against 9.0."),
    ],
    ids=str,
)
def test_a_chart_of_what_compare_refuses_says_why_there_is_none(tmp_path, monkeypatch, changed, said):
    a, b = (tables.reading(tables.processes([1.0]), name) for name in "ab")
    times = [replace(r, rows=tuple(row for row in r.rows if row.metric == "time")) for r in (a, b)]
    times[1] = replace(times[1], rows=tuple(replace(row, **changed) for row in times[1].rows))
    monkeypatch.setattr(plot_module, "read_filtered", lambda *_: times)
    result = plot("any", "--chart", "speedup", "-o", tmp_path / "x.svg")
    assert result.exit_code == 3
    assert "No piece of work was measured on two devices" in result.output
    assert said in result.output
