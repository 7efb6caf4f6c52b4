"""One process drives a fleet: a lock that the system releases however that process ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench_core.errors import UsageError
from bench_core.fleet.plan import FleetFolder

LOCK = "lock"  # a file in the private folder


@contextlib.contextmanager
def alone(folder: FleetFolder) -> Iterator[None]:
    """Be the only process that drives a fleet, however this process ends; raises UsageError if another one does."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        yield
        return
    with (folder.private / LOCK).open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder.path}: another process is measuring this fleet") from None
        except OSError:
            pass  # this file system has no locks
        yield


def is_driven(folder: FleetFolder) -> bool | None:
    """Return whether a process drives a fleet now; None if that cannot be known, because there are no locks here."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    try:
        with (folder.private / LOCK).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
