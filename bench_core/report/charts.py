"""Build Vega-Lite specifications from figures: one chart per panel.

Expressions and field names are constants; text from tables is passed only as data. Every mark has a description with
units, which becomes its tooltip.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from bench_core.analysis.figures import Crossover, HeatCell, Point, Rate, Roof, RoofLimit, Speedup, Sweep
from bench_core.analysis.over_ranks import EFFICIENCY, Curve, Exchange, Pairs, Scaling
from bench_core.analysis.sides import Contender
from bench_core.compare.result import Verdict
from bench_core.records import Row
from bench_core.report import theme
from bench_core.report.axes import LogAxis, log_axis
from bench_core.report.vega_lite import Channel, Layer, Spec, constant, end, nominal, quantitative, raw
from bench_core.units import SYMMETRIC, binary_bytes, show

PANEL = (452, 270)  # pixels inside the axes; two panels fit side by side on a desktop
MOST_LINES = 30  # of one chart, so that it fits a page
NARROW = 340  # pixels that charts for a phone have
CHARACTER = 5.6  # mean width in pixels of a character of a name
TITLE_CHARACTER = 7  # the same of a title
BELOW = 15  # pixels from the middle of a line of these charts down to its marks, under the texts
MOST_BARS_A_LINE = 2
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
METRIC_TITLES = {
    "flop_rate": "Arithmetic rate",
    "bandwidth": "Memory bandwidth",
    "token_rate": "Tokens per second",
    "sample_rate": "Samples per second",
    "time": "Time of one call",
}
T = TypeVar("T")
Data = list[dict[str, Any]]
Look = dict[str, str]  # colour and shape of a line, or colours of a cell, as fields of a datum


class Styles:
    """The style of each contender: colour and shape by machine; beside GPUs a CPU is pale, hollow and dashed.

    If there is only one machine, colour and shape are by device, or by backend.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._one_machine = len({c.machine for c in contenders}) == 1
        self._any_gpu = any(c.is_gpu for c in contenders)
        self._places = {key: i for i, key in enumerate(dict.fromkeys(map(self._key, contenders)))}

    def _key(self, contender: Contender) -> tuple[str, ...]:
        return (contender.device, contender.backend) if self._one_machine else (contender.machine,)

    def place(self, contender: Contender) -> int:
        return self._places[self._key(contender)]

    def of(self, contender: Contender) -> dict[str, Any]:
        """Return the style as fields of a datum."""
        color, shape = _look(self.place(contender))
        solid = contender.is_gpu or not self._any_gpu
        return {
            "color": color,
            "shape": shape,
            "inside": color if solid else theme.LIGHT["surface"],
            "solid": solid,
            "strength": 0.85 if solid or self._one_machine else 0.45,
        }


def _look(place: int) -> tuple[str, str]:
    """Return colour and shape of a series; when the colours are used up, a repeated colour gets another shape."""
    return theme.SERIES[place % len(theme.SERIES)], SHAPES[(place + place // len(theme.SERIES)) % len(SHAPES)]


def how(row: Row) -> str:
    """Return backend, implementation and threads of a row: "torch, 16 threads", "numpy tuned"."""
    threads = f", {row.threads} thread" + "s" * (row.threads > 1) if row.threads else ""
    return row.who + threads


def value(row: Row) -> str:
    """Return a row's value with its interval: "1.23 ms (1.20 ms to 1.31 ms)"."""
    ends = " to ".join(show(end, row.unit) for end in row.interval or ())
    return show(row.value, row.unit) + f" ({ends})" * bool(ends)


def _ends(row: Row) -> dict[str, float | None]:
    """Return the ends of a row's interval as fields of a datum, each None if it has none that can be drawn."""
    low, high = row.interval or (None, None)
    return {"low": low or None, "high": high if low else None}  # zero has no place on a logarithmic axis


COLOR, SHAPE, INSIDE, ABOUT = raw("color"), raw("shape"), raw("inside"), nominal("about")
DASH = nominal("solid", legend=None, scale={"domain": [True, False], "range": [[1, 0], [5, 3]]})
STRENGTH = quantitative("strength", scale=None, legend=None)
HALO = {"stroke": theme.LIGHT["surface"], "strokeWidth": 4}  # keeps grid lines away from a text; svg.py draws it below


def _log(name: str, axis: LogAxis, title: str, **more: Any) -> Channel:
    scale = {"type": "log", "domain": [axis.low, axis.high], "nice": False}
    labels = {"values": list(axis.ticks), "labelExpr": axis.label_expression, "title": title, **more}
    return quantitative(name, scale=scale, axis=labels)


def _names(name: str, **look: Any) -> Channel:
    """Return a channel with a name for each place, in the order of the data."""
    return nominal(name, sort=None, title=None, axis={"ticks": False, "domain": False, **look})


def _unnamed(name: str) -> Channel:
    """Return a channel with a place for each name, in the order of the data."""
    return nominal(name, sort=None, axis=None)


def _step(pixels: int) -> Spec:
    """Return the size of an axis by that of a place."""
    return {"step": pixels}


def in_parts(found: Sequence[T], line: Callable[[T], str]) -> list[list[T]]:
    """Return what a chart has on its lines in parts of about equal height, one for each chart that fits a page."""
    lines = {name: i for i, name in enumerate(dict.fromkeys(map(line, found)))}
    count = math.ceil(len(lines) / MOST_LINES)
    parts: list[list[T]] = [[] for _ in range(count)]
    for one in found:
        parts[lines[line(one)] * count // len(lines)].append(one)
    return parts


def _margin(names: Iterable[str]) -> float:
    """Return about the pixels that the longest name of a line takes, by which charts of one width get equal margins."""
    return max(map(len, names)) * CHARACTER


def _finish(
    layers: Sequence[Layer],
    title: str | list[str],
    size: tuple[int | Spec, int | Spec],
    *,
    subtitle: str = "",
    **datasets: Data,
) -> Spec:
    """Return the specification of a layered chart with its data, its titles and the common style."""
    ink, muted = theme.LIGHT["ink"], theme.LIGHT["muted"]
    heading: Spec = {"text": title, "anchor": "start", "fontSize": 13, "fontWeight": 600, "color": ink, "offset": 12}
    if subtitle:
        heading |= {"subtitle": subtitle, "subtitleFontSize": 11, "subtitleColor": muted, "subtitlePadding": 4}
    axis = {"labelColor": muted, "titleColor": muted, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": 400}
    lines = {"gridColor": theme.LIGHT["grid"], "domainColor": theme.LIGHT["axis"], "tickColor": theme.LIGHT["axis"]}
    width, height = size
    return {
        "width": width,
        "height": height,
        "background": theme.LIGHT["surface"],
        "padding": 6,
        **({"title": heading} if title else {}),
        "layer": [layer.spec() for layer in layers],
        "datasets": datasets,
        "config": {"font": theme.FONT, "axis": axis | lines, "view": {"stroke": None}},
    }


# ---------------------------------------------------------------- speed-ups


def speedup_chart(found: Sequence[Speedup], styles: Styles, among: Sequence[Speedup]) -> Spec:
    """Draw each ratio with its interval; to the right of 1x the GPU is faster, to the left the CPU.

    One or two GPUs are drawn as adjacent bars, more as points on one line, with a label only at the best. `among` are
    the ratios of all charts that have the same axes.
    """
    gpus = list(dict.fromkeys(s.contender for s in among))
    crowd = len(gpus) > MOST_BARS_A_LINE
    data = _speedup_data(found, styles, named=len(gpus) > 1, crowd=crowd)
    x = _speedup_x(_speedup_axis(among, room=0.55), among[0].against)
    look = {"labelLimit": 0, "minExtent": _margin(s.label for s in among), "labelPadding": 8}
    base = Layer("speedups").encode(y=_names("line", **look))
    if not crowd:
        base = base.encode(yOffset=nominal("who", sort=[gpu.label for gpu in gpus]))
    one = Layer("one").marked("rule", color=theme.LIGHT["axis"], strokeWidth=1.5).encode(x=quantitative("ratio"))
    behind, marks = _speedup_marks(base, x, crowd=crowd)
    words = [
        base.where(f"datum.side == '{side}'")
        .marked("text", align=side, dx=away, fontSize=11, color=theme.LIGHT["ink"], **HALO)
        .encode(x=quantitative("end"), text=nominal("words"))
        for side, away in (("left", 9), ("right", -9))
    ]
    step = 26 if crowd or len(gpus) == 1 else 40
    size = 640, _step(step) | {"for": "position"}
    return _finish([*behind, one, *marks, *words], "", size, speedups=data, one=[{"ratio": 1.0}])


def narrow_speedup_chart(found: Sequence[Speedup], styles: Styles, among: Sequence[Speedup]) -> Spec:
    """Draw the same for a phone: the name of the work and the result stand above the bar, or above several points."""
    gpus = list(dict.fromkeys(s.contender for s in among))
    crowd = len(gpus) > 1
    data = _speedup_data(found, styles, named=crowd, crowd=crowd)
    x = _speedup_x(_speedup_axis(among, room=0.0), among[0].against)
    base = Layer("speedups").encode(y=_unnamed("line"))
    named = base.where("datum.words != ''")
    one = named.marked("tick", color=theme.LIGHT["axis"], thickness=1.5, size=18, yOffset=BELOW)
    one = one.encode(x=quantitative("one"))
    behind, marks = _speedup_marks(base, x, crowd=crowd, yOffset=BELOW)
    texts = [
        named.marked("text", align="left", fontSize=11, color=theme.LIGHT[color], yOffset=offset, **HALO).encode(
            x=constant(0), text=nominal(text)
        )
        for text, color, offset in (("line", "muted", BELOW - 28), ("words", "ink", BELOW - 14))
    ]
    return _finish([*behind, one, *marks, *texts], "", (NARROW, _step(52)), speedups=data)


def _speedup_data(found: Sequence[Speedup], styles: Styles, *, named: bool, crowd: bool) -> Data:
    data = [_speedup_datum(s, styles, named=named) for s in found]
    lines = dict.fromkeys(s.label for s in found)
    return [d for line in lines for d in _best_is_named(line, data)] if crowd else data


def _speedup_x(axis: LogAxis, against: str) -> Channel:
    return _log("ratio", axis, f"How many times as fast as {against} (logarithmic)", grid=True)


def _speedup_marks(base: Layer, x: Channel, *, crowd: bool, **more: Any) -> tuple[list[Layer], list[Layer]]:
    """Return the marks behind the line of 1x and those before it: a bar with its whisker, or many points on a stem."""
    whiskers = base.where("datum.low != null").marked("rule", color=theme.LIGHT["ink"], strokeWidth=1.3, **more)
    whiskers = whiskers.encode(x=quantitative("low"), x2=end("high"))
    if not crowd:
        look = {"height": 10} if more else {}
        bars = base.marked("bar", opacity=0.85, **look, **more)
        return [bars.encode(x=x, x2=end("one"), color=COLOR, description=ABOUT)], [whiskers]
    stems = base.marked("rule", color=theme.LIGHT["grid"], strokeWidth=2, **more).encode(x=x, x2=end("one"))
    points = base.marked("point", size=52, filled=True, opacity=1, **more)
    return [stems], [whiskers.encode(color=COLOR), points.encode(x=x, shape=SHAPE, color=COLOR, description=ABOUT)]


def _speedup_axis(found: Sequence[Speedup], room: float) -> LogAxis:
    """Return the axis over all ratios and intervals, with room for the labels at the ends, as a share of the range."""
    ends = [x for s in found for x in (s.ratio, s.low, s.high) if x] + [1.0]
    axis = log_axis(ends, "x", margin=1.15)
    right = (axis.high / axis.low) ** room
    left = right if any(s.ratio < 1 for s in found) else 1.0
    return LogAxis(axis.low / left, axis.high * right, axis.ticks, axis.labels)


def _best_is_named(label: str, data: Data) -> Data:
    """Return the data of one line with a text at the best alone, right of everything on the line."""
    line = [d for d in data if d["line"] == label]
    end = max(1.0, *(d["high"] or d["ratio"] for d in line))
    best = max(line, key=lambda d: float(d["ratio"]))
    return [d | {"end": end, "side": "left", "words": d["words"] if d is best else ""} for d in line]


def _ratio_in_words(s: Speedup) -> str:
    """Return the ratio in words; of one that is indicated within a wide interval, that interval."""
    c = s.comparison
    if c.verdict is not Verdict.INDICATED or not (s.low and s.high):
        return c.brief
    is_wide = max(s.high / s.ratio, s.ratio / s.low) > 1 + SYMMETRIC
    return f"{c.interval} {c.change.split()[-1]}, {c.verdict}" if is_wide else c.brief


def _speedup_datum(s: Speedup, styles: Styles, *, named: bool) -> dict[str, Any]:
    words, spread = _ratio_in_words(s), s.comparison.interval
    base, row = (f"{r.machine} {how(r)}: {show(x, r.unit)}" for r, x in zip((s.base, s.row), s.values, strict=True))
    return {
        "line": s.label,
        "who": s.contender.label,
        "ratio": s.ratio,
        "one": 1.0,
        "low": s.low,
        "high": s.high,
        "end": (s.high or s.ratio) if s.ratio >= 1 else (s.low or s.ratio),
        "side": "left" if s.ratio >= 1 else "right",
        "words": f"{words}, {s.contender.label}" if named else words,
        "about": f"{s.label}: {s.contender.label} {s.comparison.brief}"
        + (f" ({spread})" if spread else "")
        + f": {s.comparison.word}. {row}. Against {s.against}, {base}",
        **styles.of(s.contender),
    }


# ---------------------------------------------------------------- curves


def sweep_chart(sweep: Sweep, styles: Styles) -> Spec:
    """Draw one line per contender over size; a ring marks the size from which a GPU is faster than the CPU."""
    unit = _x_unit(sweep)
    named = sweep.x_kind.capitalize() if len(sweep.x_kind) > 1 else f"Parameter {sweep.x_kind}"
    x_title = {"FLOP": "Work of one call", "B": "Footprint"}.get(sweep.x_kind, named)
    ys = [y for p in sweep.points for y in (p.row.value, *(p.row.interval or ())) if y]
    y_axis = log_axis(ys, sweep.unit, margin=1.4, most=6)
    x_axis = log_axis([p.x for p in sweep.points], unit, margin=1.12)
    data = [_point_datum(p, styles, unit) for p in sweep.points]
    base = Layer("points").encode(x=_log("x", x_axis, x_title, grid=False))
    y = _log("y", y_axis, METRIC_TITLES.get(sweep.metric, sweep.metric))
    lines = base.marked("line", strokeWidth=1.8).encode(y=y, color=COLOR, strokeDash=DASH, detail=nominal("who"))
    spread = base.where("datum.low != null").marked("rule", strokeWidth=1.2)
    whiskers = spread.encode(y=quantitative("low"), y2=end("high"), color=COLOR)
    points = base.marked("point", size=38, strokeWidth=1.5, opacity=1)
    marks = points.encode(y=y, shape=SHAPE, stroke=COLOR, fill=INSIDE, description=ABOUT)
    rings = _ring_data(sweep, styles)
    won = rings[0]["text"] if len(rings) == 1 else ""
    layers = [lines, whiskers, marks, *_rings(rings)]
    return _finish(layers, sweep.family.label, PANEL, subtitle=won, points=data, rings=rings)


def _x_unit(sweep: Sweep) -> str:
    """Return the unit of the horizontal axis: sizes are bytes if they are written so ("64KiB"), else numbers."""
    sizes = sweep.x_kind == "size" and all(p.row.size.endswith("B") for p in sweep.points)
    return "bytes" if sizes else {"FLOP": "FLOP", "B": "bytes"}.get(sweep.x_kind, "n")


def _point_datum(p: Point, styles: Styles, unit: str) -> dict[str, Any]:
    at = binary_bytes(p.x) if unit == "bytes" else p.row.size
    return {
        "x": p.x,
        "y": p.row.value,
        **_ends(p.row),
        "who": p.contender.label,
        "about": f"{p.contender.label}, {p.row.workload} {p.row.dtype} {at}: {value(p.row)}, {how(p.row)}",
        **styles.of(p.contender),
    }


def _ring_data(sweep: Sweep, styles: Styles) -> Data:
    places = {(p.contender, p.row.size): p for p in sweep.points}
    won = [(c, places.get((c.contender, c.row.size))) for c in sweep.crossovers if c.row]
    return [_ring_datum(c, p, styles) for c, p in won if p]


def _rings(data: Data) -> list[Layer]:
    """Return the marks of the rings, if there are any."""
    ring = Layer("rings").marked("point", shape="circle", size=190, strokeWidth=2, filled=False, opacity=1)
    marks = ring.encode(x=quantitative("x"), y=quantitative("y"), stroke=COLOR, description=ABOUT)
    return [marks] * bool(data)


def _ring_datum(c: Crossover, p: Point, styles: Styles) -> dict[str, Any]:
    about = f"{c.contender.label} {c.text}"
    return {"x": p.x, "y": p.row.value, "text": f"GPU {c.text}", "about": about, **styles.of(c.contender)}


# ---------------------------------------------------------------- several devices together


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return the look of each line by its label, the same in all panels."""
    every = enumerate(dict.fromkeys(labels))
    return {label: dict(zip(("color", "shape"), _look(place), strict=True)) for place, label in every}


def ranks_chart(s: Scaling, looks: dict[str, Look], among: Sequence[Scaling]) -> Spec:
    """Draw efficiency or speed-up over the number of ranks, beside the ideal: 1, or that number.

    Efficiency is a share, and its axis begins at zero; a speed-up is a ratio, and its axis is logarithmic. `among` are
    the works of all charts: those of efficiency have the same axis.
    """
    most = max(x for curve in s.curves for x, _ in curve.points)
    is_share = s.metric == EFFICIENCY
    ideal = [(1.0, 1.0), (most, 1.0 if is_share else most)]
    data = _curve_data(s.curves, looks, lambda row: f"{row.ranks} ranks")
    one = {"x": 1.0, "y": 1.0, "low": None, "high": None, "about": "one rank, of which the others are multiples"}
    data = [*({"who": curve.label, **one, **looks[curve.label]} for curve in s.curves), *data]
    rules = [{"x": x, "y": y, "rule": "ideal", "about": "ideal"} for x, y in ideal]
    up = _efficiency_axis(among) if is_share else _log_up(data, rules, "Speed-up", "x")
    return _curves_chart(s.title, data, rules, ("Ranks", "n"), up, [])


def _efficiency_axis(among: Sequence[Scaling]) -> Channel:
    rows = [row for s in among if s.metric == EFFICIENCY for curve in s.curves for _, row in curve.points]
    most = max([1.0, *(amount for row in rows for amount in (row.value or 0.0, *(row.interval or ())))])
    scale = {"domain": [0, 1.05 * most], "nice": False}
    return quantitative("y", scale=scale, axis={"title": "Parallel efficiency", "tickCount": 6})


def exchange_chart(e: Exchange, looks: dict[str, Look]) -> Spec:
    """Draw bus bandwidth over bytes: a line for each number of ranks, and what the links carry."""
    data = _curve_data(e.curves, looks, lambda row: row.size)
    ends = [f([x for curve in e.curves for x, _ in curve.points]) for f in (min, max)]
    rules: Data = []
    names: Data = []
    for link in e.links:
        about = f"link of {link.contender.label}: {show(link.rate, 'B/s')} in one direction ({link.source})"
        rules += [{"x": x, "y": link.rate, "rule": link.contender.label, "about": about} for x in ends]
        whose = f" of {link.contender.label}" if len(e.links) > 1 else ""
        names.append({"x": ends[0], "y": link.rate, "text": f"link{whose} {show(link.rate, 'B/s')}"})
    up = _log_up(data, rules, "Bus bandwidth", "B/s")
    return _curves_chart(e.title, data, rules, ("Bytes", "bytes"), up, names)


PAIR_STEPS = (  # without the palest colour, which is hardly told from an empty place
    (0.95, "at least 95 % of the best pair"),
    (0.85, "at least 85 %"),
    (0.7, "at least 70 %"),
    (0.0, "less"),
)
PAIR_CELL, SMALL_CELL = (54, 30), (12, 12)  # pixels of a cell with its value, and of one without
MOST_WITH_VALUES = 16  # ranks


def pairs_chart(p: Pairs, title: str) -> Spec:
    """Draw rank x rank: each cell has the bus bandwidth of the pair, coloured by its share of the best.

    A pair is there twice, and a rank has none with itself. The cells of many ranks have no room for values.
    """
    ranks = [str(rank) for rank in p.members]
    has_room = len(ranks) <= MOST_WITH_VALUES
    width, height = PAIR_CELL if has_room else SMALL_CELL
    look = {"title": "Rank", "labelAngle": 0, "labelOverlap": True}
    across = {**_names("of", orient="top", **look), "sort": ranks, "scale": {"domain": ranks}}
    down = {**_names("with", **look), "sort": ranks, "scale": {"domain": ranks}}
    base = Layer("cells").encode(x=across, y=down)
    rects = base.marked("rect", stroke=theme.LIGHT["surface"], strokeWidth=2 if has_room else 1)
    words = base.marked("text", fontSize=10.5)
    layers = [rects.encode(fill=raw("fill"), description=ABOUT)]
    layers += [words.encode(text=nominal("words"), fill=raw("ink"), description=ABOUT)] * has_room
    data = [_pair_datum(p, *pair) for low, high in p.rows for pair in ((low, high), (high, low))]
    return _finish(layers, title, (_step(width), _step(height)), cells=data)


def _pair_datum(p: Pairs, of: int, other: int) -> dict[str, Any]:
    row = p.rows[min(of, other), max(of, other)]
    share = (row.value or 0.0) / (p.fastest.value or 1.0)
    about = f"ranks {of} and {other}: {value(row)}, {how(row)}; {share:.3g} of the best pair"
    shared = {"of": f"{of}", "with": f"{other}", "words": show(row.value, row.unit), "about": about}
    return shared | _heat_look(share, PAIR_STEPS)


def _log_up(data: Data, rules: Data, title: str, unit: str) -> Channel:
    """Return a logarithmic vertical axis over points with their intervals, and rules."""
    ys = [amount for d in (*data, *rules) for amount in (d["y"], d.get("low"), d.get("high")) if amount]
    return _log("y", log_axis(ys, unit, margin=1.25, most=6), title)


def _curve_data(curves: Sequence[Curve], looks: dict[str, Look], at: Callable[[Row], str]) -> Data:
    return [
        {
            "x": x,
            "y": row.value,
            **_ends(row),
            "who": curve.label,
            "about": f"{curve.contender.label}, {row.workload} {row.dtype}, {at(row)}: {value(row)}, {how(row)}",
            **looks[curve.label],
        }
        for curve in curves
        for x, row in curve.points
    ]


def _curves_chart(title: str, data: Data, rules: Data, x: tuple[str, str], up: Channel, names: Data) -> Spec:
    """Return lines with points and intervals above dotted rules.

    x: title and unit of the horizontal axis. up: the vertical one. names: of rules.
    """
    xs = [d["x"] for d in (*data, *rules)]
    x_axis = log_axis(xs, x[1], margin=1.12 if min(xs) < max(xs) else 2.5)
    across = _log("x", x_axis, x[0], grid=False)
    base = Layer("points").encode(x=across)
    ideal = Layer("rules").marked("line", strokeWidth=1.4, color=theme.LIGHT["muted"], strokeDash=[2, 3])
    words = Layer("names").marked(
        "text", align="left", baseline="bottom", dy=-3, fontSize=10.5, color=theme.LIGHT["ink"], **HALO
    )
    layers = [
        ideal.encode(x=across, y=up, detail=nominal("rule"), order=quantitative("x"), description=ABOUT),
        base.marked("line", strokeWidth=1.8).encode(y=up, color=COLOR, detail=nominal("who")),
        base.where("datum.low != null")
        .marked("rule", strokeWidth=1.2)
        .encode(y=quantitative("low"), y2=end("high"), color=COLOR),
        base.marked("point", size=38, strokeWidth=1.5, filled=True, opacity=1).encode(
            y=up, shape=SHAPE, color=COLOR, description=ABOUT
        ),
        *([words.encode(x=quantitative("x"), y=quantitative("y"), text=nominal("text"))] * bool(names)),
    ]
    return _finish(layers, title, PANEL, points=data, rules=rules, names=names)


# ---------------------------------------------------------------- roofline


def roof_chart(roof: Roof) -> Spec:
    """Draw measured ceilings as solid lines, datasheet ceilings as dotted lines, and rows as points.

    The line of a peak ends at its name.
    """
    x_axis, y_axis = _roof_axes(roof)
    x = _log("x", x_axis, "Arithmetic intensity in FLOP per byte", grid=False)
    y = _log("y", y_axis, "Arithmetic rate")
    solid = nominal("measured", legend=None, scale={"domain": [True, False], "range": [[1, 0], [2, 3]]})
    lines = Layer("lines").marked("line", strokeWidth=1.6, color=theme.LIGHT["muted"])
    marks = Layer("points").marked("point", size=42, strokeWidth=1.4, opacity=1, filled=False)
    texts = Layer("names").encode(x=quantitative("x"), y=quantitative("y"), text=nominal("text"))
    look = {"baseline": "middle", "fontSize": 10.5, "color": theme.LIGHT["ink"], **HALO}
    order = {"detail": nominal("line"), "order": quantitative("x")}
    layers = [
        lines.encode(x=x, y=y, **order, description=ABOUT, strokeDash=solid),
        marks.encode(x=x, y=y, shape=SHAPE, stroke=COLOR, description=ABOUT),
        *(texts.where(f"datum.side == '{side}'").marked("text", align=side, **look) for side in ("left", "right")),
    ]
    styles = roof_styles(roof)
    data = {
        "lines": _roof_lines(roof, x_axis, y_axis),
        "points": [_roof_datum(p, styles[p.row.suite]) for p in roof.points],
        "names": _roof_labels(roof, x_axis, y_axis),
    }
    title = f"{roof.contender.label} {roof.contender.name}".strip()
    return _finish(layers, title, PANEL, subtitle="", **data)


ROOM = 0.35  # share of the width that is reserved for the names of the ceilings
LEADER = 14  # pixels from the end of the line of a peak to its name


def _roof_axes(roof: Roof) -> tuple[LogAxis, LogAxis]:
    top, best = max(c.value for c in roof.peaks), max(c.value for c in roof.bandwidths)
    slowest = min(c.value for c in roof.bandwidths)
    xs = [p.x for p in roof.points] + [0.05, top / slowest * 4]
    ys = [p.row.value for p in roof.points if p.row.value] + [
        top * 1.3,
        min(xs) * best,
        min(c.value for c in roof.peaks),
    ]
    x_axis, y_axis = log_axis(xs, "FLOP/B", margin=1.1), log_axis(ys, "FLOP/s", margin=1.3, most=6)
    right = x_axis.high * (x_axis.high / x_axis.low) ** (ROOM / (1 - ROOM))
    return LogAxis(x_axis.low, right, x_axis.ticks, x_axis.labels), y_axis


def roof_styles(roof: Roof) -> dict[str, tuple[str, str]]:
    """Return colour and shape of each kind of work, by suite; when they run out, the last ones again."""
    styles = list(zip(theme.SERIES, SHAPES, strict=False))
    return {suite: styles[min(place, len(styles) - 1)] for place, suite in enumerate(roof.suites)}


def _roof_lines(roof: Roof, x_axis: LogAxis, y_axis: LogAxis) -> Data:
    """Return the lines: each slope ends at the highest peak of its kind, each peak begins at the highest slope."""
    data: Data = []
    names = _names_of_peaks(roof, y_axis)
    for c in roof.ceilings:
        slope = c.unit == "B/s"
        others = [o.value for o in (roof.peaks if slope else roof.bandwidths) if o.measured == c.measured]
        meets = (
            max(others, default=max(o.value for o in roof.peaks)) / c.value
            if slope
            else c.value / max(others, default=c.value / x_axis.low)
        )
        start = max(x_axis.low, y_axis.low / c.value if slope else meets)
        if slope:
            path = [(start, start * c.value), (meets, meets * c.value)]
        else:
            path = [(start, c.value), (_line_end(x_axis, 0), c.value), (_line_end(x_axis, LEADER), names[c])]
        shared = {"line": f"{c.label} {c.measured}", "measured": c.measured, "about": ceiling_words(c)}
        data += [{"x": x, "y": y, **shared} for x, y in path]
    return data


def _line_end(x_axis: LogAxis, beyond: float) -> float:
    """Return where the lines of the peaks end, or the value this many pixels beyond."""
    return x_axis.at(1 - ROOM + beyond / PANEL[0])


def ceiling_words(c: RoofLimit) -> str:
    """Return a ceiling as text: "measured float32 1.28 TFLOP/s"."""
    return f"{'measured' if c.measured else 'datasheet'} {c.label} {show(c.value, c.unit)}"


def _roof_labels(roof: Roof, x_axis: LogAxis, y_axis: LogAxis) -> Data:
    """Return the names of the ceilings with their positions, where they cross no line and no point if possible.

    Peaks are named to the right of their lines. Slopes are named left of the steepest, where nothing else lies but
    points that a cache lifts above it.
    """
    places = _names_of_peaks(roof, y_axis)
    x = _line_end(x_axis, LEADER + 3)
    data: Data = [
        {"x": x, "y": y, "text": f"{c.label} {show(c.value, c.unit)}", "side": "left"} for c, y in places.items()
    ]
    marks = [(x_axis.share(p.x) * PANEL[0], y_axis.share(p.row.value) * PANEL[1]) for p in roof.points if p.row.value]
    steepest = max(c.value for c in roof.bandwidths)
    for c in sorted(roof.bandwidths, key=lambda c: -c.value):
        text = f"{c.label} {show(c.value, c.unit)}" + " (datasheet)" * (not c.measured)
        width = len(text) * CHARACTER
        right, middle = _beside_slope(steepest, width, marks, x_axis, y_axis)
        marks += [(right - x, middle) for x in range(0, int(width), 10)]
        place = {"x": x_axis.at(right / PANEL[0]), "y": y_axis.at(middle / PANEL[1])}
        data.append({**place, "text": text, "side": "right"})
    return data


def _names_of_peaks(roof: Roof, y_axis: LogAxis) -> dict[RoofLimit, float]:
    """Return the height of the name of each peak: near its line, apart from the others, inside the panel."""
    peaks = sorted(roof.peaks, key=lambda c: c.value)
    wanted = [y_axis.share(c.value) * PANEL[1] for c in peaks]
    found = spread(wanted, 13, PANEL[1] - 7)
    return {c: y_axis.at(y / PANEL[1]) for c, y in zip(peaks, found, strict=True)}


def spread(wanted: Sequence[float], gap: float, most: float) -> list[float]:
    """Return positions at least `gap` apart and at most `most`, as close as possible to ascending wanted ones."""
    groups: list[tuple[float, int]] = []  # of neighbours that touch: the first position less its place, the number
    for place, position in enumerate(wanted):
        start, count = position - place * gap, 1
        while groups and groups[-1][0] > start:
            other, number = groups.pop()
            start, count = (other * number + start * count) / (number + count), number + count
        groups.append((start, count))
    starts = [start for start, count in groups for _ in range(count)]
    last = most - (len(wanted) - 1) * gap
    return [min(start, last) + place * gap for place, start in enumerate(starts)]


def _beside_slope(
    slope: float, width: float, marks: Sequence[tuple[float, float]], x_axis: LogAxis, y_axis: LogAxis
) -> tuple[float, float]:
    """Return the right end and the middle of a text left of a slope, in the panel, off marks, high up; in pixels."""
    places = []
    for middle in range(PANEL[1] - 14, 8, -2):
        right = x_axis.share(y_axis.at((middle - 8) / PANEL[1]) / slope) * PANEL[0] - 4
        hits = sum(right - width - 8 < x < right + 8 and abs(y - middle) < 14 for x, y in marks)
        places.append((max(width - right, 0.0), hits, -middle, right))
    _, _, middle, right = min(places)
    return right, -middle


def _roof_datum(p: Point, style: tuple[str, str]) -> dict[str, Any]:
    color, shape = style
    at = show(p.x, "FLOP/B")
    about = f"{p.row.workload} {p.row.dtype} {p.row.size}: {value(p.row)} at {at}, {how(p.row)}"
    return {"x": p.x, "y": p.row.value, "color": color, "shape": shape, "about": about}


# ---------------------------------------------------------------- models


MODEL_WIDTH = 550  # pixels of the names and the bars together; long names make the bars shorter
MODEL_BARS = (170, 330)  # pixels that the bars have at least and at most
MODEL_VALUE = 86  # pixels of them that are kept for the value behind the longest bar


def model_chart(rates: Sequence[Rate], title: str, styles: Styles) -> Spec:
    """Draw the throughput of one model as bars from zero, each with its value as text, or why it has none."""
    data = _rate_data(rates, styles)
    width = min(MODEL_BARS[1], max(MODEL_BARS[0], MODEL_WIDTH - _margin(d["line"] for d in data)))
    base = Layer("rates").encode(y=_names("line", labelLimit=0, labelPadding=6))
    return _finish(_model_marks(base, data, width), title, (int(width), _step(18)), rates=data)


def _model_marks(base: Layer, data: Data, width: float, **more: Any) -> list[Layer]:
    """Return the bars with their whiskers and values, in this width in pixels. more: where they are on their line."""
    most = max(max(d["value"], d["high"] or 0.0) for d in data) * width / (width - MODEL_VALUE)
    x = quantitative("value", scale={"domain": [0, most], "nice": False}, axis=None)
    bars = base.marked("bar", height=11, **more)
    whiskers = base.where("datum.low != null").marked("rule", color=theme.LIGHT["ink"], **more)
    words = base.marked("text", align="left", dx=6, fontSize=11, color=theme.LIGHT["ink"], **more)
    return [
        bars.encode(x=x, x2=end("zero"), color=COLOR, opacity=STRENGTH, description=ABOUT),
        whiskers.encode(x=quantitative("low"), x2=end("high")),
        words.encode(x=quantitative("end"), text=nominal("words"), description=ABOUT),
    ]


def _rate_data(rates: Sequence[Rate], styles: Styles) -> Data:
    several = len({(r.family.dtype, r.family.precision) for r in rates}) > 1
    return [_rate_datum(r, styles, several=several) for r in sorted(rates, key=lambda r: -(_shown(r) or 0.0))]


def narrow_model_chart(rates: Sequence[Rate], title: str, styles: Styles) -> Spec:
    """Draw the same for a phone: the name of a contender stands above its bar."""
    data = _rate_data(rates, styles)
    base = Layer("rates").encode(y=_unnamed("line"))
    names = base.marked("text", align="left", fontSize=11, color=theme.LIGHT["muted"], yOffset=-9)
    layers = [*_model_marks(base, data, NARROW, yOffset=6), names.encode(x=constant(0), text=nominal("line"))]
    return _finish(layers, textwrap.wrap(title, NARROW // TITLE_CHARACTER), (NARROW, _step(34)), rates=data)


def _shown(r: Rate) -> float | None:
    return r.row.value if r.row.has_value else None


def _rate_datum(r: Rate, styles: Styles, *, several: bool) -> dict[str, Any]:
    row = r.row
    precision = row.dtype if row.precision == "ieee" else f"{row.dtype} {row.precision}"
    known = _shown(r) is not None
    low, high = (row.interval if known else None) or (None, None)
    found = value(row) if known else row.absence
    return {
        "line": f"{r.contender.label} {precision}" if several else r.contender.label,
        "value": row.value if known else 0.0,
        "zero": 0.0,
        "low": low,
        "high": high,
        "end": (high or row.value) if known else 0.0,
        "words": show(row.value, row.unit) if known else f"no value: {row.status}",
        "about": f"{row.workload} {row.size} {precision}, {r.contender.label}: {found}, {how(row)}",
        **styles.of(r.contender),
    }


# ---------------------------------------------------------------- heat map

HEAT_STEPS = (
    (0.75, "at least 3/4 of the best"),
    (0.25, "at least 1/4"),
    (0.05, "at least 1/20"),
    (0.005, "at least 1/200"),
    (0.0, "less"),
)
HATCHED = "url(#hatch)"  # svg.py defines the pattern


def heat_chart(cells: Sequence[HeatCell], among: Sequence[HeatCell]) -> Spec:
    """Draw workload x device: each cell has its value, coloured by its share of the best, or is hatched for no value.

    `among` are the cells of all charts that have the same width.
    """
    look = {"labelLimit": 0, "minExtent": _margin(c.line for c in among), "labelPadding": 8}
    rects, words = _heat_marks(cells, _names("line", **look))
    return _finish([rects, words], "", (_step(92), _step(25)), cells=[_heat_datum(c) for c in cells])


def narrow_heat_chart(cells: Sequence[HeatCell]) -> Spec:
    """Draw the same for a phone: the name of a line stands above its cells."""
    y = _unnamed("line")
    rects, words = _heat_marks(cells, y, yOffset=9)
    names = Layer("names").marked("text", align="left", fontSize=11, color=theme.LIGHT["muted"], yOffset=-11)
    lines = [{"line": line} for line in dict.fromkeys(c.line for c in cells)]
    layers = [rects, words, names.encode(x=constant(0), y=y, text=nominal("line"))]
    return _finish(layers, "", (_step(86), _step(46)), cells=[_heat_datum(c) for c in cells], names=lines)


def _heat_marks(cells: Sequence[HeatCell], y: Channel, **more: Any) -> tuple[Layer, Layer]:
    """Return the cells and the texts in them. more: of cells that share their line with its name."""
    columns = list(dict.fromkeys(c.column.label for c in cells))
    slanted = max(len(c) for c in columns) > 14
    look = {"orient": "top", "labelAngle": -30 if slanted else 0, "labelLimit": 0, "labelPadding": 6}
    base = Layer("cells").encode(x={**_names("column", **look), "sort": columns}, y=y)
    height = {"height": 23} if more else {}
    rects = base.marked("rect", stroke=theme.LIGHT["surface"], strokeWidth=2, **height, **more)
    words = base.marked("text", fontSize=10.5, strokeWidth=4, **more)
    return (
        rects.encode(fill=raw("fill"), description=ABOUT),
        words.encode(text=nominal("words"), description=ABOUT, fill=raw("ink"), stroke=raw("halo")),
    )


def _heat_datum(c: HeatCell) -> dict[str, Any]:
    shared = {"line": c.line, "column": c.column.label}
    place = f"{c.line}, {c.column.label}"
    if c.share is None or c.row is None:
        absence = c.row.absence if c.row else c.word
        return shared | {
            "fill": HATCHED,
            "ink": theme.LIGHT["ink"],
            "halo": theme.LIGHT["faint"],
            "words": c.word,
            "about": f"{place}: {absence}",
        }
    about = f"{place}: {value(c.row)}, {how(c.row)}; {c.share:.3g} of the best in this line"
    look = _heat_look(c.share, HEAT_STEPS) | {"halo": "transparent"}
    return shared | look | {"words": show(c.row.value, c.row.unit), "about": about}


def _heat_look(share: float, steps: Sequence[tuple[float, str]]) -> Look:
    """Return the colours of a cell and of the text in it, by its share of the best. steps: the least share of each."""
    step = next(i for i, (least, _) in enumerate(steps) if share >= least)
    return {"fill": theme.HEAT[4 - step], "ink": theme.LIGHT["heat_paper" if step <= 1 else "heat_ink"]}
