"""Compare results from different machines, backends or versions.

    readings = read(["h100=results/h100/RUN", "a.csv"])            tables, with samples and environment if present
    result = compare(readings, CompareOptions(metrics=("time",)))  a frozen Result; see result.py

bench_core/README.md describes the steps between the two.
"""

from bench_core.compare.engine import compare
from bench_core.compare.loading import Reading, read
from bench_core.compare.options import BEST_CPU, CompareOptions
from bench_core.compare.result import (
    BestPair,
    Comparison,
    Difference,
    Entry,
    Gate,
    InputFile,
    Key,
    Mean,
    Method,
    Outcome,
    Result,
    Verdict,
)

__all__ = [
    "BEST_CPU",
    "BestPair",
    "CompareOptions",
    "Comparison",
    "Difference",
    "Entry",
    "Gate",
    "InputFile",
    "Key",
    "Mean",
    "Method",
    "Outcome",
    "Reading",
    "Result",
    "Verdict",
    "compare",
    "read",
]
