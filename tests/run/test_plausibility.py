"""What no such device can do is invalid, and what may be true is left as it is."""

import json
from dataclasses import replace
from itertools import permutations

import pytest

from bench_core.machine.cpu_limits import CpuLimits, limits_of
from bench_core.records import Cache, Case, Clock, Costs, Limit, Measurement, Series, Status, Traffic, Traits, Work
from bench_core.results.reader import read_rows
from bench_core.results.traits import TraitsOf
from bench_core.run import plausibility
from tests.support import ROOT
from tests.support.limits import H100
from tests.support.rates import ATTENTION, MATMUL, derived, measured

GPU = {"device": "cuda:0", "name": H100, "threads": None, "dtype": "bfloat16"}
AVX512 = {"sse2", "avx2", "avx512f"}
TWO_CORES = limits_of(AVX512, cores=2)  # 1248 GFLOP/s in float32, 2496 GB/s from caches
DESKTOP = limits_of(AVX512, cores=2, frequency=4e9, memory_bandwidth=80e9, caches=40_000_000)


def refuse_implausible(done, cpu=None):
    """Judge work of the suites that every table knows; by default on a CPU of which nothing is known."""
    return plausibility.refuse_implausible(done, TraitsOf(), cpu or CpuLimits())


@pytest.mark.parametrize("clock", Clock)
def test_a_product_far_above_the_datasheet_is_invalid(clock):
    done = refuse_implausible(measured("matmul", "matmul", 1e-3, flops=2e12, clock=clock, **GPU))
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "implausible", ())
    assert done.reason == f"2.00 PFLOP/s by the {clock} clock is more than {H100} can do (990 TFLOP/s)"


def test_a_rate_is_judged_by_the_blocks_that_count():
    done = measured("matmul", "matmul", 1e-3, flops=2e12, **GPU)
    (series,) = done.series
    disturbed = replace(series, seconds=(*series.seconds[:1], *[1.0] * 9), noisy=tuple(range(1, 10)))
    assert refuse_implausible(replace(done, series=(disturbed,))).reason_code == "implausible"


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


# On eight devices together, of which some may be idle.
EIGHT = GPU | {"device": "cuda:x8"}


@pytest.mark.parametrize(
    ("ranks", "share", "status"),
    [
        (8, 0.9, Status.OK),
        (8, 1.4, Status.INVALID),
        (2, 1.1, Status.OK),
        (2, 1.4, Status.INVALID),
        (1, 1.4, Status.INVALID),
    ],
)
def test_devices_together_are_bounded_by_as_many_datasheets_as_compute(ranks, share, status):
    done = measured("together", "train", 1e-3, flops=ranks * share * 0.99e12, params=(("ranks", ranks),), **EIGHT)
    judged = refuse_implausible(done)
    assert judged.status is status
    several = f"{ranks} x " if ranks > 1 else ""
    assert f"is more than {several}{H100} can do" in judged.reason or status is Status.OK
    stream = measured("memory", "copy", 1e-3, bytes_=ranks * share * 3.35e9, params=(("ranks", ranks),), **EIGHT)
    assert refuse_implausible(stream).status is status


def test_a_parameter_named_ranks_does_not_make_one_device_several():
    done = measured("together", "train", 1e-3, flops=1.4e12, params=(("ranks", 8),), **GPU)
    assert refuse_implausible(done).status is Status.INVALID


@pytest.mark.parametrize("device", ["cuda:x8", "cpu:x8"])
def test_no_bus_bandwidth_is_implausible(device):
    """A switch that adds what passes through it exceeds the rate of the wires by nccl-tests' count."""
    done = measured("together", "sum", 1e-6, params=(("ranks", 8),), **(EIGHT | {"device": device}))
    costs = replace(done.costs, amounts={"bus_bytes": 1e12, "algorithm_bytes": 1e12})  # 1 EB/s
    assert plausibility.refuse_implausible(replace(done, costs=costs), TraitsOf(), DESKTOP).status is Status.OK


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


# ---------------------------------------------------------------- CPUs


@pytest.mark.parametrize(("gflops", "status"), [(1200, Status.OK), (1370, Status.OK), (1375, Status.INVALID)])
def test_a_product_above_the_arithmetic_of_a_cpu_is_invalid(gflops, status):
    """1.1 x 2 cores x 6.5 GHz x 96 operations = 1373 GFLOP/s."""
    done = refuse_implausible(measured("matmul", "matmul", 1.0, flops=gflops * 1e9, threads=None), TWO_CORES)
    assert done.status is status


def test_the_reason_names_the_cores_the_clock_and_the_instructions():
    done = refuse_implausible(measured("matmul", "matmul", 1e-3, flops=3.42e9, name="", threads=None), TWO_CORES)
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "implausible", ())
    assert done.reason == (
        "3.42 TFLOP/s by the wall clock is more than this CPU can do (1.25 TFLOP/s: 2 cores x 6.5 GHz, the bound for "
        "an unknown clock, x 96 operations per cycle with AVX-512)"
    )
    known = refuse_implausible(measured("matmul", "matmul", 1e-3, flops=3.42e9, threads=None), DESKTOP)
    assert "(768 GFLOP/s: 2 cores x 4 GHz x 96 operations per cycle with AVX-512)" in known.reason


def test_work_on_one_thread_is_judged_by_one_core_and_all_threads_by_all_cores():
    """A backend may report fewer threads than compute; the number that was set is what it may use."""
    product = measured("matmul", "matmul", 1.0, flops=1e12, threads=1)
    assert refuse_implausible(product, TWO_CORES).status is Status.INVALID
    everything = replace(product, case=replace(product.case, threads=None))
    assert refuse_implausible(everything, TWO_CORES) is everything


def test_causal_attention_on_a_cpu_is_judged_by_the_flops_that_its_mask_leaves():
    done = measured("model", "attention", 1.0, flops=2e12, causal=1.1e12, threads=None)
    assert refuse_implausible(done, TWO_CORES) is done


@pytest.mark.parametrize("flags", [(), ("fits_l1",), ("near_cache",)])
@pytest.mark.parametrize(("suite", "workload"), [("memory", "copy"), ("model", "layernorm")])
def test_bytes_from_any_cache_are_limited_by_the_loads_and_stores_of_the_cores(suite, workload, flags):
    """1.1 x 2 cores x 6.5 GHz x 192 bytes = 2746 GB/s, whether they come from memory or a cache."""
    honest, fast = (
        measured(suite, workload, 1.0, bytes_=gigabytes * 1e9, flags=flags, threads=None) for gigabytes in (2740, 2750)
    )
    assert refuse_implausible(honest, TWO_CORES) is honest
    done = refuse_implausible(fast, TWO_CORES)
    assert done.reason_code == "implausible"
    assert done.reason.startswith("2.75 TB/s by the wall clock is more than this CPU can do (2.50 TB/s: 2 cores x ")


AMX = limits_of({*AVX512, "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"}, cores=56, frequency=3.8e9)


@pytest.mark.parametrize(("share", "status"), [(0.99, Status.OK), (1.11, Status.INVALID)])
@pytest.mark.parametrize(
    ("suite", "workload", "dtype", "precision", "per_cycle"),
    [
        ("matmul", "matmul", "bfloat16", "ieee", 1024),
        ("model", "gpt_train", "float32", "autocast_bfloat16", 1024),
        ("model", "gpt_prefill", "bfloat16", "ieee", 1024),
        ("matmul", "matmul", "int8", "ieee", 2048),
    ],
)
def test_what_amx_reaches_is_plausible_and_more_is_not(suite, workload, dtype, precision, per_cycle, share, status):
    """218 TFLOP/s in bfloat16: with AVX-512's 192 operations per cycle, 18 % of it would be refused."""
    kind = {"dtype": dtype, "precision": precision, "threads": None}
    done = measured(suite, workload, 1.0, flops=share * 56 * 3.8e9 * per_cycle, **kind)
    judged = refuse_implausible(done, AMX)
    assert judged.status is status
    assert ("operations per cycle with AMX" in (judged.reason or "")) is (status is Status.INVALID)
    without = limits_of({*AVX512, "avx512_bf16"}, cores=56, frequency=3.8e9)
    assert refuse_implausible(done, without).reason_code == "implausible"


def test_bytes_of_a_link_are_not_those_of_the_cpu():
    transfer = measured("transfer", "h2d", 1.0, bytes_=1e15, threads=None)
    assert refuse_implausible(transfer, TWO_CORES) is transfer


@pytest.mark.parametrize(("gigabytes", "status"), [(109, Status.OK), (111, Status.INVALID)])
def test_a_hot_stream_is_limited_by_the_memory_channels_for_what_the_caches_cannot_hold(gigabytes, status):
    """Of 200 MB the caches hold 40: 1.1 x 80 GB/s x 200 / 160 = 110 GB/s."""
    stream = measured("memory", "copy", 0.2 / gigabytes, bytes_=0.2e9, threads=None)
    done = refuse_implausible(stream, DESKTOP)
    assert done.status is status
    if status is Status.INVALID:
        assert "(100 GB/s: memory of 80.0 GB/s and caches of 40.0 MB)" in done.reason


def test_memory_channels_do_not_limit_what_a_cache_may_hold():
    fast = {"bytes_": 0.2e9, "threads": None}
    flagged = measured("memory", "copy", 1e-3, flags=("near_cache",), **fast)
    fused = measured("model", "layernorm", 1e-3, **fast)
    hot = measured("memory", "copy", 1e-3, **fast)
    cold = replace(hot, case=replace(hot.case, work=replace(hot.case.work, cache=Cache.COLD)))
    small = measured("memory", "copy", 1e-4, bytes_=0.03e9, threads=None)
    for done in (flagged, fused, cold, small):
        assert refuse_implausible(done, DESKTOP) is done
    assert refuse_implausible(hot, DESKTOP).status is Status.INVALID


# ---------------------------------------------------------------- streams that the rest of their run contradicts


def stream(workload, gigabytes, backend="numpy", size="1", **known):
    """Return a stream of so many GB/s in every one of three blocks."""
    done = measured("memory", workload, 1.0, bytes_=gigabytes * 1e9, backend=backend, **known)
    return replace(done, case=replace(done.case, work=replace(done.case.work, size=size)))


def refused(*measurements, traits=None):
    """Return the workload and the backend of all that is invalid in this run."""
    found = plausibility.refuse_beyond_own_best(measurements, traits or TraitsOf())
    assert [m.case for m in found] == [m.case for m in measurements]
    return {(m.case.work.workload, m.case.backend) for m in found if m.status is not Status.OK}


HONEST = [stream("copy", 30), stream("triad", 25), stream("copy", 35, "torch"), stream("add", 34, "torch")]


@pytest.mark.parametrize(("gigabytes", "is_refused"), [(279, False), (281, True)])
def test_a_stream_far_above_the_best_other_one_is_invalid_in_any_order(gigabytes, is_refused):
    """Two threads: 8 x 35 GB/s = 280 GB/s. The workload is not one that measures memory, but it is a stream."""
    run = [stream("sum", gigabytes, "plugin"), *HONEST]
    assert {frozenset(refused(*order)) for order in permutations(run)} == {
        frozenset({("sum", "plugin")} if is_refused else ())
    }


def test_the_reason_names_both_numbers_and_the_margin():
    *_, done = plausibility.refuse_beyond_own_best([*HONEST, stream("copy", 400, "plugin")], TraitsOf())
    assert (done.status, done.reason_code, done.series) == (Status.INVALID, "implausible", ())
    assert done.reason == (
        "400 GB/s is more than 8 times 35.0 GB/s; the best other stream of the run is "
        "copy torch-cpu-float32-1-2t with 35.0 GB/s"
    )


def test_a_backend_all_of_whose_streams_are_too_fast_does_not_excuse_itself():
    cheats = [stream("copy", 900, "plugin"), stream("triad", 950, "plugin"), stream("copy", 980, "plugin", "2")]
    assert refused(*cheats, *HONEST) == {("copy", "plugin"), ("triad", "plugin")}


def test_a_single_backend_is_compared_with_its_own_other_cases():
    assert refused(stream("copy", 30), stream("triad", 25), stream("sum", 250)) == {("sum", "numpy")}


def test_the_lower_end_of_the_interval_counts():
    fast = stream("sum", 400, "plugin")
    (timed,) = fast.series
    unsure = replace(fast, series=(replace(timed, seconds=(0.5, 1.0, 2.0)),))  # 200 to 800 GB/s
    assert not refused(unsure, *HONEST)
    assert refused(replace(fast, series=(replace(timed, seconds=(0.5, 1.0, 1.4)),)), *HONEST)


@pytest.mark.parametrize(("threads", "most"), [(1, 8), (2, 8), (16, 64)])
def test_the_margin_grows_with_the_threads(threads, most):
    others = [stream(name, 50, threads=threads) for name in ("copy", "triad")]
    assert not refused(stream("dot", 50 * most * 0.99, "torch", threads=threads), *others)
    assert refused(stream("dot", 50 * most * 1.01, "torch", threads=threads), *others)


def test_streams_with_other_threads_in_caches_or_on_a_gpu_are_neither_judged_nor_compared_with():
    fast = stream("sum", 400, "plugin")
    alone = [stream(name, 30, threads=1) for name in ("copy", "triad")]
    cached = [stream(name, 30, flags=("near_cache",)) for name in ("copy", "triad")]
    gpu = [stream(name, 30, device="cuda:0") for name in ("copy", "triad")]
    assert not refused(fast, *alone, *cached, *gpu, stream("copy", 30))
    assert refused(fast, stream("copy", 30), stream("triad", 30))
    assert not refused(
        *(stream("sum", 4000, **odd) for odd in ({"flags": ("fits_l1",)}, {"device": "cuda:0"})), *HONEST
    )
    assert not refused(measured("model", "layernorm", 1.0, bytes_=4e12), *HONEST)  # a cache may hold its data


def test_less_than_two_other_streams_refuse_nothing():
    fast = stream("sum", 4000)
    assert not refused(fast)
    assert not refused(fast, stream("copy", 30))
    assert not refused(fast, stream("copy", 30), replace(stream("copy", 30), process=1))  # one case, measured twice
    missing = Measurement.missing(stream("triad", 30).case, Status.OOM, "out_of_memory", "no memory")
    assert not refused(fast, stream("copy", 30), missing) - {("triad", "numpy")}
    assert refused(fast, stream("copy", 30), stream("triad", 30))


def test_slow_libraries_and_random_access_do_not_contradict_honest_streams():
    slow = [stream(name, 0.1, "plugin") for name in ("copy", "triad")]
    assert not refused(stream("copy", 159), *slow)
    assert refused(stream("copy", 161), *slow)
    random = [stream(name, 30, size=size) for name in ("gather", "scatter") for size in "12"]
    assert not refused(stream("sum", 4000), *random)


def test_every_process_of_a_refused_case_is_invalid():
    fast, slow = stream("sum", 4000, "plugin"), replace(stream("sum", 30, "plugin"), process=1)
    failed = replace(slow, status=Status.TIMEOUT, series=(), process=2)
    found = plausibility.refuse_beyond_own_best([slow, *HONEST, failed, fast], TraitsOf())
    assert [m.status for m in found if m.case == fast.case] == [Status.INVALID, Status.TIMEOUT, Status.INVALID]
    assert [m for m in found if m.case != fast.case] == HONEST


def test_the_streams_of_other_suites_are_known_by_their_traits():
    traits = Traits(headline="bandwidth", traffic=Traffic.MEMORY)
    known = TraitsOf({("own", "mine"): traits, ("own", "base"): replace(traits, measures=Limit.BANDWIDTH)})
    fast = measured("own", "mine", 1.0, bytes_=4e12, backend="plugin")
    assert refused(fast, *HONEST, traits=known) == {("mine", "plugin")}
    assert not refused(fast, *HONEST, traits=TraitsOf({("own", "mine"): Traits(headline="bandwidth")}))


# ---------------------------------------------------------------- honest tables

TABLES = sorted((ROOT / "results").glob("*/*/results.csv"))
FASTER = 6  # times as fast as they were, the measurements of the tables would still be plausible


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_no_measurement_of_a_committed_table_is_refused(path):
    """The fastest reach 0.18 of their bound (Zen 5 with AVX-512), in virtual machines whose clock is unknown."""
    about = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
    facts = {name: fact["value"] for name, fact in about["environment"]["host"].items()}
    cpu = limits_of({"sse2", *facts["cpu.vectors"]}, cores=facts["cpu.cores"])
    assert cpu.peak_flops("float32")
    rows = [row for row in read_rows(path) if (row.device, row.metric) == ("cpu", "time") and row.value]
    done = [again(row) for row in rows]
    assert [plausibility.refuse_implausible(m, TraitsOf(), cpu) for m in done] == done
    assert plausibility.refuse_beyond_own_best(done, TraitsOf()) == done


def again(row):
    """Return the measurement of a row, FASTER times as fast as its fastest sample."""
    work = Work(row.suite, row.workload, row.size, row.dtype, tuple(row.parameters.items()), row.precision,
                cache=Cache(row.cache))  # fmt: skip
    case = Case(work, row.backend, row.device, row.implementation, 1 if row.threads == 1 else None)
    costs = Costs(row.flops, row.bytes, row.least_bytes)
    series = (Series("time", Clock(row.clock), (row.min,)),)
    return Measurement(
        case, Status.OK, costs=costs, series=series, flags=tuple(row.flags.split(";")), threads=row.threads
    )


# ---------------------------------------------------------------- three TF32 products


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
