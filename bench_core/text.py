"""Text from files, libraries and strangers, made fit to be shown."""

from __future__ import annotations

LONGEST = 300  # characters of any text that is shown, where nobody says otherwise


def one_line(text: object) -> str:
    """Return a text on one line, every run of white space as one space."""
    return " ".join(str(text).split())


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Return a text on one line of a terminal or a page, cut to `longest` characters.

    Control and formatting characters are spelt out: ANSI escapes, NUL and bidirectional overrides become visible
    `\x1b`, `\x00`, `\u202e`. HTML is left alone: escaping is the template's part.
    """
    return _spelt_out(one_line(text[: 2 * longest]), longest)


def _spelt_out(text: str, longest: int) -> str:
    shown = _visible(text)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def printable_lines(text: str, longest: int) -> str:
    """Return a text of several lines for a terminal: as `printable`, but of a long one the middle is left out."""
    shown = "\n".join(_visible(line) for line in text.split("\n"))
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}\n...\n{shown[-half:]}"


def quoted(text: str, longest: int = 40) -> str:
    """Return a word or a cell for an error message: in quotes, with every blank of it, which may be what is wrong."""
    shown = _spelt_out(text[: 2 * longest], longest)
    quote = '"' if "'" in shown and '"' not in shown else "'"
    return f"{quote}{shown}{quote}"
