"""Every metric says what it is and in which unit, and each kind of work has one by which it is shown."""

from typing import get_args

import pytest

from bench_core.records import Traits
from bench_core.results.formula import ENERGY, FLOPS, GPU_CLOCK, LEAST_BYTES, STEPS, TIME, TOKENS, amount, series, value
from bench_core.results.metrics import METRICS, Metric, by_name, headline
from bench_core.units import Unit


def test_every_metric_has_a_base_unit_and_says_what_it_is():
    assert all(m.about and m.unit in get_args(Unit) for m in METRICS.values())


@pytest.mark.parametrize(
    ("unit", "formula", "why"),
    [
        ("J", TIME / TOKENS, "the unit of time / tokens is s, not J"),
        ("J", TOKENS / ENERGY, "the unit of tokens / energy is 1/J, not J"),
        ("1", TIME / amount("elements"), "the unit of time / elements is s, not 1"),
        ("1/s", FLOPS / TIME, "the unit of flops / time is FLOP/s, not 1/s"),
        ("W", ENERGY / STEPS, "the unit of energy / steps is J, not W"),
        ("FLOP/B", FLOPS / LEAST_BYTES, "nothing in flops / least_bytes is measured"),
        ("1", series("time_to_first_token") / TIME, "time_to_first_token / time has two series"),
    ],
)
def test_a_formula_with_another_unit_than_its_metric_or_without_sense_fails_where_it_is_written(unit, formula, why):
    with pytest.raises(ValueError, match=r"\Ametric mine: [^\n]*\Z") as caught:
        Metric("mine", unit, "lower", "wrong", formula)
    assert why in str(caught.value)


def test_a_direction_that_no_table_may_hold_fails_where_it_is_written():
    with pytest.raises(ValueError, match="metric mine: better is 'smaller', not 'lower' or 'higher'"):
        Metric("mine", "s", "smaller", "wrong")


def test_units_that_are_the_same_by_other_names_agree():
    assert Metric("board_power", "W", "lower", "energy / time", ENERGY / TIME).formula
    assert Metric("calls", "Hz", "higher", "calls / time", 1 / TIME).formula
    assert Metric("cycles_per_element", "1", "lower", "cycles", GPU_CLOCK * TIME / amount("elements")).formula


@pytest.mark.parametrize(
    ("formula", "unit", "why"),
    [
        (series("tme") / STEPS, "s", "tme in its formula is not a measured metric"),
        (value("speed", "1/s") * TIME, "1", "speed in its formula is not a measured metric"),
        (value("energy", "W") / TOKENS, "W", "energy in its formula has the unit W, but the metric energy has J"),
    ],
)
def test_a_formula_of_what_is_not_measured_in_that_unit_fails_when_the_table_is_built(formula, unit, why):
    measured = Metric("energy", "J", "lower", "energy"), Metric("speed", "1/s", "higher", "calls / time", 1 / TIME)
    with pytest.raises(ValueError, match=f"metric mine: {why}"):
        by_name(METRICS["time"], *measured, Metric("mine", unit, "lower", "wrong", formula))


def test_a_name_has_one_entry():
    with pytest.raises(ValueError, match="metric time has two entries"):
        by_name(METRICS["time"], Metric("time", "s", "lower", "another"))


def test_the_headline_is_the_one_that_the_workload_names_or_what_it_makes():
    everything = ("time", "bandwidth", "flop_rate", "sample_rate", "token_rate")
    assert headline(Traits(headline="bandwidth"), everything) == "bandwidth"
    assert headline(Traits(), everything) == "token_rate"
    assert headline(Traits(), ("time", "bandwidth", "flop_rate")) == "flop_rate"
    assert headline(Traits(), ("time",)) == headline(Traits(headline="bandwidth"), ("time", "flop_rate")) == "time"
