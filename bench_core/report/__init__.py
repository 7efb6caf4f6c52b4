"""Write result tables as one self-contained HTML page, and its charts as SVG or PNG.

charts        figures (analysis/figures.py) -> specifications in Vega-Lite, made of the layers of vega_lite.py, on the
              axes of axes.py in the colours of theme.py
svg           specifications -> SVG and PNG, in light and dark
answers       claims (analysis/claims.py) -> texts
captions      a chart with its heading, its explanation and its data as a table
history       series of many runs (history/series.py) -> lines and pages with what changed, drawn by sparkline.py
sources       the provenance and environment of each run, and the differences between environments
packed_table  the full table in a compact format
page          everything -> HTML

Charts are drawn when the report is written, not in the browser. Vega's bundle is 0.9 MB and compiles expressions with
`eval`, which a strict content security policy forbids. A drawn chart takes 10-60 kB, can be printed, opens at once,
needs no script, and has its values as native tooltips. The only script of the page sorts, filters and pages the full
table, and marks what scrolls sideways.
"""

from __future__ import annotations

import importlib.util

from bench_core.errors import UsageError

NEEDED = {"jinja2": "jinja2", "vl_convert": "vl-convert-python"}


def require_extra() -> None:
    """Raise UsageError with the command to run if a library of the `report` extra is not installed."""
    absent = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise UsageError(f"reports and plots need missing packages: python -m pip install {' '.join(absent)}")
