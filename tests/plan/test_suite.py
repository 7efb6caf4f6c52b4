"""The suite is found in a clone and in a wheel, its files have the same ids, and own benchmarks take precedence."""

import pytest

from bench_core.plan import suite
from tests.support import ROOT


def make(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def site(tmp_path):
    """What lies in site-packages: the suite, and a package of another project that has its name in a clone."""
    return make(tmp_path / "site", "bench_core_suite/bench_a.py", "benchmarks/bench_a.py")


def test_in_this_clone_it_is_the_folder_of_the_benchmarks():
    assert suite.folder() == ROOT / "benchmarks"


def test_installed_it_is_the_package_and_not_what_another_project_calls_benchmarks(site):
    assert suite.folder(site) == site / "bench_core_suite"


def test_it_may_be_missing(tmp_path):
    assert suite.folder(tmp_path) is None
    assert suite.node_path(tmp_path / "bench_a.py", tmp_path) is None
    assert suite.located("benchmarks/bench_a.py", tmp_path, tmp_path) == "benchmarks/bench_a.py"


def test_its_files_have_the_ids_of_a_clone_and_others_keep_theirs(site, tmp_path):
    clone = make(tmp_path / "clone", "pyproject.toml", "benchmarks/bench_a.py")
    (tmp_path / "link").symlink_to(site)
    for root, package in ((clone, "benchmarks"), (site, "bench_core_suite")):
        assert suite.node_path(root / package / "bench_a.py", root) == "benchmarks/bench_a.py"
    assert suite.node_path(tmp_path / "link" / "bench_core_suite" / "bench_a.py", site) == "benchmarks/bench_a.py"
    assert suite.node_path(site / "benchmarks" / "bench_a.py", site) is None


def test_an_id_leads_to_the_installed_file_unless_there_is_one_here(site, tmp_path):
    installed = site / "bench_core_suite" / "bench_a.py"
    assert suite.located("benchmarks/bench_a.py::test_a[b/c::d]", tmp_path, site) == f"{installed}::test_a[b/c::d]"
    assert suite.located("benchmarks", tmp_path, site) == str(site / "bench_core_suite")
    for other in ("bench_a.py", "own/benchmarks/bench_a.py", "bench_core_suite.bench_a::test_a"):
        assert suite.located(other, tmp_path, site) == other
    assert suite.located("benchmarks/bench_a.py", site, site) == "benchmarks/bench_a.py"


@pytest.mark.parametrize(
    ("file", "recursive", "found"),
    [
        ("bench_a.py", False, True),
        ("below/bench_a.py", False, False),
        ("below/bench_a.py", True, True),
        (".hidden/bench_a.py", True, False),
        ("env/site-packages/bench_core_suite/bench_a.py", True, False),
        ("test_a.py", True, False),
    ],
)
def test_own_benchmarks_are_looked_for_but_not_in_environments_nor_where_a_project_says_not_to(
    tmp_path, file, recursive, found
):
    make(tmp_path, file, "env/pyvenv.cfg")
    is_bench = lambda path: path.match("bench_*.py")  # noqa: E731
    assert suite.has_own([tmp_path], is_bench, recursive=recursive, ignored=[".*"]) is found
    assert suite.has_own([tmp_path / file], is_bench, recursive=recursive) is (file != "test_a.py")
