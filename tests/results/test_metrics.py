"""Every metric says what it is and in which unit, and each kind of work has one by which it is shown."""

from typing import get_args

from bench_core.records import Traits
from bench_core.results.metrics import METRICS, headline
from bench_core.units import Unit


def test_every_metric_has_a_base_unit_and_says_what_it_is():
    assert all(m.about and m.unit in get_args(Unit) for m in METRICS.values())


def test_the_headline_is_the_one_that_the_workload_names_or_what_it_makes():
    everything = ("time", "bandwidth", "flop_rate", "sample_rate", "token_rate")
    assert headline(Traits(headline="bandwidth"), everything) == "bandwidth"
    assert headline(Traits(), everything) == "token_rate"
    assert headline(Traits(), ("time", "bandwidth", "flop_rate")) == "flop_rate"
    assert headline(Traits(), ("time",)) == headline(Traits(headline="bandwidth"), ("time", "flop_rate")) == "time"
