"""What a test measures is planned before its work is known."""

import pytest

from bench_core.own.planned import is_meant, named_after, planned_case
from bench_core.records import Target

CPU, GPU = Target("torch", "torch", "cpu"), Target("torch", "torch", "cuda:0")


def test_every_test_and_target_has_a_case_of_its_own():
    nodes = ("t.py::test_f[torch-cpu-1]", "t.py::test_f[torch-cpu-2]", "u.py::test_f[torch-cpu-1]")
    cases = {planned_case("test_f", node, target) for node in nodes for target in (CPU, GPU)}
    assert len(cases) == 6
    assert {(c.work.suite, c.work.workload, c.work.size) for c in cases} == {("own", "f", "unknown")}


def test_the_id_of_a_test_outside_of_the_project_tells_no_folder():
    work = planned_case("test_f", "/home/someone/t.py::test_f[a b]", CPU).work
    assert dict(work.params) == {"test": "t.py::test_f-a-b"}


def test_the_name_of_a_test_becomes_an_identifier():
    assert [named_after(test) for test in ("test_gelu", "test_", "gelu", "test_größe")] == [
        "gelu",
        "test",
        "gelu",
        "gr-e",
    ]


@pytest.mark.parametrize(("entry", "devices"), [("torch", "cpu cuda:0"), ("torch:cuda", "cuda:0"), ("numpy", "")])
def test_a_test_can_be_meant_for_some_backends(entry, devices):
    cases = [planned_case("test_f", "t.py", target) for target in (CPU, GPU)]
    assert " ".join(case.device for case in cases if is_meant(case, entry)) == devices
