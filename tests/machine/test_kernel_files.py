"""What the system may refuse is a reason, whatever is raised; and no query of psutil is asked past `asked`."""

from __future__ import annotations

import ast
import warnings

import psutil
import pytest

from bench_core.machine import allotment, environment, host
from bench_core.machine.kernel_files import asked, numbers, ranges
from bench_core.plan import findings
from bench_core.records import Fact
from tests.support import ROOT
from tests.support.properties import given, st

PROC = ("meminfo", "stat", "cpuinfo", "vmstat", "swaps", "loadavg")
TEXTS = {"missing": None, "empty": "", "garbage": "garbage of no kernel\n", "a line": "MemTotal: 8000000 kB\ncpu 1 2\n"}
FACTS = (*(environment._cpu, environment._memory), environment._system)
NUMBERS = (allotment.total_memory, allotment.memory_left, allotment.physical_cores, host.steal_seconds)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("broken", [*PROC, "all of them"])
def test_a_file_of_proc_that_is_missing_empty_or_foreign_makes_facts_absent_and_ends_nothing(
    plant, tmp_path, monkeypatch, broken, text
):
    """As in containers and sandboxes that mask /proc; whatever psutil then raises."""
    plant("sys/forget", "")
    (tmp_path / "proc").mkdir()
    for name in PROC:
        if broken not in {name, "all of them"}:
            (tmp_path / "proc" / name).symlink_to(f"/proc/{name}")
        elif text is not None:
            (tmp_path / "proc" / name).write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = {name: fact for collect in FACTS for name, fact in collect().items()}
        assert all((fact.value is None) == bool(fact.reason) for fact in facts.values())
        assert all(number is None or number >= 0 for number in (query() for query in NUMBERS))
        assert allotment.logical_cpus() > 0
        assert set(findings.watch(0.0)) <= {"load.busy", "load.steal"}


def test_a_query_that_warns_of_a_part_is_answered(plant, tmp_path, monkeypatch):
    plant("proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 100000 kB\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert allotment.free_memory().value == 100_000 * 1024


@pytest.mark.parametrize("error", [OSError, KeyError("MemTotal:"), TypeError, ValueError, IndexError, AttributeError])
def test_what_a_query_raises_is_the_reason(error):
    def refuse():
        raise error

    assert asked(refuse, "there") == Fact(reason=f"there: {getattr(error, '__name__', type(error).__name__)}")
    assert asked(lambda: None, "there") == Fact(reason="there gives no value")
    assert asked(lambda: 0, "there") == Fact(0, "there"), "zero is a value"


def test_a_query_of_psutil_stands_inside_asked_alone():
    """In the room of the machine: a parser that meets a foreign file raises anything."""
    found, inside = set(), set()
    for path in (ROOT / "bench_core" / "machine").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "psutil":
                found.add((path.name, node.lineno))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "asked":
                inside |= {(path.name, line) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    assert found
    assert found <= inside


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("5", {5}),
        ("0, 2-3\n", {0, 2, 3}),
        ("3-1", set()),
        ("", set()),
        ("x5", set()),
        ("5x", set()),
        ("0-3,x8", set()),
        ("0-3-5", set()),
        ("-5", set()),
        ("1,,2", set()),
        ("0-1234567", set()),
    ],
)
def test_the_numbers_of_a_list_are_those_of_all_its_entries_or_none(text, found):
    assert numbers(text) == found


@given(st.sets(st.integers(0, 99)))
def test_a_list_that_was_written_is_read_again(chosen):
    assert numbers(ranges(chosen)) == chosen
