"""The charts by name: heading, explanation, legend, panels, and the data as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bench_core.analysis import figures, over_ranks
from bench_core.analysis.figures import Rate, Speedup, Sweep
from bench_core.analysis.over_ranks import Curve
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Contender, Kind
from bench_core.records import Row
from bench_core.report import charts, svg, theme
from bench_core.report.answers import SCALED, scaling_numbers
from bench_core.report.charts import HEAT_STEPS, PAIR_STEPS, Styles, how
from bench_core.report.svg import Drawing, Swatch
from bench_core.report.vega_lite import Spec
from bench_core.results.roofline import ABOVE_CEILING, ABOVE_DATASHEET
from bench_core.results.rows import count_from_other_rows
from bench_core.units import binary_bytes, counted, show

MOST_PANELS = 24  # of a figure on a page
MOST_WIDE = 4  # of those with up to charts.MOST_LINES lines


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing before it is drawn. shows: the kinds of work in it. narrow: its specification for a phone, if any."""

    title: str
    about: str
    shows: tuple[str, ...]
    spec: Callable[[], Spec]
    narrow: Callable[[], Spec] | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart with its texts. about: the explanation, or why there are no panels.

    drawings, narrow: the panels, drawn; `narrow` are for phones. headers, numbers: the data of the chart as a table.
    note: what the drawings omit.
    """

    name: str
    heading: str
    about: str
    legend: tuple[Swatch, ...] = ()
    panels: tuple[Panel, ...] = ()
    headers: tuple[str, ...] = ()
    numbers: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    wide: bool = False
    drawings: tuple[Drawing, ...] = ()
    narrow: tuple[Drawing, ...] = ()

    @property
    def short(self) -> str:
        """A short form of the heading."""
        return SHORT[self.name]


SHORT = {
    "speedup": "Speed-up",
    "scaling": "Scaling",
    "ranks": "Several devices",
    "exchange": "Exchange",
    "pairs": "Pairs",
    "roofline": "Roofline",
    "ladder": "Memory ladder",
    "models": "Models",
    "heatmap": "Heat map",
}


OF_SEVERAL = ("ranks", "exchange", "pairs")  # the figures of devices that compute together


def names_on_page(data: ReportData) -> list[str]:
    """Return the names of the figures of a page, without OF_SEVERAL where nothing ran on several devices."""
    several = any(row.is_across_ranks for row in data.rows)
    return [name for name in FIGURES if several or name not in OF_SEVERAL]


def captioned_figure(data: ReportData, name: str) -> Figure:
    """Return the figure with this name, a key of FIGURES, with a drawing of each panel."""
    figure = FIGURES[name](data)
    return replace(figure, drawings=_drawn(figure, figure.panels))


def figure_on_page(data: ReportData, name: str) -> Figure:
    """Return the figure with the drawings that a page has room for, also for phones; its note lists the others."""
    figure = FIGURES[name](data)
    most = MOST_WIDE if figure.wide else MOST_PANELS
    note = " ".join(filter(None, (_left_out(figure, figure.panels[most:]), figure.note)))
    panels = figure.panels[:most]
    phone = tuple(
        svg.draw(panel.narrow(), f"{name}-narrow{i}", panel.title, panel.about)
        for i, panel in enumerate(panels)
        if panel.narrow
    )
    return replace(figure, drawings=_drawn(figure, panels), narrow=phone, note=note)


def _drawn(figure: Figure, panels: Sequence[Panel]) -> tuple[Drawing, ...]:
    return tuple(svg.draw(p.spec(), f"{figure.name}{i}", p.title, p.about) for i, p in enumerate(panels))


def _left_out(figure: Figure, panels: Sequence[Panel]) -> str:
    left = [name for panel in panels for name in panel.shows]
    command = f"bench-core plot RESULTS --chart {figure.name} -o {figure.name}.svg"
    return f"Not drawn on this page: {', '.join(left)}. All are drawn by: {command}" if left else ""


def _styles(data: ReportData) -> Styles:
    """Return the styles of all that has a line or a bar; of devices that compute together only speed-ups have one."""
    compared = [c for sides in data.sides[:1] for c in sides.contenders]
    return Styles([*data.drawn, *(c for c in compared if c not in data.drawn)])


def _legend(data: ReportData) -> tuple[Swatch, ...]:
    """Return a legend entry with line and mark for everything that has a line."""
    styles = _styles(data)
    entries = []
    for contender in data.drawn:
        style = styles.of(contender)
        words = f"{contender.label}: {contender.name}" if contender.name else contender.label
        line = "solid" if style["solid"] else "dashed"
        entries.append(Swatch(words, style["color"], style["shape"], not style["solid"], line))
    return tuple(entries)


def _noun(data: ReportData) -> str:
    """Return what `data.drawn` are."""
    return "backend" if any(c.backend for c in data.drawn) else "device"


def _color_legend(data: ReportData, contenders: Sequence[Contender], *, points: bool = False) -> tuple[Swatch, ...]:
    """Return a legend entry for each look: for each machine, or if its bars differ, for each device or backend."""
    styles = _styles(data)
    several = len(data.machines) > 1
    looks = {c: (styles.of(c)["color"], styles.of(c)["strength"]) for c in contenders}
    entries: dict[str, Swatch] = {}
    for contender, (color, strength) in looks.items():
        of_machine = [c for c in contenders if c.machine == contender.machine]
        alike = several and all(points or looks[c] == looks[contender] for c in of_machine)
        names = dict.fromkeys(c.name for c in (of_machine if alike else [contender]) if c.name)
        words = ": ".join(filter(None, (contender.machine if alike else contender.label, ", ".join(names))))
        patch = Swatch(words, color, line="patch", strength=strength)
        entries.setdefault(words, Swatch(words, color, styles.of(contender)["shape"]) if points else patch)
    return tuple(entries.values())


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
    not_drawn = data.sides[1:]
    who = "Side" if not_drawn else what[0].upper() + what[1:]
    ratio = ("Work", who, "Ratio", "Interval", "Verdict", "Time", "Implementation")
    headers = (*ratio, "Baseline's machine", "Baseline's time", "Baseline's implementation")
    listed = [*found, *(s for other in not_drawn for s in figures.speedups(data, other))]
    numbers = tuple(_speedup_numbers(s) for s in listed)
    note = "; ".join(f"each {other.kind} relative to {other.against}" for other in not_drawn)
    note = f"Only in the numbers of the report: {note}." * bool(note)
    styles = _styles(data)
    panels = [
        Panel(
            heading,
            about,
            tuple(dict.fromkeys(s.label for s in part)),
            partial(charts.speedup_chart, part, styles, found),
            partial(charts.narrow_speedup_chart, part, styles, found),
        )
        for part in charts.in_parts(found, lambda s: s.label)
    ]
    drawn_as_points = len(sides.contenders) > charts.MOST_BARS_A_LINE
    legend = _color_legend(data, sides.contenders, points=drawn_as_points)
    return Figure(name, heading, about, legend, tuple(panels), headers, numbers, note, wide=True)


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


def _sweep_headers(data: ReportData) -> tuple[str, ...]:
    return ("Work", _noun(data).capitalize(), "Size", "Value (interval)", "Implementation")


def _sweep_panels(data: ReportData, found: Sequence[Sweep]) -> tuple[Panel, ...]:
    styles = _styles(data)
    return tuple(
        Panel(s.family.label, _sweep_words(s), (s.family.label,), partial(charts.sweep_chart, s, styles)) for s in found
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
    about = f"The best row of each {_noun(data)} at each size, both axes logarithmic."
    if data.gpus:
        about += (
            " A ring marks the size from which a GPU is claimed or indicated to be faster than the best CPU of its own"
            " machine, at that size and at every larger one measured."
        )
    panels = _sweep_panels(data, found)
    return Figure(name, heading, about, _legend(data), panels, _sweep_headers(data), _sweep_numbers(found))


def ranks_figure(data: ReportData) -> Figure:
    """Efficiency and speed-up over ranks."""
    name, heading = "ranks", "Scaling over devices that compute together"
    found = over_ranks.scalings(data)
    if not found:
        return Figure(name, heading, "No work was measured on one device of several and on more of them together.")
    looks = charts.looks(curve.label for s in found for curve in s.curves)
    panels = tuple(
        Panel(s.title, _curve_words(s.curves), (s.title,), partial(charts.ranks_chart, s, looks, found)) for s in found
    )
    about = (
        "Each device has a process of its own, a rank. Weak scaling: each rank has the same work, whatever their "
        "number; the parallel efficiency is the time of one rank alone over that of all. Strong scaling: the ranks "
        "share the work of one; the speed-up is the time of one over that of all. The dotted line is the ideal. The "
        "upright lines are 95 % intervals. The axis of efficiency begins at 0, that of speed-up is logarithmic."
    )
    numbers = tuple(scaling_numbers(data, s, c, row) for s in found for c in s.curves for _, row in c.points)
    legend = (*_curve_legend(looks), Swatch("ideal", theme.LIGHT["muted"], "", line="dotted"))
    return Figure(name, heading, about, legend, panels, SCALED, numbers)


def exchange_figure(data: ReportData) -> Figure:
    """Bus bandwidth over bytes."""
    name, heading = "exchange", "Exchange between devices"
    found = over_ranks.exchanges(data)
    if not found:
        return Figure(name, heading, "No exchange between devices was measured.")
    looks = charts.looks(curve.label for e in found for curve in e.curves)
    panels = tuple(
        Panel(e.title, _curve_words(e.curves), (e.title,), partial(charts.exchange_chart, e, looks)) for e in found
    )
    linked = any(e.links for e in found)
    about = (
        "Bus bandwidth over the bytes of the largest array of a rank, both axes logarithmic: the rate at which each "
        "device sends, as nccl-tests counts it. "
    )
    about += (
        "The dotted line is what the link of a device carries in one direction by its datasheet. A switch that adds "
        "what passes through it may exceed it."
        if linked
        else "What the link carries is not known for these devices."
    )
    headers = ("Work", "Side", "Ranks", "Bytes", "Bus bandwidth (interval)", "Time of one call", "Implementation")
    numbers = tuple(
        (
            *(e.title, c.contender.label, f"{row.ranks}", binary_bytes(at), charts.value(row)),
            *(charts.value(data.same(row, "time")), how(row)),
        )
        for e in found
        for c in e.curves
        for at, row in c.points
    )
    legend = [*_curve_legend(looks)]
    legend += [Swatch("link (datasheet)", theme.LIGHT["muted"], "", line="dotted")] * linked
    links = dict.fromkeys(link for e in found for link in e.links)
    note = " ".join(
        f"The link of {link.contender.label}: {show(link.rate, 'B/s')} of one device in one direction ({link.source})."
        for link in links
    )
    return Figure(name, heading, about, tuple(legend), panels, headers, numbers, note)


def pairs_figure(data: ReportData) -> Figure:
    """Bus bandwidth of each pair of ranks."""
    name, heading = "pairs", "Exchange between two of the devices"
    found = over_ranks.pairs(data)
    if not found:
        return Figure(name, heading, "No exchange between two of several devices was measured, which tells a slow one.")
    several = len(dict.fromkeys(p.contender for p in found)) > 1
    titles = [f"{p.contender.label} {p.work}" if several else p.work for p in found]
    panels = tuple(
        Panel(title, p.slow.text if p.slow else "", (title,), partial(charts.pairs_chart, p, title))
        for p, title in zip(found, titles, strict=True)
    )
    about = (
        "Bus bandwidth of two ranks that exchange arrays in both directions at once, one pair after the other, while "
        "the rest wait; each pair is there twice. The darker a cell (on a dark page: the brighter), the closer it is "
        "to the best pair of its chart. "
    )
    about += "" if all(p.are_all for p in found) else "An empty place is a pair without a value. "
    told = [f"{title}: {p.slow.text}." for p, title in zip(found, titles, strict=True) if p.slow]
    about += " ".join(told) or "No rank and no link is clearly slower than all others."
    headers = ("Work", "Side", "Ranks", "Pair", "Bus bandwidth (interval)", "Time of one call", "Implementation")
    numbers = tuple(
        (
            *(p.work, p.contender.label, f"{p.ranks}", over_ranks.name_of(pair), charts.value(row)),
            *(charts.value(data.same(row, "time")), how(row)),
        )
        for p in found
        for pair, row in p.rows.items()
    )
    return Figure(name, heading, about, tuple(_heat_legend(PAIR_STEPS)), panels, headers, numbers)


def _heat_legend(steps: Sequence[tuple[float, str]]) -> list[Swatch]:
    return [Swatch(words, theme.HEAT[4 - i], line="patch") for i, (_, words) in enumerate(steps)]


def _curve_legend(looks: Mapping[str, charts.Look]) -> tuple[Swatch, ...]:
    return tuple(Swatch(label, look["color"], look["shape"], line="solid") for label, look in looks.items())


def _curve_words(curves: Sequence[Curve]) -> str:
    """Return the right ends of lines as text."""
    return "; ".join(
        f"{curve.label}: {charts.value(curve.last)} on {counted(curve.last.ranks, 'rank')}" for curve in curves
    )


def ladder_figure(data: ReportData) -> Figure:
    """Bandwidth over footprint."""
    name, heading = "ladder", "Memory ladder"
    found = figures.ladders(data)
    if not found:
        return Figure(name, heading, "Memory was not measured at three footprints or more in these runs.")
    about = (
        f"Bandwidth of the best row of each {_noun(data)} over the memory that one call accesses, both axes "
        "logarithmic. At each step down, the data no longer fits into a cache; the right end is main memory. Bytes are "
        "counted as in STREAM: the size of the array for each read and each write of it."
    )
    panels = _sweep_panels(data, found)
    return Figure(name, heading, about, _legend(data), panels, _sweep_headers(data), _sweep_numbers(found))


def roofline_figure(data: ReportData) -> Figure:
    """Rates under the ceilings."""
    name, heading = "roofline", "Roofline"
    found = figures.roofs(data)
    if not found:
        about = (
            "A roofline needs matrix products and memory bandwidth measured on one device; these runs do not have both."
        )
        return Figure(name, heading, about)
    titles = [f"Roofline of {roof.contender.label}" for roof in found]
    panels = tuple(
        Panel(title, _roof_words(roof), (roof.contender.label,), partial(charts.roof_chart, roof))
        for title, roof in zip(titles, found, strict=True)
    )
    about = (
        "FLOP per second over FLOP per byte moved. Solid lines are the ceilings measured in these runs: the best "
        "matrix product of each dtype, and the best hot stream over arrays of at least four times the largest cache. "
        "Each is at the lower end of its interval, which is what its row supports. Work to the left of the bend is "
        "limited by memory bandwidth, to the right by arithmetic. Each kind of work is one point: the best row of its "
        "largest size. "
    )
    datasheet = any(not c.measured for roof in found for c in roof.ceilings)
    about += "Dotted lines are datasheet figures." if datasheet else "No datasheet figure is known for these devices."
    headers = ("Device", "Ceiling", "Kind", "Value", "Source")
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
    return Figure(name, heading, about, tuple(legend), panels, headers, numbers, _above(data))


def _above(data: ReportData) -> str:
    """Return how many results are above a ceiling of their run with all of their interval; "" if none are."""
    found = count_from_other_rows(data.rows)
    ceilings = {ABOVE_CEILING: "a ceiling measured in the same run", ABOVE_DATASHEET: "the datasheet"}
    words = [
        f"{counted(found[flag], 'result')} above {what} ({flag})" for flag, what in ceilings.items() if found[flag]
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
    models: dict[str, list[Rate]] = defaultdict(list)
    for rate in found:
        models[_model_title(data, rate)].append(rate)
    styles = _styles(data)
    panels = tuple(
        Panel(
            title,
            "Best first.",
            (title,),
            partial(charts.model_chart, rates, title, styles),
            partial(charts.narrow_model_chart, rates, title, styles),
        )
        for title, rates in models.items()
    )
    noun = _noun(data)
    about = (
        f"The best row of each {noun}, at the largest size that the most {noun}s have finished, which the title names. "
        "Bars begin at zero, the best is first; the line across the end of a bar is the interval of its value."
    )
    headers = ("Model", "Size", noun.capitalize(), "Value (interval)", "Implementation")
    numbers = tuple((r.family.label, r.row.size, r.contender.label, _value_or_reason(r.row), how(r.row)) for r in found)
    legend = _color_legend(data, data.drawn)
    return Figure(name, heading, about, legend, panels, headers, numbers)


def _model_title(data: ReportData, rate: Rate) -> str:
    """Return the title of a panel: model, size and metric, without dtype and precision, which share a panel."""
    family = replace(rate.family, dtype="", precision="ieee")
    metric = data.rate_of(rate.family)
    noun = charts.METRIC_TITLES.get(metric, metric).lower()
    return f"{' '.join(family.label.split())} · {rate.row.size} · {noun}"


def _value_or_reason(row: Row) -> str:
    return charts.value(row) if row.has_value else row.absence


def heatmap_figure(data: ReportData) -> Figure:
    """Workload x machine."""
    name, heading = "heatmap", "Every workload on every device"
    found = figures.heat(data)
    if not found:
        return Figure(name, heading, "No case has a value in these runs.")
    noun = _noun(data)
    column = "backend of each device" if any(c.column.backend for c in found) and noun == "device" else noun
    about = (
        f"Each line is one kind of work at the largest size that the most {noun}s have finished, which it names, with "
        f"the best row of each {column}. The darker a cell (on a dark page: the brighter), the closer its value is to "
        "the best in its line. A hatched cell has no value; it shows the reason."
    )
    panels = tuple(
        Panel(
            heading,
            about,
            tuple(dict.fromkeys(c.line for c in part)),
            partial(charts.heat_chart, part, found),
            partial(charts.narrow_heat_chart, part),
        )
        for part in charts.in_parts(found, lambda c: c.line)
    )
    legend = _heat_legend(HEAT_STEPS)
    legend += [Swatch("no value", charts.HATCHED, line="patch")] * any(c.share is None for c in found)
    missing = [c for c in found if c.share is None]
    who = "Device, backend" if column != noun else noun.capitalize()
    headers = ("Work", who, "Status", "Reason")
    numbers = tuple(
        (
            c.line,
            c.column.label,
            c.word,
            (c.row.reason or c.row.reason_code) if c.row else "not in the plan of that run",
        )
        for c in missing
    )
    return Figure(name, heading, about, tuple(legend), panels, headers, numbers, wide=True)


FIGURES: Mapping[str, Callable[[ReportData], Figure]] = {
    "speedup": speedup_figure,
    "scaling": scaling_figure,
    "ranks": ranks_figure,
    "exchange": exchange_figure,
    "pairs": pairs_figure,
    "roofline": roofline_figure,
    "ladder": ladder_figure,
    "models": models_figure,
    "heatmap": heatmap_figure,
}
