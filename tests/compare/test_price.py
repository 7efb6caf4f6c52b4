"""A cost is the price of an hour divided by the work of the fastest row in that hour; it is never estimated."""

from dataclasses import replace

import pytest

from bench_core.compare.price import price_work
from bench_core.errors import NothingToCompare, UsageError
from bench_core.records import Costs, Work
from tests.support.tables import GPT, absent, processes, reading, tokens


def test_a_cost_is_the_price_of_the_seconds_that_the_work_takes():
    """100 tokens in 0.5 s are 720,000 an hour: at 3.6 an hour, a million cost 5."""
    (found,) = price_work([reading(tokens([0.5]), "a")], {"a": 3.6})
    assert found.amount == "1 M tokens"
    assert found.by_machine["a"].value == pytest.approx(5.0)


def test_work_is_in_the_order_of_the_value_of_its_size():
    works = [Work("matmul", "matmul", size, "float64") for size in ("4MiB", "16KiB", "1MiB", "4KiB")]
    found = price_work([reading([m for of in works for m in processes([1.0], of)], "a")], {"a": 1.0})
    assert [work.key.size for work in found] == ["4KiB", "16KiB", "1MiB", "4MiB"]


def test_samples_and_flops_are_priced_where_there_are_no_tokens():
    samples = [replace(m, costs=Costs(amounts={"samples": 10.0})) for m in processes([1.0], GPT)]
    (found,) = price_work([reading(samples, "a")], {"a": 36.0})
    assert (found.amount, found.by_machine["a"].value) == ("1 k samples", pytest.approx(1.0))
    (found,) = price_work([reading(processes([1.0], flops=1e12), "a")], {"a": 3.6})
    assert (found.amount, found.by_machine["a"].value) == ("1 EFLOP", pytest.approx(1000.0))


def test_a_machine_is_priced_by_its_fastest_row_which_is_named():
    slow, fast = tokens([1.0]), tokens([0.1], backend="torch", device="cuda:0")
    (found,) = price_work([reading([*slow, *fast], "a")], {"a": 1.0})
    row = found.by_machine["a"].entry.row
    assert (row.backend, row.device) == ("torch", "cuda:0")


def test_the_interval_of_the_rate_becomes_that_of_the_cost():
    (found,) = price_work([reading(tokens([0.4, 0.5, 0.6]), "a")], {"a": 3.6})
    cost = found.by_machine["a"]
    assert cost.low < cost.value < cost.high
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
    with pytest.raises(UsageError, match="--price z: no such machine; available: a"):
        price_work([reading(tokens([0.1]), "a")], {"z": 1.0})


def test_tables_without_a_rate_are_nothing_to_price():
    with pytest.raises(NothingToCompare, match="nothing to price"):
        price_work([reading([absent(GPT)], "a")], {"a": 1.0})
