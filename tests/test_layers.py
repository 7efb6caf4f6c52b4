"""One direction of imports, and no array library where none is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bench_core"
# From the top to the bottom; a module may import from its own line and from those above it.
LAYERS = (
    ("model", "units"),
    ("errors", "stats", "privacy", "csvfile", "facts", "journal", "children"),
    ("host", "check"),
    ("backends", "workload", "datasheet", "normal", "fit", "gpu"),
    ("metrics", "probe", "environment"),
    ("measure", "table", "sidecar", "roofline", "evidence"),
    ("energy", "derive", "filters", "aa_cases", "machine_check"),
    ("perform",),
    ("worker", "roster", "compare", "aa"),
    ("worker_child", "session", "summary", "report", "render", "replicate", "doctor", "progress"),
    ("pytest_plugin", "cli", "__main__"),
)
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield the bench_core rooms that a file imports, wherever in it; typing-only imports do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bench_core":
            names = [node.module] if "." in node.module else [f"bench_core.{alias.name}" for alias in node.names]
            yield from (name.split(".")[1] for name in names)
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("bench_core."))


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py" or path.parent != PACKAGE]


def violations(edges):
    return [(low, up) for low, up in edges if up in LEVEL and low != up and LEVEL[up] > LEVEL[low]]


def test_every_room_has_its_place():
    assert {room(path) for path in files()} <= set(LEVEL)


def test_imports_point_to_the_top_only():
    edges = {(room(path), imported) for path in files() for imported in imports(path)}
    assert not violations(edges)


def test_the_direction_check_can_fail():
    assert violations({("model", "session")})


def test_bench_core_never_imports_benchmarks_or_tests():
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert "import benchmarks" not in text
        assert "from benchmarks" not in text
        assert "from tests" not in text


def test_only_the_command_line_prints():
    for path in files():
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not prints or room(path) == "cli", path


def loaded(statement):
    code = f"{statement}\nimport sys; print(*(m for m in ('torch', 'cupy') if m in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "bench_core",
        "bench_core.table",
        "bench_core.compare",
        "bench_core.report",
        "bench_core.cli",
        "bench_core.session",
    ],
)
def test_reading_and_comparing_never_import_an_array_library_of_a_gpu(module):
    if module == "bench_core.report":
        pytest.importorskip("altair")
    assert loaded(f"import {module}") == []


def test_the_hygiene_check_can_fail():
    pytest.importorskip("torch")
    assert loaded("import torch") == ["torch"]
