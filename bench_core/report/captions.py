"""The six charts by name: heading, explanation, legend, panels, and the data as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench_core.analysis import figures
from bench_core.analysis.figures import Rate, Speedup, Sweep
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Contender, Kind
from bench_core.records import Row
from bench_core.report import charts, svg, theme
from bench_core.report.charts import HEAT_STEPS, Styles, how
from bench_core.report.svg import Drawing, Swatch
from bench_core.results.roofline import ABOVE_CEILING, ABOVE_DATASHEET
from bench_core.results.rows import count_from_other_rows
from bench_core.units import show

MOST_PANELS = 24
MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart with its texts. about: the explanation, or why there are no drawings.

    headers, numbers: the data of the chart as a table. note: what the drawings omit.
    """

    name: str
    heading: str
    about: str
    legend: tuple[Swatch, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    headers: tuple[str, ...] = ()
    numbers: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    wide: bool = False

    @property
    def short(self) -> str:
        """A short form of the heading."""
        return SHORT[self.name]


SHORT = {
    "speedup": "Speed-up",
    "scaling": "Scaling",
    "roofline": "Roofline",
    "ladder": "Memory ladder",
    "models": "Models",
    "heatmap": "Heat map",
}


def captioned_figure(data: ReportData, name: str) -> Figure:
    """Return the figure with this name, a key of FIGURES."""
    return FIGURES[name](data)


def _legend(data: ReportData) -> tuple[Swatch, ...]:
    """Return a legend entry with line and mark for every contender."""
    styles = Styles(data.contenders)
    entries = []
    for contender in data.contenders:
        style = styles.of(contender)
        words = f"{contender.label}: {contender.name}" if contender.name else contender.label
        line = "solid" if contender.is_gpu else "dashed"
        entries.append(Swatch(words, style["color"], style["shape"], not contender.is_gpu, line))
    return tuple(entries)


def _color_legend(data: ReportData, contenders: Sequence[Contender], *, points: bool = False) -> tuple[Swatch, ...]:
    """Return a legend entry for each colour: for each machine, or for each device if there is only one machine."""
    styles = Styles(data.contenders)
    several = len(data.machines) > 1
    entries: dict[str, Swatch] = {}
    for contender in contenders:
        style = styles.of(contender)
        names = dict.fromkeys(c.name for c in contenders if c.machine == contender.machine and c.name)
        name = ", ".join(names) if several else contender.name
        words = ": ".join(filter(None, (contender.machine if several else contender.label, name)))
        patch = Swatch(words, style["color"], line="patch")
        entries.setdefault(words, Swatch(words, style["color"], style["shape"]) if points else patch)
    return tuple(entries.values())


def _left_out(shown: int, of: int, what: str) -> str:
    return f"{shown} of {of} {what} are drawn; the full table contains all of them." if shown < of else ""


def speedup_figure(data: ReportData) -> Figure:
    """Each GPU against the best CPU, or else each machine or each backend against the first."""
    name = "speedup"
    if not data.sides:
        return Figure(
            name, "Speed-up", "No piece of work was measured on two devices or by two backends in these runs."
        )
    sides = data.sides[0]
    heading, what, base = {
        Kind.GPU: ("Speed-up of the GPU over the best CPU", "GPU", "the fastest CPU row of its own machine"),
        Kind.MACHINE: (f"Speed of each machine relative to {sides.against}", "machine", f"that of {sides.against}"),
        Kind.BACKEND: (f"Speed of each backend relative to {sides.against}", "backend", f"that of {sides.against}"),
    }[sides.kind]
    found = figures.speedups(data, sides)
    elsewhere = any(sides.kind is Kind.GPU and s.row.machine != s.base.machine for s in found)
    base += " (where that has none, of another machine, which the numbers name)" * elsewhere
    about = (
        f"The speed of the fastest row of each {what} relative to {base} for the same work, by the wall clock. To the "
        f"right of 1x the {what} is faster, to the left {sides.against}. Each kind of work is shown at the largest "
        f"size that both sides finished. Ratios, and their times in the numbers, are {figures.of_which(data)}. "
        "The thin dark line is the 95 % interval of the ratio."
    )
    headers = (
        "Work",
        what[0].upper() + what[1:],
        "Result",
        "Interval",
        "Verdict",
        "Time",
        "by",
        "Against",
        "Time",
        "by",
    )
    numbers = tuple(_speedup_numbers(s) for s in found)
    labels = list(dict.fromkeys(s.label for s in found))
    drawn = [s for s in found if s.label in labels[:MOST_LINES]]
    chart = charts.speedup_chart(drawn, Styles(data.contenders))
    drawing = svg.draw(chart, name, heading, about)
    drawn_as_points = len(sides.contenders) > charts.MOST_BARS_A_LINE
    legend = () if sides.kind is Kind.BACKEND else _color_legend(data, sides.contenders, points=drawn_as_points)
    note = _left_out(min(len(labels), MOST_LINES), len(labels), "kinds of work")
    return Figure(name, heading, about, legend, (drawing,), headers, numbers, note, wide=True)


def _speedup_numbers(s: Speedup) -> tuple[str, ...]:
    c = s.comparison
    times = zip((s.row, s.base), reversed(s.values), strict=True)
    row, base = ((show(time, row.unit), how(row)) for row, time in times)
    return (s.label, s.contender.label, c.change, c.interval or "none", c.word, *row, s.base.machine, *base)


def _sweep_numbers(found: Sequence[Sweep]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (s.family.label, p.contender.label, p.row.size, charts.value(p.row), how(p.row))
        for s in found
        for p in s.points
    )


def _sweep_drawings(data: ReportData, found: Sequence[Sweep], name: str) -> tuple[Drawing, ...]:
    styles = Styles(data.contenders)
    return tuple(
        svg.draw(charts.sweep_chart(s, styles), f"{name}{i}", s.family.label, _sweep_words(s))
        for i, s in enumerate(found[:MOST_PANELS])
    )


def _sweep_words(sweep: Sweep) -> str:
    won = "; ".join(f"{c.contender.label} {c.text}" for c in sweep.crossovers)
    return f"{charts.METRIC_TITLES.get(sweep.metric, sweep.metric)} over size. {won}".strip()


def scaling_figure(data: ReportData) -> Figure:
    """Rates over size."""
    name = "scaling"
    heading = "Scaling with size" + ", and from which size the GPU is faster" * bool(data.gpus)
    found = figures.sweeps(data)
    if not found:
        return Figure(name, heading, "No kind of work but memory streams was measured at three sizes or more.")
    about = "The best row of each device at each size, both axes logarithmic."
    if data.gpus:
        about += (
            " A ring marks the size from which a GPU is claimed or indicated to be faster than the best CPU of its own"
            " machine, at that size and at every larger one measured."
        )
    headers = ("Work", "Device", "Size", "Value (interval)", "by")
    note = _left_out(min(len(found), MOST_PANELS), len(found), "sweeps")
    drawings = _sweep_drawings(data, found, name)
    return Figure(name, heading, about, _legend(data), drawings, headers, _sweep_numbers(found), note)


def ladder_figure(data: ReportData) -> Figure:
    """Bandwidth over footprint."""
    name, heading = "ladder", "Memory ladder"
    found = figures.ladders(data)
    if not found:
        return Figure(name, heading, "Memory was not measured at three footprints or more in these runs.")
    about = (
        "Bandwidth over the memory that one call accesses, both axes logarithmic. At each step down, the data no "
        "longer fits into a cache; the right end is main memory. Bytes are counted as in STREAM: the size of the "
        "array for each read and each write of it."
    )
    headers = ("Work", "Device", "Size", "Value (interval)", "by")
    note = _left_out(min(len(found), MOST_PANELS), len(found), "ladders")
    drawings = _sweep_drawings(data, found, name)
    return Figure(name, heading, about, _legend(data), drawings, headers, _sweep_numbers(found), note)


def roofline_figure(data: ReportData) -> Figure:
    """Rates under the ceilings."""
    name, heading = "roofline", "Roofline"
    found = figures.roofs(data)
    if not found:
        about = (
            "A roofline needs matrix products and memory bandwidth measured on one device; these runs do not have both."
        )
        return Figure(name, heading, about)
    drawings = tuple(
        svg.draw(charts.roof_chart(roof), f"{name}{i}", f"Roofline of {roof.contender.label}", _roof_words(roof))
        for i, roof in enumerate(found[:MOST_PANELS])
    )
    about = (
        "FLOP per second over FLOP per byte moved. Solid lines are the ceilings measured in these runs: the best "
        "matrix product of each dtype, and the best hot stream over arrays of at least four times the largest cache. "
        "Each is at the lower end of its interval, which is what its row supports. Work to the left of the bend is "
        "limited by memory bandwidth, to the right by arithmetic. Each kind of work is one point, at its largest size. "
    )
    datasheet = any(not c.measured for roof in found for c in roof.ceilings)
    about += "Dotted lines are datasheet figures." if datasheet else "No datasheet figure is known for these devices."
    headers = ("Device", "Ceiling", "Kind", "Value", "From")
    numbers = tuple(
        (roof.contender.label, c.label, "measured" if c.measured else "datasheet", show(c.value, c.unit), c.source)
        for roof in found
        for c in roof.ceilings
    )
    legend = [
        Swatch(f"{suite} work", color, shape, hollow=True)
        for suite, (color, shape) in charts.roof_styles(found[0]).items()
    ]
    legend.append(Swatch("measured ceiling", theme.LIGHT["muted"], "", line="solid"))
    legend += [Swatch("datasheet ceiling", theme.LIGHT["muted"], "", line="dotted")] * datasheet
    left_out = _left_out(min(len(found), MOST_PANELS), len(found), "rooflines")
    note = " ".join(filter(None, (left_out, _above(data))))
    return Figure(name, heading, about, tuple(legend), drawings, headers, numbers, note)


def _above(data: ReportData) -> str:
    """Return how many results are above a ceiling of their run with all of their interval; "" if none are."""
    found = count_from_other_rows(data.rows)
    ceilings = {ABOVE_CEILING: "a ceiling measured in the same run", ABOVE_DATASHEET: "the datasheet"}
    words = [
        f"{found[flag]:,} result{'s' * (found[flag] != 1)} above {what} ({flag})"
        for flag, what in ceilings.items()
        if found[flag]
    ]
    return f"With all of their interval: {'; '.join(words)}. They have no share of it." * bool(words)


def _roof_words(roof: figures.Roof) -> str:
    return "; ".join(charts.ceiling_words(c) for c in roof.ceilings)


def models_figure(data: ReportData) -> Figure:
    """Throughput of models."""
    name, heading = "models", "Model throughput"
    found = figures.model_rates(data)
    if not found:
        return Figure(name, heading, "No model was measured in these runs.")
    panels: dict[str, list[Rate]] = defaultdict(list)
    for rate in found:
        panels[_model_title(data, rate)].append(rate)
    styles = Styles(data.contenders)
    drawings = tuple(
        svg.draw(charts.model_chart(rates, title, styles), f"{name}{i}", title, "Best first.")
        for i, (title, rates) in enumerate(list(panels.items())[:MOST_PANELS])
    )
    about = (
        "The best row of each device, at the largest size that most devices finished. Bars begin at zero, the best is "
        "first; the line across the end of a bar is the interval of its value."
    )
    headers = ("Model", "Size", "Device", "Value (interval)", "by")
    numbers = tuple((r.family.label, r.row.size, r.contender.label, _value_or_reason(r.row), how(r.row)) for r in found)
    note = _left_out(len(drawings), len(panels), "models")
    legend = _color_legend(data, data.contenders)
    return Figure(name, heading, about, legend, drawings, headers, numbers, note)


def _model_title(data: ReportData, rate: Rate) -> str:
    """Return the title of a panel: model, size and metric, without dtype and precision, which share a panel."""
    family = replace(rate.family, dtype="", precision="ieee")
    metric = data.rate_of(rate.family)
    noun = charts.METRIC_TITLES.get(metric, metric).lower()
    return f"{' '.join(family.label.split())} · {rate.row.size} · {noun}"


def _value_or_reason(row: Row) -> str:
    return charts.value(row) if row.has_value else f"{row.status}: {row.reason or row.reason_code}"


def heatmap_figure(data: ReportData) -> Figure:
    """Workload x machine."""
    name, heading = "heatmap", "Every workload on every device"
    found = figures.heat(data)
    if not found:
        return Figure(name, heading, "No case has a value in these runs.")
    about = (
        "Each line is one kind of work at the largest size that any device finished, with the best row of each device. "
        "The darker a cell (on a dark page: the brighter), the closer its value is to the best in its line. "
        "A hatched cell has no value; it shows the reason."
    )
    lines = len(dict.fromkeys(c.line for c in found))
    columns = len(found) // lines
    shown = found[: MOST_LINES * columns]
    specs = charts.heat_charts(shown)
    drawings = tuple(svg.draw(spec, f"{name}{i}", heading, about) for i, spec in enumerate(specs))
    legend = [Swatch(words, theme.HEAT[4 - i], line="patch") for i, (_, words) in enumerate(HEAT_STEPS)]
    legend += [Swatch("no value", charts.HATCHED, line="patch")] * any(c.share is None for c in found)
    missing = [c for c in found if c.share is None]
    headers = ("Work", "Device", "Status", "Reason")
    numbers = tuple(
        (
            c.line,
            c.column.label,
            c.word,
            (c.row.reason or c.row.reason_code) if c.row else "not in the plan of that run",
        )
        for c in missing
    )
    note = _left_out(len(shown) // columns, lines, "lines")
    return Figure(name, heading, about, tuple(legend), drawings, headers, numbers, note, wide=True)


FIGURES: Mapping[str, Callable[[ReportData], Figure]] = {
    "speedup": speedup_figure,
    "scaling": scaling_figure,
    "roofline": roofline_figure,
    "ladder": ladder_figure,
    "models": models_figure,
    "heatmap": heatmap_figure,
}
