"""A checkout of which nothing is installed, and an interpreter that has what it needs but not bench-core itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

PARTS = ("bench_core", "benchmarks", "tests")
# What the extras and the development group bring, and no dependency does.
DEVELOPERS_OWN = (
    *("torch", "altair", "vl_convert", "jinja2", "hatchling", "hypothesis", "duckdb", "polars", "pyarrow", "selenium"),
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
        """Run the interpreter with nothing inherited that would help it to find bench-core.

        What one process has compiled the next ones need not: they are several for every command.
        """
        ours = ("PYTHON", "PYTEST", "VIRTUAL_ENV", "CUDA")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment = clean | {"COLUMNS": "100"} | environ
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
    (checkout / "results").mkdir()
    shutil.copy2(ROOT / "results" / "README.md", checkout / "results")  # of which a test reads its recipes at import
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


def build_wheel(folder):
    """Build the wheel of this checkout in a folder, and return its path; needs hatchling."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(python, wheel, plugins=None):
    """Unpack a wheel where an interpreter finds packages, which is what pip does, but for the scripts.

    plugins: text that replaces the entry points, for an installation of former times.
    """
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(python.parents[1])}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    if plugins:
        (points,) = packages.glob("bench_core-*.dist-info/entry_points.txt")
        points.write_text(plugins, encoding="utf-8")
