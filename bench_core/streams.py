"""Standard output and standard error that may be of any encoding, closed, full, or a pipe that nobody reads any more.

It imports nothing of bench_core: child_main.py loads it by its path, before pytest is imported.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

OUTPUT_LOST = 74  # exit code: EX_IOERR in sysexits.h; no outcome of a command has it
NOT_READ = 128 + 13  # as shells report a program that SIGPIPE has ended, such as `yes` in `yes | head`

_PLAINER = "bench_core.plainer"  # the name of an error handler of encodings
_PLAIN = str.maketrans({"─": "-", "±": "+-", "·": "*", "µ": "u", "…": "...", "¦": "|"})


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks: the like of ours in ASCII, an escape for others."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - it only serves streams for writing
    lacking = error.object[error.start : error.end].translate(_PLAIN)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_PLAINER, _plainer)


def plainer(text: str) -> str:
    """Return a text in which ASCII stands for what the encoding of stdout lacks, so that any program can print it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _PLAINER).decode(encoding)


class _Lossy(io.RawIOBase):
    """Writes to a file until that fails, and from then on nowhere. lost: why text was lost, None if none was."""

    def __init__(self, file: io.FileIO, failed: OSError | None = None) -> None:
        self.lost: OSError | None = None
        self._file, self._failed = file, failed
        self.name = file.name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: Any) -> int | None:
        if self._failed is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self._failed = error
        self.lost = self._failed
        return len(data)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Write what the encoding of a stream lacks in ASCII, and end with an exit code of its own if output is lost.

    Nothing is stopped by the loss: what is measured is worth more than its display. At the end one line on stderr says
    why stdout was lost, except for a pipe that its reader has closed, as `head` does. If stderr is lost, the exit code
    stays what it was. Raises SystemExit.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")}
    ended: SystemExit | None = None
    with contextlib.ExitStack() as at_end:
        at_end.callback(_put_back, before)
        lossy = _hardened("stdout", 1)
        _hardened("stderr", 2)
        try:
            yield
        except SystemExit as error:
            ended = error
        sys.stdout.flush()
        if lossy and lossy.lost:
            code = NOT_READ if lossy.lost.errno == errno.EPIPE else OUTPUT_LOST
            if code == OUTPUT_LOST:
                sys.stderr.write(f"bench-core: stdout: {lossy.lost.strerror}\n")
            ended = SystemExit(code)
    if ended:
        raise ended


def _hardened(name: str, descriptor: int) -> _Lossy | None:
    """Let a standard stream write to a _Lossy file, and return that; None for a stream that is not of a file."""
    stream = getattr(sys, name)
    if stream is None:  # closed by the shell, as by `>&-`: no file that is opened later may get its number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        if nowhere != descriptor:
            os.close(nowhere)
        file = io.FileIO(descriptor, "w", closefd=False)
        lossy = _Lossy(file, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        encoding, by_line = "utf-8", False
    elif isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_PLAINER)
        raw = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered, a stream has no other buffer
        if type(raw) is not io.FileIO:  # a console of Windows, or what a test has put there
            return None
        stream.flush()
        lossy, encoding, by_line = _Lossy(raw), stream.encoding, stream.line_buffering or stream.write_through
    else:
        return None
    hardened = io.TextIOWrapper(io.BufferedWriter(lossy), encoding, _PLAINER, line_buffering=by_line)
    if getattr(sys, f"__{name}__") is stream:  # one buffer for both, or their texts change places
        setattr(sys, f"__{name}__", hardened)
    setattr(sys, name, hardened)
    return lossy


def _put_back(before: Mapping[str, Any]) -> None:
    """Write what is left, and restore the streams of before."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for name, stream in before.items():
        setattr(sys, name, stream)
