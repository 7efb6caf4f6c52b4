"""Formulas of derived metrics: their units, what leads them, and terms that are not there."""

import math

import pytest

from bench_core.records import Costs
from bench_core.results.formula import (
    BYTES,
    ENERGY,
    FLOPS,
    GPU_CLOCK,
    GPU_POWER,
    LEAST_BYTES,
    PEAK_MEMORY,
    STEPS,
    TIME,
    TOKENS,
    amount,
    series,
    value,
)
from bench_core.units import spelled

CYCLES = GPU_CLOCK * TIME / amount("elements")


@pytest.mark.parametrize(
    ("formula", "unit"),
    [
        (FLOPS / TIME, "FLOP/s"),
        (TIME / STEPS, "s"),
        (TOKENS / TIME, "1/s"),
        (1 / TIME, "1/s"),
        (ENERGY / TOKENS, "J"),
        (ENERGY / TIME, "J/s"),
        (GPU_POWER * TIME / BYTES, "J/B"),
        (CYCLES, "1"),
        (BYTES / (GPU_CLOCK * TIME), "B"),
        (FLOPS / LEAST_BYTES / TIME, "FLOP/B/s"),
        (GPU_CLOCK / TIME, "1/s/s"),
        (amount("causal_flops", "FLOP") / ENERGY, "FLOP/J"),
    ],
)
def test_the_unit_of_a_formula_follows_from_those_of_its_terms(formula, unit):
    assert spelled(formula.dimensions) == unit


def test_a_formula_reads_as_it_was_written():
    assert [str(formula) for formula in (CYCLES, 1 / TIME, FLOPS / (ENERGY * TIME))] == [
        *("gpu_clock * time / elements", "1 / time", "flops / energy / time")
    ]


def test_only_a_one_may_stand_as_a_number():
    with pytest.raises(TypeError):
        2 / TIME


@pytest.mark.parametrize(
    ("formula", "lead", "falls"),
    [
        (FLOPS / TIME, "time", True),
        (CYCLES, "time", False),
        (ENERGY / TIME, "time", True),
        (TIME / ENERGY, "time", False),
        (series("time_to_first_token") / STEPS, "time_to_first_token", False),
        (ENERGY / TOKENS, "energy", False),
        (TOKENS / ENERGY, "energy", True),
        (ENERGY / PEAK_MEMORY, "peak_memory", True),
    ],
)
def test_the_samples_are_those_of_the_series_or_else_of_the_first_value_of_the_divisor(formula, lead, falls):
    assert (formula.lead.name, formula.falls) == (lead, falls)


def test_a_formula_depends_only_on_what_is_measured_in_it():
    assert (FLOPS / TIME).depends_only_on("time")
    assert not (FLOPS / ENERGY).depends_only_on("time")
    for both in (CYCLES, TIME * GPU_CLOCK, TIME / ENERGY):
        assert not both.depends_only_on("time"), "each process has its own clock and energy"


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        (series("time_to_first_token") / TIME, "time_to_first_token / time has two series"),
        (TIME * TIME, "time * time has two series"),
        (value("gpu_temperature", "degC") * TIME, "ratios of temperatures in degC are meaningless"),
        (FLOPS / LEAST_BYTES, "nothing in flops / least_bytes is measured"),
    ],
)
def test_a_formula_that_no_samples_can_be_put_into_is_refused(formula, why):
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        formula.require_sound()


def test_the_factors_are_the_products_of_all_terms_but_the_one_that_leads():
    costs, values = Costs(flops=6.0, amounts={"elements": 5}), {"gpu_clock": 3.0, "energy": 2.0}
    assert CYCLES.factors(costs, values) == (3.0, 5)
    assert (FLOPS / TIME).factors(costs, {}) == (6.0, 1)
    assert (FLOPS * GPU_CLOCK / (TIME * ENERGY)).factors(costs, values) == (18.0, 2.0)
    assert (ENERGY / amount("elements")).factors(costs, {}) == (1, 5)


@pytest.mark.parametrize("clock", [None, 0.0, -1.0, math.inf])
@pytest.mark.parametrize("elements", [None, 0, 4])
def test_without_a_number_above_zero_for_each_term_there_are_no_factors(clock, elements):
    amounts = {} if elements is None else {"elements": elements}
    values = {} if clock is None else {"gpu_clock": clock}
    assert CYCLES.factors(Costs(amounts=amounts), values) is None
    assert CYCLES.factors(Costs(amounts={"elements": 4}), {"gpu_clock": 2.0}) == (2.0, 4)


def test_two_numbers_below_zero_make_no_factor_above_it():
    assert (TIME * GPU_CLOCK * GPU_POWER).factors(Costs(), {"gpu_clock": -1.0, "gpu_power": -1.0}) is None


def test_a_cost_that_does_not_apply_is_no_factor():
    assert (FLOPS / TIME).factors(Costs(bytes=1.0), {}) is None
