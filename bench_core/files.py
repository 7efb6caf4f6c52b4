"""Read and write whole files: files that are not text are rejected, and no reader sees half a file."""

from __future__ import annotations

import hashlib
import os
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
    """Write a whole file or nothing: a reader never sees half of it, not even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
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
