"""Formulas of derived metrics: products and quotients of the quantities of a case, with their units.

    FLOPS / TIME                            rate of arithmetic, FLOP/s
    ENERGY / TOKENS                         energy per token, J
    GPU_CLOCK * TIME / amount("elements")   cycles per element, dimensionless

A quantity is one of four kinds:

series  many samples per process, in seconds: `TIME` by the wall or device clock, or a probe of a kernel
value   one observation per process: `ENERGY`, `GPU_CLOCK`, `PEAK_MEMORY`, ...
cost    calculated by the workload for one call: `FLOPS`, `BYTES`, `LEAST_BYTES`
amount  other work of one call, declared by the workload, by its name in `Costs.amounts`: `TOKENS`, ...

Counts are dimensionless: a number of tokens has the unit "1".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench_core.records import Costs
from bench_core.units import Dimensions, Unit, dimensions

Kind = Literal["series", "value", "cost", "amount"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """One term of a formula: kind and name, which determine where its number comes from, and its unit."""

    kind: Kind
    name: str
    unit: Unit

    @property
    def is_measured(self) -> bool:
        """Whether the quantity is measured; costs and amounts are known before the run."""
        return self.kind in ("series", "value")

    def known(self, costs: Costs, values: Mapping[str, float]) -> float | None:
        """Return the number of a value, a cost or an amount; None if it is missing, infinite or not above zero."""
        found: float | None
        if self.kind == "value":
            found = values.get(self.name)
        elif self.kind == "amount":
            found = costs.amounts.get(self.name)
        else:
            found = getattr(costs, self.name)
        return found if found and 0 < found < math.inf else None


@dataclass(frozen=True, slots=True)
class Formula:
    """The product of the quantities `above` divided by the product of those `below`.

    Build formulas with `*` and `/`, as in `FLOPS / TIME` and `1 / TIME`.
    """

    above: tuple[Quantity, ...]
    below: tuple[Quantity, ...] = ()

    def __mul__(self, other: Formula) -> Formula:
        return Formula(self.above + other.above, self.below + other.below)

    def __truediv__(self, other: Formula) -> Formula:
        return Formula(self.above + other.below, self.below + other.above)

    def __rtruediv__(self, one: Literal[1]) -> Formula:
        return Formula(self.below, self.above) if one == 1 else NotImplemented

    def __str__(self) -> str:
        product = " * ".join(q.name for q in self.above) or "1"
        return " / ".join([product, *(q.name for q in self.below)])

    @property
    def terms(self) -> tuple[Quantity, ...]:
        return self.above + self.below

    @property
    def dimensions(self) -> Dimensions:
        """The unit of the result, as exponents of base units."""
        return dimensions([q.unit for q in self.above], [q.unit for q in self.below])

    @property
    def lead(self) -> Quantity:
        """The measured quantity whose samples determine the samples of the result: the series, else the first value.

        Without a series, values of the divisor come before values of the dividend. The mean of a rate is then its
        total work divided by its total divisor.
        """
        measured = [q for q in self.below + self.above if q.is_measured]
        return next((q for q in measured if q.kind == "series"), measured[0])

    @property
    def falls(self) -> bool:
        """Whether the result decreases as `lead` increases."""
        return self.lead in self.below

    def require_sound(self) -> None:
        """Raise ValueError with the reason if no result can be computed from the formula."""
        if not any(q.is_measured for q in self.terms):
            raise ValueError(f"nothing in {self} is measured")
        if sum(q.kind == "series" for q in self.terms) > 1:
            raise ValueError(f"{self} has two series, whose samples cannot be paired")
        if any(q.unit == "degC" for q in self.terms):
            raise ValueError(f"{self} has a temperature in degC; ratios of temperatures in degC are meaningless")

    def depends_only_on(self, name: str) -> bool:
        """Whether `name` is the only measured term: the result is then proportional to it or to its inverse."""
        return [q.name for q in self.terms if q.is_measured] == [name]

    def factors(self, costs: Costs, values: Mapping[str, float]) -> tuple[float, float] | None:
        """Return the products of the terms above and below, both without `lead`; None if a term is unknown."""
        sides = [*self.above], [*self.below]
        sides[self.falls].remove(self.lead)
        above, below = (math.prod(q.known(costs, values) or 0.0 for q in side) for side in sides)
        return (above, below) if 0 < above < math.inf and 0 < below < math.inf else None


def series(name: str) -> Formula:
    """Return the seconds of a probe as a formula; `name` is the metric of the probe."""
    return Formula((Quantity("series", name, "s"),))


def value(name: str, unit: Unit) -> Formula:
    """Return a quantity observed once per process as a formula; `name` is its metric, which must have this unit."""
    return Formula((Quantity("value", name, unit),))


def amount(name: str, unit: Unit = "1") -> Formula:
    """Return the entry `name` of `Costs.amounts` as a formula; without a unit it is a count."""
    return Formula((Quantity("amount", name, unit),))


def _cost(name: Literal["flops", "bytes", "least_bytes"], unit: Unit) -> Formula:
    return Formula((Quantity("cost", name, unit),))


TIME = series("time")
COMPILE_TIME, FIRST_CALL = value("compile_time", "s"), value("first_call", "s")
ENERGY, GPU_POWER = value("energy", "J"), value("gpu_power", "W")
GPU_CLOCK, PEAK_MEMORY = value("gpu_clock", "Hz"), value("peak_memory", "B")
FLOPS, BYTES, LEAST_BYTES = _cost("flops", "FLOP"), _cost("bytes", "B"), _cost("least_bytes", "B")
SAMPLES, TOKENS, STEPS, LOADS = amount("samples"), amount("tokens"), amount("steps"), amount("loads")
CAUSAL_FLOPS = amount("causal_flops", "FLOP")
ALGORITHM_BYTES, BUS_BYTES = amount("algorithm_bytes", "B"), amount("bus_bytes", "B")
