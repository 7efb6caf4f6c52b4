"""The prices that a user names: of an hour of each machine, and of a kilowatt-hour, all in one currency."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from bench_core.errors import UsageError
from bench_core.text import printable

_SYMBOLS = "[$€£¥₹]"
# The code of ISO 4217 or a symbol, which may come first. A number begins with a digit: a shell makes ".50" of $2.50.
_PRICE = re.compile(
    rf"(?P<symbol>{_SYMBOLS}?)(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?) ?(?P<currency>[A-Za-z]{{3}}|{_SYMBOLS}|)",
    re.ASCII,
)
_EXAMPLES = "h100=2.5, h100=2.5EUR or 'h100=$2.5', quoted for the shell"


@dataclass(frozen=True, slots=True)
class Tariff:
    """What is paid.

    hourly: the price of an hour, by machine or label, at least one. kwh: the price of a kilowatt-hour, None if energy
    is not paid apart. currency: of all of these, "" if the user named none.
    """

    hourly: Mapping[str, float]
    kwh: float | None = None
    currency: str = ""

    @classmethod
    def parse(cls, prices: Sequence[str], kwh: str | None = None) -> Self:
        """Return the tariff of texts such as "h100=2.5EUR" and, for a kilowatt-hour, "0.30EUR".

        Raises UsageError for another format, a price that is not above zero, a machine with two prices, and for prices
        that do not all have the same currency.
        """
        hourly: dict[str, float] = {}
        currencies: dict[str, str] = {}  # currency -> the first option that has it
        for text in prices:
            machine, _, amount = text.rpartition("=")
            found = _price(amount)
            if not machine or found is None:
                form = f"write MACHINE=PRICE, with the price of an hour: {_EXAMPLES}"
                raise UsageError(f"--price {printable(text, 40)}: {form}")
            if machine in hourly:
                raise UsageError(f"--price {printable(text, 40)}: a second price of this machine")
            hourly[machine], currency = found
            currencies.setdefault(currency, f"--price {printable(text, 40)}")
        per_kwh = None
        if kwh is not None:
            found = _price(kwh)
            if found is None:
                raise UsageError(
                    f"--kwh {printable(kwh, 40)}: write the price of a kilowatt-hour, such as 0.3 or 0.3EUR"
                )
            per_kwh, currency = found
            currencies.setdefault(currency, f"--kwh {printable(kwh, 40)}")
        if len(currencies) > 1:
            raise UsageError(f"{' and '.join(currencies.values())}: give all prices in one currency")
        return cls(hourly, per_kwh, *currencies)


def _price(text: str) -> tuple[float, str] | None:
    """Return the number and the currency of a price; None if the text is not one."""
    match = _PRICE.fullmatch(text)
    if not match or (match["symbol"] and match["currency"]):
        return None
    value = float(match["number"])
    return (value, match["symbol"] or match["currency"].upper()) if 0 < value < math.inf else None
