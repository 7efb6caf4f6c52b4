"""Build the report: one self-contained HTML file.

The template escapes all values. Only this module marks values as safe markup: charts serialised by svg.py, the packed
table, and the style sheet and script of this package. The content security policy allows this style sheet and this
script by their hashes, and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import bench_core
from bench_core import stats
from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.compare.loading import Reading
from bench_core.compare.options import CompareOptions
from bench_core.compare.result import CLAIMS, Verdict, change, interval
from bench_core.compare.verdicts import verdict_of_mean
from bench_core.errors import TableError
from bench_core.records import Status
from bench_core.report import packed_table, svg, theme
from bench_core.report.captions import FIGURES, captioned_figure
from bench_core.report.charts import how
from bench_core.report.sources import Source, environment, source
from bench_core.results.rows import FROM_OTHER_ROWS, count_from_other_rows
from bench_core.units import size_order

HERE = Path(__file__).parent
MOST_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class Card:
    """A box of the summary: a heading, one large line, and lines below it."""

    heading: str
    headline: str
    lines: tuple[str, ...] = ()


def render(readings: Sequence[Reading], title: str = "bench-core report") -> str:
    """Return the report on any number of results as one HTML document.

    If it would be 2 MB or more, its full table contains fewer rows, at least 100, and the page states their number.
    Raises TableError if there are no rows, or if tables contradict each other.
    """
    data = ReportData(readings)
    if not data.rows:
        raise TableError(readings[0].path if readings else "report", "no rows in the files given")
    sources = [source(reading) for reading in data.readings]
    known = _context(title, data, sources)
    template = _template()
    every = list(dict.fromkeys(row for reading in data.readings for row in reading.rows))
    rows, layout = packed_table.in_order(every, data.traits), packed_table.Layout.of(every)
    for count in _fewer(len(rows)):
        packed = Markup(packed_table.pack(rows[:count], layout.columns))  # noqa: S704 - JSON without <, > and &
        text = template.render(**known, rows=packed, held=(count, len(rows)), layout=layout)
        if len(text.encode()) < MOST_BYTES:
            break
    return text


def _fewer(count: int) -> list[int]:
    """Return the numbers of rows to try, in descending order, until the page is small enough."""
    return [count, *(n for n in (20_000, 14_000, 10_000, 7_000, 5_000, 2_500, 1_000, 100) if n < count)]


def _context(title: str, data: ReportData, sources: Sequence[Source]) -> dict[str, Any]:
    """Return everything that the template shows except the full table."""
    style, script = _style(), (HERE / "page.js").read_text(encoding="utf-8")
    facts = environment(sources)
    return {
        "title": title,
        "version": bench_core.__version__,
        "style": Markup(style),  # noqa: S704 - this package's own file
        "script": Markup(script),  # noqa: S704 - this package's own file
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "sources": sources,
        "data": data,
        "cards": cards(data),
        "figures": [captioned_figure(data, name) for name in FIGURES],
        "inline": lambda drawing: Markup(svg.inline(drawing)),  # noqa: S704 - serialised by ElementTree
        "swatch": lambda swatch: Markup(svg.swatch_markup(swatch)),  # noqa: S704 - serialised by ElementTree
        "facts_that_differ": [line for line in facts if line.differs],
        "facts_alike": [line for line in facts if not line.differs],
        "known": [s for s in sources if s.facts],
    }


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    jinja = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return jinja.get_template("template.html.j2")


def _style() -> str:
    """Return the style sheet with the colours of the charts, so that page and charts use the same colours."""
    dark = f":root {{ {theme.variables(theme.DARK)} }}\n{theme.dark_rules('svg')}"
    return (
        f":root {{ {theme.variables(theme.LIGHT)} --font: {theme.FONT}; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        f"{(HERE / 'style.css').read_text(encoding='utf-8')}"
    )


def _hash(text: str) -> str:
    """Return the hash of an inline element in the format of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ---------------------------------------------------------------- cards


def cards(data: ReportData) -> list[Card]:
    """Return the summary: machines, best GPU against best CPU, crossover sizes, number of cases by status."""
    return [_machines_card(data), _speedup_card(data), _crossover_card(data), _counts_card(data)]


def _machines_card(data: ReportData) -> Card:
    lines = tuple(f"{c.label}: {c.name or 'name not recorded'}" for c in data.contenders)
    machines = data.machines
    headline = machines[0] if len(machines) == 1 else f"{len(machines)} machines"
    return Card("Measured on", headline or "no device with a value", (*lines, *data.silent))


def _speedup_card(data: ReportData) -> Card:
    heading = "Best GPU against best CPU"
    if not data.gpus:
        return Card(heading, "No GPU", ("No GPU measured in these runs.",))
    best: dict[str, figures.Speedup] = {}
    for s in figures.speedups(data):
        best[s.label] = max(s, best.get(s.label, s), key=lambda s: s.ratio)
    if not best:
        return Card(heading, "Nothing in common", ("No work was measured on both a CPU and a GPU.",))
    ranked = sorted(best.values(), key=lambda s: -s.ratio)
    ratios = [(s.ratio, s.low or s.ratio, s.high or s.ratio) for s in ranked]
    mean, low, high = (stats.geometric_mean(xs) for xs in zip(*ratios, strict=True))
    ends = [("Most", ranked[0]), ("Least", ranked[-1])][: len(ranked)]
    kinds = f"{len(ranked)} of {len(data.families)} kinds of work, each at its largest common size"
    # As in compare.
    lines = [f"Geometric mean ({interval(mean, low, high, 's')}, if errors are fully correlated) over {kinds}."]
    lines += [f"{word}: {s.comparison.brief} ({s.comparison.interval}) at {s.label}. {_pair(s)}" for word, s in ends]
    support = min(s.comparison.support for s in ranked)
    verdict = verdict_of_mean((mean, low, high), support, CompareOptions().min_effect)
    word = f" ({verdict})" if verdict not in CLAIMS else ""
    return Card(heading, change(mean, "s") + word, (*lines, _on_the_ladder(ranked)))


def _pair(s: figures.Speedup) -> str:
    gpu, cpu = (f"{row.machine} {row.device} {how(row)}" for row in (s.gpu, s.cpu))
    return f"{gpu} against {cpu}."


def _on_the_ladder(found: Sequence[figures.Speedup]) -> str:
    """Return how many of these ratios are claimed, indicated and unclear, and what a claim needs if any is not."""
    counts = Counter(s.comparison.verdict for s in found)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    lacking = dict.fromkeys(s.comparison.lacking for s in found if s.comparison.lacking)
    return "; ".join([words, *lacking]) + "."


def _crossover_card(data: ReportData) -> Card:
    heading = "Size from which the GPU is faster"
    if not data.gpus:
        return Card(heading, "No GPU", ("No GPU measured in these runs.",))
    found = figures.crossovers(data)
    if not found:
        return Card(heading, "Not known", ("No work was measured at several sizes on both a CPU and a GPU.",))
    wins = sorted({c.row.size for c in found if c.row and not c.first}, key=size_order)
    sizes = f"from size {wins[0]}" + (f" to {wins[-1]}" if len(wins) > 1 else "") if wins else found[0].text
    word = " (indicated)" if wins and not all(c.claimed for c in found if c.row) else ""
    return Card(heading, sizes.capitalize() + word, tuple(f"{line}." for line in figures.crossover_lines(data)))


def _counts_card(data: ReportData) -> Card:
    cases = {(r.machine, r.case_id, r.backend, r.implementation, r.device, r.threads): r.status for r in data.rows}
    counts = Counter(cases.values())
    ok = counts.pop(Status.OK, 0)
    lines = [f"{count:,} {status}" for status, count in counts.most_common()]
    timed = Counter(word for row in data.rows if row.metric == "time" for word in set(row.flags.split(";")))
    flags = Counter({word: count for word, count in timed.items() if word and word not in FROM_OTHER_ROWS})
    lines += [f"{count:,} values flagged {flag}" for flag, count in flags.most_common(4)]
    judged = sorted(count_from_other_rows(data.rows).items())
    lines += [f"{count:,} result{'s' * (count != 1)} flagged {flag}" for flag, count in judged]
    return Card("Results", f"{ok:,} of {len(cases):,} cases have a value", tuple(lines))
