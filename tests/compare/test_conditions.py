"""Differences between the machines and libraries of the sides are reported, noted or refused."""

from dataclasses import replace

import pytest

from bench_core.compare import CompareOptions, Reading, compare
from bench_core.errors import IncompatibleError, UsageError
from bench_core.records import Fact
from tests.support.comparisons import FIVE, only, two
from tests.support.tables import processes, reading


def test_conditions_that_differ_are_said():
    b = processes(FIVE, library="OtherBLAS 2", backend_version="2.0")
    c = only([reading(processes(FIVE), "a"), reading(b, "b")])
    assert [str(d) for d in c.conditions] == [
        "library: SomeBLAS 1 against OtherBLAS 2",
        "backend_version: 1.0 against 2.0",
    ]


def test_runs_of_one_side_under_different_conditions_are_said():
    """They are pooled as runs of one side, so the result must state that their conditions differ."""
    a = [reading(processes(FIVE[i:], backend_version=v), "a", run_id=v) for i, v in enumerate(("1.0", "2.0"))]
    b = [reading(processes(FIVE[i:], backend_version=v), "b", run_id=v) for i, v in enumerate(("1.0", "2.0"))]
    c = only([*a, *b])
    assert [str(d) for d in c.conditions] == ["backend_version: 1.0 / 2.0 against 1.0 / 2.0"]


def test_runs_of_different_software_under_one_name_are_remarked():
    """Two versions that alternated in `run --against` become one side if the labels are left out."""
    this, against = (
        reading(processes(FIVE, backend="torch", backend_version=v), "a", run_id=v, about={"series": "s"})
        for v in ("2.12.0", "2.13.0")
    )
    commits = tuple(replace(row, git_commit="0123456789abcdef") for row in against.rows)
    tables = [this, replace(against, rows=commits), reading(processes(FIVE, backend="torch"), "b")]
    (note,) = compare(tables).notes
    assert note == (
        "torch of a: 10 runs with different software are pooled; labels (old=A new=B) separate them: "
        "backend_version 2.12.0, 2.13.0; git_commit unknown, 012345678"
    )
    labelled = [Reading.of(r.path, r.rows, label, r.files) for label, r in zip("xy", tables, strict=False)]
    assert compare(labelled).notes == ()


def test_require_same_refuses_other_conditions_and_unknown_ones():
    a, b = two(FIVE, FIVE)
    drivers = [replace(r, files=replace(r.files, facts={"gpu.driver": Fact(v)})) for r, v in ((a, "1"), (b, "2"))]
    with pytest.raises(IncompatibleError, match=r"gpu\.driver: 1 against 2"):
        compare(drivers, CompareOptions(require_same=("driver",)))
    with pytest.raises(IncompatibleError, match="unknown for b"):
        compare([drivers[0], b], CompareOptions(require_same=("driver",)))
    with pytest.raises(UsageError, match="no condition of these runs 'drivers'"):
        compare(drivers, CompareOptions(require_same=("drivers",)))
    with pytest.raises(IncompatibleError, match="threads: 2 against 4"):
        compare([a, reading(processes(FIVE, threads=4), "b")], CompareOptions(require_same=("threads",)))
    assert compare([a, b], CompareOptions(require_same=("threads", "library"))).comparisons


def placed(where, machine, **known):
    return reading(processes(FIVE, placement=where, **known), machine)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            "first_touch=2;huge_pages=0.12",
            ["placement: first_touch=1;huge_pages=1.0 against first_touch=2;huge_pages=0.1"],
        ),
        ("first_touch=1;huge_pages=0.99", []),  # hundredths say nothing
        ("", []),  # a table of an earlier version
    ],
)
def test_arrays_that_lie_elsewhere_are_said(other, said):
    c = only([placed("first_touch=1;huge_pages=0.98", "a"), placed(other, "b")])
    assert [str(d) for d in c.conditions] == said


def test_the_placement_is_part_of_an_implementation_and_can_be_required_to_be_the_same():
    a = placed("first_touch=1", "a")
    require = CompareOptions(require_same=("placement",))
    with pytest.raises(IncompatibleError, match="placement: first_touch=1 against first_touch=2"):
        compare([a, placed("first_touch=2", "b")], require)
    with pytest.raises(IncompatibleError, match="placement"):
        compare([a, placed("", "b")], require)
    assert compare([a, placed("first_touch=1", "b")], require).comparisons


def test_facts_that_differ_are_listed():
    a, b = two(FIVE, FIVE)
    known = [
        replace(
            r,
            files=replace(r.files, facts={"cpu": Fact(v), "python": Fact("3.11"), "load": Fact(None, reason="?")}),
        )
        for r, v in ((a, "x"), (b, "y"))
    ]
    assert [str(d) for d in compare(known).environment] == ["cpu: x against y"]


def working(machine, *workers, host=(), run_id=None, **known):
    """A machine with these workers: pairs of a backend and its facts."""
    done = [m for backend, _ in workers for m in processes(FIVE, backend=backend, env_id=backend, **known)]
    table = reading(done, machine, run_id=run_id)
    facts = {backend: {name: Fact(value) for name, value in own.items()} for backend, own in workers}
    host = {name: Fact(value, reason="" if value else "not installed") for name, value in dict(host).items()}
    return replace(table, files=replace(table.files, facts=host, worker_facts=facts))


def environment(*tables, **options):
    return [str(d) for d in compare(tables, CompareOptions(**options)).environment]


def test_a_fact_that_only_one_side_has_is_unknown_on_the_other():
    """A table of an earlier version does not say what malloc was told, on which the `tuned` rows depend."""
    old = working("a", ("numpy", {"numpy": "2.4"}))
    new = working("b", ("numpy", {"numpy": "2.4", "malloc": "glibc, default"}))
    assert environment(old, new) == ["numpy malloc: unknown against glibc, default"]


def test_a_variable_that_only_one_side_has_is_unset_on_the_other():
    """Only variables that are set are recorded."""
    a = working("a", ("numpy", {"numpy": "2.4"}), host={"cpu": "x"})
    b = working("b", ("numpy", {"env.OPENBLAS_CORETYPE": "ZEN"}), host={"cpu": "x", "env.MALLOC_ARENA_MAX": "1"})
    assert environment(a, b) == [
        "numpy numpy: 2.4 against unknown",
        "env.MALLOC_ARENA_MAX: unset against 1",
        "numpy env.OPENBLAS_CORETYPE: unset against ZEN",
    ]
    with pytest.raises(IncompatibleError, match="OPENBLAS_CORETYPE: unset against ZEN"):
        compare([a, b], CompareOptions(require_same=("OPENBLAS_CORETYPE",)))
    again = working("b", ("numpy", {"numpy": "2.4"}), host={"cpu": "x"}, run_id="again")
    assert "numpy env.OPENBLAS_CORETYPE: unset against ZEN / unset" in environment(a, b, again)


def test_a_variable_whose_value_is_withheld_is_unknown_and_not_unset():
    a = working("a", ("numpy", {}), host={"env.OMP_PLACES": None})
    b = working("b", ("numpy", {}), host={"env.OMP_PLACES": "cores"})
    assert environment(a, b) == ["env.OMP_PLACES: unknown against cores"]


def test_a_package_that_one_side_lacks_is_not_installed_there():
    a = working("a", ("numpy", {}), host={"package.cupy": None})
    b = working("b", ("numpy", {}), host={"package.cupy": "14"})
    assert environment(a, b) == ["package.cupy: not installed against 14"]


def test_the_facts_of_a_backend_or_device_that_only_one_side_has_are_no_differences():
    """Then what was measured differs, not the conditions."""
    a = working("a", ("numpy", {"numpy": "2.4"}))
    b = working("b", ("numpy", {"numpy": "2.4"}), ("torch", {"torch.threads": 2}))
    assert environment(a, b) == []
    both = working("c", ("numpy", {"numpy": "2.4"}), ("torch", {"torch.threads": 4}))
    assert environment(a, b, both) == ["torch torch.threads: not measured against 2 against 4"]
    gpu = working("d", ("numpy", {"gpu.name": "G"}), device="cuda:0")
    assert environment(gpu, a) == []


def test_the_facts_behind_rows_that_are_filtered_out_are_no_differences():
    a, b = (working(m, ("numpy", {"blas": "x"}), ("torch", {"blas": v})) for m, v in (("a", "x"), ("b", "y")))
    assert environment(a, b) == ["torch blas: x against y"]
    assert environment(a, b, where="backend == 'numpy'") == []
