"""What there is to show: which devices are contenders, what work is of one family, and which row counts."""

from dataclasses import replace

from bench_core.analysis.report_data import ReportData
from bench_core.compare import Reading
from tests.support import synthetic
from tests.support.reports import data_of_all_machines, row_of  # noqa: F401 - a fixture


def test_contenders_are_devices_with_a_value_and_the_others_are_told_with_their_reason(everything):
    labels = [c.label for c in everything.contenders]
    assert labels[:3] == ["machine-a CPU", "machine-b CPU", "machine-b GPU"]
    assert "machine-d GPU 1" in labels
    assert everything.silent == ["machine-a cuda has no value in any of 120 cases (120 skipped: no device)."]


def test_contenders_of_a_lone_machine_are_named_without_it():
    assert [c.label for c in ReportData(synthetic.readings("machine-b")).contenders] == ["CPU", "GPU"]


def test_parameters_that_follow_from_the_size_make_no_family_and_a_layout_does():
    row = row_of(workload="matmul", size="512", dtype="float32", metric="time", status="ok")
    nt = replace(row, params="layout=nt;n=512", case_id="c_1")
    nn = replace(row, params="layout=nn;n=512", case_id="c_2")
    assert [f.label for f in ReportData([Reading.of("x", [row])]).families] == ["matmul float32"]
    labels = {f.label for f in ReportData([Reading.of("x", [nn, nt])]).families}
    assert labels == {"matmul float32 layout=nn", "matmul float32 layout=nt"}


def test_sizes_of_a_family_are_in_the_order_of_their_numbers(everything):
    family = next(f for f in everything.families if f.workload == "matmul" and f.dtype == "float32")
    assert list(everything.cases(family)) == [str(n) for n in synthetic.MATMUL_SIZES]


def test_the_device_clock_is_never_compared(everything):
    for family in everything.families:
        for case_id in everything.cases(family).values():
            rows = [everything.best(c, case_id) for c in everything.contenders]
            assert all(row.clock == "wall" for row in rows if row)
