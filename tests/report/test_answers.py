"""The answers in words: a number with its unit, the step of its verdict, the work that it is of, and its rows."""

from dataclasses import replace

import pytest

from bench_core.analysis.report_data import ReportData
from bench_core.records import SEQUENTIAL, Costs, Scope, Work
from tests.support import synthetic, tables
from tests.support.ranks import several_devices
from tests.support.reports import runs_of

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.report import answers, captions, svg
from bench_core.report.answers import HEADERS, Line, answered, how_compared


def by_heading(readings):
    return {answer.heading: answer for answer in answered(ReportData(readings))}


def test_a_ratio_has_its_step_and_its_rows_the_baseline_first():
    (line,) = by_heading(runs_of(2.0, 0.01))["Parallel arithmetic decides"].lines
    assert line.value == "GPU 1.98x faster"
    assert (line.of, line.verdict) == ("float32", "claim")
    assert line.about == "matmul 128: 4.11 MFLOP/s against 2.07 MFLOP/s"
    base, contender = by_heading(runs_of(2.0, 0.01))["Parallel arithmetic decides"].numbers
    assert dict(zip(HEADERS, base, strict=True))["Ratio"] == "baseline"
    shown = dict(zip(HEADERS, contender, strict=True))
    assert (shown["Side"], shown["Implementation"], shown["Device"]) == ("GPU", "torch", "a cuda:0")
    assert (shown["Work"], shown["Metric"]) == ("matmul float32", "flop rate")
    assert (shown["Median (interval)"].split(" (")[0], shown["Compared value"]) == ("4.07 MFLOP/s", "4.11 MFLOP/s")
    assert shown["Interval of the ratio"] == "1.96x to 2.00x"
    assert (shown["Ratio"], shown["Verdict"]) == ("1.98x faster", "faster")


def test_one_run_a_side_is_indicated_and_of_several_gpus_the_fastest_has_the_line():
    found = by_heading(synthetic.readings())["Parallel arithmetic decides"]
    assert all(line.value.startswith("machine-c GPU ") and line.verdict == "indicated" for line in found.lines[:3])
    assert all(line.about.startswith("the fastest of 5; matmul") for line in found.lines[:3])
    assert found.caption.endswith("the rows behind it, of all 5 GPUs")


def gpu_machines(**seconds):
    """Return a table of each machine, which took these seconds on its CPU and on its GPU."""
    return [
        tables.reading([*tables.processes([cpu], tables.GPT), *tables.processes([gpu], tables.GPT, device="cuda:0")], m)
        for m, (cpu, gpu) in seconds.items()
    ]


@pytest.mark.parametrize("order", [("old", "new", "mid"), ("new", "mid", "old")])
def test_the_fastest_of_several_gpus_is_not_that_with_the_slowest_cpu(order):
    seconds = {"old": (400.0, 2.0), "new": (10.0, 1.0), "mid": (30.0, 1.5)}
    readings = gpu_machines(**{name: seconds[name] for name in order})
    (line,) = by_heading(readings)["Inference: token by token"].lines
    assert line.value == "new GPU 10.0x faster"
    assert line.about.startswith("the fastest of 3; gpt_decode tiny: 1.01 MFLOP/s against 101 kFLOP/s")


def test_a_backend_of_the_only_gpu_has_its_own_name():
    done = [m for b, t in (("cupy", 2.0), ("torch", 1.0)) for m in tables.tokens([t], backend=b, device="cuda:0")]
    (line,) = by_heading([tables.reading(done)])["Inference: token by token"].lines
    assert line.value == "torch 2.00x faster"


def test_rates_name_what_they_count_and_what_has_no_other_side_says_so():
    one = tables.reading(tables.tokens([0.1]))
    answer = by_heading([one])["Inference: token by token"]
    assert answer.headers == ("Work", "Metric", "Size", "Side", "Median (interval)", "Implementation", "Device")
    (line,) = answer.lines
    assert line == Line("1.00 k tokens/s", "float32", "", "gpt_decode tiny: numpy, 2 threads")
    both = [*tables.tokens([0.1], device="cuda:0"), *tables.processes([1.0]), *tables.processes([1.0], device="cuda:0")]
    (line,) = by_heading([tables.reading(both)])["Inference: token by token"].lines
    assert line.about == "gpt_decode tiny: numpy; only GPU has a value"


def test_both_directions_of_a_transfer_are_shown_beside_the_memory_of_the_device():
    rates = {("memory", "triad"): 2e12, ("transfer", "h2d"): 5e10, ("transfer", "d2h"): 4e10}
    done = [
        replace(m, costs=Costs(bytes=rate))
        for (suite, name), rate in rates.items()
        for m in tables.processes([1.0], Work(suite, name, "1MiB", "float32"), device="cuda:0", backend="torch")
    ]
    found = by_heading([tables.reading(done)])["Moving data to the device takes time"].lines
    assert [line.value for line in found] == ["40.0 GB/s", "50.0 GB/s"]
    assert found[1].about == "h2d (host to device) 1MiB: torch; its own memory: 2.00 TB/s, 40.0 times as much"


@pytest.mark.parametrize("other", ["backend", "machine"])
def test_what_moving_costs_is_not_compared_with_another_library_or_another_gpu(other):
    def table(machine, **seconds):
        rates = {("memory", "triad"): 2e12, ("transfer", "h2d"): 5e10}
        return tables.reading(
            [
                replace(m, costs=Costs(bytes=rate))
                for (suite, name), rate in rates.items()
                for backend, t in seconds.items()
                for m in tables.processes([t], Work(suite, name, "1MiB", "float32"), device="cuda:0", backend=backend)
            ],
            machine,
        )

    readings = [table("a", torch=1.0, cupy=2.0)] if other == "backend" else [table("a", torch=1.0), table("b", torch=2)]
    found = by_heading(readings)
    assert [line.verdict for line in found["Memory bandwidth decides"].lines] == ["indicated"]
    (line,) = found["Moving data to the device takes time"].lines
    assert (line.value, line.verdict) == ("50.0 GB/s", "")
    on = " on a GPU" if other == "machine" else ""
    memory = "its own memory: 2.00 TB/s, 40.0 times as much"
    assert line.about == f"h2d (host to device) 1MiB: torch{on}; {memory}"
    sides = ["cupy", "torch"] if other == "backend" else ["a GPU", "b GPU"]
    assert [row[3] for row in found["Moving data to the device takes time"].numbers] == sides


def test_lines_beyond_the_most_are_counted(monkeypatch):
    monkeypatch.setattr(answers, "MOST_LINES", 2)
    found = by_heading(synthetic.readings("machine-b"))["Parallel arithmetic decides"]
    assert (len(found.lines), found.caption, len(found.numbers)) == (2, "and 2 more; the rows behind it", 7)


def test_the_two_values_beside_a_ratio_have_this_ratio_and_a_lone_table_says_that_it_has_only_medians():
    """The p10 of the GPU is a third below its median, that of the CPU is not: ratios of the two differ."""
    blocks = (("cpu", [10.0] * 10), ("cuda:0", [2.0] * 2 + [3.0] * 8))
    done = [
        replace(tables.measured(seconds, tables.GPT, "torch", device), costs=Costs(amounts={"tokens": 600.0}))
        for device, seconds in blocks
    ]
    (line,) = by_heading([tables.reading(done)])["Inference: token by token"].lines
    assert (line.value, line.about) == ("GPU 5.00x faster", "gpt_decode tiny: 300 tokens/s against 60.0 tokens/s")
    figure = captions.captioned_figure(ReportData([tables.reading(done)]), "speedup")
    assert figure.numbers[0][2:9:3] == ("5.00x faster", "2.00 s", "10.0 s")
    tooltip = "a torch: 2.00 s. Against the best CPU, a torch, 2 threads: 10.0 s"
    assert tooltip in svg.inline(figure.drawings[0])
    of_p10 = "Ratios, and the values beside them, are of the geometric mean over processes of their p10 (a tenth"
    assert of_p10 in how_compared(ReportData([tables.reading(done)]))
    merged = [*tables.processes([1.0, 1.1]), *tables.processes([2.0, 2.1], backend="torch")]
    lone = how_compared(ReportData([tables.reading(merged, samples=False)]))
    assert (
        "are of the geometric mean of the medians of processes, because no samples of single processes are at hand;"
        in lone
    )
    assert lone.endswith("A claim needs samples.csv, without which these runs cannot be paired.")
    other = tables.reading(
        [m for b in ("numpy", "torch") for m in tables.processes([1.0], tables.work("128"), backend=b)]
    )
    both = how_compared(ReportData([tables.reading(merged, samples=False), replace(other, path="b")]))
    assert (
        ", but 1 of 2 is of the geometric mean of the medians of processes, because no samples of single processes are "
        "at hand;" in both
    )


def test_ratios_of_runs_that_were_repeated_for_precision_are_said_to_be_medians():
    times = [1 + 0.01 * i for i in range(10)]
    repeated = [*tables.processes(times), *tables.processes([2 * t for t in times], backend="torch")]
    sequence = tables.reading([replace(m, flags=(SEQUENTIAL,)) for m in repeated])
    alone = how_compared(ReportData([sequence]))
    of_median = "of the median over processes of their p10 (a tenth of the times of each are shorter), because"
    of_median += " --precision repeated them"
    assert f"Ratios, and the values beside them, are {of_median}" in alone
    assert "geometric mean" not in alone
    assert "the ratio is the median of the ratios of the pairs); other values are medians." in alone
    other = [m for b in ("numpy", "torch") for m in tables.processes([1.0], tables.work("128"), backend=b)]
    both = how_compared(ReportData([sequence, replace(tables.reading(other), path="b")]))
    assert f"(a tenth of the times of each are shorter), but 1 of 2 is {of_median}" in both


def test_a_value_alone_says_which_side_has_none():
    """Not that one side alone has a value, if several have one and only the baseline has none."""

    def line_of(extra, *known):
        done = [m for side in known for m in tables.processes([1.0], **side)]
        done += [m for i, side in enumerate(extra) for m in tables.processes([2.0 - i], tables.GPT, **side)]
        found = by_heading([tables.reading(done)])["Inference: token by token"]
        (line,) = found.lines
        sides.append([row[found.headers.index("Side")] for row in found.numbers])
        return line.about

    sides: list[list[str]] = []
    backends = [{"backend": name} for name in ("numpy", "torch", "another")]
    assert line_of(backends[1:], *backends) == "gpt_decode tiny: another, 2 threads; the best of 2; numpy has no value"
    assert line_of(backends[1:2], *backends) == "gpt_decode tiny: torch, 2 threads; only torch has a value"
    assert sides == [["another", "torch"], ["torch"]]
    devices = [{"device": name} for name in ("cpu", "cuda:0", "cuda:1")]
    assert line_of(devices[1:], *devices) == "gpt_decode tiny: numpy on GPU 1; the best of 2; no CPU has a value"
    assert line_of(devices[:1], *devices) == "gpt_decode tiny: numpy, 2 threads; only CPU has a value"


def test_a_gpu_by_itself_is_compared_with_and_without_the_transfer_of_the_data():
    there = replace(tables.GPT, workload="gpt_train")
    seconds = {there: 1.0, replace(there, scope=Scope.END_TO_END): 2.0}
    known = {"device": "cuda:0", "implementation": "compile"}
    done = [m for of, t in seconds.items() for m in tables.processes([t], of, **known)]
    (line,) = by_heading([tables.reading(done)])["Moving data to the device takes time"].lines
    assert (line.value, line.verdict) == ("GPU 2.00x slower", "indicated")
    assert line.about == "gpt_train tiny: 1.98 s (numpy compile) against 992 ms (numpy compile)"


def test_unlike_works_with_nothing_to_compare_have_a_line_each():
    sizes = {"copy": 1e9, "sum": 2e9}
    done = [
        replace(m, costs=Costs(bytes=rate))
        for name, rate in sizes.items()
        for m in tables.processes([1.0], Work("memory", name, "1MiB", "float64"))
    ]
    lines = by_heading([tables.reading(done)])["Memory bandwidth decides"].lines
    assert [(line.value, line.about) for line in lines] == [
        ("1.00 GB/s", "copy 1MiB: numpy, 2 threads"),
        ("2.00 GB/s", "sum 1MiB: numpy, 2 threads"),
    ]


def test_an_example_of_a_mean_is_the_nearest_to_it_and_a_form_that_is_not_the_plain_one_is_named():
    networks = {"mlp_infer": 9.0, "mlp_train": 4.0, "cnn_train": 1.0}
    done = []
    for name, seconds in networks.items():
        of = Work("model", name, "tiny", "float32")
        tuned = {"backend": "torch", "device": "cuda:0", "implementation": "tuned"}
        done += tables.processes([seconds], of) + tables.processes([1.0], of, **tuned)
    (line,) = by_heading([tables.reading(done)])["Deep networks, Transformers, GANs"].lines
    assert line.value == "GPU 3.30x faster"
    example = "for example mlp_train tiny, 4.00x faster: 1.01 MFLOP/s (torch tuned) against 252 kFLOP/s"
    assert line.about == f"geometric mean of 3 kinds of work; {example}"


def test_what_is_compared_is_said():
    assert how_compared(ReportData(synthetic.readings("machine-b"))).startswith("Each GPU is compared with the fastest")
    assert how_compared(ReportData(synthetic.readings("machine-a"))).startswith("Each backend is compared with numpy")
    alone = tables.reading(tables.processes([1.0]))
    assert how_compared(ReportData([alone])).endswith("one backend has values, on one device.")
    other = tables.reading(tables.tokens([1.0]), "b")
    assert how_compared(ReportData([alone, other])).endswith("no piece of work has a value on two of these devices.")
    apart = [*tables.processes([1.0]), *tables.tokens([1.0], backend="torch")]
    assert how_compared(ReportData([tables.reading(apart)])).endswith("has a value on two of these backends.")


# ---------------------------------------------------------------- devices that compute together


def test_scaling_up_to_clusters_is_answered_by_the_best_form_on_the_most_ranks():
    found = by_heading([several_devices()])["Scaling up to clusters"]
    weak, strong = sorted(found.lines, key=lambda line: line.of, reverse=True)
    assert (weak.value, weak.of, weak.verdict) == ("81.0 %", "weak scaling", "")
    begin = "train_together float32 tiny on 4 ranks of GPU x4 (torch ddp): 81.0 % (81.0 % to 81.0 %) of 4 times one; "
    assert weak.about == begin + "exchanging adds 33.6 ms (33.3 ms to 33.9 ms) to a call of 124 ms"
    assert (strong.value, strong.of) == ("2.56x", "strong scaling")
    assert "64.0 % (64.0 % to 64.0 %) of 4 times one" in strong.about
    assert len(found.numbers) == 8
    point = dict(zip(found.headers, found.numbers[0], strict=True))
    assert (point["Ranks"], point["Efficiency (interval)"]) == ("2", "0.800 (0.800 to 0.800)")
    assert point["Device"] == "a cuda:x4"


def test_without_devices_that_compute_together_it_says_what_it_needs():
    found = by_heading(runs_of(2.0, 0.01))["Scaling up to clusters"]
    assert not found.lines
    assert "--bench-backends=torch:cuda:x8" in found.needs
