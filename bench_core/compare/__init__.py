"""Rows x Rows -> Comparisons: what may be said of results from different machines, backends or versions."""

from bench_core.compare.comparison import Best, Comparison, Entry, Key, Mean, Method, Result, Source, Verdict

__all__ = ["Best", "Comparison", "Entry", "Key", "Mean", "Method", "Result", "Source", "Verdict"]
