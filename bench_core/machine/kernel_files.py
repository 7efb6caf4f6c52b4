"""What the kernel tells: its files, below ROOT, so that a test can supply its own, lists of CPUs, and other queries."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench_core.records import Fact

ROOT = Path("/")
_ENTRY = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")  # of a list of CPUs


def read_bytes(path: str) -> bytes | None:
    """Return the contents of a kernel file; None if it cannot be read."""
    try:
        return located(path).read_bytes()
    except OSError:
        return None


def read(path: str) -> str | None:
    """Return the text of a kernel file; None if it cannot be read."""
    found = read_bytes(path)
    return None if found is None else found.decode("utf-8", errors="replace").strip("\0 \n\t")


def read_number(path: str) -> int | None:
    """Return the number in a kernel file; None if it cannot be read, or holds none ("max")."""
    text = read(path) or ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None


def why_unread(path: str) -> str:
    """Return why a file or pattern cannot be read, with its name: "no /proc/cpuinfo", "/proc/stat: Permission denied".

    "no value in PATH" if it can be read after all.
    """
    if "*" in path:
        return f"no {path}"
    try:
        located(path).read_bytes()
    except FileNotFoundError:
        return f"no {path}"
    except OSError as error:
        return f"{path}: {error.strerror or type(error).__name__}"
    return f"no value in {path}"


def asked(read: Callable[[], Any], source: str) -> Fact:
    """Return what `read` returns as a fact; if it raises or returns None, the reason. Raises nothing.

    Every query of psutil goes through here. Where a file of /proc is hidden, empty or foreign, it raises whatever its
    parser meets: KeyError, TypeError, ValueError, IndexError; where a line is missing, it warns.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = read()
    except Exception as error:  # noqa: BLE001 - a fact less, not a run
        return Fact(reason=f"{source}: {type(error).__name__}")
    return Fact(reason=f"{source} gives no value") if value is None else Fact(value, source)


def exists(path: str) -> bool:
    """Whether there is such a file or folder; False also where that may not be asked."""
    try:
        return located(path).exists()
    except OSError:
        return False


def matching(pattern: str) -> list[str]:
    """Return the kernel files or folders that match a pattern, as paths for `read`."""
    try:
        return sorted(str(Path("/") / path.relative_to(ROOT)) for path in ROOT.glob(pattern.lstrip("/")))
    except OSError:  # a folder that may not be listed
        return []


def located(path: str) -> Path:
    """Return where a kernel file lies."""
    return ROOT / path.lstrip("/")


def numbers(text: str) -> frozenset[int]:
    """Return the numbers of a list such as "0-3,8"; none if anything in it is neither a number nor a range."""
    found: set[int] = set()
    for entry in text.split(","):
        if (match := _ENTRY.fullmatch(entry.strip())) is None:
            return frozenset()
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def ranges(chosen: Iterable[int]) -> str:
    """Return numbers as "0-3,8"."""
    every = set(chosen)
    starts = sorted(n for n in every if n - 1 not in every)
    ends = sorted(n for n in every if n + 1 not in every)
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
