"""The formats that `bench-core import` reads, and the refusal of every other file by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench_core.errors import TableError
from bench_core.files import decoded, digest, read_bytes
from bench_core.imported import babelstream, google_benchmark, nvbandwidth, nvbench, pytest_benchmark
from bench_core.imported.entries import Imported
from bench_core.results.foreign import TOOLS, kind_of, tool_of, unpacked

MOST_BYTES = 512 << 20
READERS: Mapping[str, Callable[[Path, str], Imported]] = {
    module.TOOL: module.read for module in (pytest_benchmark, google_benchmark, nvbench, babelstream, nvbandwidth)
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file and what is in it. digest: the SHA-256 of its text with line feeds."""

    path: Path
    digest: str
    contents: Imported


def read(path: Path, tool: str = "") -> Source:
    """Return the contents of a file, which may be packed. tool: by whose format it is read; "" for what it looks like.

    Raises TableError for a file of no known format, and for one that is damaged.
    """
    text = decoded(path, unpacked(path, read_bytes(path, MOST_BYTES)))
    if not text.strip():
        raise TableError(path, "the file is empty")
    found = tool or tool_of(text)
    if not found:
        kind = kind_of(path, text)
        what = f"{kind}, which is not imported" if kind else "of no format that is imported"
        raise TableError(path, f"{what}; the formats are those of {', '.join(TOOLS)} (--as names one)")
    return Source(path, digest(text), READERS[found](path, text))
