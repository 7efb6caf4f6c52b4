"""The end of a run: who is best on each device, by how much, what is doubtful, and what is next."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench_core.analysis.summary import (
    CAUSES,
    DOUBTS,
    FACTS,
    FACTS_BEGIN,
    Finished,
    advice,
    command_to_resume,
    commands_after,
    counts,
    disturbed,
    doubts,
    extra_info,
    is_doubt,
    text,
    work_name,
)
from bench_core.records import (
    OTHER_WORK,
    SHARED_GPU,
    SLOW_CLOCK,
    STEAL,
    THROTTLED,
    Case,
    Clock,
    Costs,
    Measurement,
    Preset,
    Run,
    Series,
    Status,
    Work,
)
from bench_core.results.rows import rows_of_case, rows_of_run
from bench_core.results.traits import TraitsOf
from bench_core.run.tries import REPEATED
from tests.support import ROOT
from tests.support import planned as catalogue
from tests.support.ranks import across, several_devices

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


def shown(*measurements, width=100, headlines=(), about=()):
    return text(Finished(table(*measurements), headlines=headlines), about, width, color=False)


def words(said, begin="matmul 1024"):
    """The lines of one work, as words: the table gives its columns the room that they need."""
    lines = said.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(begin))
    rest = [line for line in lines[first + 1 :] if line.startswith(" ")]
    return [" ".join(line.split()) for line in (lines[first], *rest)]


def test_on_one_device_the_best_is_followed_by_the_runner_up_and_the_ratio():
    said = shown(NUMPY, TUNED, LOST, about=["4 planned"])
    assert said.splitlines()[0].split() == ["work", "best", "CPU", "runner-up"]
    assert words(said) == ["matmul 1024 float32 numpy tuned 200 GFLOP/s 2.00x over numpy, unclear"]
    assert said.splitlines()[-1] == "4 planned"


def test_with_a_gpu_each_device_has_its_best_and_runner_up_and_the_gpu_its_speed_up():
    said = shown(NUMPY, TUNED, CUPY, TORCH)
    assert " ".join(said.splitlines()[0].split()) == "work best CPU best GPU GPU is"
    assert words(said) == [
        "matmul 1024 float32 200 GFLOP/s numpy tuned 2.00 TFLOP/s torch 10.0x faster,",
        "2.00x over numpy, unclear 2.00x over cupy, indicated indicated",
    ]


def test_a_slower_gpu_is_said_to_be_slower():
    assert "2.00x slower" in shown(TUNED, measured("torch", "cuda:0", 0.02))


def test_a_speed_up_of_a_thousand_is_written_out():
    assert "1,230x faster" in shown(measured("numpy", "cpu", 1.23), measured("torch", "cuda:0", 0.001))


def test_no_difference_beyond_the_spread_is_unclear_and_the_words_are_explained():
    said = shown(NUMPY, measured("torch", "cpu", 0.0201))
    assert words(said) == ["matmul 1024 float32 numpy 100 GFLOP/s 1.00x over torch, unclear"]
    assert "Rates are of the medians; ratios are of the p10" in said
    assert "indicated: beyond the spread of processes; unclear: not beyond it" in said


def test_one_result_has_no_runner_up_no_speed_up_and_no_ladder():
    said = shown(NUMPY)
    assert words(said) == ["matmul 1024 float32 numpy 100 GFLOP/s"]
    assert not any(word in said for word in ("GPU", "runner-up", "indicated", "p10"))


def test_work_that_nobody_could_do_is_not_in_the_table():
    assert shown(LOST, about=["1 planned: 1 oom"]) == "1 planned: 1 oom\n"


def test_works_without_any_value_are_not_among_those_that_the_table_leaves_out():
    lost = [replace(LOST, case=replace(LOST.case, work=sized(n))) for n in range(1, 5)]
    works = [measured("numpy", "cpu", 0.01, work=sized(n)) for n in range(10, 36)]
    assert "and 2 more, other sizes among them" in shown(*works, *lost)


def test_the_number_of_threads_is_named_where_it_is_not_the_most():
    alone = measured("numpy", "cpu", 0.02, threads=1)
    assert "over numpy 1t" in shown(measured("numpy", "cpu", 0.01, "tuned", threads=8), alone)
    assert "1t" not in shown(alone)


def test_two_gpus_have_columns_of_their_own():
    said = shown(NUMPY, TORCH, measured("torch", "cuda:1", 0.002), width=140)
    assert " ".join(said.splitlines()[0].split()) == "work best CPU best GPU 0 GPU 0 is best GPU 1 GPU 1 is"
    assert "20.0x faster," in said
    assert "10.0x faster," in said


def test_a_doubtful_value_is_marked_and_one_that_is_only_described_is_not():
    assert "? 200 GFLOP/s" in shown(NUMPY, replace(TUNED, flags=("steal",)))
    assert "?" not in shown(NUMPY, replace(TUNED, flags=("fits_l2", "resumed")))


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits_the_terminal(width):
    long = Work("model", "a_long_name_for_a_workload", "12x12x768x1024x50304", "float32")
    sides = [measured("numpy", "cpu", 0.01, work=long), measured("torch", "cpu", 0.01, "channels_last", work=long)]
    for more in ([], [TORCH, measured("cupy", "cuda:0", 0.01, "fast_accumulation", work=long)]):
        assert max(map(len, shown(*sides, *more, width=width).splitlines())) <= width


@pytest.mark.parametrize("targets", [catalogue.CPU, catalogue.CPU + catalogue.GPU], ids=["CPU", "CPU and GPU"])
def test_the_preset_quick_fits_on_a_screen_with_every_headline_workload(targets):
    cases = catalogue.cases(Preset.QUICK, targets)
    done = [measured(c.backend, c.device, 0.01, c.implementation, c.work, threads=16) for c in cases]
    headlines = {(c.work.suite, c.work.workload) for c in catalogue.HEADLINE}
    noisy = [replace(m, flags=(word,)) for m, word in zip(done, sorted(DOUBTS), strict=False)]
    about = [counts(done), *doubts(noisy, []), *commands_after(Path("results/machine/run"), table(*done))]
    said = text(Finished(table(*done), headlines=headlines), about, 100, color=False).splitlines()
    assert len(said) <= 50
    firsts = {line.split()[0] for line in said if line[:1].strip()}
    assert {name for _, name in headlines} & {c.work.workload for c in cases} <= firsts
    (left,) = [line for line in said if line.startswith("and ")]
    works = len({c.work for c in cases})
    assert 0 < int(left.split()[1]) < works


def sized(n, dtype="float32", workload="matmul"):
    return Work("matmul", workload, f"{n}", dtype, (("n", n),))


def test_of_many_works_each_kind_is_shown_in_its_largest_size_before_any_in_two():
    works = [sized(n, dtype) for dtype in ("float64", "float32") for n in range(1, 31)]
    said = shown(*(measured("numpy", "cpu", 0.01, work=work) for work in works))
    lines = [line.split()[1:3] for line in said.splitlines() if line.startswith("matmul")]
    assert len(lines) == 24
    assert [lines[11], lines[-1]] == [["30", "float64"], ["30", "float32"]]
    assert "and 36 more" in said


def test_a_size_that_two_devices_did_is_shown_before_a_larger_one_of_one_device():
    works = [sized(n) for n in range(1, 31)]
    sides = [measured("numpy", "cpu", 1.0, work=work) for work in works]
    said = shown(*sides, measured("torch", "cuda:0", 0.1, work=works[0]))
    assert "matmul 1 float32" in said
    assert "matmul 30 float32" in said
    assert "matmul 2 float32" not in said


def test_the_size_from_which_the_gpu_wins_is_named_for_each_family():
    """It loses at 128, wins at 256, loses again at 512: what counts is from where it always wins."""
    speeds = {128: (1.0, 2.0), 256: (4.0, 2.0), 512: (6.0, 7.0), 1024: (99.0, 8.0)}
    sides = [
        measured(backend, device, seconds, work=sized(n), flops=n**3)
        for n, pair in speeds.items()
        for (backend, device), seconds in zip((("numpy", "cpu"), ("torch", "cuda:0")), pair, strict=True)
    ]
    assert shown(*sides).splitlines()[-2:] == [
        "Size from which the GPU is faster:",
        "  matmul float32: wins from 1024 (indicated)",
    ]


def test_only_what_is_not_usual_is_part_of_a_name():
    assert work_name(table(NUMPY)[0]) == "matmul 1024 float32"
    tf32 = Work("matmul", "matmul", "1024", "float32", precision="tf32")
    assert work_name(table(measured("torch", "cuda:0", 1.0, work=tf32))[0]) == "matmul 1024 float32 tf32"


def test_a_rate_says_of_what():
    costs = Costs(flops=1e9, amounts={"tokens": 100})
    assert "10.0 k tokens/s" in shown(replace(TUNED, costs=costs))
    assert "500 samples/s" in shown(replace(TUNED, costs=replace(costs, amounts={"samples": 5})))


def test_statuses_are_counted():
    assert counts([NUMPY, LOST, TUNED]) == "3 planned: 2 ok, 1 oom"


def test_doubts_are_counted_once_a_case_and_explained_the_most_frequent_first():
    noisy = measured("numpy", "cpu", 1.0, noise=("drift", "not_converged"), flags=("drift",))
    described = replace(NUMPY, flags=("fits_l3", "launch_bound", "own_flag"))
    assert doubts([noisy, described, measured("torch", "cpu", 1.0, flags=("drift",))], []) == [
        "doubtful (marked ? above):",
        f"  2 drift: {DOUBTS['drift']}",
        f"  1 not_converged: {DOUBTS['not_converged']}",
        "  1 own_flag",
    ]
    assert doubts([replace(NUMPY, flags=("fits_l3",))], []) == []


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({}, []),
        ({"steal": 0.9}, []),
        (
            {"context_switches": 4.0, "steal": 8.0, "throttled": 0.1},
            ["12 % of the timed seconds were disturbed and do not count: steal 8 %, other processes 4 %"],
        ),
        ({"odd": 50.0}, ["50 % of the timed seconds were disturbed and do not count: odd 50 %"]),
    ],
)
def test_the_seconds_that_do_not_count_are_told_with_their_causes_from_one_in_a_hundred_on(lost, said):
    assert disturbed({"timed_s": 100.0, "lost_s": lost, "never_quiet": 0}) == said
    assert disturbed({"timed_s": 0.0, "lost_s": {}, "never_quiet": 0}) == []


def test_every_cause_of_a_disturbance_has_words():
    found = {OTHER_WORK, STEAL, THROTTLED, SLOW_CLOCK, SHARED_GPU}
    assert CAUSES.keys() == {*found, REPEATED}
    assert found <= DOUBTS.keys()


def test_flags_that_follow_from_other_rows_are_counted_too():
    fast = measured("numpy", "cpu", 1e-6, work=Work("model", "mlp", "1", "float32"), flops=2e9)
    rows = rows_of_run(RUN, [[NUMPY], [fast]], TraitsOf())
    assert doubts([NUMPY, fast], rows)[1].startswith("  1 above_ceiling: ")


def test_every_flag_of_the_documentation_is_a_doubt_in_words_or_a_fact():
    told = (ROOT / "results" / "README.md").read_text(encoding="utf-8").partition("| flag | meaning |")[2]
    table = told.partition("\n\n")[0]
    flags = {word.strip(" `") for line in table.splitlines()[2:] for word in line.split("|")[1].split(",")} - {"..."}
    assert len(flags) > 25
    assert {flag for flag in flags if is_doubt(flag)} - {
        "timeout_in_a_process",
        "crashed_when_repeated",
        "slow_rank_3",  # with any number: DOUBTS_BEGIN
    } == DOUBTS.keys()
    assert {flag for flag in flags if not is_doubt(flag)} - set(FACTS) == {
        f for f in flags if f.startswith(FACTS_BEGIN)
    }


def test_a_run_of_which_most_times_did_not_settle_says_so():
    noisy = measured("numpy", "cpu", 0.02, noise=("not_converged",))
    (said,) = advice([noisy, noisy, TORCH])
    assert said.startswith("2 of 3 times are uncertain by more than 1 %: ")
    assert advice([noisy, TORCH]) == []
    assert advice([LOST]) == []


def test_kernels_of_an_earlier_release_are_named():
    old = replace(TORCH, flags=("unchecked_timing",))
    (said,) = advice([old, TORCH, old])
    assert said.startswith("the timed calls of matmul were not checked: ")
    assert "deprecated" in said


def test_what_to_type_next_is_to_look_at_what_there_is():
    folder = Path("my results/r")
    assert [line.partition(": ")[2] for line in commands_after(folder, table(NUMPY, TORCH))] == [
        "bench-core compare 'my results/r'",
        "bench-core report 'my results/r' -o report.html",
        "bench-core run --runs 5, with the same options",
    ]
    assert not any("compare" in line for line in commands_after(folder, table(NUMPY)))
    assert commands_after(folder, table(LOST)) == []


def test_an_interrupted_run_is_finished_by_naming_what_it_measured():
    about = command_to_resume(Path("results/m/r"), ["sub/test_mine.py"])
    assert about == "to finish the run: bench-core run --resume results/m/r sub/test_mine.py"


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


# ---------------------------------------------------------------- devices that compute together


def together(**known):
    return list(several_devices("m", ranks=2, device="cpu:x2", **known).rows)


def test_devices_together_stand_below_the_table_of_single_ones_with_their_efficiency():
    said = text(Finished([*table(NUMPY, TUNED), *together()]), [], 100, color=False)
    assert said.splitlines()[0].split() == ["work", "best", "CPU", "runner-up"]
    above, _, below = said.partition("devices together")
    assert "train_together" not in above
    assert "more, other sizes" not in above
    assert [" ".join(line.split()) for line in below.splitlines()[1:4]] == [
        "train_together float32 tiny · strong scaling 2 1.60x, 80.0 % (80.0 % to 80.0 %) torch ddp",
        "train_together float32 tiny · weak scaling 2 90.0 % (90.0 % to 90.0 %) torch ddp",
        "swap float32 4194304B-x2 2 bus 225 GB/s torch",
    ]


def test_a_slow_rank_is_a_doubt_in_words():
    slow = across((1.0, 1.1, 1.2), 2, device="cpu:x2", flags=("slow_rank_1",))
    assert doubts([slow], [])[1:] == ["  1 slow_rank_1: this one of several devices took longer than the others"]


def test_a_run_of_devices_together_alone_has_no_empty_table():
    said = text(Finished(together()), [], 100, color=False)
    assert said.split()[:2] == ["devices", "together"]
    assert "best CPU" not in said


def test_work_of_several_devices_that_is_neither_scaling_nor_exchange_is_there_too():
    done = across((1.0, 1.1, 1.2), 2, device="cpu:x2", more={"elements": 8}, workload="other", costs=Costs())
    said = text(Finished(table(done)), [], 100, color=False)
    assert " ".join(said.splitlines()[1].split()) == "other float32 tiny-x2 2 1.10 s torch"


def test_the_best_of_a_run_is_not_what_nothing_has_checked():
    fast = measured("other", "cpu", 0.01, flags=("unchecked",))
    table = rows_of_run(RUN, [[measured("numpy", "cpu", 1.0)], [fast]], TraitsOf())
    shown = text(Finished(table), [], 100, color=False)
    assert "numpy" in shown
    assert "other" not in shown
