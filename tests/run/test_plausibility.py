"""What no such device can do is invalid, and what may be true is left as it is."""

from dataclasses import replace

import pytest

from bench_core.records import Clock, Costs, Measurement, Status
from bench_core.results.traits import TraitsOf
from bench_core.run import plausibility
from tests.support.limits import H100
from tests.support.rates import ATTENTION, MATMUL, derived, measured

GPU = {"device": "cuda:0", "name": H100, "threads": None, "dtype": "bfloat16"}


def refuse_implausible(done):
    """Judge work of the suites that every table knows."""
    return plausibility.refuse_implausible(done, TraitsOf())


@pytest.mark.parametrize("clock", Clock)
def test_a_product_far_above_the_datasheet_is_invalid(clock):
    done = refuse_implausible(measured("matmul", "matmul", 1e-3, flops=2e12, clock=clock, **GPU))
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "implausible", ())
    assert done.reason == f"2.00 PFLOP/s by the {clock} clock is more than {H100} can do (990 TFLOP/s)"


def test_causal_attention_is_judged_by_the_flops_that_its_mask_leaves():
    """The full count would make 1.5 times the datasheet of it."""
    done = measured("model", "attention", 1e-3, flops=1.5e12, causal=0.76e12, **GPU)
    assert refuse_implausible(done) is done
    assert refuse_implausible(replace(done, costs=replace(done.costs, amounts={}))).reason_code == "implausible"


def test_a_measurement_of_an_unknown_metric_is_refused_for_that_reason():
    unknown = replace(MATMUL, values={"my_own_metric": 1.0})
    assert refuse_implausible(unknown).reason_code == "unknown_metric"


def test_a_stream_above_the_datasheet_is_invalid_unless_a_cache_explains_it():
    stream = {"flags": (), **GPU}
    assert refuse_implausible(measured("memory", "copy", 1e-3, bytes_=4e9, **stream)).status is Status.INVALID
    stream["flags"] = ("fits_l2",)
    assert refuse_implausible(measured("memory", "copy", 1e-3, bytes_=4e9, **stream)).status is Status.OK


@pytest.mark.parametrize(
    "done",
    [
        measured("matmul", "matmul", 1e-3, flops=1.05e12, **GPU),  # a boost clock above the stated one
        measured("matmul", "matmul", 1e-9, flops=1e18),  # of this CPU nothing is known
        measured("memory", "copy", 1e-3, bytes_=3.3e9, **GPU),
        Measurement.missing(MATMUL.case, Status.OOM, "out_of_memory", "no memory"),
    ],
)
def test_a_measurement_within_the_limits_is_left_as_it_is(done):
    assert refuse_implausible(done) is done


@pytest.mark.parametrize(
    ("seconds", "status"),
    [((1e-3, 1e-3, 1.0), Status.INVALID), ((1e-3, 1.0, 1.0), Status.OK)],
)
def test_the_median_is_judged_and_neither_the_slowest_nor_the_fastest_sample(seconds, status):
    done = measured("matmul", "matmul", 1.0, flops=2e12, **GPU)
    assert refuse_implausible(replace(done, series=(replace(done.series[0], seconds=seconds),))).status is status


def test_autocast_is_measured_against_the_narrow_format():
    product = measured("matmul", "matmul", 1.0, flops=100.0, least=1.0, dtype="bfloat16")
    mixed = measured("model", "gpt_train", 1.0, flops=40.0, precision="autocast_bfloat16")
    share = derived(product, MATMUL, mixed)["gpt_train", "numpy", "fraction_of_measured_peak", "wall"]
    assert share.value == pytest.approx(0.4)
    fast = {**GPU, "dtype": "float32", "precision": "autocast_bfloat16"}
    assert refuse_implausible(measured("model", "gpt_train", 1e-3, flops=5e11, **fast)).status is Status.OK


@pytest.mark.parametrize(("tflops", "status"), [(150, Status.OK), (175, Status.OK), (200, Status.INVALID)])
def test_float32_products_made_of_three_of_tf32_may_be_a_third_as_fast_as_tf32(tflops, status):
    """Its margin is that of a clock above the stated one: 1.1 x 165 = 181 TFLOP/s."""
    assert refuse_implausible(measured("model", "attention", 1.0, flops=tflops * 1e12, **ATTENTION)).status is status


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "Tesla T4"])
def test_where_a_third_of_tf32_is_less_or_nothing_float32_s_own_limit_stays(name):
    split = measured("model", "attention", 1.0, flops=8e12, **{**ATTENTION, "name": name})
    assert refuse_implausible(split) is split
    assert refuse_implausible(replace(split, costs=Costs(200e12))).status is Status.INVALID


def test_a_float32_product_not_made_of_tf32_is_judged_by_float32_s_own_limit():
    product = measured("matmul", "matmul", 1.0, flops=150e12, **{**ATTENTION, "flags": ()})
    assert refuse_implausible(product).reason_code == "implausible"


def test_a_model_some_of_whose_products_are_made_of_three_of_tf32_has_the_larger_limit_and_no_share():
    product = measured("matmul", "matmul", 1.0, flops=50e12, least=1.0, **{**ATTENTION, "flags": ()})
    stream = measured("memory", "copy", 1.0, bytes_=3e12, **{**ATTENTION, "flags": ()})
    mixed = {**ATTENTION, "flags": ("partly_3xtf32",)}
    model = measured("model", "gpt", 1.0, flops=90e12, bytes_=3e10, least=3e10, **mixed)
    assert refuse_implausible(model) is model
    assert refuse_implausible(replace(model, costs=Costs(210e12))).status is Status.INVALID
    shares = derived(product, stream, model)
    assert not [key for key in shares if key[0] == "gpt" and key[2].startswith("fraction")]
    assert shares["gpt", "torch", "bandwidth_of_measured_peak", "wall"].value == pytest.approx(0.01)
    assert "bound_compute" in shares["gpt", "torch", "arithmetic_intensity", ""].flags
