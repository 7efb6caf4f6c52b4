"""METRICS: every quantity that a row can hold, and which of them shows a piece of work best.

A metric is one entry here: its name, base unit, and which way is better. A rate also names its amount
of work: rate = amount / seconds, or / joules. A metric that is measured directly has no formula.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from bench_core.records import Costs, Traits
from bench_core.units import Unit

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity, measured or derived from one that is.

    amount: gives amount(costs) / what `of` measured. share: gives seconds / share(costs).
    """

    name: str
    unit: Unit
    better: Better
    about: str
    amount: Callable[[Costs], float | None] | None = None
    of: Literal["time", "energy"] = "time"
    share: Callable[[Costs], float | None] | None = None


METRICS = {
    m.name: m
    for m in (
        Metric("time", "s", "lower", "one call, synchronised"),
        Metric("flop_rate", "FLOP/s", "higher", "FLOPs by formula / time", lambda c: c.flops),
        Metric("bandwidth", "B/s", "higher", "bytes as STREAM counts them / time", lambda c: c.bytes),
        Metric("sample_rate", "1/s", "higher", "samples / time", lambda c: c.amounts.get("samples")),
        Metric("token_rate", "1/s", "higher", "tokens / time", lambda c: c.amounts.get("tokens")),
        Metric(
            "causal_flop_rate",
            "FLOP/s",
            "higher",
            "FLOPs by formula / time, of attention only the pairs of tokens that a causal mask leaves",
            lambda c: c.amounts.get("causal_flops"),
        ),
        Metric(
            "time_per_output_token",
            "s",
            "lower",
            "(latency - time to first token) / (new tokens - 1): the decode loop alone",
            share=lambda c: c.amounts.get("steps"),
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
            share=lambda c: c.amounts.get("loads"),
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
        Metric("flops_per_joule", "FLOP/J", "higher", "FLOPs by formula / energy", lambda c: c.flops, of="energy"),
        Metric("bytes_per_joule", "B/J", "higher", "bytes as STREAM / energy", lambda c: c.bytes, of="energy"),
        Metric(
            "samples_per_joule", "1/J", "higher", "samples / energy", lambda c: c.amounts.get("samples"), of="energy"
        ),
        Metric("tokens_per_joule", "1/J", "higher", "tokens / energy", lambda c: c.amounts.get("tokens"), of="energy"),
        Metric("gpu_temperature", "degC", "lower", "of the GPU's core right after the timed blocks"),
        Metric("gpu_clock", "Hz", "higher", "clock of the multiprocessors right after the timed blocks"),
        Metric(
            "bandwidth_of_measured_peak", "1", "higher", "a model's bytes / time / the best stream of the run: its MBU"
        ),
        Metric("bandwidth_of_datasheet", "1", "higher", "a model's bytes / time / the datasheet's bandwidth: its MBU"),
        Metric(
            "peak_memory", "B", "lower", "the most memory that the case took beyond what was in use before it was built"
        ),
    )
}


RATES = ("token_rate", "sample_rate", "flop_rate", "bandwidth")  # the first of these that there is shows work best


def headline(traits: Traits, there: Collection[str]) -> str:
    """Return which of the metrics that are there shows a piece of work best: a rate, or "time" without one."""
    rates = (traits.headline,) if traits.headline else RATES
    return next((name for name in rates if name in there), "time")
