"""What is compared with what: GPUs with the best CPU, machines with the first, or backends with NumPy."""

from dataclasses import replace

import pytest

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Kind
from bench_core.records import Work
from tests.support import synthetic, tables


def cpu(machine, factor, backend="torch", **known):
    """Return five runs of two sizes on a CPU, `factor` times as fast as the first."""
    times = [t / factor for t in (1.00, 1.01, 0.99, 1.02, 0.98)]
    done = [m for size in ("64", "128") for m in tables.processes(times, tables.work(size), backend=backend, **known)]
    return tables.reading(done, machine)


def kinds(readings):
    return [(sides.kind, sides.against, [c.label for c in sides.contenders]) for sides in ReportData(readings).sides]


def test_another_machine_changes_no_ratio_of_a_gpu_to_its_own_cpu_and_is_not_put_into_one_mean_with_it():
    """Where the own CPU has no value, that of the other machine is the baseline, in a mean of its own."""
    works = [Work("model", name, "tiny", "float32") for name in ("mlp_train", "cnn_train", "gpt_train")]
    gpu = [m for of in works for m in tables.processes([1.0], of, device="cuda:0")]
    here = [m for of, t in zip(works[:2], (4.0, 9.0), strict=True) for m in tables.processes([t], of)]
    there = [m for of, t in zip(works, (2.0, 2.0, 50.0), strict=True) for m in tables.processes([t], of)]
    own, other = tables.reading([*gpu, *here], "own"), tables.reading(there, "other")
    (alone,) = figures.means(figures.speedups(ReportData([own])))
    means = figures.means(figures.speedups(ReportData([own, other])))
    assert [(m.base_machine, m.is_at_home, len(m.of), m.ratio) for m in means] == [
        ("own", True, 2, pytest.approx(6.0)),
        ("other", False, 1, pytest.approx(50.0)),
    ]
    assert (alone.ratio, alone.of[0].ratio) == (means[0].ratio, means[0].of[0].ratio)
    assert [s.family.workload for s in (alone.example, means[1].example)] == ["mlp_train", "gpt_train"]


def test_a_mean_counts_a_work_once_if_a_version_or_a_parameter_was_new_in_between():
    def ratios(*forms, layouts=((),)):
        done = []
        for i, (params, version) in enumerate(forms):
            for layout in layouts:
                of = tables.work(version=version)
                of = replace(of, params=(*of.params, *params, *layout))
                times = {"cpu": 2.0 + 2.0 * i, "cuda:0": 1.0}
                done.append(
                    tables.reading(
                        [m for device, t in times.items() for m in tables.processes([t], of, device=device)],
                        run_id=f"run-{i}{len(done)}",
                        started_at=f"2001-01-0{i + 1}T00:00:00+00:00",
                    )
                )
        (mean,) = figures.means(figures.speedups(ReportData(done)))
        return [round(s.ratio, 3) for s in mean.of]

    style = (("style", "plain"),)
    assert ratios(((), 1), (style, 1)) == [4.0]
    assert ratios((style, 1), ((), 1)) == [4.0]
    assert ratios(((), 1), ((), 2)) == [4.0]
    assert ratios(((), 1), (style, 1), layouts=((("layout", "nn"),), (("layout", "nt"),))) == [4.0, 4.0]


def test_more_reasons_than_are_shown_are_counted():
    lost = [tables.absent(tables.work(str(n)), device="cuda", reason=f"reason {n}") for n in range(5)]
    (line,) = ReportData([tables.reading([*tables.processes([1.0]), *lost])]).silent
    assert (
        line
        == "a cuda has no value in any of 5 cases (1 oom: reason 0; 1 oom: reason 1; 1 oom: reason 2; 2 other reasons)."
    )


def test_gpus_are_compared_with_cpus_and_machines_with_each_other():
    assert kinds(synthetic.readings("machine-b")) == [(Kind.GPU, "the best CPU", ["GPU"])]
    assert kinds(synthetic.readings("machine-a", "machine-b")) == [
        (Kind.GPU, "the best CPU", ["machine-b GPU"]),
        (Kind.MACHINE, "machine-a", ["machine-b"]),
    ]


def test_without_a_gpu_two_machines_are_compared_by_the_fastest_row_of_each():
    readings = [cpu("old", 1.0), cpu("old", 0.5, "numpy"), cpu("new", 3.0)]
    assert kinds(readings) == [(Kind.MACHINE, "old", ["new"])]
    (s,) = figures.speedups(ReportData(readings))
    assert (s.ratio, s.comparison.verdict) == (pytest.approx(3.0), "faster")
    assert (s.row.machine, s.base.machine, s.base.backend, s.row.size) == ("new", "old", "torch", "128")


def test_without_a_gpu_the_backends_of_one_machine_are_compared_with_numpy():
    readings = [cpu("box", 1.0, "torch"), cpu("box", 2.0, "numpy"), cpu("box", 4.0, "another")]
    assert kinds(readings) == [(Kind.BACKEND, "numpy", ["another", "torch"])]
    ratios = {s.contender.label: s.ratio for s in figures.speedups(ReportData(readings))}
    assert ratios == pytest.approx({"another": 2.0, "torch": 0.5})


def test_a_gpu_and_a_cpu_without_common_work_are_not_compared_and_their_machines_neither():
    apart = [cpu("a", 1.0), tables.reading(tables.processes((1.0,), tables.GPT, device="cuda:0"), "b")]
    assert kinds(apart) == []
    assert figures.speedups(ReportData(apart)) == []


def test_a_mean_is_of_one_arithmetic():
    """A chip has other units for each: bfloat16 396x says nothing about float32 10x."""
    found = figures.speedups(ReportData(synthetic.readings("machine-b")))
    means = figures.means(found)
    assert [mean.arithmetic for mean in means] == list(dict.fromkeys(s.family.arithmetic for s in found))
    for mean in means:
        ratios = [s.ratio for s in found if s.family.arithmetic == mean.arithmetic]
        assert [s.ratio for s in mean.of] == ratios
        assert min(ratios) * 0.999 <= mean.ratio <= max(ratios) * 1.001
        assert mean.low < mean.ratio < mean.high
