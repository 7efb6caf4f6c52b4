"""The differences between environments are a line for each family, and nothing is said twice."""

from dataclasses import replace

import pytest

from bench_core.compare import Difference, compare
from bench_core.machine.host import THREAD_VARIABLES
from bench_core.render import differences
from tests.support.comparisons import FIVE
from tests.support.tables import processes, reading

AB = ("a", "b")


def shown(*found, sides=AB, **known):
    """What is shown of these differences, given by name and values: the rows of the table, and the lines below it."""
    result = compare([reading(processes(FIVE, **known), side) for side in sides])
    every = tuple(Difference(name, tuple(zip(sides, values, strict=True))) for name, *values in found)
    result = replace(result, environment=every)
    return list(differences.table(result).rows), list(differences.lines(result))


def threads(backend, *values):
    return [(f"{backend} env.{name}", *values) for name in THREAD_VARIABLES]


def test_all_variables_of_threads_are_one_line():
    every = [*threads("numpy", "2", "16"), *threads("torch", "2", "16"), ("torch torch.threads", "2", "16")]
    assert shown(*every) == ([("threads", "7 variables: 2", "7 variables: 16")], [])


def test_more_threads_measured_on_one_side_are_no_difference_if_each_row_says_its_threads():
    """Rows are paired by their threads."""
    every = threads("numpy", "1 / 2", "2")
    assert shown(*every) == ([], [])
    assert shown(*every, ("numpy threadpools", "blas with 1 threads / blas with 2 threads", "blas with 2 threads")) == (
        [],
        [],
    )


def test_variables_of_threads_are_shown_where_rows_do_not_say_their_threads():
    done = [reading(processes(FIVE), side) for side in AB]
    silent = [replace(table, rows=tuple(replace(row, threads=None) for row in table.rows)) for table in done]
    found = (Difference("numpy env.OMP_NUM_THREADS", (("a", "1 / 2"), ("b", "2"))),)
    for tables, rows in ((done, ()), (silent, (("threads", "OMP_NUM_THREADS: 1 / 2", "OMP_NUM_THREADS: 2"),))):
        assert differences.table(replace(compare(tables), environment=found)).rows == rows


def test_a_family_of_facts_is_one_line_and_equal_values_are_said_once():
    rows, lines = shown(
        ("cpu.cores", "2", "16"),
        ("cpu.threads", "2", "16"),
        ("cpu.model", "A", "B"),
        ("package.numpy", "2.4", "2.5"),
        ("package.scipy", "1.1", "1.2"),
        ("numpy numpy", "2.4", "2.5"),
        ("python.version", "3.11", "3.12"),
        ("numpy gpu.driver", "1", "2"),
        ("torch gpu.driver", "1", "2"),
    )
    assert rows == [
        ("cpu", "cores, threads 2; model A", "cores, threads 16; model B"),
        ("packages", "numpy 2.4; scipy 1.1", "numpy 2.5; scipy 1.2"),
        ("python", "version 3.11", "version 3.12"),
        ("gpu", "driver of numpy, torch 1", "driver of numpy, torch 2"),
    ]
    assert lines == []


def test_a_list_shows_only_what_the_sides_do_not_share():
    rows, _ = shown(("cpu.vectors", "avx, avx2, fma", "avx, avx2, fma, amx"))
    assert rows == [("cpu", "vectors the common 3", "vectors the common 3, amx")]


def test_facts_that_a_side_lacks_are_one_line_with_those_of_a_backend_first():
    host = [(f"system.{i}", "", str(i)) for i in range(9)]
    rows, (line,) = shown(*host, ("numpy malloc", "", "glibc, default"))
    assert rows == []
    assert line == (
        "Not known of a: malloc of numpy (elsewhere glibc, default), system.0, system.1, system.2, system.3, system.4 "
        "and 4 more"
    )


def test_many_sides_are_shown_by_value_and_without_those_that_did_not_measure():
    every = [("cpu", "x", "y", "x"), ("torch blas", "not measured", "1", "2")]
    rows, _ = shown(*every, sides=("a", "b", "c"))
    assert rows == [("cpu", "a, c: x\nb: y"), ("blas", "b: 1\nc: 2")]


def test_variables_of_threads_that_agree_are_one_line_although_a_side_did_not_measure_some():
    every = [*threads("numpy", "1 / 2", "not measured", "16"), *threads("torch", "1 / 2", "16", "16")]
    rows, _ = shown(*every, ("torch env.KMP", "x", "x", "y"), sides=("a", "b", "c"))
    count = len(THREAD_VARIABLES)
    assert rows[0] == ("threads", f"a: {count} variables: 1 / 2\nb, c: {count} variables: 16")


@pytest.mark.parametrize("length", [10, 5_000])
def test_a_family_has_a_longest_text(length):
    ((_, first, _),), _ = shown(*((f"cpu.{i}", "x" * 20, "y") for i in range(length // 10)))
    assert len(first) <= 600
