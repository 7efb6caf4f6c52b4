"""Imports follow the order of the rooms, and array libraries are imported only where they are needed."""

import ast
import re
import subprocess
import sys

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "bench_core"
OF_TESTS = PACKAGE / "backends" / "conformance.py"
MAP = (PACKAGE / "README.md").read_text(encoding="utf-8")


def rooms_of(text):
    """Return the rooms of bench_core in the order in which a README lists them, with the files it names in each."""
    rooms = {}
    _, _, listed = text.partition("## The rooms")
    for item in re.split(r"^\d+\. ", listed, flags=re.MULTILINE)[1:]:
        folder = None
        for name in re.findall(r"`(\w+)`", item):
            if folder and (PACKAGE / folder / f"{name}.py").is_file():
                rooms[folder].add(name)
            else:
                rooms.setdefault(name, set())
                folder = name if (PACKAGE / name).is_dir() else None
    return rooms


ROOMS = rooms_of(MAP)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield the dotted names that a file imports from bench_core, including local and type-only imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            parts = ("bench_core", *path.relative_to(PACKAGE).parts)[: -node.level] if node.level else ()
            module = ".".join(filter(None, (*parts, node.module)))
            if module.split(".")[0] == "bench_core":
                yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bench_core."))


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py" or path.parent != PACKAGE]


def between_rooms(paths):
    """Return every import as a pair of rooms; names defined in bench_core/__init__.py belong to no room."""
    edges = {(room(path), name.split(".")[1]) for path in paths for name in imports(path)}
    return {(low, up) for low, up in edges if up in {room(path) for path in files()}}


def violations(edges, rooms):
    order = {name: place for place, name in enumerate(rooms)}
    return [(low, up) for low, up in edges if order[up] > order[low]]


def circles(graph):
    """Return the nodes of a graph that are on a cycle."""

    def reached(node, seen):
        for other in graph.get(node, ()):
            if other not in seen:
                seen.add(other)
                reached(other, seen)
        return seen

    return [node for node in graph if node in reached(node, set())]


def file_of(name):
    """Return the file of an imported name: the module itself, or the module that defines it."""
    parts = name.split(".")[1:]
    for end in (len(parts), len(parts) - 1):
        path = PACKAGE.joinpath(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise AssertionError(f"{name}: no such module")


def test_the_readme_lists_every_room_and_none_that_is_not_there():
    assert {room(path) for path in files()} == set(ROOMS)


def test_the_readme_names_every_file_of_a_room_but_those_of_the_command_line():
    there = {name: {p.stem for p in (PACKAGE / name).glob("*.py")} - {"__init__"} for name in ROOMS}
    assert {name: there[name] - named for name, named in ROOMS.items() if name != "cli" and there[name] - named} == {}


def test_every_file_of_the_numbered_steps_is_there():
    named = re.findall(r"`([\w/]+\.py)`", MAP)
    assert len(named) > 30
    assert [name for name in named if not (PACKAGE / name).is_file() and not (ROOT / name).is_file()] == []


def test_a_file_imports_from_its_own_room_and_those_listed_before_it():
    assert violations(between_rooms(path for path in files() if path != OF_TESTS), ROOMS) == []


def test_the_tests_for_backends_may_import_from_every_room_because_nothing_imports_them():
    assert OF_TESTS.is_file()
    assert [path for path in files() if OF_TESTS in map(file_of, imports(path))] == []


def test_the_check_of_directions_fails_for_an_import_from_a_later_room():
    early = PACKAGE / "records.py"
    assert violations(between_rooms([early]), ROOMS) == []
    upside_down = rooms_of("## The rooms\n\n1. `stats`: numbers. `records`: nouns. `text`: words.\n")
    assert violations(between_rooms([early]), upside_down) == [("records", "text")]


def test_the_check_of_the_list_fails_for_a_room_that_is_missing_or_too_many():
    assert "journal" not in ROOMS
    assert {room(path) for path in files()} - set(rooms_of(MAP.replace("`noise`", "noise"))) == {"noise"}
    assert "cellar" in rooms_of(MAP.replace("`records`", "`cellar`"))


def test_no_two_files_import_each_other_not_even_by_way_of_others():
    graph = {path: {file_of(name) for name in imports(path)} for path in files()}
    assert circles(graph) == []
    assert circles({1: [2], 2: [3], 3: [1], 4: [1]}) == [1, 2, 3]


def test_bench_core_never_imports_benchmarks_or_tests():
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert "import benchmarks" not in text
        assert "from benchmarks" not in text
        assert "from tests" not in text


def test_benchmarks_import_each_other_relatively():
    """In a wheel their package has another name."""
    named = re.compile(r"^\s*(from|import) benchmarks\b", re.MULTILINE)
    paths = [*(PACKAGE.parent / "benchmarks").rglob("*.py")]
    assert len(paths) > 50
    assert [path for path in paths if named.search(path.read_text(encoding="utf-8"))] == []


def test_benchmarks_import_only_what_their_authors_are_told_to():
    """Kernels that are added from outside are for __init__.py alone."""
    told = {"check", "workload", "caches"}
    for path in (PACKAGE.parent / "benchmarks").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        named = [f"{node.module}.{alias.name}".split(".") for node in froms for alias in node.names]
        rooms = {parts[1] for parts in named if parts[0] == "bench_core"}
        assert rooms <= (told if path.parent.name != "benchmarks" or path.name != "__init__.py" else {"backends"}), path


def test_only_the_command_line_prints():
    for path in files():
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not prints or room(path) == "cli", path


def loaded(statement, libraries=("torch", "cupy", "jax", "duckdb", "pyarrow", "ray", "submitit")):
    code = f"{statement}\nimport sys; print(*(m for m in {libraries} if m in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "bench_core",
        "bench_core.results.reader",
        "bench_core.compare",
        "bench_core.report.page",
        "bench_core.cli",
        "bench_core.run.session",
        "bench_core.own.measure",
        "bench_core.fleet.driver, bench_core.fleet.task, bench_core.fleet.ray, bench_core.cli.fleet",
        "bench_core.history.query, bench_core.history.series, bench_core.render.history, bench_core.cli.history",
    ],
)
def test_reading_and_comparing_never_import_an_array_library_of_a_gpu_nor_that_of_a_history_or_a_fleet(module):
    if module == "bench_core.report.page":
        pytest.importorskip("vl_convert")
    assert loaded(f"import {module}") == []


def test_an_import_of_torch_is_found_as_an_array_library():
    pytest.importorskip("torch")
    assert loaded("import torch") == ["torch"]
