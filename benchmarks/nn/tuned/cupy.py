"""The forms for CuPy: one kernel for what the plain form needs several for."""

from __future__ import annotations

from benchmarks.nn.tuned import Form

FORMS: dict[str, Form] = {}
