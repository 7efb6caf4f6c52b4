"""Temporary folders that end with this process, or soon after if it is killed: a later process removes them.

Each has a file that this process has locked: the system ends the lock with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import stat
import tempfile
import time
import zlib
from pathlib import Path

# With the host: some file systems that several of them share have locks of each host alone.
_PREFIX = f"bench-core-scratch-{zlib.crc32(platform.node().encode()):08x}-"
_LOCK = ".lock"
_YOUNG_S = 60.0  # within this time a new folder gets its lock


class Scratch(tempfile.TemporaryDirectory[str]):
    """A new temporary folder, only for this user. Raises OSError if there is none to write to."""

    def __init__(self) -> None:
        _sweep(tempfile.gettempdir())
        super().__init__(prefix=_PREFIX, ignore_cleanup_errors=True)
        file = Path(self.name, _LOCK)
        self._lock = file.open("wb")
        try:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (ImportError, OSError):  # nobody could know whether this process lives, so nobody may remove it
            self._lock.close()
            file.unlink()

    def cleanup(self) -> None:
        self._lock.close()
        super().cleanup()


@functools.cache
def _sweep(folder: str) -> None:
    """Remove what processes of this user that have been killed on this host have left in a folder. Raises nothing."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl  # noqa: PLC0415 - not on Windows

        for left in Path(folder).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # such as: it is locked, or has no lock
                about = left.lstat()
                is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
                if is_ours and time.time() - about.st_mtime > _YOUNG_S:
                    with (left / _LOCK).open("rb") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(left, ignore_errors=True)
