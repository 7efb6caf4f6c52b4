"""Published values are in range, each planted fault is named, and nothing is said without a source."""

from __future__ import annotations

import dataclasses

import pytest

from bench_core.analysis.machine_check import LimitVerdict, exit_code, judge_limits, unmeasured
from bench_core.machine import datasheets, normal_ranges
from bench_core.records import Cache, Clock, Fact, Status
from bench_core.results.rows import rows_of_case
from tests.support.limits import CEILINGS, FACTS, H100, limit
from tests.support.tables import run

H200, B200 = "NVIDIA H200", "NVIDIA B200"
A100, RTX4090, MI300X = "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090", "AMD Instinct MI300X"


def readings(*measurements, host=None, **facts):
    """Return what is read from these, on a GPU with nothing amiss but for `facts` (with `__` for the dot)."""
    changed = FACTS | {f"gpu.{name}": value for name, value in facts.items()}
    workers = {"e": {name: Fact(value, "planted") for name, value in changed.items() if value is not None}}
    table = [row for m in measurements for row in rows_of_case(run(), [m])]
    return judge_limits(
        table, CEILINGS, {name: Fact(value, "planted") for name, value in (host or {}).items()}, workers
    )


def one(*measurements, **facts):
    (reading,) = readings(*measurements, **facts)
    return reading


# Values as their sources print them: TFLOP/s by format, GB/s (see bench_core/machine/normal_ranges.py for where).
AS_PUBLISHED = [
    (A100, {"bfloat16": 271.2, "tf32": 127.4, "float32": 18.36, "float64": 18.95}, 1371, 25.9, 4),
    (H100, {"bfloat16": 794.5, "float8_e4m3fn": 1403, "tf32": 402.2, "float32": 51.88}, 2900, 51, 5),
    (H200, {"bfloat16": 790.3, "float8_e4m3fn": 1453.4, "float32": 51.34}, 4010, 55.4, 5),
    (B200, {"bfloat16": 1745, "float8_e4m3fn": 3432.5, "float32": 66.24}, None, 55.6, 5),
    (MI300X, {"bfloat16": 668.4, "float32": 94.1}, 4177, None, None),
    (RTX4090, {"bfloat16": 165.0, "tf32": 85.65, "float32": 54.0}, 918.3, 26.3, 4),
]


# By this suite's headline on an H100 with nothing amiss, wall clock, medians; its link gave 52.4 GB/s the other way.
MEASURED = (H100, {"bfloat16": 675, "float8_e4m3fn": 924, "tf32": 331, "float32": 50.9}, 2750, 54.2, 5)


@pytest.mark.parametrize(("device", "products", "copy", "link", "generation"), [*AS_PUBLISHED, MEASURED])
def test_what_was_published_or_measured_is_in_range(device, products, copy, link, generation):
    found = [
        limit("square", value * 1e12, device, *(("float32", "tf32") if name == "tf32" else (name, "ieee")))
        for name, value in products.items()
    ]
    found += [limit("duplicate", copy * 1e9, device)] if copy else []
    found += [limit(way, link * 1e9, device) for way in ("up", "down")] if link else []
    read = readings(*found, pcie_generation=generation, pcie_generation_max=generation)
    assert len(read) == len(found)
    assert [(r.what, r.verdict) for r in read if r.verdict is not LimitVerdict.IN_RANGE] == []
    assert all(r.normal.source for r in read)
    assert exit_code(read) == 0


@pytest.mark.parametrize("device", normal_ranges.PUBLISHED)
def test_every_published_value_is_in_its_own_range_and_of_a_device_with_a_datasheet(device):
    assert device in datasheets.SHEETS
    of = normal_ranges.PUBLISHED[device]
    for name, values in of.products.items():
        expected = normal_ranges.products(device, *(("float32", "tf32") if name == "tf32" else (name, "ieee")))
        peak = datasheets.peak_flops(device, *(("float32", "tf32") if name == "tf32" else (name, "ieee")))
        for value, source in values:
            assert expected.low < value < expected.high
            assert value < 1.25 * peak, "a typing error of a factor"
            assert value > 0.35 * peak
            assert source in expected.source
    for value, _ in of.copies:
        assert normal_ranges.copies(device).low < value < normal_ranges.copies(device).high


def test_every_device_with_a_datasheet_has_its_link():
    """But for TPUs: of their link to the host nothing is published."""
    lacking = {name for name in datasheets.SHEETS if normal_ranges.link(name) is None}
    assert {name.partition(" ")[0].rstrip("7x") for name in lacking} == {"TPU"}


def test_eight_lanes_are_named():
    reading = one(limit("up", 12.6e9, A100), pcie_width=8, pcie_generation=4, pcie_generation_max=4)
    assert reading.verdict is LimitVerdict.LOW
    assert reading.causes == ("8 of 16 PCIe lanes",)
    assert exit_code([reading]) == 1


def test_eight_lanes_are_named_where_the_slot_has_no_more_and_the_driver_calls_that_the_most():
    reading = one(limit("down", 25e9, H100), pcie_width=8, pcie_width_max=8)
    assert reading.causes == ("8 of 16 PCIe lanes",)


def test_a_board_older_than_the_card_is_named():
    reading = one(limit("up", 25e9, H100), pcie_generation=4, pcie_generation_max=4)
    assert reading.verdict is LimitVerdict.LOW
    assert reading.causes == ("board and card together support PCIe 4.0; the card supports 5.0",)


def test_a_link_that_ran_at_an_older_generation_is_named():
    assert one(limit("up", 25e9, H100), pcie_generation=4).causes == ("the link runs at PCIe 4.0 and supports 5.0",)


def test_a_link_that_was_read_while_it_rested_is_no_cause():
    """PCIe 1.0 carries 4 GB/s over 16 lanes: 25 GB/s went over something faster."""
    reading = one(limit("up", 25e9, H100), pcie_generation=1)
    assert reading.verdict is LimitVerdict.LOW
    assert reading.causes == ()


def test_a_link_slows_transfers_and_not_products():
    read = readings(limit("square", 380e12, dtype="bfloat16"), limit("up", 12.6e9), pcie_width=8)
    assert {r.what: bool(r.causes) for r in read} == {"bfloat16 product": False, "host to device": True}


def test_a_card_without_a_datasheet_is_judged_by_the_link_that_the_driver_tells():
    new = "NVIDIA Unheard-of 1"
    slow = one(limit("up", 12e9, new), pcie_generation=4, pcie_generation_max=4, pcie_width=8)
    assert slow.verdict is LimitVerdict.LOW
    fast = one(limit("up", 26e9, new), pcie_generation=4, pcie_generation_max=4)
    assert fast.verdict is LimitVerdict.IN_RANGE
    silent = one(limit("up", 1e9, new), pcie_generation_max=None, pcie_width_max=None)
    assert silent.verdict is LimitVerdict.UNKNOWN


def test_capped_power_is_named_with_the_state_right_after():
    state = {"gpu_power": 349.0, "gpu_clock": 0.9e9, "gpu_temperature": 51.0}
    reading = one(limit("square", 380e12, dtype="bfloat16", flags=("throttled",), values=state), power_limit=350.0)
    assert reading.verdict is LimitVerdict.LOW
    assert reading.causes == (
        "power is capped: 350 W of 700 W",
        "power or temperature limited its clocks (right after: 349 W of 350 W, 51 degrees C, 900 MHz of 1.98 GHz)",
    )


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"throttle_reasons": ["hardware_thermal"]}, "its clocks were limited before any work: hardware_thermal"),
        ({"other_processes": 1}, "1 other process on it"),
        ({"other_processes": 2}, "2 other processes on it"),
        ({"mig": True}, "MIG is on"),
    ],
)
def test_a_cause_that_the_driver_confirms_is_named(facts, named):
    (cause,) = one(limit("square", 380e12, dtype="bfloat16"), **facts).causes
    assert named in cause


def test_clocks_that_are_set_low_are_named_where_they_ran_low():
    locked = {"throttle_reasons": ["application_clocks"]}
    slow = limit("square", 380e12, dtype="bfloat16", values={"gpu_clock": 1.0e9})
    assert one(slow, **locked).causes == ("its application clocks are set low: 1.00 GHz of 1.98 GHz",)
    assert one(dataclasses.replace(slow, values={"gpu_clock": 1.95e9}), **locked).causes == ()


def test_ecc_is_a_cause_only_where_published_values_are_without_it():
    (cause,) = one(limit("duplicate", 600e9, RTX4090)).causes
    assert "ECC is on" in cause
    assert one(limit("duplicate", 600e9, RTX4090), ecc=False).causes == ()
    assert one(limit("duplicate", 1000e9, H100)).causes == ()


def test_a_low_value_without_a_confirmed_cause_has_none():
    reading = one(limit("square", 380e12, dtype="bfloat16"))
    assert (reading.verdict, reading.causes) == (LimitVerdict.LOW, ())
    assert exit_code([reading]) == 1


def test_a_value_in_its_range_has_no_causes():
    assert one(limit("square", 700e12, dtype="bfloat16"), power_limit=650.0, other_processes=3).causes == ()


def test_a_value_above_its_range_is_high_and_no_failure():
    reading = one(limit("square", 950e12, dtype="bfloat16"))
    assert reading.verdict is LimitVerdict.HIGH
    assert exit_code([reading]) == 0


def on_cpu(default, tuned, library="OpenBLAS Haswell", best="OpenBLAS SkylakeX", backend="numpy", **known):
    """Return the default and the tuned product of a CPU, in FLOP/s."""
    shared = {"device": "Some CPU", "dtype": "float64", "address": "cpu", "backend": backend}
    return [
        limit("square", default, library=library, **shared, **known),
        limit("square", tuned, library=best, implementation="tuned", **shared),
    ]


def test_blas_kernels_below_the_cpu_s_are_named():
    reading = one(*on_cpu(50e9, 100e9))
    assert reading.verdict is LimitVerdict.LOW
    (cause,) = reading.causes
    assert "OpenBLAS Haswell instead of OpenBLAS SkylakeX" in cause


def test_a_noisy_cpu_is_not_called_low():
    """The far end of the interval is what must be below the range of the tuned row's interval."""
    noisy, tuned = on_cpu(70e9, 100e9)
    (steady,) = noisy.series
    spread = (steady.seconds[0], *(s * 0.7 for s in steady.seconds[1:3]), *steady.seconds[3:])
    assert one(noisy, tuned).verdict is LimitVerdict.LOW
    assert one(dataclasses.replace(noisy, series=(dataclasses.replace(steady, seconds=spread),)), tuned).verdict is (
        LimitVerdict.IN_RANGE
    )


def test_a_card_that_nothing_measured_makes_the_machine_unknown():
    """A broken library must not leave "all right" behind, said of the CPU alone."""
    fine = readings(*on_cpu(100e9, 100e9))
    assert exit_code(fine) == 0
    lost = unmeasured([H100, H100], fine)
    assert [(r.device_name, r.verdict) for r in lost] == [(H100, LimitVerdict.NOT_MEASURED)]
    assert exit_code([*fine, *lost]) == 3
    slice_of_it = readings(limit("square", 100e12, f"{H100} MIG 1g.10gb", dtype="bfloat16"))
    assert unmeasured([H100], slice_of_it) == []


def test_a_limit_whose_case_was_stopped_was_not_measured():
    stopped = limit("square", dtype="bfloat16", status=Status.INTERRUPTED, reason="the run ended before its turn")
    reading = one(stopped)
    assert (reading.verdict, reading.reason) == (LimitVerdict.NOT_MEASURED, "the run ended before its turn")
    assert exit_code([reading]) == 3


def test_a_default_product_like_the_tuned_one_is_in_range():
    reading = one(*on_cpu(95e9, 100e9, library="OpenBLAS SkylakeX"))
    assert reading.verdict is LimitVerdict.IN_RANGE
    assert exit_code([reading]) == 0


@pytest.mark.parametrize(
    ("host", "flags", "named"),
    [
        ({"cpu.quota": 1.5, "cpu.cores": 8}, (), "a control group limits it to 1.5 cores"),
        ({"cpu.quota": 4.0, "cpu.cores": 8}, (), "a control group limits it to 4 cores"),
        ({"load.busy": 0.5}, (), "other programs used 50% of the CPU just before the run"),
        ({}, ("steal",), "the hypervisor took CPU time while it ran"),
        ({}, ("drift",), "the CPU's clock changed while it ran"),
        ({"cpu.quota": 8.0, "cpu.cores": 8, "load.busy": 0.01}, (), None),
    ],
)
def test_what_disturbs_a_cpu_is_named(host, flags, named):
    same = on_cpu(50e9, 100e9, library="OpenBLAS SkylakeX", flags=flags)
    assert one(*same, host=host).causes == ((named,) if named else ())


def test_other_libraries_of_a_cpu_are_not_judged_by_another_route():
    assert one(*on_cpu(50e9, 100e9, backend="torch")).verdict is LimitVerdict.UNKNOWN


@pytest.mark.parametrize("status", [Status.INVALID, Status.ERROR, Status.CRASHED, Status.OOM, Status.TIMEOUT])
def test_a_limit_whose_case_failed_is_wrong_and_the_others_are_kept(status):
    bad = limit("square", dtype="bfloat16", status=status, reason_code="x", reason="relative error 0.1")
    read = readings(limit("duplicate", 2900e9), bad)
    assert [(r.what, r.verdict) for r in read] == [
        ("square 1 bfloat16", LimitVerdict.WRONG),
        ("copy in memory", LimitVerdict.IN_RANGE),
    ]
    assert read[0].reason == f"{status}: relative error 0.1"
    assert exit_code(read) == 1


@pytest.mark.parametrize(("status", "device"), [(Status.SKIPPED, ""), (Status.UNSUPPORTED, H100)])
def test_a_limit_that_is_skipped_or_unsupported_here_has_no_reading(status, device):
    assert readings(limit("square", device=device, status=status, reason="no device, or no such format")) == []


def test_what_a_device_had_no_room_for_is_said_once_unless_another_row_shows_it():
    full = {"status": Status.SKIPPED, "reason": "needs 0.8 GB where 0.3 GB are free"}
    none = [limit("up", backend=backend, **full) for backend in ("cupy", "torch")]
    read = readings(*none, limit("duplicate", **full), limit("duplicate", 2900e9, backend="cupy"))
    assert [(r.what, r.verdict, r.reason) for r in read] == [
        ("copy in memory", LimitVerdict.IN_RANGE, ""),
        ("host to device", LimitVerdict.NOT_MEASURED, full["reason"]),
    ]
    assert exit_code(read) == 0
    assert exit_code(read[1:]) == 3


def test_a_device_that_nobody_has_published_is_shown_and_not_judged():
    new = "NVIDIA Unheard-of 1"
    read = readings(limit("square", 5e12, new), limit("duplicate", 1e9, new), limit("up", 52e9, new))
    assert [r.verdict for r in read] == [LimitVerdict.UNKNOWN, LimitVerdict.UNKNOWN, LimitVerdict.IN_RANGE]
    assert all(r.value for r in read)
    assert exit_code(read) == 3, "a good link does not make the device known"


def test_a_slice_of_a_card_has_another_name_and_is_not_judged_as_the_card():
    reading = one(limit("square", 100e12, f"{H100} MIG 1g.10gb", dtype="bfloat16"), mig=True)
    assert reading.verdict is LimitVerdict.UNKNOWN


def test_a_format_that_nobody_has_measured_is_not_judged_but_bfloat16_and_memory_are_by_the_datasheet():
    a10 = "NVIDIA A10"
    read = readings(
        limit("square", 1e12, a10),
        limit("square", 80e12, a10, dtype="bfloat16"),
        limit("square", 20e12, a10, dtype="float16"),
        limit("duplicate", 450e9, a10),
    )
    assert {r.what: r.verdict for r in read} == {
        "float32 product": LimitVerdict.UNKNOWN,
        "bfloat16 product": LimitVerdict.IN_RANGE,
        "float16 product": LimitVerdict.LOW,
        "copy in memory": LimitVerdict.IN_RANGE,
    }
    assert "0.5 to 0.95 of the datasheet: NVIDIA A10" in read[1].normal.source


def test_an_unknown_cpu_beside_a_known_gpu_leaves_the_machine_known():
    read = readings(limit("square", 700e12, dtype="bfloat16"), limit("duplicate", 9e9, "Some CPU", address="cpu"))
    assert [r.device for r in read] == ["cuda:0", "cpu"]
    assert exit_code(read) == 0


def test_an_unknown_gpu_beside_a_known_cpu_leaves_the_machine_unknown():
    assert exit_code(readings(limit("square", 7e12, "NVIDIA Unheard-of 1"), *on_cpu(1e11, 1e11))) == 3


def test_what_is_low_comes_before_what_is_unknown():
    assert exit_code(readings(limit("square", 7e12, "NVIDIA Unheard-of 1"), *on_cpu(5e10, 1e11))) == 1


def test_no_readings_end_with_the_exit_code_of_nothing_known():
    assert exit_code([]) == 3


def test_the_fastest_row_counts_of_all_libraries_sizes_and_clocks():
    reading = one(
        limit("square", 100e12, dtype="bfloat16", size="512"),
        limit("square", 700e12, dtype="bfloat16", size="8192", clock=Clock.DEVICE, backend="cupy"),
        limit("square", 650e12, dtype="bfloat16", size="4096"),
    )
    assert (reading.value, reading.who) == (pytest.approx(700e12), "cupy")


def test_formats_and_devices_are_kept_apart():
    found = [limit("square", 700e12, dtype="bfloat16", address=f"cuda:{i}") for i in range(2)]
    read = readings(*found, limit("square", 50e12), limit("square", 400e12, precision="tf32"))
    assert [(r.device, r.what) for r in read] == [
        ("cuda:0", "bfloat16 product"),
        ("cuda:0", "float32 product"),
        ("cuda:0", "TF32 product"),
        ("cuda:1", "bfloat16 product"),
    ]


def test_a_copy_inside_a_cache_is_no_copy_in_memory():
    assert readings(limit("duplicate", 9e12, flags=("near_cache",))) == []


def test_where_no_cache_is_known_no_copy_in_memory_was_measured():
    unknown = limit("duplicate", 9e12, flags=("cache_unknown",), backend="cupy")
    (reading,) = readings(unknown)
    assert (reading.what, reading.verdict, reading.value) == ("copy in memory", LimitVerdict.NOT_MEASURED, None)
    assert reading.reason == "the sizes of its caches are not known"
    assert [r.value for r in readings(unknown, limit("duplicate", 2.9e12))] == [pytest.approx(2.9e12)]


def test_a_cold_copy_is_no_copy_in_memory():
    """Its buffers may rotate through less than the cache."""
    cold = limit("duplicate", 9e12)
    work = dataclasses.replace(cold.case.work, cache=Cache.COLD)
    cold = dataclasses.replace(cold, case=dataclasses.replace(cold.case, work=work))
    assert readings(cold) == []


def test_each_library_has_its_own_launch_which_is_not_judged():
    read = readings(limit("call", 5e-6), limit("call", 4e-6), limit("call", 9e-6, backend="cupy"))
    assert [(r.who, r.value, r.verdict) for r in read] == [
        ("cupy", 9e-6, LimitVerdict.UNKNOWN),
        ("torch", 4e-6, LimitVerdict.UNKNOWN),
    ]


def test_a_launch_is_timed_by_the_host():
    """What the device sees between two launches is its own pace."""
    read = readings(limit("call", 5e-6), limit("call", 2e-6, clock=Clock.DEVICE))
    assert [r.value for r in read] == [5e-6]


def test_copies_of_a_cpu_are_not_judged_by_those_of_more_threads():
    shared = {"device": "Some CPU", "address": "cpu", "backend": "numpy"}
    default, tuned = limit("duplicate", 10e9, **shared), limit("duplicate", 40e9, implementation="tuned", **shared)
    reading = one(default, tuned)
    assert (reading.value, reading.verdict) == (pytest.approx(40e9), LimitVerdict.UNKNOWN)


def test_a_copy_up_to_what_the_datasheet_promises_is_in_range():
    assert one(limit("duplicate", 3.3e12)).verdict is LimitVerdict.IN_RANGE
    assert one(limit("duplicate", 3.4e12)).verdict is LimitVerdict.HIGH


def test_a_launch_bound_time_is_no_limit_of_the_device():
    assert readings(limit("square", 100e12, dtype="bfloat16", flags=("launch_bound",))) == []


def test_work_that_shows_no_limit_is_left_aside():
    other = limit("training", 1e9)
    bad = limit("training", status=Status.INVALID, reason="wrong")
    assert readings(other, bad) == []


def test_a_row_that_nothing_has_checked_is_no_limit_of_a_machine():
    planted = limit("square", 9e13, backend="other", flags=("unchecked", "imported"))
    assert one(limit("square", 5e13), planted).who == "torch"
    assert readings(planted) == []
