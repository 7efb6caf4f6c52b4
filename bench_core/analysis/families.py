"""Families: the cases that differ only in size, in the order of reports."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench_core.records import Cache, Claim, Row, Scope
from bench_core.results.traits import TraitsOf
from bench_core.units import natural, size_order


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of work over all its sizes: a line of a chart.

    across_ranks: whether several devices do it together. variant: the parameters that differ from those of families
    that are otherwise equal, as text. has_versions: whether there are other versions of it among the rows, so that its
    name must say which it is.
    """

    suite: str
    workload: str
    version: int
    dtype: str
    precision: str
    scope: str
    cache: str
    across_ranks: bool = False
    variant: str = ""
    has_versions: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The workload, and its version if there are others: "triad", "triad v2"."""
        return f"{self.workload} v{self.version}" if self.has_versions else self.workload

    @property
    def arithmetic(self) -> str:
        """The dtype, and the precision if it is not the default: "float32", "float32 tf32"."""
        return " ".join([self.dtype] + [self.precision] * (self.precision != "ieee"))

    @property
    def label(self) -> str:
        """Name, dtype, and all other fields that are not the default."""
        words = [self.name, self.arithmetic] + [self.variant] * bool(self.variant)
        words += [self.scope.replace("_", " ")] * (self.scope != Scope.RESIDENT)
        words += [self.cache] * (self.cache != Cache.HOT)
        return " ".join(words)

    def is_form_of(self, other: Family) -> bool:
        """Whether this is the same work as `other` but for its version, or for a parameter that only one of them has.

        Two values of one parameter (a layout, a batch) are different work.
        """
        if replace(self, version=0, variant="") != replace(other, version=0, variant=""):
            return False
        mine, others = set(self.variant.split()), set(other.variant.split())
        return mine <= others or others <= mine

    @property
    def is_plain(self) -> bool:
        """Whether one device does it, and the data is there and may be in its caches, which is the default."""
        return self.scope == Scope.RESIDENT and self.cache == Cache.HOT and not self.across_ranks


def families_of(rows: Sequence[Row], traits: TraitsOf) -> dict[Family, dict[str, str]]:
    """Group cases that differ only in size; return the case_id of each size, by family, all in the order of reports.

    A parameter with several values at one size (a layout, a batch) makes variants, each a family of its own. So does
    one that rows of an older version lack. Parameters that depend only on the size (m, n, k) do not.
    """
    groups: dict[Family, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache)
        kind = Family(*what, row.is_across_ranks)
        groups[kind].setdefault(row.case_id, row)
    families: dict[Family, dict[str, str]] = {}
    versions: dict[tuple[str, str], set[int]] = defaultdict(set)
    for kind in groups:
        versions[kind.suite, kind.workload].add(kind.version)
    for kind, cases in groups.items():
        variant, several = _variants(list(cases.values())), len(versions[kind.suite, kind.workload]) > 1
        for case_id, row in cases.items():
            family = _free(replace(kind, variant=variant(row), has_versions=several), row.size, families)
            families.setdefault(family, {})[row.size] = case_id
    ordered = sorted(families, key=lambda family: _place(family, traits))
    return {f: dict(sorted(families[f].items(), key=lambda item: size_order(item[0]))) for f in ordered}


def _free(family: Family, size: str, taken: Mapping[Family, Mapping[str, str]]) -> Family:
    """Return a family without a case of this size: this one, else a numbered variant, as two works with one name."""
    variants = (f"{family.variant} ({number})".strip() for number in itertools.count(2))
    several = itertools.chain([family], (replace(family, variant=variant) for variant in variants))
    return next(other for other in several if size not in taken.get(other, {}))


def _place(family: Family, traits: TraitsOf) -> tuple[object, ...]:
    """Return the sort key: work that answers a claim first, then as in the catalogue, wide formats first."""
    of, claims = traits(family), list(Claim)
    first = min(map(claims.index, of.claims), default=len(claims))
    bits = re.search(r"\d+", family.dtype)
    what = (not of.claims, of.order, family.suite, first, natural(family.workload), family.version)
    kind = (-int(bits[0]) if bits else 0, family.dtype, family.precision != "ieee", family.precision)
    return (*what, *kind, family.scope != Scope.RESIDENT, family.cache != Cache.HOT, natural(family.variant))


def _variants(rows: Sequence[Row]) -> Callable[[Row], str]:
    """Return the function that names the variant of a row among these rows."""
    known = [(row.size, row.parameters) for row in rows]
    values: dict[str, set[str]] = defaultdict(set)
    at_one_size: dict[tuple[str, str], set[str]] = defaultdict(set)
    for size, parameters in known:
        for name, value in parameters.items():
            values[name].add(value)
            at_one_size[name, size].add(value)
    differing = {name for (name, _), several in at_one_size.items() if len(several) > 1}
    lacking = {name for name in values for _, parameters in known if name not in parameters}
    named = differing | {name for name in lacking if len(values[name]) == 1}

    def variant(row: Row) -> str:
        words = [f"{name}={value}" for name, value in row.parameters.items() if name in named]
        return " ".join(words + [f"with {name}" for name in row.parameters if name in lacking - named])

    return variant
