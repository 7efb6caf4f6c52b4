"""METRICS: every quantity that a row can hold, and which of them shows a piece of work best.

A metric is one entry here: its name, base unit, which way is better, what it is. One that is derived also has its
formula, in the quantities of results/formula.py; its unit must be the one that the entry names, or the import fails.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from bench_core.records import Traits
from bench_core.results.formula import (
    BYTES,
    CAUSAL_FLOPS,
    ENERGY,
    FLOPS,
    LOADS,
    SAMPLES,
    STEPS,
    TIME,
    TOKENS,
    Formula,
)
from bench_core.units import Unit, dimensions, spelled

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity, measured or derived from what is measured.

    formula: what a row of it is computed from; None if it is measured itself, or follows from other rows.
    Raises ValueError for a direction or a unit that no table may hold, and for a formula that makes no sense or has
    another unit.
    """

    name: str
    unit: Unit
    better: Better
    about: str
    formula: Formula | None = None

    def __post_init__(self) -> None:
        if self.better not in get_args(Better) or self.unit not in get_args(Unit):
            raise ValueError(f"metric {self.name}: {self.better} {self.unit} is not a direction and a unit of a table")
        if self.formula is None:
            return
        try:
            self.formula.require_sound()
        except ValueError as error:
            raise ValueError(f"metric {self.name}: {error}") from None
        given = self.formula.dimensions
        if given != dimensions([self.unit]):
            raise ValueError(f"metric {self.name}: {self.formula} is in {spelled(given)}, its entry says {self.unit}")


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Return metrics by name.

    Raises ValueError for a name that is taken, and for a formula of something that none of them measures.
    """
    found: dict[str, Metric] = {}
    for metric in metrics:
        if found.setdefault(metric.name, metric) is not metric:
            raise ValueError(f"metric {metric.name} has two entries")
    for metric in metrics:
        for term in metric.formula.terms if metric.formula else ():
            if not term.is_measured:
                continue
            entry = found.get(term.name)
            if entry is None or entry.formula is not None:
                raise ValueError(f"metric {metric.name}: {term.name} in its formula is no metric that is measured")
            if entry.unit != term.unit:
                units = f"is in {term.unit}, the entry of {term.name} says {entry.unit}"
                raise ValueError(f"metric {metric.name}: {term.name} in its formula {units}")
    return found


METRICS = by_name(
    Metric("time", "s", "lower", "one call, synchronised"),
    Metric("flop_rate", "FLOP/s", "higher", "FLOPs by formula / time", FLOPS / TIME),
    Metric("bandwidth", "B/s", "higher", "bytes as STREAM counts them / time", BYTES / TIME),
    Metric("sample_rate", "1/s", "higher", "samples / time", SAMPLES / TIME),
    Metric("token_rate", "1/s", "higher", "tokens / time", TOKENS / TIME),
    Metric(
        "causal_flop_rate",
        "FLOP/s",
        "higher",
        "FLOPs by formula / time, of attention only the pairs of tokens that a causal mask leaves",
        CAUSAL_FLOPS / TIME,
    ),
    Metric(
        "time_per_output_token",
        "s",
        "lower",
        "(latency - time to first token) / (new tokens - 1): the decode loop alone",
        TIME / STEPS,
    ),
    Metric("time_to_first_token", "s", "lower", "prompt in, first new token out"),
    Metric("inter_token_latency", "s", "lower", "one new token after another, everything before remembered"),
    Metric("latency", "s", "lower", "the fitted time of moving nothing: a of time = a + bytes / b"),
    Metric("fitted_bandwidth", "B/s", "higher", "the fitted bandwidth without latency: b of time = a + bytes / b"),
    Metric("arithmetic_intensity", "FLOP/B", "higher", "FLOPs / the least bytes that must move"),
    Metric("fraction_of_measured_peak", "1", "higher", "rate / the best product or stream of the run"),
    Metric("fraction_of_datasheet", "1", "higher", "rate / the dense peak of the maker's datasheet"),
    Metric(
        "compile_time",
        "s",
        "lower",
        "compiling (with empty disk caches), or warming up and capturing a graph, and the one call that does so",
    ),
    Metric(
        "load_latency",
        "s",
        "lower",
        "one load whose address the load before it gave, the interpreter's own time included",
        TIME / LOADS,
    ),
    Metric(
        "first_call",
        "s",
        "lower",
        "the first call, with whatever it loads or plans that no case before it in its process had",
    ),
    Metric(
        "gpu_power",
        "W",
        "lower",
        "board power as reported right after the timed blocks, on many GPUs the mean of 1 s",
    ),
    Metric("energy", "J", "lower", "one call, by the counter of the whole GPU board or of all CPU packages"),
    Metric("flops_per_joule", "FLOP/J", "higher", "FLOPs by formula / energy", FLOPS / ENERGY),
    Metric("bytes_per_joule", "B/J", "higher", "bytes as STREAM / energy", BYTES / ENERGY),
    Metric("samples_per_joule", "1/J", "higher", "samples / energy", SAMPLES / ENERGY),
    Metric("tokens_per_joule", "1/J", "higher", "tokens / energy", TOKENS / ENERGY),
    Metric("gpu_temperature", "degC", "lower", "of the GPU's core right after the timed blocks"),
    Metric("gpu_clock", "Hz", "higher", "clock of the multiprocessors right after the timed blocks"),
    Metric("bandwidth_of_measured_peak", "1", "higher", "a model's bytes / time / the best stream of the run: its MBU"),
    Metric("bandwidth_of_datasheet", "1", "higher", "a model's bytes / time / the datasheet's bandwidth: its MBU"),
    Metric(
        "peak_memory", "B", "lower", "the most memory that the case took beyond what was in use before it was built"
    ),
)


RATES = ("token_rate", "sample_rate", "flop_rate", "bandwidth")  # the first of these that there is shows work best


def headline(traits: Traits, there: Collection[str]) -> str:
    """Return which of the metrics that are there shows a piece of work best: a rate, or "time" without one."""
    rates = (traits.headline,) if traits.headline else RATES
    return next((name for name in rates if name in there), "time")
