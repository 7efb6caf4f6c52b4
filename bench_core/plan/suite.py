"""The benchmarks that come with bench_core: where they lie, and whether a folder has benchmarks of its own.

In a clone they are the folder `benchmarks` beside bench_core. A wheel installs that folder as the package
`bench_core_suite`, since a package named `benchmarks` in site-packages would collide with that of any other project.
bench_core imports neither: pytest collects the files, under the same ids in both cases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path

PACKAGE = "bench_core_suite"  # as in pyproject.toml
_IN_A_CLONE = "benchmarks"
_ROOT = Path(__file__).resolve().parents[2]


class UseSuite(StrEnum):
    """When the suite is measured: never of its own accord, if a folder has no other benchmarks, or in any case.

    Paths that the user names take precedence over it.
    """

    NEVER = "never"
    AUTO = "auto"
    ALWAYS = "always"


def folder(root: Path = _ROOT) -> Path | None:
    """Return the folder of the suite, None if it is not there. root: the folder that contains bench_core."""
    is_clone = (root / "pyproject.toml").is_file()  # in site-packages `benchmarks` belongs to another project
    found = root / (_IN_A_CLONE if is_clone else PACKAGE)
    return found if found.is_dir() else None


def node_path(file: Path, root: Path = _ROOT) -> str | None:
    """Return "benchmarks/bench_NAME.py", with which pytest ids begin in a clone, for a file of the suite; else None."""
    home = folder(root)
    if home is None or not file.resolve().is_relative_to(home):
        return None
    return f"{_IN_A_CLONE}/{file.resolve().relative_to(home).as_posix()}"


def located(argument: str, start: Path, root: Path = _ROOT) -> str:
    """Return an argument of pytest with the path of an existing file in place of one that begins like `node_path`.

    start: the folder to which the argument is relative. Only what does not exist there is looked for in the suite.
    """
    path, separator, names = argument.partition("::")
    home = folder(root)
    if home is None or Path(path).parts[:1] != (_IN_A_CLONE,) or (start / path).exists():
        return argument
    return f"{home.joinpath(*Path(path).parts[1:])}{separator}{names}"


def has_own(
    paths: Iterable[Path],
    is_benchmark: Callable[[Path], bool],
    *,
    recursive: bool,
    ignored: Sequence[str] = (),
) -> bool:
    """Return whether any file below the paths is a benchmark. ignored: patterns of folder names to leave out."""
    return any(is_benchmark(file) for path in paths for file in _files(path, recursive, ignored))


def _files(path: Path, recursive: bool, ignored: Sequence[str]) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder_name, below, names in os.walk(path):
        yield from (Path(folder_name, name) for name in names)
        below[:] = [name for name in below if recursive and not _is_ignored(Path(folder_name, name), ignored)]


def _is_ignored(path: Path, ignored: Sequence[str]) -> bool:
    is_environment = (path / "pyvenv.cfg").is_file()  # in which the suite itself may be installed
    return is_environment or any(fnmatch(path.name, pattern) for pattern in ignored)
