"""A backend that says that its device is done before it is cannot hide it."""

import pytest

from bench_core.timing.synchronisation import unfinished
from tests.support.fakes import FakeDevice


def test_a_backend_that_does_not_wait_is_caught_by_its_first_copy_to_the_host():
    class Forgetful(FakeDevice):
        name = "forgetful"

        def synchronize(self): ...

        def to_host(self, array):
            FakeDevice.synchronize(self)
            return array

    honest, forgetful = FakeDevice(work=1e-3), Forgetful(work=1e-3)
    assert unfinished(honest.run, 10, honest, honest.clock) is None
    assert unfinished(forgetful.run, 10, forgetful, forgetful.clock) == pytest.approx(0.01, rel=1e-2)
