"""What CONTRIBUTING.md says of the dialect `array` is what the kernels use of it, and no backend's name is needed."""

import ast
import os
import re

import numpy as np
import pytest

from bench_core.backends import dialects
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Status, Target
from bench_core.timing.case import run_case
from benchmarks.nn import convolution
from tests.support import ROOT, dialect
from tests.support.catalogue import catalogue
from tests.support.kernels import CHECK
from tests.support.nn import one_thread  # noqa: F401 - a fixture
from tests.support.planned import WORKLOADS

PATH = ROOT / "CONTRIBUTING.md"
MARKS = re.compile(r"(?<=\(UPDATE_GOLDEN=1\) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
TARGET = Target("other", "array", "cpu")
# What no backend of another name has on a CPU: one of a GPU has the first two, and none the third, NumPy's own.
WITHOUT = {"launch_synchronize", "graph_replay", "chase", "h2d", "d2h", "h2d_d2h", "d2d", "p2p"}


@pytest.fixture(scope="module")
def done():
    """What became of every smoke case of the catalogue on a backend that no kernel knows; USED is what they used.

    A workload that is in no catalogue is left out, so that none that is added asks for a line.
    """
    named = {workload for _, _, workload in catalogue()}
    on = dialect.OtherBackend("cpu")
    cases = [
        (case, workload)
        for workload in WORKLOADS
        if workload.name in named
        for case in expand(workload, Preset.SMOKE, [TARGET], lambda _: Machine(1 << 20, 2))
    ]
    dialect.USED.clear()
    measured = [run_case(case, workload, on, CHECK) for case, workload in cases]
    # In the large networks of the other presets alone:
    pooled, cache = convolution.max_pool(on.xp, on.from_host(np.ones((3, 2, 8, 8))), 3, 2, 1)
    convolution.max_pool_backward(on.xp, pooled, cache)
    return measured


def table(used):
    """Return the table of what is used, a call with its keyword arguments: `sum(axis=, keepdims=)`."""
    named = {}
    for entry in sorted(used):
        name, _, argument = entry.removesuffix(")").partition("(") if entry.endswith("=)") else (entry, "", "")
        named.setdefault(name, []).extend([argument] * bool(argument))
    words = [f"{name}({', '.join(arguments)})" if arguments else name for name, arguments in named.items()]
    functions = [word.removeprefix("xp.") for word in words if word.startswith("xp.")]
    indexing = [word for word in words if word.startswith("a[")]
    methods = [word.removeprefix("a.") for word in words if word.startswith("a.")]
    operators = [word for word in words if not word.startswith(("xp.", "a.", "a["))]
    rows = {
        "functions and values of `xp`": functions,
        "attributes and methods of an array": methods,
        "indexing": indexing,
        "operators": operators,
    }
    lines = [f"| {about} | {' '.join(f'`{word}`' for word in listed)} |\n" for about, listed in rows.items()]
    return "".join(["| of | what is used |\n", "| --- | --- |\n", *lines])


@pytest.mark.usefixtures("one_thread")
def test_the_table_lists_exactly_what_the_kernels_use(done):
    made, text = table(dialect.USED), PATH.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        PATH.write_text(MARKS.sub(lambda _: made, text), encoding="utf-8")
    else:
        assert MARKS.search(text)[0] == made


def test_a_dialect_declares_every_function_that_its_kernels_call(done):
    """For backends/conformance.py, by which somebody tries a backend without reading a kernel."""
    used = {entry.partition("(")[0].removeprefix("xp.") for entry in dialect.USED if entry.startswith("xp.")}
    assert used - set(dialects.FUNCTIONS["array"]) - {"inf"} == set()
    assert all(dialects.has(np, name) for name in dialects.FUNCTIONS["array"])


def test_the_kernels_in_jax_call_what_their_dialect_declares():
    sources = [path.read_text("utf-8") for path in (ROOT / "benchmarks" / "jax_kernels").glob("*.py")]
    chains = {ast.unparse(n) for text in sources for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)}
    called = {chain.split(".")[1] for chain in chains if re.fullmatch(r"jnp\.\w+", chain)}
    assert len(called) > 10
    assert sorted(called - set(dialects.FUNCTIONS["jax"])) == []


def test_a_backend_that_no_kernel_knows_runs_every_kernel_of_the_dialect(done):
    left = {
        m.case.work.workload: m.reason for m in done if m.status is not Status.OK and m.case.work.dtype == "float64"
    }
    assert left == {}
    others = [m for m in done if m.status is not Status.OK and m.case.work.workload not in WITHOUT]
    assert {m.status for m in others} == {Status.UNSUPPORTED}
    assert {m.reason_code for m in others} == {"dtype_unsupported"}
    assert {m.case.work.suite for m in done if m.status is Status.OK} == {"matmul", "memory", "latency", "model"}


def test_no_function_of_numpy_is_called_on_an_array_but_through_xp(done):
    assert [name for name in dialect.USED if name.startswith("np.")] == []


def test_every_name_in_the_source_of_the_networks_was_noted(done):
    """A function that no smoke case comes to would be missing in the table."""
    names = set()
    for path in (ROOT / "benchmarks" / "nn").glob("*.py"):
        chains = [ast.unparse(n) for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Attribute)]
        names |= {chain.removeprefix("self.") for chain in chains if re.fullmatch(r"(self\.)?xp\.[\w.]+", chain)}
    assert len(names) > 20
    assert sorted(names - {entry.partition("(")[0] for entry in dialect.USED} - {"xp.add"}) == []


@pytest.mark.parametrize(
    ("statement", "noted"),
    [
        ("xp.add(a, a, out=a)", {"xp.add", "xp.add(out=)"}),
        ("xp.add(a, a, a)", {"xp.add", "xp.add(out=)"}),
        ("xp.linalg.norm(a, axis=0)", {"xp.linalg.norm", "xp.linalg.norm(axis=)"}),
        ("xp.add.at(a, 0, 1)", {"xp.add.at"}),
        ("xp.float32", {"xp.float32"}),
        ("a.sum(axis=0)", {"a.sum", "a.sum(axis=)"}),
        ("a - a.T", {"a.T", "-"}),
        ("2 - a", {"-"}),
        ("np.exp(a)", {"np.exp(a)"}),
        ("np.concatenate([a, a])", {"np.concatenate(a)"}),
        ("a[a > 1]", {"a[mask]", ">"}),
        ("a.__setitem__(0, 1)", {"a[0] = x"}),
        ("xp.exp(xp.add(a, a))[None, ..., 0:1] ** 2", {"xp.exp", "xp.add", "a[None]", "a[...]", "a[0:1]", "**"}),
    ],
)
def test_what_a_kernel_uses_is_noted(statement, noted):
    on, before = dialect.OtherBackend("cpu"), set(dialect.USED)
    dialect.USED.clear()
    try:
        code = compile(statement, f"{dialect.KERNELS}/any.py", "eval")
        eval(code, {"xp": on.xp, "np": np, "a": on.from_host(np.ones(3))})
        assert noted == dialect.USED
    finally:
        dialect.USED.clear()
        dialect.USED.update(before)


def test_what_bench_core_does_with_an_array_is_not_noted():
    array, before = dialect.OtherBackend("cpu").from_host(np.ones(3)), set(dialect.USED)
    array[0:1] = array.sum(axis=0) + np.exp(array)[0]
    assert before == dialect.USED
