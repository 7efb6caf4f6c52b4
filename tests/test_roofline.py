"""Shares, bounds and impossible speeds follow from a run's own rows and from the datasheet, and from nothing else."""

from dataclasses import replace

import pytest

from bench_core import roofline
from bench_core.metrics import rows
from bench_core.model import Case, Clock, Costs, Measurement, Run, Series, Status, Work

RUN = Run("run-a", "2001-01-01T00:00:00+00:00", "a")
H100 = "NVIDIA H100 80GB HBM3"


def measured(
    suite, workload, seconds, *, flops=None, bytes_=None, least=None, dtype="float32", precision="ieee",
    device="cpu", name="Some CPU", threads=2, clock=Clock.WALL, flags=(), backend="numpy", causal=None, params=(),
):  # fmt: skip
    work = Work(suite, workload, "1", dtype, params, precision)
    case = Case(work, backend, device, threads=threads)
    amounts = {"causal_flops": causal} if causal else {}
    costs = Costs(flops, bytes_, least if least is not None else bytes_, amounts)
    series = (Series("time", clock, (seconds,) * 3),)
    return Measurement(case, Status.OK, costs=costs, series=series, device_name=name, threads=threads, flags=flags)


def table(*measurements):
    return [row for m in measurements for row in rows(RUN, [m])]


def derived(*measurements):
    return {(r.workload, r.backend, r.metric, r.clock): r for r in roofline.derived(table(*measurements))}


MATMUL = measured("matmul", "matmul", 1.0, flops=100.0, least=1.0)  # 100 FLOP/s
TRIAD = measured("memory", "triad", 1.0, flops=2.0, bytes_=10.0)  # 10 B/s
MODEL = measured("model", "mlp", 4.0, flops=200.0, least=10.0)  # 50 FLOP/s


def test_a_rate_is_a_share_of_the_best_product_of_its_format():
    shares = derived(MATMUL, TRIAD, MODEL)
    assert shares["mlp", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)
    assert shares["matmul", "numpy", "fraction_of_measured_peak", "wall"].value == 1.0


@pytest.mark.parametrize("clock", Clock)
def test_a_time_that_is_the_host_s_is_no_ceiling_of_its_device_and_keeps_its_flag(clock):
    starved = measured("matmul", "matmul", 0.5, flops=100.0, clock=clock, flags=("launch_bound",))  # 200 FLOP/s
    stream = measured("memory", "triad", 0.5, bytes_=10.0, clock=clock, flags=("launch_bound",))
    (here,) = roofline.ceilings(table(starved, stream)).values()
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


@pytest.mark.parametrize("data", ["zeros", "integers"])
def test_a_product_of_easy_numbers_is_no_ceiling(data):
    normal = measured("matmul", "matmul_data", 1.0, flops=100.0, params=(("data", "normal"),))
    easy = measured("matmul", "matmul_data", 0.5, flops=100.0, params=(("data", data),))
    shares = derived(normal, easy, MODEL)
    assert shares["mlp", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)


def test_causal_attention_is_credited_with_the_flops_that_its_mask_leaves():
    done = measured("model", "attention", 1.0, flops=80.0, causal=50.0, least=5.0)
    shares = derived(MATMUL, TRIAD, done)
    assert shares["attention", "numpy", "fraction_of_measured_peak", "wall"].value == pytest.approx(0.5)
    row = shares["attention", "numpy", "arithmetic_intensity", ""]
    assert row.value == pytest.approx(10.0)
    assert len([row for row in roofline.derived(table(MATMUL, done)) if row.workload == "attention"]) == 2


def test_what_bounds_causal_attention_follows_from_the_same_flops():
    """The ridge is at 10 FLOP/B; the full count lies above it, what is needed below."""
    done = measured("model", "attention", 1.0, flops=110.0, causal=60.0, least=10.0)
    flags = derived(MATMUL, TRIAD, done)["attention", "numpy", "arithmetic_intensity", ""].flags
    assert "bound_bandwidth" in flags.split(";")


def test_autocast_is_measured_against_the_narrow_format():
    product = measured("matmul", "matmul", 1.0, flops=100.0, least=1.0, dtype="bfloat16")
    mixed = measured("model", "gpt_train", 1.0, flops=40.0, precision="autocast_bfloat16")
    share = derived(product, MATMUL, mixed)["gpt_train", "numpy", "fraction_of_measured_peak", "wall"]
    assert share.value == pytest.approx(0.4)
    fast = {**GPU, "dtype": "float32", "precision": "autocast_bfloat16"}
    assert roofline.judged(measured("model", "gpt_train", 1e-3, flops=5e11, **fast)).status is Status.OK


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


def test_a_launch_of_another_backend_says_nothing():
    launch = measured("latency", "launch", 5.0, backend="torch")
    assert "bound_compute" in derived(MATMUL, TRIAD, MODEL, launch)["mlp", "numpy", "arithmetic_intensity", ""].flags


def test_without_both_ceilings_the_bound_is_not_named():
    assert "bound_" not in derived(MATMUL, MODEL)["mlp", "numpy", "arithmetic_intensity", ""].flags


GPU = {"device": "cuda:0", "name": H100, "threads": None, "dtype": "bfloat16"}


@pytest.mark.parametrize("clock", Clock)
def test_a_product_far_above_the_datasheet_is_invalid(clock):
    done = roofline.judged(measured("matmul", "matmul", 1e-3, flops=2e12, clock=clock, **GPU))
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "implausible", ())
    assert done.reason == f"2.00 PFLOP/s by the {clock} clock is more than {H100} can do (990 TFLOP/s)"


def test_a_true_row_of_causal_attention_is_not_impossible():
    """The full count would make 1.5 times the datasheet of it."""
    done = measured("model", "attention", 1e-3, flops=1.5e12, causal=0.76e12, **GPU)
    assert roofline.judged(done) is done
    assert roofline.judged(replace(done, costs=replace(done.costs, amounts={}))).reason_code == "implausible"


def test_a_measurement_of_which_no_row_can_be_made_says_so():
    unknown = replace(MATMUL, values={"my_own_metric": 1.0})
    assert roofline.judged(unknown).reason_code == "unknown_metric"


def test_a_stream_above_the_datasheet_is_invalid_unless_a_cache_explains_it():
    stream = {"flags": (), **GPU}
    assert roofline.judged(measured("memory", "copy", 1e-3, bytes_=4e9, **stream)).status is Status.INVALID
    stream["flags"] = ("fits_l2",)
    assert roofline.judged(measured("memory", "copy", 1e-3, bytes_=4e9, **stream)).status is Status.OK


@pytest.mark.parametrize(
    "done",
    [
        measured("matmul", "matmul", 1e-3, flops=1.05e12, **GPU),  # a boost clock above the stated one
        measured("matmul", "matmul", 1e-9, flops=1e18),  # of this CPU nothing is known
        measured("memory", "copy", 1e-3, bytes_=3.3e9, **GPU),
        Measurement.missing(MATMUL.case, Status.OOM, "out_of_memory", "no memory"),
    ],
)
def test_what_may_be_true_is_left_as_it_is(done):
    assert roofline.judged(done) is done


# Memory-efficient attention in float32 on compute capability 8.0 and newer: 494.5 / 3 = 165 TFLOP/s on an H100, where
# the datasheet's float32 is 67.
ATTENTION = {"device": "cuda:0", "name": H100, "threads": None, "backend": "torch", "flags": ("3xtf32",)}


@pytest.mark.parametrize(("tflops", "status"), [(150, Status.OK), (175, Status.OK), (200, Status.INVALID)])
def test_float32_products_made_of_three_of_tf32_may_be_a_third_as_fast_as_tf32(tflops, status):
    """Its margin is that of a clock above the stated one: 1.1 x 165 = 181 TFLOP/s."""
    assert roofline.judged(measured("model", "attention", 1.0, flops=tflops * 1e12, **ATTENTION)).status is status


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "Tesla T4"])
def test_where_a_third_of_tf32_is_less_or_nothing_float32_s_own_limit_stays(name):
    split = measured("model", "attention", 1.0, flops=8e12, **{**ATTENTION, "name": name})
    assert roofline.judged(split) is split
    assert roofline.judged(replace(split, costs=Costs(200e12))).status is Status.INVALID


def test_a_true_float32_product_that_fast_is_still_impossible():
    product = measured("matmul", "matmul", 1.0, flops=150e12, **{**ATTENTION, "flags": ()})
    assert roofline.judged(product).reason_code == "implausible"


def test_products_made_of_three_of_tf32_are_no_share_of_float32_s_ceiling_and_not_bound_by_it():
    product = measured("matmul", "matmul", 1.0, flops=50e12, least=1.0, **{**ATTENTION, "flags": ()})
    stream = measured("memory", "copy", 1.0, bytes_=3e12, **{**ATTENTION, "flags": ()})
    shares = derived(product, stream, measured("model", "attention", 1.0, flops=150e12, least=1e9, **ATTENTION))
    assert ("attention", "torch", "fraction_of_measured_peak", "wall") not in shares
    assert shares["attention", "torch", "fraction_of_datasheet", "wall"].value == pytest.approx(150 / 164.83, rel=1e-3)
    assert "bound_" not in shares["attention", "torch", "arithmetic_intensity", ""].flags


def test_a_model_some_of_whose_products_are_made_of_three_has_the_larger_limit_and_no_share():
    product = measured("matmul", "matmul", 1.0, flops=50e12, least=1.0, **{**ATTENTION, "flags": ()})
    stream = measured("memory", "copy", 1.0, bytes_=3e12, **{**ATTENTION, "flags": ()})
    mixed = {**ATTENTION, "flags": ("partly_3xtf32",)}
    model = measured("model", "gpt", 1.0, flops=90e12, bytes_=3e10, least=3e10, **mixed)
    assert roofline.judged(model) is model
    assert roofline.judged(replace(model, costs=Costs(210e12))).status is Status.INVALID
    shares = derived(product, stream, model)
    assert not [key for key in shares if key[0] == "gpt" and key[2].startswith("fraction")]
    assert shares["gpt", "torch", "bandwidth_of_measured_peak", "wall"].value == pytest.approx(0.01)
    assert "bound_compute" in shares["gpt", "torch", "arithmetic_intensity", ""].flags
