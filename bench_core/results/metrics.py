"""METRICS: every quantity that a row can have, and the choice of the headline metric of a workload.

A metric is one entry here: name, base unit, whether lower or higher is better, description. A derived metric also has
a formula of the quantities in results/formula.py. The import fails if the unit of the formula differs from that of the
entry.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from bench_core.records import Traits
from bench_core.results.formula import (
    ALGORITHM_BYTES,
    BUS_BYTES,
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
    """A quantity that is measured or derived.

    formula: the formula of a derived metric; None if the metric is measured or computed from other rows.
    Raises ValueError for another `better`, and for a formula that cannot be computed or has another unit.
    """

    name: str
    unit: Unit
    better: Better
    about: str
    formula: Formula | None = None

    def __post_init__(self) -> None:
        if self.better not in get_args(Better):
            raise ValueError(f"metric {self.name}: better is {self.better!r}, not 'lower' or 'higher'")
        if self.formula is None:
            return
        try:
            self.formula.require_sound()
        except ValueError as error:
            raise ValueError(f"metric {self.name}: {error}") from None
        given = self.formula.dimensions
        if given != dimensions([self.unit]):
            raise ValueError(f"metric {self.name}: the unit of {self.formula} is {spelled(given)}, not {self.unit}")


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """Return metrics by name.

    Raises ValueError for a duplicate name, and for a formula with a term that is not a measured metric of this unit.
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
                raise ValueError(f"metric {metric.name}: {term.name} in its formula is not a measured metric")
            if entry.unit != term.unit:
                units = f"has the unit {term.unit}, but the metric {term.name} has {entry.unit}"
                raise ValueError(f"metric {metric.name}: {term.name} in its formula {units}")
    return found


METRICS = by_name(
    Metric("time", "s", "lower", "time of one call, including synchronisation"),
    Metric("flop_rate", "FLOP/s", "higher", "FLOPs by formula / time", FLOPS / TIME),
    Metric("bandwidth", "B/s", "higher", "bytes as STREAM counts them / time", BYTES / TIME),
    Metric("sample_rate", "1/s", "higher", "samples / time", SAMPLES / TIME),
    Metric("token_rate", "1/s", "higher", "tokens / time", TOKENS / TIME),
    Metric(
        "causal_flop_rate",
        "FLOP/s",
        "higher",
        "FLOPs by formula / time; attention counts only the pairs of tokens that a causal mask keeps",
        CAUSAL_FLOPS / TIME,
    ),
    Metric(
        "time_per_output_token",
        "s",
        "lower",
        "(latency - time to first token) / (new tokens - 1): the decode loop alone",
        TIME / STEPS,
    ),
    Metric("time_to_first_token", "s", "lower", "time from the prompt to the first new token"),
    Metric("inter_token_latency", "s", "lower", "time of one new token after the first: one step of the decode loop"),
    Metric("latency", "s", "lower", "fitted time of a transfer of zero bytes: a in time = a + bytes / b"),
    Metric("fitted_bandwidth", "B/s", "higher", "fitted bandwidth without the latency: b in time = a + bytes / b"),
    Metric(
        "algorithm_bandwidth",
        "B/s",
        "higher",
        "size of the whole array that ranks exchange / time, as nccl-tests counts it",
        ALGORITHM_BYTES / TIME,
    ),
    Metric(
        "bus_bandwidth",
        "B/s",
        "higher",
        "algorithm_bandwidth times nccl-tests' factor for the collective: to compare with the rate of a link",
        BUS_BYTES / TIME,
    ),
    Metric("arithmetic_intensity", "FLOP/B", "higher", "FLOPs / the minimum number of bytes to transfer"),
    Metric(
        "fraction_of_measured_peak",
        "1",
        "higher",
        "rate / the ceiling that products or streams of the run measure",
    ),
    Metric("fraction_of_datasheet", "1", "higher", "rate / the peak of dense arithmetic in the datasheet"),
    Metric(
        "compile_time",
        "s",
        "lower",
        "compilation (with empty disk caches), warm-up and capture of a graph, or cuDNN's search for the fastest "
        "convolutions, including the call that triggers it",
    ),
    Metric(
        "load_latency",
        "s",
        "lower",
        "one load whose address is the result of the previous load, including the time of the interpreter",
        TIME / LOADS,
    ),
    Metric(
        "first_call",
        "s",
        "lower",
        "the first call, including initialisation that no earlier case in its process has done",
    ),
    Metric(
        "gpu_power",
        "W",
        "lower",
        "board power, read right after the timed blocks; on many GPUs the mean over 1 s",
    ),
    Metric("energy", "J", "lower", "energy of one call, by the counter of the GPU board or all CPU packages"),
    Metric("flops_per_joule", "FLOP/J", "higher", "FLOPs by formula / energy", FLOPS / ENERGY),
    Metric("bytes_per_joule", "B/J", "higher", "bytes as STREAM counts them / energy", BYTES / ENERGY),
    Metric("samples_per_joule", "1/J", "higher", "samples / energy", SAMPLES / ENERGY),
    Metric("tokens_per_joule", "1/J", "higher", "tokens / energy", TOKENS / ENERGY),
    Metric("gpu_temperature", "degC", "lower", "temperature of the GPU core, read right after the timed blocks"),
    Metric("gpu_clock", "Hz", "higher", "clock rate of the multiprocessors, read right after the timed blocks"),
    Metric("bandwidth_of_measured_peak", "1", "higher", "bytes of a model / time / the run's ceiling of memory (MBU)"),
    Metric("bandwidth_of_datasheet", "1", "higher", "bytes of a model / time / the bandwidth in the datasheet (MBU)"),
    Metric("rank_spread", "1", "lower", "(longest - shortest) / median time of a rank, from a common begin"),
    Metric("peak_memory", "B", "lower", "peak memory of the case, less the memory in use before the case was built"),
)


RATES = ("token_rate", "sample_rate", "flop_rate", "bandwidth")  # the default headline metrics, in order of preference


def headline(traits: Traits, there: Collection[str]) -> str:
    """Return the headline metric: that of the traits or else the first of RATES, if in `there`; otherwise "time"."""
    rates = (traits.headline,) if traits.headline else RATES
    return next((name for name in rates if name in there), "time")
