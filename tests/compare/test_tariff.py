"""Prices are positive numbers in one currency; anything else is one line that names the option."""

import re

import pytest

from bench_core.compare.tariff import Tariff
from bench_core.errors import UsageError


@pytest.mark.parametrize(
    ("prices", "kwh", "tariff"),
    [
        (["a=2"], None, Tariff({"a": 2.0})),
        (["a=2.5EUR", "b=0.05 eur"], "0.3EUR", Tariff({"a": 2.5, "b": 0.05}, 0.3, "EUR")),
        (["a=1e-3€"], None, Tariff({"a": 0.001}, None, "€")),
        (["a=$2.5", "b=2$"], "$0.3", Tariff({"a": 2.5, "b": 2.0}, 0.3, "$")),
        (["x=y=3"], "1", Tariff({"x=y": 3.0}, 1.0)),
    ],
)
def test_a_price_is_a_number_and_may_have_a_currency(prices, kwh, tariff):
    assert Tariff.parse(prices, kwh) == tariff


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "=1",
        "a=free",
        "a=0",
        "a=-1",
        "a=inf",
        "a=nan",
        "a=2,5",
        "a=..",
        "a=1_0",
        "a=1EUR/h",
        "a=2k",
        "a=1EURO",
        "a=$1$",
        "a=.50",
    ],
)
def test_what_is_no_price_is_named(text):
    with pytest.raises(UsageError, match=f"^--price {re.escape(text)}: write MACHINE=PRICE"):
        Tariff.parse([text])


@pytest.mark.parametrize("text", ["", "0", "EUR", "a=0.3"])
def test_a_kilowatt_hour_needs_a_price(text):
    with pytest.raises(UsageError, match=f"^--kwh {text}: write the price of a kilowatt-hour"):
        Tariff.parse(["a=1"], text)


@pytest.mark.parametrize(
    ("prices", "kwh", "said"),
    [
        (["a=1EUR", "b=1EUR", "c=1USD"], None, "--price a=1EUR and --price c=1USD"),
        (["a=1EUR", "b=1"], None, "--price a=1EUR and --price b=1"),
        (["a=1"], "0.3EUR", "--price a=1 and --kwh 0.3EUR"),
    ],
)
def test_two_currencies_are_an_error_that_names_both(prices, kwh, said):
    with pytest.raises(UsageError, match=f"^{said}: give all prices in one currency$"):
        Tariff.parse(prices, kwh)


def test_a_second_price_of_a_machine_is_an_error():
    with pytest.raises(UsageError, match="--price a=2: a second price of this machine"):
        Tariff.parse(["a=1", "a=2"])
