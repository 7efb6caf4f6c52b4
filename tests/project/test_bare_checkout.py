"""A checkout that is not installed can measure from any folder with every command; so can an installed copy."""

import csv
import tomllib
import zipfile

import pytest

from bench_core import child_main, child_process
from tests.support import bare
from tests.support.documents import TOLD
from tests.support.workloads import SMALL_SUITE

TINY = (
    *("--bench-preset=smoke", "--bench-backends=numpy", "--bench-budget=0.01", "--bench-machine=m"),
    *("-p", "no:cacheprovider", "-q", "-k", "triad and float64 and not tuned"),
)
MEASURE = ("--benchmark-only", *TINY)


OWN = SMALL_SUITE.replace("test_small", "test_triad_float64")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return bare.make(tmp_path_factory.mktemp("bare"))


def rows(folder):
    """Return the rows of the only run below a folder."""
    (path,) = folder.rglob("results.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measured(done, folder):
    """Return whether a run succeeded and has rows, each with a value that a worker measured."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(folder)
    assert found
    assert {row["status"] for row in found} == {"ok"}
    assert {row["backend"] for row in found} == {"numpy"}
    return not any("not_isolated" in row["flags"] for row in found)


def test_the_interpreter_knows_nothing_of_bench_core(checkout, tmp_path):
    code = """
import importlib.metadata, importlib.util
print([point.name for point in importlib.metadata.entry_points(group="pytest11")])
print(*(importlib.util.find_spec(name) for name in ("bench_core", "altair")))
"""
    done = checkout.run("-c", code, cwd=tmp_path)
    plugins, found = done.stdout.splitlines()
    assert found == "None None"
    assert "bench_core" not in plugins
    assert "benchmark" in plugins
    assert not (checkout.checkout / ".git").exists()


@pytest.fixture
def shadowing(checkout):
    """A function that writes files of a user into the root of the checkout, which cannot be imported."""
    files = []

    def write(*names):
        files.extend(checkout.checkout / f"{name}.py" for name in names)
        for file in files:
            file.write_text("raise RuntimeError('the file of the user')", encoding="utf-8")

    yield write
    for file in files:
        file.unlink()


def test_pytest_measures_in_the_root_of_the_checkout_whatever_a_user_has_put_there(checkout, tmp_path, shadowing):
    """Files with names of modules that the plugin, its neighbours and the benchmarks import, before and after it."""
    shadowing("statistics", "random", "types", "queue", "code", "mmap")
    done = checkout.run(checkout.pytest, *MEASURE, f"--bench-output={tmp_path}", cwd=checkout.checkout)
    assert measured(done, tmp_path)


def test_pytest_measures_from_a_folder_within(checkout, tmp_path):
    """The worker finds bench_core neither by its working folder nor by a .pth file."""
    done = checkout.run("-m", "pytest", *MEASURE, f"--bench-output={tmp_path}", cwd=checkout.checkout / "benchmarks")
    assert measured(done, tmp_path)


def test_pytest_measures_from_a_folder_elsewhere(checkout, tmp_path):
    benchmarks = checkout.checkout / "benchmarks"
    done = checkout.run(checkout.pytest, str(benchmarks), *MEASURE, f"--bench-output={tmp_path}", cwd=tmp_path)
    assert measured(done, tmp_path)


def test_the_command_line_measures_once_whatever_a_user_has_put_there(checkout, tmp_path, shadowing):
    """Not `types`, without which `python -m` runs nothing."""
    shadowing("statistics", "random", "queue", "csv", "signal", "code", "mmap")
    arguments = ("-m", "bench_core", "run", f"--bench-output={tmp_path}", *TINY)
    assert measured(checkout.run(*arguments, cwd=checkout.checkout), tmp_path)


def test_the_command_line_measures_another_project_in_turns_with_an_interpreter_without_bench_core(checkout, tmp_path):
    """Both sides and their workers find the checkout only by PYTHONPATH; no pyproject.toml names the plugin."""
    (tmp_path / "test_own.py").write_text(OWN, encoding="utf-8")
    other = bare.interpreter(tmp_path / "other")
    output = tmp_path / "output"
    arguments = ("test_own.py", "--against", str(other), f"--bench-output={output}", *TINY)
    done = checkout.run("-m", "bench_core", "run", *arguments, cwd=tmp_path, PYTHONPATH=str(checkout.checkout))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(output.rglob("results.csv"))) == 2


def test_plain_pytest_checks_the_answers(checkout):
    done = checkout.run(checkout.pytest, *TINY, "benchmarks", cwd=checkout.checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling", reason="the wheel is built by hatchling, a development package")
    return bare.build_wheel(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def wheel(built, tmp_path_factory):
    """An interpreter for which the wheel is installed."""
    python = bare.interpreter(tmp_path_factory.mktemp("wheel"))
    bare.install(python, built)
    return python


def test_the_wheel_holds_the_packages_and_nothing_else(built):
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"bench_core", "bench_core_suite"}
    assert {"bench_core/py.typed", "bench_core_suite/bench_matmul.py", "bench_core_suite/nn/tuned/cupy.py"} <= {*names}
    assert [name for name in names if "/test" in name or name.endswith(".pyc")] == []


def ids(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_what_an_installed_copy_measures_has_the_ids_of_a_clone(wheel, checkout, tmp_path):
    """By pytest and by bench-core, in an empty folder."""
    plan = ("--bench-preset=smoke", "--bench-backends=numpy,cupy", "-p", "no:cacheprovider")
    collect = ("-m", "pytest", "--benchmark-only", "--collect-only", "-q", *plan)
    expected = ids(checkout.run(*collect, cwd=checkout.checkout))
    assert len({line.partition("::")[0] for line in expected}) == 10, "every file of the suite"
    installed = bare.Bare(tmp_path, wheel)
    assert ids(installed.run(*collect, "--pyargs", "bench_core_suite", cwd=tmp_path)) == expected
    assert ids(installed.run("-m", "bench_core", "list", "--ids", *plan, cwd=tmp_path)) == expected


def test_an_installed_copy_measures_in_an_empty_folder_and_finishes_an_interrupted_run(wheel, tmp_path):
    """The run is finished in a folder that has benchmarks of its own by then."""
    installed = bare.Bare(tmp_path, wheel)
    documented = ("--pyargs", "bench_core_suite", "--benchmark-only")
    assert f"pytest {' '.join(documented)}\n" in TOLD
    assert measured(installed.run(installed.pytest, *documented, *TINY, "--bench-keep-journal", cwd=tmp_path), tmp_path)
    (folder,) = (tmp_path / "results" / "m").iterdir()
    (folder / "run.json").unlink()
    journal = folder / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"status"' not in line), encoding="utf-8")
    (tmp_path / "bench_own.py").write_text(OWN, encoding="utf-8")
    resumed = installed.run("-m", "bench_core", "run", "--resume", str(folder), cwd=tmp_path)
    assert "bench_memory.py" in resumed.stdout
    assert "bench_own.py" not in resumed.stdout
    assert measured(resumed, tmp_path)
    assert "resumed" in rows(tmp_path)[0]["flags"]


def test_own_benchmarks_come_first_unless_the_user_wants_the_suite_or_names_a_test_of_it(wheel, tmp_path):
    installed = bare.Bare(tmp_path, wheel)
    (tmp_path / "bench_own.py").write_text(OWN, encoding="utf-8")

    def listed(*options):
        return ids(installed.run("-m", "bench_core", "list", "--ids", *options, *TINY, cwd=tmp_path))

    assert {line.partition("::")[0] for line in listed()} == {"bench_own.py"}
    suite = listed("--bench-suite=always")
    assert {line.partition("::")[0] for line in suite} == {"benchmarks/bench_memory.py"}
    assert listed(suite[0]) == suite[:1]


ONCE = """
import sys

def test_the_plugin_is_loaded_once(pytestconfig):
    plugins = pytestconfig.pluginmanager.list_name_plugin()
    assert [name for name, module in plugins if module is sys.modules["bench_core.pytest_plugin"]] == [
        "bench_core.pytest_plugin"
    ]
"""


def test_another_project_gets_the_installed_plugin_once(wheel, tmp_path):
    (tmp_path / "test_own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "test_once.py").write_text(ONCE, encoding="utf-8")
    own = bare.Bare(tmp_path, wheel)
    measuring = own.run(own.pytest, "test_own.py", *MEASURE, f"--bench-output={tmp_path}", cwd=tmp_path)
    assert measured(measuring, tmp_path)
    named = ("-p", "bench_core.pytest_plugin", "-p", "no:cacheprovider")
    for options in ((), named):
        plain = own.run(own.pytest, "test_once.py", *options, cwd=tmp_path)
        assert plain.returncode == 0, plain.stdout + plain.stderr


def test_a_checkout_measures_where_bench_core_is_installed_as_well(wheel, checkout, tmp_path):
    """Both its pyproject.toml and the entry point name the plugin; the worker must be that of the checkout."""
    child = checkout.checkout / "bench_core" / "timing" / "worker_child.py"
    code = child.read_text(encoding="utf-8")
    said = 'open("said.txt", "w").close()'
    try:
        child.write_text(code.replace("\nif __name__", f"\n{said}\n\nif __name__"), encoding="utf-8")
        both = bare.Bare(checkout.checkout, wheel)
        benchmarks = str(checkout.checkout / "benchmarks")
        done = both.run(both.pytest, benchmarks, *MEASURE, f"--bench-output={tmp_path}", cwd=tmp_path)
    finally:
        child.write_text(code, encoding="utf-8")
    assert measured(done, tmp_path)
    assert (tmp_path / "said.txt").exists()


def test_a_checkout_works_beside_an_install_from_before_the_entry_point_had_its_name(checkout, built, tmp_path):
    python = bare.interpreter(tmp_path / "old")
    bare.install(python, built, "[pytest11]\nbench_core = bench_core.pytest_plugin\n")
    done = bare.Bare(checkout.checkout, python).run("-m", "pytest", "--markers", cwd=checkout.checkout)
    assert "@pytest.mark.workload(workload)" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("entries", "at"), [((), 0), (("python",), 1), (("python", "other"), 1), (("other", "python"), 0)]
)
def test_the_folder_of_a_child_s_bench_core_comes_last_but_before_another_bench_core(tmp_path, entries, at):
    """So nothing in it hides a library, and no other copy hides it."""
    (tmp_path / "other" / "bench_core").mkdir(parents=True)
    path = [str(tmp_path / entry) for entry in entries]
    child_main.place(path, "root")
    assert path.index("root") == at
    assert len(path) == len(entries) + 1


def test_every_test_is_collected_where_only_the_dependencies_are_installed(checkout):
    """Tests that need an extra or a development package are skipped with a reason; none is an error."""
    plain = "--assert=plain"  # nothing is asserted, and to rewrite all assertions takes a third of the time
    collect = ("-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", plain)
    done = checkout.run(*collect, cwd=checkout.checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "charts need the extra `report`" in done.stdout
    assert "benchmarks/bench_matmul.py::" in done.stdout


def test_the_entry_point_is_named_after_its_module():
    """Otherwise the module loaded by `-p` would be registered again under the name of the entry point: a ValueError."""
    project = tomllib.loads((bare.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    points = project["project"]["entry-points"]["pytest11"]
    assert points == {name: name for name in points}
    assert list(points) == [child_process.PLUGIN[1]]
    expected = ["-p", "bench_core.pytest_first", *child_process.PLUGIN]
    assert project["tool"]["pytest"]["ini_options"]["addopts"][: len(expected)] == expected
