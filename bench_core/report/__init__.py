"""Result tables as one self-contained HTML page, and its charts as SVG or PNG.

charts        figures (analysis/figures.py) -> Altair specifications, on the axes of axes.py in the colours of theme.py
svg           specifications -> SVG and PNG, in light and dark
captions      a chart with its heading, its explanation and the same as a table of numbers
sources       what each run knows about its machine, and where machines differ
packed_table  the full table, packed
page          everything -> HTML

Charts are drawn when the report is made, not when it is read: Vega's bundle is 0.9 MB and compiles
expressions with `eval`, which a strict content security policy forbids, while a drawn chart is
10-60 kB, prints, opens at once, needs no script, and carries its values as native tooltips. The one
script of the page sorts, filters and pages the full table.
"""

from __future__ import annotations

import importlib.util

from bench_core.errors import UsageError

NEEDED = {"altair": "altair", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}


def require_extra() -> None:
    """Raise UsageError with the command to run if a library of the `report` extra is not installed."""
    absent = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise UsageError(f"reports and plots need what is not here: python -m pip install {' '.join(absent)}")
