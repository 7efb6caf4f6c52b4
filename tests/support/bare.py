"""A checkout of which nothing is installed, and an interpreter that has what it needs but not bench-core itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

PARTS = ("bench_core", "benchmarks", "tests")
# What the extra `report` and the development group bring, and no dependency does.
DEVELOPERS_OWN = (
    *("altair", "vl_convert", "jinja2", "hatchling", "hypothesis", "duckdb", "polars", "pyarrow", "selenium"),
    *("mypy", "pandas_stubs", "scipy_stubs", "ruff", "xdist", "pytest_xdist", "pytest_timeout"),
)
CONSOLE = "import sys\nimport pytest\nsys.exit(pytest.main())\n"


@dataclass(frozen=True)
class Bare:
    """A checkout without .git, and the interpreter that runs it; the script `pytest` lies beside the interpreter."""

    checkout: Path
    python: Path

    @property
    def pytest(self):
        return str(self.python.with_name("pytest"))

    def run(self, *arguments, cwd, **environ):
        """Run the interpreter with nothing inherited that would help it to find bench-core."""
        ours = ("PYTHON", "PYTEST", "VIRTUAL_ENV", "CUDA")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment = clean | {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"} | environ
        command, quiet = [self.python, *arguments], {"capture_output": True, "text": True, "timeout": 300}
        return subprocess.run(command, cwd=cwd, env=environment, check=False, **quiet)


def make(folder, without=DEVELOPERS_OWN):
    """Return a copy of this checkout below `folder`, and an interpreter that lacks some packages and bench-core."""
    checkout = folder / "checkout"
    for part in PARTS:
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":  # as a worktree has it
            shutil.copy2(file, checkout)
    return Bare(checkout, interpreter(folder / "venv", without))


def interpreter(folder, without=DEVELOPERS_OWN):
    """Return the interpreter of a new virtual environment with links to the packages of this one.

    Only links leave something out: a folder in PYTHONPATH or in a .pth file shows all that lies in it, so also
    bench-core's metadata with the entry point of its plugin.
    """
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for entry in _installed():
        link = packages / entry.name
        if _wanted(entry.name, without) and not link.is_symlink():  # the first on sys.path wins, as in an import
            link.symlink_to(entry)
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)})) / "python"
    python.with_name("pytest").write_text(CONSOLE, encoding="utf-8")
    return python


def _installed():
    """Yield what lies in the folders of sys.path that hold installed packages."""
    for folder in map(Path, sys.path):
        if any(folder.glob("*.dist-info")):
            yield from sorted(folder.iterdir())


def _wanted(name, without):
    """Whether a file or folder of site-packages is to be there: the editable install of bench-core is a .pth file."""
    hidden = ("bench_core", *without)
    return not name.endswith((".pth", "__pycache__")) and not name.replace("-", "_").startswith(hidden)


def install(python, plugins=None):
    """Install bench-core for an interpreter as a wheel does: the package and its metadata in site-packages.

    plugins: entry points by name, by default those of pyproject.toml.
    """
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(python.parents[1])}))
    shutil.copytree(ROOT / "bench_core", packages / "bench_core", ignore=shutil.ignore_patterns("__pycache__"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = packages / f"bench_core-{project['version']}.dist-info"
    metadata.mkdir()
    named = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(named, encoding="utf-8")
    points = "".join(
        f"{name} = {module}\n" for name, module in (plugins or project["entry-points"]["pytest11"]).items()
    )
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{points}", encoding="utf-8")
