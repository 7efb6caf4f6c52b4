"""A cost is the price of an hour divided by the work of the fastest row in that hour; it is never estimated."""

from dataclasses import replace

import pytest

from bench_core.compare import price
from bench_core.compare.tariff import Tariff
from bench_core.errors import NothingToCompare, UsageError
from bench_core.records import Costs, Traits, Work, to_json
from tests.support.tables import GPT, absent, processes, reading, tokens, work


def price_work(readings, hourly, kwh=None):
    return price.price_work(readings, Tariff(hourly, kwh)).works


def joules(energy, seconds, **known):
    """Return processes that make 100 tokens in these seconds with this energy."""
    return [replace(m, values={"energy": energy}) for m in tokens(seconds, **known)]


def test_a_cost_is_the_price_of_the_seconds_that_the_work_takes():
    """100 tokens in 0.5 s are 720,000 an hour: at 3.6 an hour, a million cost 5."""
    (found,) = price_work([reading(tokens([0.5]), "a")], {"a": 3.6})
    assert (found.text, found.amount.number) == ("1 M tokens generated", 1e6)
    assert found.by_machine["a"].time == found.by_machine["a"].total == pytest.approx(5.0)


def test_work_is_in_the_order_of_the_value_of_its_size():
    works = [Work("matmul", "matmul", size, "float64") for size in ("4MiB", "16KiB", "1MiB", "4KiB")]
    found = price_work([reading([m for of in works for m in processes([1.0], of)], "a")], {"a": 1.0})
    assert [work.key.size for work in found] == ["4KiB", "16KiB", "1MiB", "4MiB"]


def test_samples_and_flops_are_priced_where_there_are_no_tokens():
    samples = [replace(m, costs=Costs(amounts={"samples": 10.0})) for m in processes([1.0])]
    (found,) = price_work([reading(samples, "a")], {"a": 36.0})
    assert (found.text, found.by_machine["a"].time) == ("1 k samples", pytest.approx(1.0))
    (found,) = price_work([reading(processes([1.0], flops=1e12), "a")], {"a": 3.6})
    assert (found.text, found.by_machine["a"].time) == ("1 EFLOP", pytest.approx(1000.0))


def test_a_machine_is_priced_by_its_fastest_row_which_is_named():
    slow, fast = tokens([1.0]), tokens([0.1], backend="torch", device="cuda:0")
    (found,) = price_work([reading([*slow, *fast], "a")], {"a": 1.0})
    row = found.by_machine["a"].entry.row
    assert (row.backend, row.device) == ("torch", "cuda:0")


def test_the_interval_of_the_rate_becomes_that_of_the_cost():
    (found,) = price_work([reading(tokens([0.4, 0.5, 0.6]), "a")], {"a": 3.6})
    cost = found.by_machine["a"]
    assert cost.low < cost.time < cost.high
    assert (cost.low, cost.high) == pytest.approx(
        (3.6 * 1e6 / 3600 / cost.entry.ci_high, 3.6 * 1e6 / 3600 / cost.entry.ci_low)
    )


def test_the_cheapest_machine_is_the_first_and_need_not_be_the_fastest():
    found = price_work([reading(tokens([0.1]), "fast"), reading(tokens([0.5]), "slow")], {"fast": 10.0, "slow": 1.0})
    assert list(found[0].by_machine) == ["slow", "fast"]


def test_what_failed_on_a_machine_has_no_cost_there():
    tables = [reading(tokens([0.1]), "a"), reading([absent(GPT)], "b")]
    assert list(price_work(tables, {"a": 1.0, "b": 1.0})[0].by_machine) == ["a"]


def test_a_price_for_a_machine_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match="--price: no machine 'z'; available: a"):
        price_work([reading(tokens([0.1]), "a")], {"z": 1.0})


def test_tables_without_a_rate_are_nothing_to_price():
    with pytest.raises(NothingToCompare, match="nothing to price"):
        price_work([reading([absent(GPT)], "a")], {"a": 1.0})


def test_what_a_person_buys_comes_first_by_the_traits_of_the_tables():
    """Of run.json, or of old tables by name; a rate of FLOPs is not what a workload is sold as."""
    own = {"traits": {"own": {"fold": to_json(Traits(order=9, sold_as="proteins")), "dull": to_json(Traits(order=-1))}}}
    samples = {"samples": 10.0}
    table = [
        *processes([1.0], work()),
        *(replace(m, costs=Costs(amounts=samples)) for name in ("dull", "fold") for m in processes([1.0], _own(name))),
        *processes([2.0], replace(_own("fold"), size="2")),
        *tokens([1.0]),
    ]
    found = price_work([reading(table, "a", about=own)], {"a": 1.0})
    texts = ["1 M tokens generated", "1 k proteins", "1 EFLOP", "1 k samples", "1 EFLOP"]
    assert [(priced.text, priced.is_bought) for priced in found] == list(
        zip(texts, [True] * 2 + [False] * 3, strict=True)
    )


def _own(name):
    return Work("own", name, "1", "float32")


def test_work_of_one_machine_alone_is_counted_and_not_compared():
    both, first, second = work("64"), work("128"), work("256")
    tables = [reading([*processes([1.0], both), *processes([1.0], first)], "a")]
    tables += [reading([m for of in (both, second, work("512")) for m in processes([1.0], of)], "b")]
    prices = price.price_work(tables, Tariff({"a": 1.0, "b": 1.0}))
    assert [priced.key.size for priced in prices.compared] == ["64"]
    assert prices.alone == {"a": 1, "b": 2}
    only = price.price_work(tables, Tariff({"b": 1.0}))
    assert [priced.key.size for priced in only.compared] == ["64", "256", "512"]
    assert only.alone == {}


def test_energy_of_the_same_row_is_added_at_the_price_of_a_kilowatt_hour():
    """36 J for 100 tokens are 0.1 kWh for a million; those of a slower row do not count."""
    table = [*joules(36.0, [0.5]), *joules(1e6, [1.0], backend="torch")]
    (found,) = price_work([reading(table, "a")], {"a": 3.6}, kwh=2.0)
    cost = found.by_machine["a"]
    assert (cost.time, cost.joules, cost.energy, cost.total) == pytest.approx((5.0, 3.6e5, 0.2, 5.2))
    (found,) = price_work([reading(table, "a")], {"a": 3.6})
    assert (found.by_machine["a"].energy, found.by_machine["a"].total) == (None, pytest.approx(5.0))


def test_energy_decides_only_where_every_machine_has_it():
    """Of two equally fast machines the cheaper hour needs so much energy that it is the dearer one."""
    hungry, frugal = reading(joules(360.0, [0.5] * 2), "hungry"), reading(joules(3.6, [0.5] * 2), "frugal")
    hourly = {"hungry": 3.6, "frugal": 7.2}
    (found,) = price_work([hungry, frugal], hourly, kwh=20.0)
    assert (list(found.by_machine), found.has_energy) == (["frugal", "hungry"], True)
    assert found.cheapest.ratio == pytest.approx((5 + 20) / (10 + 0.2))
    assert (found.cheapest.side, found.cost("hungry")) == ("frugal", pytest.approx(25.0))
    (found,) = price_work([hungry, reading(tokens([0.5] * 2), "frugal")], hourly, kwh=20.0)
    assert (list(found.by_machine), found.has_energy) == (["hungry", "frugal"], False)
    assert (found.cheapest.ratio, found.cost("hungry")) == pytest.approx((2.0, 5.0))
    assert found.by_machine["hungry"].total == pytest.approx(25.0)


def test_a_rate_that_nothing_has_checked_has_no_price():
    fast = tokens([0.01], backend="other", flags=("unchecked", "imported"))
    (found,) = price_work([reading([*tokens([0.5]), *fast], "a")], {"a": 3.6})
    assert found.by_machine["a"].entry.row.backend == "numpy"
    with pytest.raises(NothingToCompare):
        price_work([reading(fast, "a")], {"a": 3.6})
