"""A cold stream as fast as a hot one in a cache is flagged, unless noise or the cost of a call can explain it."""

import pytest

from bench_core.records import Cache, Clock
from tests.support.rates import completed, measured, table

MOVED = {"16MiB": 16e6, "4MiB": 4e6, "4KiB": 4e3}  # bytes


def stream(size, seconds, cache=Cache.HOT, workload="copy", spread=0.01, **known):
    """Return the measurement of a stream whose interval is `spread` of its time to either side."""
    blocks = (seconds * (1 - spread), seconds, seconds * (1 + spread))
    params = (("elements", len(size)),)
    return measured("memory", workload, blocks, bytes_=MOVED[size], size=size, cache=cache, params=params, **known)


def hot(seconds=100e-6, flags=("fits_l3",), size="4MiB", **known):
    return stream(size, seconds, flags=flags, **known)


def cold(seconds, **known):
    return stream("4MiB", seconds, Cache.COLD, **known)


def smallest(seconds=2e-6, **known):
    return stream("4KiB", seconds, flags=("fits_l1",), **known)


def flagged(*made):
    """Return the rows that are flagged, by workload, cache, metric and clock."""
    rows = completed(*made)
    return {(r.workload, r.cache, r.metric, r.clock) for r in rows if "cold_as_hot" in r.flags.split(";")}


@pytest.mark.parametrize(
    ("slower", "is_flagged"), [(0.9, True), (1.0, True), (1.14, True), (1.16, False), (2.0, False)]
)
def test_a_cold_stream_is_flagged_unless_it_is_slower_by_15_percent(slower, is_flagged):
    """The medians count: on a noisy machine the ends of intervals show nothing."""
    assert bool(flagged(hot(), cold(slower * 100e-6), smallest())) is is_flagged
    assert bool(flagged(hot(spread=0.4), cold(slower * 100e-6, spread=0.4), smallest())) is is_flagged


def test_all_rows_of_the_cold_case_are_flagged_and_no_hot_row_is():
    found = flagged(hot(), cold(100e-6), smallest())
    assert found == {("copy", "cold", "time", "wall"), ("copy", "cold", "bandwidth", "wall")}


def test_such_a_row_has_no_share_of_memory():
    memory = stream("16MiB", 1e-6)  # no flag: a ceiling far above
    rows = completed(hot(), cold(100e-6), smallest(), memory)
    shares = {(r.size, r.cache) for r in rows if r.metric == "fraction_of_measured_peak"}
    assert shares == {("16MiB", "hot")}


@pytest.mark.parametrize(("beyond", "is_flagged"), [(1.3, True), (1.2, False)])
@pytest.mark.parametrize("flags", [("near_cache",), ()])
def test_arrays_that_nearly_fit_are_flagged_if_both_are_faster_than_memory(flags, beyond, is_flagged):
    """Triad over 16 MiB with a reported cache of 32 MiB: hot and cold are equally fast, and memory is far slower."""
    memory = stream("16MiB", beyond * 100e-6 * 4)
    assert bool(flagged(hot(flags=flags), cold(100e-6), smallest(), memory)) is is_flagged


@pytest.mark.parametrize("flags", [(), ("near_cache",), ("cache_unknown",)])
def test_without_a_cache_that_holds_the_hot_arrays_the_cold_ones_need_not_be_slower(flags):
    assert flagged(hot(flags=flags), cold(100e-6), smallest()) == set()


@pytest.mark.parametrize(("call", "is_flagged"), [(49e-6, True), (51e-6, False), (100e-6, False)])
def test_calls_of_which_half_may_be_a_fixed_cost_are_not_judged(call, is_flagged):
    assert bool(flagged(hot(), cold(100e-6), smallest(call))) is is_flagged


def test_without_smaller_arrays_the_fixed_cost_is_unknown_and_nothing_is_judged():
    assert flagged(hot(), cold(100e-6)) == set()


@pytest.mark.parametrize(
    "other",
    [
        {"workload": "triad"},
        {"backend": "torch"},
        {"threads": 1},
        {"dtype": "float64"},
        {"clock": Clock.DEVICE},
        {"device": "cuda:0"},
    ],
)
def test_the_hot_row_is_of_the_same_work_by_the_same_means(other):
    assert flagged(hot(**other), cold(100e-6), smallest()) == set()
    assert flagged(hot(), cold(100e-6), smallest(**other)) == set()
    assert flagged(hot(**other), cold(100e-6, **other), smallest(**other)) != set()


def test_arrays_of_another_size_say_nothing():
    assert flagged(hot(size="16MiB"), cold(100e-6), smallest()) == set()


def test_each_clock_is_judged_alone():
    device = {"clock": Clock.DEVICE}
    made = [hot(), smallest(), cold(300e-6), hot(**device), smallest(**device), cold(100e-6, **device)]
    assert {clock for *_, clock in flagged(*made)} == {"device"}


def test_a_workload_that_is_no_stream_is_not_judged():
    model = {"size": "1", "params": (("n", 1),)}
    made = [
        measured("model", "mlp", 1e-4, bytes_=4e6, flags=("fits_l3",), **model),
        measured("model", "mlp", 1e-4, bytes_=4e6, cache=Cache.COLD, **model),
        measured("model", "mlp", 1e-6, bytes_=4e3, flags=("fits_l1",), size="0", params=(("n", 0),)),
    ]
    assert flagged(*made) == set()


def test_no_row_is_lost_or_changed_otherwise():
    made = [hot(), cold(100e-6), smallest()]
    plain = {(r.case_id, r.metric, r.clock): (r.value, r.ci_low, r.flags) for r in table(*made)}
    rows = {(r.case_id, r.metric, r.clock): r for r in completed(*made) if (r.case_id, r.metric, r.clock) in plain}
    assert plain == {key: (r.value, r.ci_low, r.flags.replace(";cold_as_hot", "")) for key, r in rows.items()}
