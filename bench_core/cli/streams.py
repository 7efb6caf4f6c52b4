"""Standard output that may be of any encoding, closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

import typer

OUTPUT_LOST = 74  # exit code: EX_IOERR in sysexits.h; no outcome of a command has it
NOT_READ = 128 + 13  # as shells report a program that SIGPIPE has ended, such as `yes` in `yes | head`

_FAILED = frozenset({errno.EBADF, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE, errno.ESHUTDOWN})


_PLAINER = "bench_core.plainer"  # the name of an error handler of encodings
_PLAIN = str.maketrans({"─": "-", "±": "+-", "·": "*", "µ": "u", "…": "...", "¦": "|"})


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks: the like of ours in ASCII, an escape for others."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - it only serves streams for writing
    lacking = error.object[error.start : error.end].translate(_PLAIN)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_PLAINER, _plainer)


class _Closed(io.TextIOBase):
    """Takes the place of the standard output that a shell has closed (`>&-`)."""

    def write(self, text: str) -> int:
        if text:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return 0


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Write what the encoding of a stream lacks in ASCII, and end with an exit code of its own if output is lost.

    One line on stderr says why, except for a pipe that its reader has closed, as `head` does. Typer alone would end
    with 1, the exit code of a regression. Raises SystemExit.
    """
    if sys.stdout is None:
        sys.stdout = _Closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAINER)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _FAILED:
            raise
        _silence()
        if error.errno == errno.EPIPE:
            raise SystemExit(NOT_READ) from None
        with contextlib.suppress(OSError):
            typer.echo(f"bench-core: stdout: {error.strerror}", err=True)
        raise SystemExit(OUTPUT_LOST) from None


def _silence() -> None:
    """Let the interpreter flush what is left into nothing; otherwise it reports the error again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
