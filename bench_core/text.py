"""Make text from files, libraries and other sources safe to show."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

_JOINER, _COLOURED = "\u200d", "\ufe0f"
_VIRAMA = 9  # the combining class of the sign that takes the vowel from a consonant (Unicode, section 4.3)
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and a symbol that are blank
LONGEST = 300  # characters of a text that are shown by default


def decoded(raw: bytes | str) -> str:
    """Return what a library gives as bytes or as text, as text; bytes that are no UTF-8 are replaced."""
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw


def one_line(text: object) -> str:
    """Return a text on one line, with every run of white space replaced by one space."""
    return " ".join(str(text).split())


def harmless(text: str) -> str:
    r"""Return a text of any length on one line, its control and formatting characters escaped as by `printable`.

    Every text of a file passes this when it is read, so that no output has to remember it: a raw ANSI escape or a
    bidirectional override would show something else than the file contains, in a terminal, in a CSV, on a page.
    """
    return text if text.isprintable() else _visible(one_line(text))


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Return a text for one line of a terminal or a page, cut to `longest` characters.

    Control and formatting characters are escaped: ANSI escapes, NUL and bidirectional overrides become visible
    `\x1b`, `\x00`, `\u202e`. HTML is not escaped: the template does that.
    """
    return _spelt_out(one_line(text[: 2 * longest]), longest)


def _spelt_out(text: str, longest: int) -> str:
    shown = _visible(text)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (c == _JOINER and _is_joined(text, i)) else ascii(c)[1:-1] for i, c in enumerate(text)
    )


def _is_joined(text: str, place: int) -> bool:
    """Return whether a joiner makes one sign of the characters on both sides of its place.

    Those are the parts of an emoji, and in scripts of India a consonant with a virama before the next letter.
    """
    if not 0 < place < len(text) - 1:
        return False
    before, after = text[place - 1], text[place + 1]
    if unicodedata.combining(before) == _VIRAMA:
        return unicodedata.category(after) == "Lo"
    return _is_emoji(before) and _is_emoji(after)


def _is_emoji(character: str) -> bool:
    """Return whether a character is a symbol beyond ASCII, a colour of skin, or the selector of a coloured form."""
    return not character.isascii() and (character == _COLOURED or unicodedata.category(character) in {"So", "Sk", "Sm"})


def is_visible(text: str) -> bool:
    """Return whether a text has a character that can be seen: not only marks, joiners and fillers."""
    return any(c not in _FILLERS and unicodedata.category(c)[0] in "LNPS" for c in text)


def printable_lines(text: str, longest: int) -> str:
    """Return a text of several lines for a terminal: as `printable`, but of a long one the middle is left out."""
    shown = "\n".join(_visible(line) for line in text.split("\n"))
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}\n...\n{shown[-half:]}"


def quoted(text: str, longest: int = 40) -> str:
    """Return a word or a cell in quotes, for an error message. White space is kept, because it may be the error."""
    shown = _spelt_out(text[: 2 * longest], longest)
    quote = '"' if "'" in shown and '"' not in shown else "'"
    return f"{quote}{shown}{quote}"


def no_such(what: str, word: str, available: Iterable[str], longest: int = 900) -> str:
    """Return what to say of a word that is none of those available, with the nearest of these.

    what: what the word should be the name of, "" for nothing. A part of a name is near it, as cpu is to cpu.model.

    >>> no_such("column", "wrkload", ["workload", "size"])
    "no column 'wrkload'; did you mean 'workload'? available: workload, size"
    """
    known = list(available)
    by_lower = {name.lower(): name for name in known}
    typed = word[:100].lower()
    near = difflib.get_close_matches(typed, by_lower, n=1, cutoff=0.75)  # a swap of letters in four
    near = near or [name for name in by_lower if len(typed) > 1 and typed in re.split(r"[ ._-]", name)]  # a part of it
    meant = f"; did you mean {quoted(by_lower[near[0]])}?" if near else ";"
    there = printable(", ".join(name or "(empty)" for name in known) or "none", longest)
    return f"no {what}{' ' * bool(what)}{quoted(word)}{meant} available: {there}"


def file_name(text: str, longest: int = 60) -> str:
    """Return a text as part of a file name: lower case, only letters a to z, digits, `.` and `_`, and `-` for the rest.

    >>> file_name("gpt_train · 6L6H384 · tokens per second"), file_name("../..")
    ('gpt_train-6l6h384-tokens-per-second', '')
    """
    return re.sub(r"[^a-z0-9._]+", "-", text.lower())[:longest].strip("-.")
