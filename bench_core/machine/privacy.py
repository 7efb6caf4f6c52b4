"""Keep private data out of files: host and user names, paths, addresses and UUIDs.

`scrub` masks them in free text that a library wrote (error messages contain paths). `why_private` checks values
that are kept or withheld as a whole.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import re
import socket
from pathlib import Path

_UUID = r"(?:(?:GPU|MIG)-)?(?:GPU-)?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?:/\d+/\d+)?"
_ADDRESS = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}\b(?!\.\d)|\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"
_PATH = r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"<>|:;,()\[\]/\\]+[/\\])+(?=[^\s'\"<>|:;,()\[\]/\\]*)"
_EVERYDAY = {"root", "user", "home", "localhost", "admin", "ubuntu", "main", "runner"}
_EVERYDAY |= {"cuda", "torch", "cupy", "numpy", "jax"}
_ROOTED = r"(?:^|[\s:=,;'\"])(?:~|[A-Za-z]:)?[/\\]"  # "GNU/Linux" is not a path
_SHORTEST_NAME = 3  # a user called "a" must not turn every "a" of a sentence into "<user>"


def scrub(text: str) -> str:
    """Return `text` with names, UUIDs and addresses masked and every path cut to its last component."""
    text = re.sub(_UUID, "<uuid>", text)
    text = without_folders(text)
    text = re.sub(_ADDRESS, "<address>", text)
    for name, mask in _names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", mask, text)
    return text


def without_folders(text: str) -> str:
    """Return `text` with every path from the root or the home folder cut to its last component."""
    return re.sub(_PATH, "", text)


def why_private(value: str) -> str | None:
    """Return which private data a value contains ("a path"); None if it may be published."""
    for pattern, what in ((_UUID, "a UUID"), (_ADDRESS, "an address"), (_ROOTED, "a path")):
        if re.search(pattern, value):
            return what
    named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", value) for name, _ in _names())
    return "a host or user name" if named else None


@functools.cache
def _names() -> tuple[tuple[str, str], ...]:
    """Return (name, mask) pairs, the longest name first; short names and common words are not masked."""
    names: dict[str, str] = {}
    # No host name, no home, a user id without a name: as in many containers. What is not there cannot come out.
    unknown = contextlib.suppress(OSError, KeyError, ImportError, RuntimeError)
    with unknown:
        host = socket.gethostname()
        names |= {host: "<host>", host.partition(".")[0]: "<host>"}
    with unknown:
        names[Path.home().name] = "<user>"
    with unknown:
        names[getpass.getuser()] = "<user>"
    kept = {name: mask for name, mask in names.items() if len(name) >= _SHORTEST_NAME and name not in _EVERYDAY}
    return tuple(sorted(kept.items(), key=lambda item: -len(item[0])))
