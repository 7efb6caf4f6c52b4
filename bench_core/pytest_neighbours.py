"""Other plugins of pytest in the same session: which of them a measurement refuses, and why; what they change.

pytest-benchmark is needed to measure, but not to check answers: the fixture `measure` does without.
Plugins that are not named here need nothing: pytest-randomly shuffles items before they are grouped by worker, and
pytest-cov does not see the workers.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_ONLY = "--benchmark-only"
CODSPEED = (
    "pytest-codspeed times calls in this process, without waiting for a device; workloads are measured by "
    "--benchmark-only, without --codspeed"
)


def require_pytest_benchmark(early_config: pytest.Config, arguments: Sequence[str]) -> None:
    """Raise pytest.UsageError if --benchmark-only is given where no plugin declares it."""
    if _ONLY in map(str, arguments) and not hasattr(early_config.known_args_namespace, "benchmark_only"):
        raise pytest.UsageError(
            f"{_ONLY} needs pytest-benchmark, which is not loaded: leave out -p no:benchmark, or install it; "
            "without it, plain pytest checks the answers"
        )


def leave_no_empty_storage(early_config: pytest.Config) -> None:
    """Have the folder for saved runs, which pytest-benchmark makes in any case, removed at the end if it is empty."""
    given = early_config.known_args_namespace
    folder = Path(getattr(given, "benchmark_storage", "").removeprefix("file://")).absolute()
    if getattr(given, "benchmark_only", False) and not folder.exists():
        early_config.add_cleanup(functools.partial(_remove_empty, folder))


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def require_alone(config: pytest.Config) -> None:
    """Raise pytest.UsageError if another plugin makes it impossible to measure. Their own errors are less clear."""
    if getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("benchmarks share one machine and are measured one at a time: run without pytest-xdist")
    if is_codspeed_active(config):
        raise pytest.UsageError(CODSPEED)


def is_codspeed_active(config: pytest.Config) -> bool:
    """Whether pytest-codspeed measures in this session: it then replaces the fixture of pytest-benchmark."""
    given = config.getoption("codspeed", None)
    return given is not None and (given or "CODSPEED_ENV" in os.environ)


def is_benchmark_loaded(config: pytest.Config) -> bool:
    """Whether pytest-benchmark is loaded in this session."""
    return hasattr(config.option, "benchmark_only")


class Unrecorded:
    """What takes the samples in the place of pytest-benchmark's fixture, and keeps none."""

    disabled = False

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def is_rerun(item: pytest.Item) -> bool:
    """Whether pytest-rerunfailures runs an item again, because it has failed."""
    return getattr(item, "execution_count", 1) > 1
