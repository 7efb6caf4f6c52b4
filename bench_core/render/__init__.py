"""Render comparisons and answers as text, Markdown, CSV or JSON. HTML pages are made by bench_core/report."""

from bench_core.render.answer import answer_csv, answer_json, answer_text
from bench_core.render.data import as_csv, as_json
from bench_core.render.markdown import github, markdown
from bench_core.render.terminal import text

__all__ = ["answer_csv", "answer_json", "answer_text", "as_csv", "as_json", "github", "markdown", "text"]
