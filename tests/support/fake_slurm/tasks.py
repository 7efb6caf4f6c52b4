"""What the jobs of tests run in place of `bench_core.fleet.task.perform`: what the order's first argument names."""

import os
import signal
import sys
import threading
from pathlib import Path

from bench_core.fleet.plan import Order

STARTED, ENDED = "started", "ended"


def perform(order_text):
    order = Order.from_text(order_text)
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = order.arguments[0]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    say(folder / STARTED, f"{os.environ['SLURMD_NODENAME']} {os.getpid()}")
    if kind == "fails":
        raise OSError("No space left on device")
    if kind == "exits":
        print("the library is broken", file=sys.stderr)
        os._exit(3)
    if kind == "waits" and not ended.wait(60):
        return {}
    say(folder / ENDED, "gently" if ended.is_set() else "by itself")
    return {}


def say(path, text):
    """Write a file that is whole when it is there."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)
