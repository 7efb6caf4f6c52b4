"""A live line for a person at a terminal: what is being measured, to the right of pytest's own dots.

The cursor goes back to where it was, so that pytest writes on as if nothing had been there.
"""

from __future__ import annotations

from collections.abc import Callable

_SAVE, _RESTORE, _ERASE = "\x1b7", "\x1b8", "\x1b[K"


class Progress:
    """Writes one status over the last.

    write: puts text on the terminal. room: how many columns are free to the right of the cursor.
    """

    def __init__(self, write: Callable[[str], None], room: Callable[[], int]) -> None:
        self._write, self._room = write, room

    def show(self, status: str) -> None:
        """Show a status, cut to the room there is."""
        room = max(0, self._room())
        text = status if len(status) <= room else status[: max(0, room - 1)] + "…" * (room > 0)
        self._write(f"{_SAVE}{_ERASE}{text}{_RESTORE}")

    def clear(self) -> None:
        """Leave nothing behind."""
        self._write(f"{_SAVE}{_ERASE}{_RESTORE}")
