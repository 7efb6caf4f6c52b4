"""A pytest plugin that strikes in the process which runs pytest, at a chosen write of the run's files.

STRIKE="kill@torn:2": end at the second line of the journal, half of it written. The events are `torn` and
`written` (a line of the journal), `replace` and `replaced` (a file moved into place); STRIKE="rename" has a
file system that cannot rename over a file, STRIKE="size:4000" one on which no file may be larger, and
STRIKE="miscount" a bench_core that forgets the rows of a case, and STRIKE="contradict" one that refuses a case at the
end of the run. STRIKE="again": after the first signal, SIGTERM comes again at once, while pytest ends, and at exit.
"""

import atexit
import dataclasses
import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from bench_core.records import Status
from bench_core.run import journal, session

ACTIONS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}


def pytest_configure():
    how, _, event = os.environ["STRIKE"].partition("@")
    if how == "miscount":
        forget_rows()
    elif how == "contradict":
        refuse_at_the_end()
    elif how == "again":
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)
    elif how == "rename":
        forbid_renaming_over()
    elif how.startswith("size:"):
        size = int(how.removeprefix("size:"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    else:
        name, _, number = event.partition(":")
        EVENTS[name](lambda: os.kill(os.getpid(), ACTIONS[how]), int(number))


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt():
    strike_again()


def pytest_unconfigure():
    strike_again()


def strike_again():
    if os.environ["STRIKE"] == "again":
        os.kill(os.getpid(), signal.SIGTERM)


def forget_rows():
    rows_of_run = session.rows_of_run
    session.rows_of_run = lambda *known: [row for row in rows_of_run(*known) if row.size != "struck"]


def refuse_at_the_end():
    known = {"status": Status.INVALID, "reason_code": "implausible", "reason": "other rows contradict it", "series": ()}

    def refuse(measurements, traits):
        return [dataclasses.replace(m, **known) if m.case.work.size == "struck" else m for m in measurements]

    session.refuse_beyond_own_best = refuse


def torn(act, number):
    write = journal.Journal._write
    count = counter(number)

    def half(self, plain):
        if count():
            line = journal._line(plain)
            self._file.write(line[: len(line) // 2])
            self._file.flush()
            act()
        write(self, plain)

    journal.Journal._write = half


def written(act, number):
    after(journal.Journal, "_write", act, number)


def replaced(act, number):
    after(Path, "replace", act, number)


def replace(act, number):
    method, count = Path.replace, counter(number)

    def struck(self, *arguments):
        if count():
            act()
        return method(self, *arguments)

    Path.replace = struck


def after(owner, name, act, number):
    method, count = getattr(owner, name), counter(number)

    def struck(self, *arguments):
        result = method(self, *arguments)
        if count():
            act()
        return result

    setattr(owner, name, struck)


def counter(number):
    """Return a function that says whether it is called for the `number`th time."""
    calls = iter(range(1, 1 << 30))
    return lambda: next(calls) == number


def forbid_renaming_over():
    for name in ("replace", "rename"):
        method = getattr(Path, name)

        def guarded(self, target, method=method):
            if Path(target).exists():
                raise OSError(errno.EPERM, "Operation not permitted")
            return method(self, target)

        setattr(Path, name, guarded)


EVENTS = {"torn": torn, "written": written, "replace": replace, "replaced": replaced}
