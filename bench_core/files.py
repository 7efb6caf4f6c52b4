"""Read and write whole files: files that are not text are rejected, and no reader sees half a file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

from bench_core.errors import TableError

MOST_BYTES = 1 << 30  # a run of 100,000 cases has about 50 MB


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the text of a file; raises TableError if it is not a regular file, is too large or is not UTF-8."""
    try:
        if not path.is_file():
            raise TableError(path, "not a file" if path.exists() else "no such file or folder")
        if path.stat().st_size > most_bytes:
            raise TableError(path, f"{path.stat().st_size:,} bytes: more than the {most_bytes:,} a table may have")
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise TableError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TableError(path, "is UTF-16: save it as UTF-8", 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(path, "is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1) from None
    if "\0" in text:
        raise TableError(path, "holds a NUL byte: damaged, or not text", text.count("\n", 0, text.index("\0")) + 1)
    return text


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it, not even after a power cut.

    A symbolic link stays, and the file that it names is written. A character device or a FIFO gets the content, and
    stays what it is. A file that may not be written is not replaced either. Half a surrogate pair, which UTF-8 cannot
    encode, is written as an escape. Raises OSError if the file cannot be written.
    """
    raw = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    mode = path.stat().st_mode if path.exists() else None
    if mode is None or stat.S_ISREG(mode):
        _write_regular(Path(os.path.realpath(path)), raw, mode)
    elif stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a block device, such as a disk", str(path))
    else:
        with path.open("wb") as stream:  # of a folder and of a socket it raises OSError
            stream.write(raw)


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
    try:
        temporary.replace(path)
    except OSError:
        # Some network and FUSE file systems cannot rename onto an existing file.
        if not path.exists():
            raise
        path.unlink()
        temporary.rename(path)


def digest(text: str) -> str:
    """Return the SHA-256 of a file's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
