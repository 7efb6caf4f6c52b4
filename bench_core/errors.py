"""Every error that bench_core raises on purpose.

BenchError
├── UsageError         an invalid option, filter or plan                          exit code 2
├── TableError         a result file that cannot be read; names file and line     exit code 3
├── NothingToCompare   no two results are of the same work                        exit code 3
├── IncompatibleError  results that must not be compared                          exit code 4
├── InternalError      a bug in bench_core                                        exit code 70
└── CaseError          why one case has no value; becomes a row, never a crash
    ├── Unavailable    the backend or its device is not available                 skipped
    ├── Unsupported    the backend is available but cannot do this work           unsupported
    ├── TooLarge       the case does not fit into the free memory                 skipped
    ├── TooSlow        one call would exceed the time limit                       skipped
    ├── RankFailed     one of several ranks has raised one of the others          its status
    ├── ClockStandsStill  many calls took no time by a clock                      error
    └── WrongAnswer    the kernel ran and its answer is wrong                     invalid
"""

from __future__ import annotations

import warnings
from pathlib import Path

from bench_core.text import harmless


class BenchError(Exception):
    """Base of all errors that bench_core raises on purpose.

    The text is one line for the user. Control and formatting characters of what it quotes (a path, an option, the
    message of a library) are escaped, so that whoever catches the error may show it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(harmless(message))


class UsageError(BenchError):
    """An invalid option, filter or plan."""

    exit_code = 2


class TableError(BenchError):
    """A result file that cannot be read."""

    exit_code = 3

    def __init__(self, path: Path | str, message: str, line: int | None = None) -> None:
        self.path, self.line = Path(path), line
        super().__init__(f"{_place(path, line)}: {message}")


def warn_of(path: Path | str, message: str, line: int | None = None) -> None:
    """Warn of what is wrong with a file that can be read; the text is as safe to show as that of a BenchError."""
    warnings.warn(harmless(f"{_place(path, line)}: {message}"), stacklevel=3)


def _place(path: Path | str, line: int | None) -> str:
    return f"{path}:{line}" if line is not None else f"{path}"


class NothingToCompare(BenchError):
    """No two results are of the same work."""

    exit_code = 3


class IncompatibleError(BenchError):
    """Results that must not be compared with each other."""

    exit_code = 4


class InternalError(BenchError):
    """A bug in bench_core: the user should report it and not trust the results."""

    exit_code = 70  # EX_SOFTWARE of sysexits.h


class CaseError(BenchError):
    """Why one case has no value.

    status: a value of records.Status. code: machine-readable, the column `reason_code`. The text of the error is the
    column `reason`.
    """

    status = "error"

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Unavailable(CaseError):
    """The backend, its library or its device is not available on this machine."""

    status = "skipped"


class Unsupported(CaseError):
    """The backend is available but cannot do this work."""

    status = "unsupported"


class TooLarge(CaseError):
    """The case needs more memory than is free."""

    status = "skipped"

    def __init__(self, reason: str) -> None:
        super().__init__("too_large", reason)


class TooSlow(CaseError):
    """One call would exceed the time limit, extrapolated from a smaller call."""

    status = "skipped"

    def __init__(self, reason: str) -> None:
        super().__init__("too_slow", reason)


class RankFailed(CaseError):
    """Raised on every rank, the failing one included, instead of the CaseError of one rank.

    A wrong answer stays WrongAnswer.
    """

    def __init__(self, status: str, code: str, reason: str) -> None:
        self.status = status
        super().__init__(code, reason)


class ClockStandsStill(CaseError):
    """Many calls took no time by a clock: the clock is broken, or it sees no work of these calls."""

    def __init__(self, reason: str) -> None:
        super().__init__("clock_stands_still", reason)


class WrongAnswer(CaseError):
    """The kernel ran and its answer is wrong, so its time must not be reported."""

    status = "invalid"

    def __init__(self, reason: str, rel_error: float | None = None, code: str = "wrong_answer") -> None:
        self.rel_error = rel_error
        super().__init__(code, reason)
