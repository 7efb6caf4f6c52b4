"""Shares and bounds follow from a run's own rows and from the datasheet, and from nothing else."""

from dataclasses import replace

import pytest

from bench_core.records import Clock, Measurement, Status
from bench_core.results import roofline
from bench_core.results.traits import TraitsOf
from tests.support.limits import H100
from tests.support.rates import ATTENTION, MATMUL, derived, measured, table

TRIAD = measured("memory", "triad", 1.0, flops=2.0, bytes_=10.0)  # 10 B/s
MODEL = measured("model", "mlp", 4.0, flops=200.0, least=10.0)  # 50 FLOP/s


def test_a_rate_is_a_share_of_the_best_product_of_its_format():
    shares = derived(MATMUL, TRIAD, MODEL)
    assert shares["mlp", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)
    assert shares["matmul", "numpy", "fraction_of_measured_peak", "wall"].value == 1.0


@pytest.mark.parametrize("clock", Clock)
def test_a_launch_bound_time_is_no_ceiling_and_keeps_its_flag(clock):
    starved = measured("matmul", "matmul", 0.5, flops=100.0, clock=clock, flags=("launch_bound",))  # 200 FLOP/s
    stream = measured("memory", "triad", 0.5, bytes_=10.0, clock=clock, flags=("launch_bound",))
    (here,) = roofline.ceilings(table(starved, stream), TraitsOf()).values()
    assert (here.flops, here.bandwidth) == ({}, None)
    shares = derived(replace(MATMUL, series=(replace(MATMUL.series[0], clock=clock),)), starved)
    assert shares["matmul", "numpy", "fraction_of_measured_peak", clock].value == 2.0
    assert "launch_bound" in shares["matmul", "numpy", "fraction_of_measured_peak", clock].flags


def test_a_share_has_an_interval_and_the_unit_one():
    row = derived(MATMUL, MODEL)["mlp", "numpy", "fraction_of_measured_peak", "wall"]
    assert (row.unit, row.ci_low, row.ci_high) == ("1", pytest.approx(0.5), pytest.approx(0.5))


def test_a_bandwidth_is_a_share_of_the_best_stream():
    slow = measured("memory", "gather", 2.0, bytes_=10.0)
    assert derived(TRIAD, slow)["gather", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)


def test_a_model_has_a_share_of_either_peak_unless_a_cache_holds_it():
    model = {"flops": 50.0, "bytes_": 5.0}
    shares = derived(MATMUL, TRIAD, measured("model", "gpt_decode", 1.0, **model))
    assert shares["gpt_decode", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)
    assert shares["gpt_decode", "numpy", "bandwidth_of_measured_peak", "wall"].value == pytest.approx(0.5)
    shares = derived(MATMUL, TRIAD, measured("model", "gpt_decode", 1.0, flags=("fits_l3",), **model))
    assert ("gpt_decode", "numpy", "bandwidth_of_measured_peak", "wall") not in shares


def test_products_of_easy_numbers_are_no_ceiling():
    """Their workload says so: on zeros a chip draws less power, clocks higher and is faster."""
    easy = measured("matmul", "matmul_data", 0.5, flops=100.0)
    shares = derived(MATMUL, easy, MODEL)
    assert shares["mlp", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)


def test_causal_attention_is_credited_with_the_flops_that_its_mask_leaves():
    done = measured("model", "attention", 1.0, flops=80.0, causal=50.0, least=5.0)
    shares = derived(MATMUL, TRIAD, done)
    assert shares["attention", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)
    row = shares["attention", "numpy", "arithmetic_intensity", ""]
    assert row.value == pytest.approx(10.0)
    assert (
        len([row for row in roofline.roofline_rows(table(MATMUL, done), TraitsOf()) if row.workload == "attention"])
        == 2
    )


def test_what_bounds_causal_attention_follows_from_the_same_flops():
    """The ridge is at 10 FLOP/B; the full count lies above it, what is needed below."""
    done = measured("model", "attention", 1.0, flops=110.0, causal=60.0, least=10.0)
    flags = derived(MATMUL, TRIAD, done)["attention", "numpy", "arithmetic_intensity", ""].flags
    assert "bound_bandwidth" in flags.split(";")


@pytest.mark.parametrize("flag", ["fits_l2", "near_cache"])
def test_what_fits_a_cache_is_neither_ceiling_nor_share(flag):
    fast = measured("memory", "copy", 0.01, bytes_=10.0, flags=(flag,))
    shares = derived(TRIAD, fast)
    assert shares["triad", "numpy", "fraction_of_measured_peak", "wall"].value == 1.0
    assert ("copy", "numpy", "fraction_of_measured_peak", "wall") not in shares


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"threads": 1},
        {"device": "cuda:0", "name": "Some GPU", "threads": None},
        {"dtype": "float64"},
        {"precision": "tf32"},
        {"clock": Clock.DEVICE},
    ],
)
def test_ceilings_hold_for_one_device_thread_count_clock_and_format(elsewhere):
    faster = measured("matmul", "matmul", 0.1, flops=100.0, **elsewhere)
    assert derived(MATMUL, MODEL, faster)["mlp", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(
        0.5
    )


def test_without_a_ceiling_there_is_no_share():
    assert not [key for key in derived(MODEL) if "fraction" in key[2]]


def test_a_failed_measurement_is_no_ceiling():
    broken = Measurement.missing(MATMUL.case, Status.OOM, "out_of_memory", "no memory")
    assert not [key for key in derived(broken, MODEL) if "fraction" in key[2]]


def test_an_unknown_device_gets_no_share_of_a_datasheet():
    assert not [key for key in derived(MATMUL, TRIAD) if key[2] == "fraction_of_datasheet"]


def test_a_known_device_gets_its_share_of_the_datasheet():
    gpu = {"device": "cuda:0", "name": H100, "threads": None, "backend": "torch"}
    product = measured("matmul", "matmul", 1.0, flops=494.75e12, dtype="bfloat16", **gpu)
    stream = measured("memory", "copy", 1.0, bytes_=1.675e12, **gpu)
    shares = derived(product, stream)
    assert shares["matmul", "torch", "fraction_of_datasheet", "wall"].value == pytest.approx(0.5)
    assert shares["copy", "torch", "fraction_of_datasheet", "wall"].value == pytest.approx(0.5)


def test_intensity_is_flops_over_the_least_bytes_and_names_the_bound():
    shares = derived(MATMUL, TRIAD, MODEL)
    row = shares["mlp", "numpy", "arithmetic_intensity", ""]
    assert (row.value, row.unit) == (20.0, "FLOP/B")
    assert "bound_compute" in row.flags.split(";")  # the ridge is at 100 / 10 = 10 FLOP/B
    assert "bound_bandwidth" in shares["triad", "numpy", "arithmetic_intensity", ""].flags.split(";")


def test_what_a_launch_outlasts_is_bound_by_latency():
    launch = measured("latency", "launch", 5.0)
    assert "bound_latency" in derived(MATMUL, TRIAD, MODEL, launch)["mlp", "numpy", "arithmetic_intensity", ""].flags


def test_a_launch_of_another_backend_bounds_nothing():
    launch = measured("latency", "launch", 5.0, backend="torch")
    assert "bound_compute" in derived(MATMUL, TRIAD, MODEL, launch)["mlp", "numpy", "arithmetic_intensity", ""].flags


def test_without_both_ceilings_the_bound_is_not_named():
    assert "bound_" not in derived(MATMUL, MODEL)["mlp", "numpy", "arithmetic_intensity", ""].flags


def test_products_made_of_three_of_tf32_are_no_share_of_float32_s_ceiling_and_not_bound_by_it():
    product = measured("matmul", "matmul", 1.0, flops=50e12, least=1.0, **{**ATTENTION, "flags": ()})
    stream = measured("memory", "copy", 1.0, bytes_=3e12, **{**ATTENTION, "flags": ()})
    shares = derived(product, stream, measured("model", "attention", 1.0, flops=150e12, least=1e9, **ATTENTION))
    assert ("attention", "torch", "fraction_of_measured_peak", "wall") not in shares
    assert shares["attention", "torch", "fraction_of_datasheet", "wall"].value == pytest.approx(150 / 164.83, rel=1e-3)
    assert "bound_" not in shares["attention", "torch", "arithmetic_intensity", ""].flags


@pytest.mark.parametrize(("launch", "word"), [(1.5, "compute"), (2.0, "compute"), (2.5, "latency")])
def test_a_launch_bounds_what_takes_less_than_it_in_arithmetic_and_in_memory_alike(launch, word):
    """The model needs 2 s of arithmetic and 1 s of memory: a launch between the two is not its limit."""
    shares = derived(MATMUL, TRIAD, MODEL, measured("latency", "launch", launch))
    assert f"bound_{word}" in shares["mlp", "numpy", "arithmetic_intensity", ""].flags.split(";")
