"""What there is to show: which devices are contenders, what work is of one family, and which row counts."""

from bench_core.analysis.report_data import ReportData
from tests.support import synthetic
from tests.support.reports import data_of_all_machines  # noqa: F401 - a fixture


def test_contenders_are_devices_with_a_value_and_the_others_are_told_with_their_reason(everything):
    labels = [c.label for c in everything.contenders]
    assert labels[:3] == ["machine-a CPU", "machine-b CPU", "machine-b GPU"]
    assert "machine-d GPU 1" in labels
    assert everything.silent == ["machine-a cuda has no value in any of 120 cases (120 skipped: no device)."]


def test_contenders_of_a_lone_machine_are_named_without_it():
    assert [c.label for c in ReportData(synthetic.readings("machine-b")).contenders] == ["CPU", "GPU"]


def test_the_device_clock_is_never_compared(everything):
    for family in everything.families:
        for case_id in everything.cases(family).values():
            rows = [everything.best(c, case_id) for c in everything.contenders]
            assert all(row.clock == "wall" for row in rows if row)
