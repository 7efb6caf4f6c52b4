"""What may be said of results from different machines, backends or versions.

    readings = read(["h100=results/h100/RUN", "a.csv"])            files, with what lies beside them
    result = compare(readings, CompareOptions(metrics=("time",)))  a frozen Result; see result.py

How one follows from the other is told in bench_core/README.md.
"""

from bench_core.compare.engine import compare
from bench_core.compare.loading import Reading, read
from bench_core.compare.options import BEST_CPU, CompareOptions
from bench_core.compare.result import (
    SINGLE_RUN,
    BestPair,
    Comparison,
    Difference,
    Entry,
    InputFile,
    Key,
    Mean,
    Method,
    Result,
    Verdict,
)

__all__ = [
    "BEST_CPU",
    "SINGLE_RUN",
    "BestPair",
    "CompareOptions",
    "Comparison",
    "Difference",
    "Entry",
    "InputFile",
    "Key",
    "Mean",
    "Method",
    "Reading",
    "Result",
    "Verdict",
    "compare",
    "read",
]
