"""Build the report: one self-contained HTML file.

The template escapes all values. Only this module marks values as safe markup: charts serialised by svg.py, the packed
table, and the style sheet and script of this package. The content security policy allows this style sheet and this
script by their hashes, and forbids everything else.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

import bench_core
from bench_core.analysis import figures
from bench_core.analysis.claims import has_tested_claims
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import BEST_CPU, Kind, Sides
from bench_core.compare.loading import Reading
from bench_core.compare.result import Verdict
from bench_core.errors import TableError
from bench_core.files import encoded
from bench_core.records import Identity, Status
from bench_core.report import fleet, history, packed_table, sparkline, svg, theme
from bench_core.report.answers import answered, how_compared, of_each_workload, step
from bench_core.report.captions import figure_on_page, names_on_page
from bench_core.report.charts import how
from bench_core.report.sources import Source, environment, source
from bench_core.results.rows import FROM_OTHER_ROWS, count_from_other_rows
from bench_core.text import harmless
from bench_core.units import counted, size_order

HERE = Path(__file__).parent
MOST_BYTES = 2_000_000
MOST_SERIES_BYTES = 1_000_000  # of the pages of series
MOST_MEANS = 10  # of one card
MOST_FLAGS = 4


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
        why = data.apart[0] if data.apart else "no rows in the files given"
        raise TableError(readings[0].path if readings else "report", why)
    sources = [source(reading) for reading in data.readings]
    known = _context(title, data, sources)
    template = _template()
    every = list(dict.fromkeys(row for reading in data.readings for row in reading.rows))
    rows, layout = packed_table.in_order(every, data.place), packed_table.Layout.of(every)
    counts = _fewer(len(rows))
    while len(counts) > 1 and packed_table.least_bytes(counts[0], layout.columns) >= MOST_BYTES:
        counts.pop(0)
    packed, room = packed_table.Packed(rows[: counts[0]], layout.columns), MOST_BYTES
    for count in counts:
        table = packed.first(count)
        if len(table) >= room and count != counts[-1]:
            continue
        held = count, len(rows)
        text = template.render(**known, rows=Markup(table), held=held, layout=layout)  # noqa: S704 - without <, > and &
        size = len(encoded(text))
        if size < MOST_BYTES:
            break
        room = MOST_BYTES - (size - len(table)) + _SENTENCE
    return text


_SENTENCE = 10  # bytes by which the sentence on the number of rows may be shorter for fewer rows


def _fewer(count: int) -> list[int]:
    """Return the numbers of rows to try, in descending order, until the page is small enough."""
    return [count, *(n for n in (20_000, 14_000, 10_000, 7_000, 5_000, 2_500, 1_000, 100) if n < count)]


_COMMAND = re.compile(r"bench-core [a-z]+(?: --[a-z-]+(?: \d+)?)*")


def _with_whole_commands(text: str) -> Markup:
    """Return a text as markup in which no line ends within a command, as it may behind a hyphen."""
    return Markup(_COMMAND.sub(r'<span class="command">\g<0></span>', str(escape(text))))  # noqa: S704 - escaped


def _context(title: str, data: ReportData, sources: Sequence[Source]) -> dict[str, Any]:
    """Return everything that the template shows except the full table."""
    over_time = _over_time(data)
    nodes = _fleet(data)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    style = _style(with_history=bool(over_time), with_fleet=bool(nodes))
    facts = environment(sources)
    drawn = [figure_on_page(data, name) for name in names_on_page(data)]
    answers = answered(data)
    # What tests no claim opens the page of runs that test none. Answers by any work (scaling, energy) stand beside it.
    measured = [] if has_tested_claims(data) else of_each_workload(data)
    folded = [answer for answer in answers if answer.needs] if measured else []
    return {
        "title": harmless(title),
        "version": bench_core.__version__,
        "style": Markup(style),  # noqa: S704 - this package's own file
        "script": Markup(script),  # noqa: S704 - this package's own file
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "sources": sources,
        "data": data,
        "cards": cards(data),
        "answers": [*measured, *(answer for answer in answers if answer not in folded)],
        "folded": folded,
        "how_compared": _with_whole_commands(how_compared(data)),
        "fleet": nodes,
        "over_time": over_time,
        "figures": [figure for figure in drawn if figure.drawings],
        "not_drawn": [figure for figure in drawn if not figure.drawings],
        "counted": counted,
        # The template is rendered again if the page is too large: each drawing is serialised once.
        "inline": functools.cache(lambda drawing: Markup(svg.inline(drawing))),  # noqa: S704 - by ElementTree
        "swatch": functools.cache(lambda swatch: Markup(svg.swatch_markup(swatch))),  # noqa: S704 - by ElementTree
        "facts_that_differ": [line for line in facts if line.differs],
        "facts_alike": [line for line in facts if not line.differs],
        "known": [s for s in sources if s.facts],
    }


def _fleet(data: ReportData) -> Markup:
    """Return the section on which nodes differ; "" if there are too few to tell."""
    diagnosis = fleet.diagnosis_of(data.comparable)
    found = fleet.fleet_section(diagnosis) if diagnosis else None
    macros: Any = _template("fleet.html.j2").module
    return macros.section(found) if found else Markup()


def _over_time(data: ReportData) -> Markup:
    """Return the section on changes over time and the pages of its series, as many as may be; "" if there is none."""
    found = history.over_time(data)
    if found is None:
        return Markup()
    macros: Any = _template("over_time.html.j2").module
    pages = _pages_of_series(found.by_rank, macros.page)
    lines = [line for of in found.works for line in of.lines]
    section = macros.section(
        found,
        pages,
        spark=lambda line: Markup(svg.markup(sparkline.sparkline(line.series, line.about))),  # noqa: S704 - likewise
        swatch=lambda swatch: Markup(svg.swatch_markup(swatch)),  # noqa: S704 - likewise
        without_page=len(lines) - len(pages),
    )
    return Markup().join([section, *(pages[line.key] for line in lines if line.key in pages)])


def _pages_of_series(ranked: Sequence[history.Line], page: Callable[..., Markup]) -> dict[str, Markup]:
    """Return the pages of the lines for which there is room, by key; with a table of runs as long as there is more."""
    pages: dict[str, Markup] = {}
    room = MOST_SERIES_BYTES
    given = {}
    for line in ranked:
        drawn = Markup(svg.inline(history.drawing(line)))  # noqa: S704 - by ElementTree
        given[line.key] = line, drawn, history.event_rows(line.series)
        text = page(*given[line.key], ())
        room -= len(encoded(text))
        if room < 0:
            return pages
        pages[line.key] = text
    for key, (line, *shown) in given.items():
        text = page(line, *shown, history.point_rows(line.series))
        room -= len(encoded(text)) - len(encoded(pages[key]))
        if room < 0:
            break
        pages[key] = text
    return pages


def _template(name: str = "template.html.j2") -> jinja2.Template:
    loader = jinja2.FileSystemLoader(HERE)
    jinja = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return jinja.get_template(name)


def _style(*, with_history: bool, with_fleet: bool) -> str:
    """Return the style sheet with the colours of the charts, so that page and charts use the same colours."""
    sheets = ["style.css"] + ["fleet.css"] * with_fleet + ["history.css"] * with_history
    dark = f":root {{ {theme.variables(theme.DARK)} }}\n{theme.dark_rules('svg')}"
    return (
        f":root {{ {theme.variables(theme.LIGHT)} --font: {theme.FONT}; }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        f"{''.join((HERE / name).read_text(encoding='utf-8') for name in sheets)}"
    )


def _hash(text: str) -> str:
    """Return the hash of an inline element in the format of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ---------------------------------------------------------------- cards


def cards(data: ReportData) -> list[Card]:
    """Return the summary: machines, what is faster and by how much, crossover sizes, number of cases by status."""
    compared = [_speedup_card(data, sides) for sides in data.sides]
    return [_machines_card(data), *compared, *_crossover_cards(data), _counts_card(data)]


def _machines_card(data: ReportData) -> Card:
    lines = tuple(f"{c.label}: {c.name or 'name not recorded'}" for c in data.contenders)
    machines = data.machines
    headline = machines[0] if len(machines) == 1 else f"{len(machines)} machines"
    return Card("Measured on", headline or "no device with a value", (*lines, *data.silent, *data.apart))


def _speedup_card(data: ReportData, sides: Sides) -> Card:
    """Return how much faster each contender of these sides is, by arithmetic, and where it is best and worst."""
    every = figures.speedups(data, sides)
    everything = [s for s in every if s.is_checked] or every
    found = [s for s in everything if data.traits(s.family).claims] or everything
    by_arithmetic = figures.means(found)
    several = len(sides.contenders) > 1
    first = _most_telling(by_arithmetic)
    who = f"{first.contender.label}: " * several
    some = len(found) < len(everything)
    which = "of the work that answers a claim" if some else "of all work"
    about = (
        f"Geometric means {which} that both sides have, at its largest size; intervals as if errors were correlated."
    )
    about += f" Best, worst and counts are of all {len(everything)} ratios, also of other work." * some
    lines = [_mean_line(mean, named=several) for mean in by_arithmetic[:MOST_MEANS]]
    if len(by_arithmetic) > MOST_MEANS:
        more = counted(len(by_arithmetic) - MOST_MEANS, "more mean")
        lines.append(f"{more}; the ratios of all are below, in the numbers of Speed-up.")
    ranked = sorted(everything, key=lambda s: -s.ratio)
    ends = [("At best", ranked[0]), ("At worst", ranked[-1])] if len(ranked) > 1 else [("That is", ranked[0])]
    lines += [about, *(f"{word} {_end(s)}" for word, s in ends)]
    heading = {
        Kind.GPU: "GPU against the best CPU",
        Kind.MACHINE: f"{sides.contenders[0].label if not several else 'Machines'} against {sides.against}",
        Kind.BACKEND: f"{sides.contenders[0].label if not several else 'Backends'} against {sides.against}",
    }[sides.kind]
    headline = f"{who}{first.change} in {first.arithmetic}"
    return Card(heading, headline, (*lines, _on_the_ladder(ranked)))


def _most_telling(found: Sequence[figures.MeanSpeedup]) -> figures.MeanSpeedup:
    """Return the mean of the fastest contender in the arithmetic of the most kinds of work."""
    groups: dict[str, list[figures.MeanSpeedup]] = {}
    for mean in found:
        groups.setdefault(mean.arithmetic, []).append(mean)
    most = {arithmetic: max(len(mean.of) for mean in means) for arithmetic, means in groups.items()}
    firsts = [figures.fastest(means) for means in groups.values()]
    return max(firsts, key=lambda mean: (most[mean.arithmetic], mean.ratio))


def _mean_line(mean: figures.MeanSpeedup, *, named: bool) -> str:
    who = f"{mean.contender.label}, " * named
    elsewhere = f" against the CPU of {mean.base_machine}" * (mean.against == BEST_CPU and not mean.is_at_home)
    kinds = counted(len(mean.of), "kind")
    return f"{who}{mean.arithmetic}{elsewhere}: {mean.change} ({mean.interval}) over {kinds}, {step(mean.verdict)}."


def _end(s: figures.Speedup) -> str:
    """Return one ratio with its interval and its two sides."""
    elsewhere = f" of {s.base.machine}" * (s.row.machine != s.base.machine)
    sides = f"{how(s.row)} against {how(s.base)}{elsewhere}"
    return f"{s.comparison.brief} ({s.comparison.interval}) in {s.label}: {sides}."


def _on_the_ladder(found: Sequence[figures.Speedup]) -> str:
    """Return how many of these ratios are claimed, indicated and unclear."""
    counts = Counter(s.comparison.verdict for s in found)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) + "."


def _crossover_cards(data: ReportData) -> list[Card]:
    found = figures.crossovers(data)
    if not found:
        return []
    wins = sorted({c.row.size for c in found if c.row and not c.first}, key=size_order)
    sizes = f"from size {wins[0]}" + (f" to {wins[-1]}" if len(wins) > 1 else "") if wins else found[0].text
    word = " (indicated)" if wins and not all(c.claimed for c in found if c.row) else ""
    lines = tuple(f"{line}." for line in figures.crossover_lines(data))
    return [Card("Size from which the GPU is faster", sizes.capitalize() + word, lines)]


def _counts_card(data: ReportData) -> Card:
    cases: dict[tuple[str, Identity], str] = {}
    for row in data.rows:
        case = (row.machine, row.identity)
        cases[case] = Status.OK if row.has_value else cases.get(case, row.status)
    counts = Counter(cases.values())
    ok = counts.pop(Status.OK, 0)
    lines = [f"{count:,} {status}" for status, count in counts.most_common()]
    timed = Counter(
        word
        for row in data.rows
        if row.has_value and row.metric == "time"
        for word in sorted(set(row.flags.split(";")))
    )
    flags = Counter({word: count for word, count in timed.items() if word and word not in FROM_OTHER_ROWS})
    lines += [f"{counted(count, 'value')} flagged {flag}" for flag, count in flags.most_common(MOST_FLAGS)]
    if len(flags) > MOST_FLAGS:
        lines.append(f"{counted(len(flags) - MOST_FLAGS, 'more flag')} in the full table")
    judged = sorted(count_from_other_rows(data.rows).items())
    lines += [f"{counted(count, 'result')} flagged {flag}" for flag, count in judged]
    has = "has" if 1 in {ok, len(cases)} else "have"
    return Card("Results", f"{ok:,} of {counted(len(cases), 'case')} {has} a value", tuple(lines))
