"""Measure a function of one's own: `bench_core.measure` in a script, the fixture `measure` in pytest."""
