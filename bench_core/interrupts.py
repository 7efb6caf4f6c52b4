"""Let the signals that end a process end it as Ctrl-C does, and only once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has no SIGHUP, the others no SIGBREAK


class Interrupts:
    """Turns the first signal that would end this process into a KeyboardInterrupt.

    Those that follow, as a batch system or an impatient person sends them, are ignored while the process ends, so that
    they change neither what it saves nor its exit code. A signal that was ignored before, as by nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.came = False
        self._handlers: dict[int, Any] = {}

    def take(self) -> None:
        """Handle the signals from now on. Python allows that in its main thread only: elsewhere nothing is done."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._interrupt)

    def ignore(self) -> None:
        """Ignore the signals from now on."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)

    def give_back(self) -> None:
        """Restore the handlers of before `take`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.came:  # else two at once
            self.came = True
            self.ignore()
            signal.default_int_handler(number, frame)
