"""The collector is off inside, and afterwards as it was before, whatever happens inside."""

import gc

import pytest

from bench_core.garbage import collection_off


def test_the_collector_is_off_inside_and_on_again_after_an_error():
    seen = []

    def fail():
        with collection_off():
            seen.append(gc.isenabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (seen, gc.isenabled()) == ([False], True)


def test_a_collector_that_was_off_before_stays_off():
    with collection_off():
        with collection_off():
            pass
        assert not gc.isenabled()
