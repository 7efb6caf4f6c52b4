"""Kernels are added to workloads from outside: by a package's entry point, or by a call, for one dialect alone."""

import sys
from types import MappingProxyType, ModuleType

import pytest

from bench_core.backends import kernels
from bench_core.errors import UsageError
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Target
from bench_core.workload import Costs, Kernel, Workload


def doubled(backend, work, host):
    return Kernel(lambda: 2)


def tripled(backend, work, host):
    return Kernel(lambda: 3)


class Own(Workload):
    """A workload with a kernel of its own for arrays, and none for the dialect "graph"."""

    suite, name = "mine", "own"
    kernels = MappingProxyType({"array": {"default": doubled}})

    def works(self, preset, machine):
        return [self.work("1", "float32")]

    def inputs(self, work, rng):
        return {}

    def costs(self, work):
        return Costs()

    def error(self, work, expected, answer):
        return 0.0


@pytest.fixture
def table(monkeypatch):
    """A module with a table of kernels; yields the module, and forgets what was added to the suite's."""
    module = ModuleType("tables_of_a_test")
    module.KERNELS = {("mine", "own"): {"default": doubled, "fast": tripled}}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kernels, "_added", {})
    yield module
    kernels._table.cache_clear()


def planned(dialect):
    target = Target("any", dialect, "cpu")
    return [c.implementation for c in expand(Own(), Preset.SMOKE, [target], lambda _: Machine(1 << 20, 2))]


def test_an_added_kernel_is_planned_and_built_for_its_dialect_and_no_other(table):
    kernels.add("graph", "tables_of_a_test:KERNELS")
    assert planned("graph") == ["default", "fast"]
    assert planned("array") == ["default"]
    assert Own().builders(Target("any", "graph", "cpu"))["fast"](None, None, {}).run() == 3
    assert Own().builders(Target("any", "array", "cpu"))["default"](None, None, {}).run() == 2


def test_a_kernel_may_be_added_for_one_type_of_device(table):
    table.OTHERS = {("mine", "own"): {"wide": doubled}}
    kernels.add("graph", "tables_of_a_test:KERNELS")
    kernels.add("graph:gpu", "tables_of_a_test:OTHERS")
    assert planned("graph") == ["default", "fast"]
    assert list(Own().builders(Target("any", "graph", "gpu:1"))) == ["default", "fast", "wide"]


@pytest.mark.parametrize("name", ["graph:gpu:0", "graph:GPU", "graph:", ":gpu", ""])
def test_a_name_that_no_target_can_have_is_refused(name):
    with pytest.raises(UsageError, match="is neither a dialect nor one on a type of device"):
        kernels.add(name, "tables_of_a_test:KERNELS")


def test_a_dialect_that_the_workload_has_kernels_for_gets_further_ones_and_keeps_its_own(table):
    table.KERNELS = {("mine", "own"): {"fast": tripled}}
    kernels.add("array", "tables_of_a_test:KERNELS")
    assert planned("array") == ["default", "fast"]


def test_a_second_kernel_of_one_name_is_refused_and_the_name_said(table):
    kernels.add("array", "tables_of_a_test:KERNELS")
    with pytest.raises(UsageError, match="own has a 'default' kernel for array: another cannot be added"):
        planned("array")
    table.OTHERS = {("mine", "own"): {"fast": doubled}}
    kernels.add("graph", "tables_of_a_test:KERNELS")
    kernels.add("graph", "tables_of_a_test:OTHERS")
    with pytest.raises(UsageError, match="tables_of_a_test:OTHERS: own has another 'fast' kernel for graph"):
        planned("graph")


def test_to_add_a_table_twice_is_to_add_it_once(table):
    for _ in range(2):
        kernels.add("graph", "tables_of_a_test:KERNELS")
    assert planned("graph") == ["default", "fast"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no_such_package_of_tests:KERNELS", "cannot be imported: ModuleNotFoundError"),
        ("tables_of_a_test:MISSING", "cannot be imported: AttributeError"),
        ("tables_of_a_test:__name__", "kernels are a mapping"),
    ],
)
def test_a_table_that_is_none_is_one_line_that_names_it(table, place, said):
    kernels.add("graph", place)
    with pytest.raises(UsageError, match=said) as raised:
        planned("graph")
    assert str(raised.value).startswith(place)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["graph", "graph:cpu"])
def test_a_package_adds_kernels_through_its_entry_point(table, name, tmp_path, monkeypatch):
    """One file of metadata on the path and nothing else: its table is imported when its dialect is planned."""
    metadata = tmp_path / "other-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[bench_core.kernels]\n{name} = tables_of_a_test:KERNELS\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert planned("graph") == ["default", "fast"]
    assert planned("array") == ["default"]
