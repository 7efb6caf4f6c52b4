"""The forms for NumPy: in blocks that stay in a cache, on several threads."""

from __future__ import annotations

from benchmarks.nn.tuned import Form

FORMS: dict[str, Form] = {}
