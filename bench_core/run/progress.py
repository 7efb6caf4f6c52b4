"""A live status on a terminal: what is being measured, to the right of pytest's own output.

The cursor returns to its position, so that pytest continues as if nothing had been written.
"""

from __future__ import annotations

from collections.abc import Callable

_SAVE, _RESTORE, _ERASE = "\x1b7", "\x1b8", "\x1b[K"


class Progress:
    """Shows one status at a time, in place of the last one.

    write: writes text to the terminal. room: returns the number of free columns to the right of the cursor.
    """

    def __init__(self, write: Callable[[str], None], room: Callable[[], int]) -> None:
        self._write, self._room = write, room

    def show(self, status: str) -> None:
        """Show a status, cut to the free columns."""
        room = max(0, self._room())
        text = status if len(status) <= room else status[: max(0, room - 1)] + "…" * (room > 0)
        self._write(f"{_SAVE}{_ERASE}{text}{_RESTORE}")

    def clear(self) -> None:
        """Erase the status."""
        self._write(f"{_SAVE}{_ERASE}{_RESTORE}")
