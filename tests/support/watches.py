"""Watches for tests: of a machine that is calm, and of one that loses what the test says."""

import pytest

from bench_core.timing import disturbances, watch
from bench_core.timing.watch import Watch


class Counter:
    """A counter of the test's own. read: returns the seconds lost so far. least: a share that is too little."""

    def __init__(self, read, cause="steal", every=0.0, least=0.0):
        self.read, self.every, self._cause, self._least = read, every, cause, least
        self.closed = False

    def judge(self, before, after, seconds):
        share = (after - before) / seconds
        return {self._cause: share} if share > self._least else {}

    def close(self):
        self.closed = True


def calm():
    """Return a watch that sees nothing."""
    return Watch([])


def losing(lost, clock, cause="steal", every=0.0):
    """Return a watch of one counter. lost: returns the seconds that were lost so far."""
    return Watch([Counter(lost, cause, every)], clock)


@pytest.fixture(scope="package", autouse=True)
def the_machine_is_calm():
    """Whatever else runs on the machine of the tests, cases that are measured in this process are not disturbed.

    For a folder whose conftest.py imports it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "witnesses", lambda device, uuid: [])
        patch.setattr(disturbances, "reference_seconds", lambda: 1.0)
        yield
