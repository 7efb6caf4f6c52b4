"""The traits of the workloads of a table: from the workloads, from run.json, or, for old tables, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Protocol

from bench_core.records import Claim, Limit, Traffic, Traits, to_json
from bench_core.results.legacy import traits_by_name
from bench_core.results.metrics import METRICS


class Named(Protocol):
    """An object with the names of a suite and a workload: a Work, a Row or the key of a comparison."""

    @property
    def suite(self) -> str:
        """The name of the suite."""

    @property
    def workload(self) -> str:
        """The name of the workload."""


FIT = "_fit"  # suffix of the workload of a fit (sweep_fit.py)


@dataclass(frozen=True, slots=True)
class TraitsOf:
    """Look up the traits of a workload. known: traits by suite and workload, from the workloads or from run.json."""

    known: Mapping[tuple[str, str], Traits] = field(default_factory=dict)

    def __call__(self, of: Named) -> Traits:
        """Return the traits of a workload (a fit has those of its workload); if unknown, those of old tables."""
        fitted = of.workload.removesuffix(FIT)
        for name in (of.workload, fitted):
            if (of.suite, name) in self.known:
                return self.known[of.suite, name]
        return traits_by_name(of.suite, fitted)

    def __or__(self, other: TraitsOf) -> TraitsOf:
        """Return the traits of both; `other` takes precedence for a workload in both."""
        return TraitsOf({**self.known, **other.known})

    def to_json(self) -> Any:
        """Return the traits in the format of run.json: by suite, then by workload."""
        plain: dict[str, dict[str, Any]] = {}
        for (suite, workload), traits in sorted(self.known.items()):
            plain.setdefault(suite, {})[workload] = to_json(traits)
        return plain

    @classmethod
    def from_json(cls, plain: Any) -> TraitsOf:
        """Return the traits in a run.json of any version and origin; invalid entries are left out."""
        read = {
            (suite, workload): _traits(entry, traits_by_name(suite, workload))
            for suite, workloads in _items(plain)
            for workload, entry in _items(workloads)
            if isinstance(entry, Mapping)
        }
        return cls({names: traits for names, traits in read.items() if traits})


def merged(several: Iterable[TraitsOf]) -> TraitsOf:
    """Return the union of several; the last one takes precedence for a workload in more than one."""
    return reduce(or_, several, TraitsOf())


def _items(plain: Any) -> Iterable[tuple[str, Any]]:
    return plain.items() if isinstance(plain, Mapping) else ()


def _traits(entry: Mapping[str, Any], by_name: Traits) -> Traits | None:
    """Return the traits of an entry, None if it is invalid.

    by_name: the traits of the workload by its name. An entry of an earlier version is given what it lacks of them; if
    it lacks claims, its `order` was that of the suite.
    """
    order, headline, measures = entry.get("order"), entry.get("headline"), entry.get("measures")
    if not isinstance(order, int) or not isinstance(headline, str) or headline not in {"", *METRICS}:
        return None
    sold_as, short_for = (entry.get(name, getattr(by_name, name)) for name in ("sold_as", "short_for"))
    if not (isinstance(sold_as, str) and isinstance(short_for, str)):
        return None
    try:
        limit = None if measures is None else Limit(measures)
        traffic, claims = Traffic(str(entry.get("traffic"))), entry.get("claims")
        if not isinstance(claims, list):
            order, claims = (order if by_name == Traits() else by_name.order), by_name.claims
        claimed = tuple(claim for claim in Claim if claim in claims)
        return Traits(order, headline, limit, traffic, sold_as=sold_as, claims=claimed, short_for=short_for)
    except ValueError:
        return None
