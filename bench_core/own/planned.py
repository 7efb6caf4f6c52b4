"""The planned case of a test whose work is unknown until it calls `measure(fn, x)`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench_core.errors import UsageError
from bench_core.machine.privacy import scrub
from bench_core.own.function import SUITE, Function, backends_of, workload_of
from bench_core.plan.targets import matches
from bench_core.records import Case, Target, Work
from bench_core.text import no_such

_OF_TESTS = ("backends", "reference", "flops", "bytes", "tolerance", "name")
_OF_SCRIPTS = ("budget", "output")
UNKNOWN = "unknown"  # as size and dtype, in the row of a test that ended before it called measure


def planned_case(test: str, node: str, target: Target) -> Case:
    """Return the case of a test on a target, by which it is planned. test: its name; node: its id in pytest."""
    work = Work(SUITE, named_after(test), UNKNOWN, UNKNOWN, (("test", _identifier(scrub(node))),))
    return Case(work, target.backend, target.device)


def in_test(fn: Any, inputs: Sequence[Any], test: str, options: Mapping[str, Any]) -> tuple[Function, tuple[str, ...]]:
    """Return the workload of a function that a test measures, and the backends that it can run on, () for all.

    options: the keyword arguments of `measure`. Raises UsageError for wrong ones.
    """
    for name in options:
        if name in _OF_SCRIPTS:
            raise UsageError(f"measure: {name}= is for scripts, in tests it is --bench-{name}")
        if name not in _OF_TESTS:
            raise UsageError(f"measure: {no_such('argument', name, _OF_TESTS)}")
    given = {name: value for name, value in options.items() if name != "backends"}
    only = backends_of(options.get("backends"))
    return workload_of(fn, inputs, fallback_name=named_after(test), **given), only


def is_meant(case: Case, entry: str) -> bool:
    """Whether an entry `backend[:device]` includes the backend and the device of a case."""
    backend, _, device = entry.partition(":")
    return case.backend == backend and matches(case.device, device)


def named_after(test: str) -> str:
    """Return the name of the work of a test: "gelu" for "test_gelu"."""
    return _identifier(test.removeprefix("test_"))


def _identifier(text: str) -> str:
    """Return text in the characters of an identifier."""
    return re.sub(r"[^A-Za-z0-9_.+:/-]+", "-", text).strip("-+:./") or "test"
