"""Comparisons -> text, Markdown, CSV, JSON; HTML pages are the report's."""

from bench_core.render.data import as_csv, as_json
from bench_core.render.markdown import markdown
from bench_core.render.terminal import text

__all__ = ["as_csv", "as_json", "markdown", "text"]
