"""The traits of a table's workloads: from the workloads themselves, from run.json, or by the names of old tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench_core.records import Limit, Traffic, Traits, to_json
from bench_core.results.legacy import traits_by_name
from bench_core.results.metrics import METRICS


class Named(Protocol):
    """Whatever names a suite and a workload: a work, a row, the key of a comparison."""

    @property
    def suite(self) -> str:
        """The family."""

    @property
    def workload(self) -> str:
        """The workload in it."""


FIT = "_fit"  # ends the name of the work that is fitted to the sizes of another


@dataclass(frozen=True, slots=True)
class TraitsOf:
    """The traits of workloads, by the name of their workload. known: from workloads, or from run.json."""

    known: Mapping[str, Traits] = field(default_factory=dict)

    def __call__(self, of: Named) -> Traits:
        """Return the traits of a workload: known ones, else those that its suite had in old tables."""
        for name in (of.workload, of.workload.removesuffix(FIT)):
            if name in self.known:
                return self.known[name]
        return traits_by_name(of.suite, of.workload)

    def __or__(self, other: TraitsOf) -> TraitsOf:
        """Return both; where both know a workload, the second counts."""
        return TraitsOf({**self.known, **other.known})

    def to_json(self) -> Any:
        """Return what run.json holds."""
        return to_json(dict(sorted(self.known.items())))

    @classmethod
    def from_json(cls, plain: Any) -> TraitsOf:
        """Return what a run.json of any origin holds; what is not understood is left out, as in an old run.json."""
        entries = plain.items() if isinstance(plain, Mapping) else ()
        read = {str(name): _traits(entry) for name, entry in entries if isinstance(entry, Mapping)}
        return cls({name: traits for name, traits in read.items() if traits})


def merged(several: Iterable[TraitsOf]) -> TraitsOf:
    """Return the traits of all of these."""
    known: dict[str, Traits] = {}
    for traits in several:
        known |= traits.known
    return TraitsOf(known)


def _traits(entry: Mapping[str, Any]) -> Traits | None:
    order, headline, measures = entry.get("order"), entry.get("headline"), entry.get("measures")
    if not isinstance(order, int) or not isinstance(headline, str) or headline not in {"", *METRICS}:
        return None
    try:
        limit = None if measures is None else Limit(measures)
        return Traits(order, headline, limit, Traffic(str(entry.get("traffic"))))
    except ValueError:
        return None
