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
# IPv4, IPv6 (whole, or with its zeros left out), MAC in three forms, mail.
_HEX = "[0-9a-fA-F]"
_ADDRESS = "|".join(
    (
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}\b(?!\.\d)",
        rf"(?<![\w:])(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}(?![\w:])",
        rf"(?<![\w:]){_HEX}{{1,4}}(?::{_HEX}{{1,4}})*::(?:{_HEX}{{1,4}}(?::{_HEX}{{1,4}})*)?(?![\w:])",
        rf"(?<![\w:])::{_HEX}{{1,4}}(?::{_HEX}{{1,4}})*(?![\w:])",
        rf"\b(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}\b|\b(?:{_HEX}{{2}}-){{5}}{_HEX}{{2}}\b|\b(?:{_HEX}{{4}}\.){{2}}{_HEX}{{4}}\b",
        r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
    )
)
_VERSION = r"(?<![\w.])\d+(?:\.\d+){3}(?![\w.])"  # of four numbers, as an address has
_OPTION = r"(?<=\s-[A-Za-z])|(?<=^-[A-Za-z])"  # a path may begin there: "-I/usr/include"
_PATH = (
    rf"(?:(?<![\w.:/\\])|{_OPTION})(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"<>|:;,()\[\]/\\]+[/\\])+(?=[^\s'\"<>|:;,()\[\]/\\]*)"
)
_EVERYDAY = {"root", "user", "home", "localhost", "admin", "ubuntu", "main", "runner"}
_EVERYDAY |= {"cuda", "torch", "cupy", "numpy", "jax", "cpu", "gpu", "host", "amd", "intel", "nvidia", "linux", "bench"}
_EVERYDAY |= {"test", "tests", "dev", "data", "smoke", "quick", "standard", "full", "float32", "default"}
_EVERYDAY |= {"docker", "python", "pip", "kvm", "debian", "jenkins", "system", "gitlab", "github"}
# "GNU/Linux", "1 / 2", "(a)/b", "https://" and "\\x1b" are no paths.
_ROOTED = rf"(?:(?<![\w.)\]])|{_OPTION})(?<!:/)(?:(?:~|[A-Za-z]:)?/|(?:~|[A-Za-z]:|\\)\\)(?=[\w.~$-])"
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
    while (shorter := re.sub(_ROOTED, "", re.sub(_PATH, "", text))) != text:  # what is cut may lay another one bare
        text = shorter
    return text


def why_private(value: str, *, of_version: bool = False) -> str | None:
    """Return which private data a value contains ("a path"); None if it may be published.

    of_version: whether it is that of a version, of which some look like addresses ("9.19.0.56").
    """
    if of_version:
        value = re.sub(_VERSION, "", value)
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
