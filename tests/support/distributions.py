"""Checks what `python -m build` has made: `python tests/support/distributions.py DIST`.

The sdist must hold every file that git tracks, so that the tests can be run from it; the wheel, which is built from the
sdist, both packages and no tests. What is missing or does not belong there is printed, and the exit code is 1.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"bench_core": "bench_core", "benchmarks": "bench_core_suite"}  # folder -> its name in the wheel
MARK = "bench_core/py.typed"


def tracked():
    """Return the files that git tracks; without git (in an unpacked sdist) those of the two packages."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        return {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {MARK, *(path.relative_to(ROOT).as_posix() for path in files)}


def in_sdist(path):
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def in_wheel(path):
    """Return the files of a wheel but for those of its metadata."""
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def wrong(folder):
    """Yield a line for everything that is wrong in a folder of distributions."""
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    known = tracked()
    yield from (f"{sdist.name} lacks {name}" for name in sorted(known - in_sdist(sdist)))
    packages = {name.partition("/") for name in known}
    expected = {f"{PACKAGES[first]}/{rest}" for first, _, rest in packages if first in PACKAGES} | {MARK}
    there = in_wheel(wheel)
    yield from (f"{wheel.name} lacks {name}" for name in sorted(expected - there))
    others = {name for name in there if name.partition("/")[0] not in PACKAGES.values() or "/test_" in name}
    yield from (f"{wheel.name} should not hold {name}" for name in sorted(others))


if __name__ == "__main__":
    lines = [*wrong(Path(sys.argv[1]))]
    print("\n".join(lines or ["both distributions hold what they should"]))
    sys.exit(1 if lines else 0)
