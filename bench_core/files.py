"""Read and write whole files: files that are not text are rejected, and no reader sees half a file."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from bench_core.errors import TableError

MOST_BYTES = 1 << 30  # a run of 100,000 cases has about 50 MB
# Byte order marks; that of UTF-32 in little-endian order begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_LOOKED_AT = 1024  # bytes at the beginning of a file by which text and binary files are told apart
_CONTROLS = bytes({*range(0x20)} - {*b"\t\n\v\f\r\x1a\x1b"})  # no text in any encoding of ASCII has them
_MOST_CONTROLS = 0.02  # of the first bytes: random ones are control characters in 10 % of cases

# Linux, and other systems; the links in /dev lead there.
_DESCRIPTOR = re.compile(r"/(?:proc/(?P<process>\d+)(?:/task/\d+)?|dev)/fd/(?P<number>\d+)")
_MOST_LINKS = 40  # that a path may have on Linux
_NOT_ONTO = {errno.EEXIST, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP}


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a file; raises TableError as `read_bytes` and `decoded` do."""
    return decoded(path, read_bytes(path, most_bytes))


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file; raises TableError if it is not a regular file, is too large or cannot be read."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise TableError(path, "not a file")
        if about.st_size > most_bytes:
            raise TableError(path, f"{about.st_size:,} bytes: more than the {most_bytes:,} that are read")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise TableError(path, why_unreadable(error)) from None


def why_unreadable(error: OSError | ValueError) -> str:
    """Return why a path cannot be read, for people. ValueError: of a path with a NUL."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "no such file or folder"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; raises TableError if it is nothing that can be read."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise TableError(path, why_unreadable(error)) from None


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False for one that may not be entered, or is longer than a path can be."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises then


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link; False for one in a folder that may not be entered."""
    return os.path.islink(path)  # noqa: PTH114 - Path.is_symlink raises then


def decoded(path: Path, raw: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises TableError for anything else: with the line of what is no text, or, for a file that is no text at all,
    without the advice to save it in another encoding.
    """
    name = next((name for mark, name in _MARKS if raw.startswith(mark)), "UTF-8")
    try:
        text = raw.decode("utf-8-sig" if name == "UTF-8" else name)
    except UnicodeDecodeError as error:
        if name == "UTF-8":
            _refuse_binary(path, raw)
        line = raw.count(b"\n", 0, error.start) + 1
        raise TableError(path, f"is not {name} text: save it as UTF-8", line) from None
    if "\0" in text:
        if name == "UTF-8":
            _refuse_binary(path, raw)
        raise TableError(path, "holds a NUL byte: damaged, or not text", text.count("\n", 0, text.index("\0")) + 1)
    return text


def _refuse_binary(path: Path, raw: bytes) -> None:
    """Raise TableError for bytes whose beginning is UTF-16 without a mark, or cannot be of a text with some damage."""
    if not raw.strip(b"\0"):
        raise TableError(path, "holds only NUL bytes: damaged, perhaps by a power cut")
    start = raw[:_LOOKED_AT]
    nuls = sorted([start[0::2].count(0), start[1::2].count(0)])  # UTF-16 of ASCII: every second byte
    if nuls[0] == 0 and 4 * nuls[1] > len(start):
        raise TableError(path, "looks like UTF-16 without a byte order mark: save it as UTF-8", 1)
    if 10 * start.count(0) > 7 * len(start):  # three bytes of four of ASCII
        raise TableError(path, "looks like UTF-32 without a byte order mark: save it as UTF-8", 1)
    if _MOST_CONTROLS * len(start) < len(start) - len(start.translate(None, _CONTROLS)):
        raise TableError(path, "a binary file of an unknown kind")


def encoded(text: str) -> bytes:
    """Return a text in UTF-8. Half a surrogate pair, which UTF-8 cannot encode, becomes an escape."""
    return text.encode("utf-8", "backslashreplace")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it, not even after a power cut.

    A symbolic link stays, and the file that it names is written. A character device or a FIFO gets the content, and
    stays what it is; so does an open file of a process, such as /dev/stdout: what a shell has redirected there is
    neither replaced nor cut off. A file that may not be written is not replaced either. A text is written as `encoded`.
    Raises OSError if the file cannot be written.
    """
    raw = encoded(content) if isinstance(content, str) else content
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.exists takes a loop of links for nothing, which it replaces
    except FileNotFoundError:
        mode = None
    opened = _open_file(path)
    if opened is not None:
        with opened as stream:
            stream.write(raw)
    elif mode is None or stat.S_ISREG(mode):
        _write_regular(Path(os.path.realpath(path)), raw, mode)
    elif stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a block device, such as a disk", str(path))
    else:
        with path.open("wb") as stream:  # of a folder and of a socket it raises OSError
            stream.write(raw)


def _open_file(path: Path) -> BinaryIO | None:
    """Return a stream to the open file of a process that a path names, as /dev/stdout and /dev/fd/3 do, or None.

    Raises OSError if it is not open.
    """
    name = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps `..`
    for _ in range(_MOST_LINKS):
        folder, last = os.path.split(name)
        name = os.path.join(os.path.realpath(folder), last)  # noqa: PTH118 - a string
        if found := _DESCRIPTOR.fullmatch(name):
            if found["process"] not in {None, str(os.getpid())}:
                return Path(name).open("ab")
            _flush_standard_streams()
            # A copy has the position of the original, and appends if that does. To open the name starts at 0.
            return os.fdopen(os.dup(int(found["number"])), "wb")
        if not os.path.islink(name):  # noqa: PTH114 - a string
            return None
        name = os.path.join(folder, os.readlink(name))  # noqa: PTH115, PTH118 - strings
    return None


def _flush_standard_streams() -> None:
    """Write what this process has said before, so that it stands before what follows."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _write_regular(path: Path, raw: bytes, mode: int | None) -> None:
    """Write a file beside the path, and rename it to that. mode: of the file that is there, None if there is none."""
    if mode is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    temporary = path.with_name(f".bench-core-{secrets.token_hex(8)}.tmp")
    # Exclusively: in a folder that others may write to, a link of this name must not choose what is overwritten.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            with contextlib.suppress(OSError):  # some file systems have no modes
                temporary.chmod(stat.S_IMODE(mode))
        _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Rename a file to a path. If that fails, what was there before is there again, or the error names where it is."""
    try:
        temporary.replace(path)
    except OSError as error:
        # Some network and FUSE file systems cannot rename onto an existing file.
        if error.errno not in _NOT_ONTO or not path.exists():
            raise
    else:
        return
    aside = temporary.with_suffix(".old")
    path.rename(aside)
    try:
        temporary.rename(path)
    except BaseException as error:
        try:
            aside.rename(path)
        except OSError:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise OSError(errno.EIO, f"{why}; what was there is now {aside.name}", str(path)) from error
        raise
    aside.unlink()


def digest(content: str | bytes) -> str:
    """Return the SHA-256 of a text file with line feeds as line ends, in hexadecimal.

    git (`core.autocrlf`) and editors on Windows write CR LF; the contents are the same.
    """
    raw = encoded(content) if isinstance(content, str) else content
    return hashlib.sha256(raw.replace(b"\r\n", b"\n")).hexdigest()
