"""The end of a run in words: who is best, by how much, and how many cases became what."""

from dataclasses import replace

from bench_core.analysis.summary import advice, counts, extra_info, fastest, flags, speedups, text, work_name
from bench_core.records import Case, Clock, Costs, Measurement, Run, Series, Status, Work
from bench_core.results.rows import rows_of_case, rows_of_run
from bench_core.results.traits import TraitsOf

RUN = Run("r", "2026-01-01T00:00:00+00:00", "m")
WORK = Work("matmul", "matmul", "1024", "float32", (("n", 1024),))


def measured(backend, device, seconds, implementation="default", work=WORK, **known):
    series = (Series("time", Clock.WALL, (seconds,) * 10, flags=known.pop("noise", ())),)
    costs = Costs(flops=known.pop("flops", 2e9))
    return Measurement(Case(work, backend, device, implementation), Status.OK, series=series, costs=costs, **known)


def table(*measurements):
    return [row for m in measurements for row in rows_of_case(RUN, [m])]


NUMPY, TUNED = measured("numpy", "cpu", 0.02), measured("numpy", "cpu", 0.01, "tuned")
CUPY, TORCH = measured("cupy", "cuda:0", 0.002), measured("torch", "cuda:0", 0.001)
LOST = Measurement.missing(Case(WORK, "torch", "cpu"), Status.OOM, "out_of_memory", "too big")


def crossed(rows):
    return speedups(rows, TraitsOf()).crossed


def shown(rows, about, width, *, color):
    return text(rows, TraitsOf(), about, width, color=color)


def test_the_best_of_each_side_and_the_speed_up_between_them():
    (only,) = fastest(table(NUMPY, TUNED, CUPY, TORCH, LOST))
    assert (only.cpu.implementation, only.gpu.backend) == ("tuned", "torch")


def test_one_side_alone_has_no_speed_up():
    (only,) = fastest(table(NUMPY))
    assert only.gpu is None


def test_work_that_nobody_could_do_is_not_in_the_table():
    assert fastest(table(LOST)) == []


def test_the_text_names_both_rows_their_rates_and_the_factor():
    said = shown(table(NUMPY, TUNED, CUPY, TORCH), ["4 planned"], 100, color=False)
    line = next(line for line in said.splitlines() if line.startswith("matmul 1024 float32"))
    assert (
        " ".join(line.split())
        == "matmul 1024 float32 numpy tuned 200 GFLOP/s torch 2.00 TFLOP/s 10.0x faster, indicated"
    )
    assert said.splitlines()[-1] == "4 planned"


def test_a_slower_gpu_is_said_to_be_slower():
    assert "2.00x slower" in shown(table(TUNED, measured("torch", "cuda:0", 0.02)), [], 100, color=False)


def test_a_speed_up_of_a_thousand_is_written_out():
    said = shown(table(measured("numpy", "cpu", 1.23), measured("torch", "cuda:0", 0.001)), [], 100, color=False)
    assert "1,230x faster" in said


def test_who_did_the_work_is_named_with_device_and_threads_where_they_matter():
    said = shown(
        table(measured("numpy", "cpu", 1.0, threads=1), measured("torch", "cuda:1", 0.5)), [], 100, color=False
    )
    assert " ".join(said.splitlines()[1].split()) == (
        "matmul 1024 float32 numpy 1t 2.00 GFLOP/s torch cuda:1 4.00 GFLOP/s 2.00x faster, unclear"
    )


def test_without_a_gpu_there_are_no_empty_columns():
    assert "GPU" not in shown(table(NUMPY), [], 100, color=False)


def test_the_text_fits_the_terminal():
    wide = measured(
        "numpy", "cpu", 0.01, work=Work("model", "a_long_name_for_a_workload", "12x12x768x1024x50304", "float32")
    )
    assert max(map(len, shown(table(wide, TORCH), [], 80, color=False).splitlines())) <= 80


def test_only_what_is_not_usual_is_part_of_a_name():
    assert work_name(table(NUMPY)[0]) == "matmul 1024 float32"
    tf32 = Work("matmul", "matmul", "1024", "float32", precision="tf32")
    assert work_name(table(measured("torch", "cuda:0", 1.0, work=tf32))[0]) == "matmul 1024 float32 tf32"


def test_statuses_and_flags_are_counted_in_words():
    noisy = measured("numpy", "cpu", 1.0, noise=("drift", "not_converged"), flags=("drift",))
    assert counts([NUMPY, LOST, TUNED]) == "3 planned: 2 ok, 1 oom"
    assert flags([noisy, NUMPY, measured("torch", "cpu", 1.0, flags=("drift",))], []) == "2 drift, 1 not_converged"


def test_flags_that_follow_from_other_rows_are_counted_once_a_case():
    fast = measured("numpy", "cpu", 1e-6, work=Work("model", "mlp", "1", "float32"), flags=("drift",), flops=2e9)
    rows = rows_of_run(RUN, [[NUMPY], [fast]], TraitsOf())
    assert "above_ceiling" in {word for row in rows for word in row.flags.split(";")}
    assert flags([NUMPY, fast], rows) == "1 above_ceiling, 1 drift"


def test_a_run_of_which_most_times_did_not_settle_says_so():
    noisy = measured("numpy", "cpu", 0.02, noise=("not_converged",))
    (said,) = advice([noisy, noisy, TORCH])
    assert said.startswith("2 of 3 times did not reach a precision of 1 %")
    assert advice([noisy, TORCH]) == []
    assert advice([LOST]) == []


def test_kernels_of_an_earlier_release_are_named():
    old = replace(TORCH, flags=("unchecked_timing",))
    (said,) = advice([old, TORCH, old])
    assert said.startswith("the timed calls of matmul were not checked: ")
    assert "deprecated" in said


def test_extra_info_holds_metrics_status_and_case_id():
    info = extra_info(TUNED)
    assert info["flop_rate"] == 2e11
    assert info["status"] == "ok"
    assert info["case_id"] == WORK.case_id


def test_pytest_benchmark_is_told_the_flags_of_each_clock():
    """A starved device's time is not to be stored as `time_device` without a word."""
    device = Series("time", Clock.DEVICE, (0.9e-3,) * 3, flags=("launch_bound",))
    noisy = replace(TORCH, series=(*TORCH.series, device), flags=("throttled",))
    info = extra_info(noisy)
    assert info["time_device"] == 0.9e-3
    assert info["flags"] == ["throttled", "launch_bound"]


def sized(n):
    return Work("matmul", "matmul", f"{n}", "float32", (("n", n),))


def test_the_size_from_which_the_gpu_wins_is_named_for_each_family():
    """It loses at 128, wins at 256, loses again at 512: what counts is from where it always wins."""
    speeds = {128: (1.0, 2.0), 256: (4.0, 2.0), 512: (6.0, 7.0), 1024: (99.0, 8.0)}
    sides = [
        measured(backend, device, seconds, work=sized(n), flops=n**3)
        for n, pair in speeds.items()
        for (backend, device), seconds in zip((("numpy", "cpu"), ("torch", "cuda:0")), pair, strict=True)
    ]
    assert list(crossed(table(*sides))) == ["matmul float32: wins from 1024 (indicated)"]
    said = shown(table(*sides), [], 100, color=False)
    assert said.splitlines()[-2:] == [
        "Size from which the GPU is faster:",
        "  matmul float32: wins from 1024 (indicated)",
    ]


def test_winning_everywhere_and_nowhere_have_words_of_their_own():
    for gpu, words in ((0.1, "wins at every size measured (indicated)"), (2.0, "not shown to win at any size")):
        sides = [
            measured(backend, device, seconds, work=sized(n), flops=n)
            for n in (1, 2)
            for backend, device, seconds in (("numpy", "cpu", 1.0), ("torch", "cuda:0", gpu))
        ]
        assert list(crossed(table(*sides))) == [f"matmul float32: {words}"]


def test_one_size_is_no_family():
    assert list(crossed(table(NUMPY, TORCH))) == []
