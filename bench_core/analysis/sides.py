"""Contenders, and the sides on which they stand: what is compared with what in a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench_core.compare.best import Ranking
from bench_core.compare.pairing import FIRST_BACKEND
from bench_core.compare.replicates import Replicates
from bench_core.compare.verdicts import Pair
from bench_core.records import Row, is_several, type_of
from bench_core.units import counted, natural

BEST_CPU = "the best CPU"
MOST_REASONS = 3  # why a device has no value


@dataclass(frozen=True, slots=True)
class Contender:
    """A device of a machine, or one backend of it. `label` is the shortest name that no other contender has."""

    machine: str
    device: str
    label: str
    name: str = ""
    backend: str = ""

    @property
    def is_gpu(self) -> bool:
        return type_of(self.device) != "cpu"

    @property
    def is_several(self) -> bool:
        """Whether it is several devices, which compute together."""
        return is_several(self.device)


class Kind(StrEnum):
    """What the sides of a report are."""

    GPU = "GPU"  # each GPU against the best CPU of its machine, of the others where that has no value
    MACHINE = "machine"  # each machine, by its best result, against the first
    BACKEND = "backend"  # the backends of a single machine against NumPy, otherwise the first in the alphabet


@dataclass(frozen=True, slots=True)
class Sides:
    """The sides of a report: several `contenders`, each of which is compared with one baseline.

    against: the baseline as text. labels: the label of each contender by what identifies it in a row.
    """

    kind: Kind
    against: str
    contenders: tuple[Contender, ...]
    labels: Mapping[tuple[str, ...], str]

    def pairs(self, ranking: Ranking) -> list[tuple[Contender, Pair]]:
        """Return the best result of each contender against that of its baseline, of one piece of work.

        Of a baseline on several machines, that on the machine of the contender is taken if it has a value.
        """
        best: dict[str, Replicates] = {}
        at_home: dict[str, Replicates] = {}
        for found in _best_first(ranking):
            row = found.entry.row
            best.setdefault(self.side(row), found)
            if self.side(row) == self.against:
                at_home.setdefault(row.machine, found)
        return [
            (c, Pair(ranking.key, c.label, base.entry.name, base, best[c.label]))
            for c in self.contenders
            if c.label in best and (base := at_home.get(c.machine) or best.get(self.against))
        ]

    def side(self, row: Row) -> str:
        """Return the label of the contender to which a row belongs, `against` for the baseline."""
        by_kind = {Kind.GPU: (row.machine, row.device), Kind.MACHINE: (row.machine,), Kind.BACKEND: (row.backend,)}
        return self.labels.get(by_kind[self.kind], self.against)


def _best_first(ranking: Ranking) -> list[Replicates]:
    sign = 1.0 if ranking.key.better == "lower" else -1.0
    return sorted([*ranking.cpu, *ranking.gpu], key=lambda found: sign * (found.entry.value or 0.0))


def sides_of(contenders: Sequence[Contender], rows: Iterable[Row]) -> list[Sides]:
    """Return all ways in which the results of these contenders can be compared, the most important first.

    Several GPUs together are compared with as many of another machine, never with a CPU.
    """
    found = []
    gpus = tuple(c for c in contenders if c.is_gpu and not c.is_several)
    machines = list(dict.fromkeys(c.machine for c in contenders))
    backends = backend_order(row.backend for row in rows if row.has_value)
    if 0 < len(gpus) < len(contenders):
        found.append(Sides(Kind.GPU, BEST_CPU, gpus, {(c.machine, c.device): c.label for c in gpus}))
    if len(machines) > 1:
        firsts = [next(c for c in contenders if c.machine == machine) for machine in machines[1:]]
        others = tuple(Contender(c.machine, c.device, c.machine, c.name) for c in firsts)
        found.append(Sides(Kind.MACHINE, machines[0], others, {(c.machine,): c.machine for c in others}))
    if not found and len(backends) > 1:
        (machine,) = machines
        others = tuple(Contender(machine, contenders[0].device, name, backend=name) for name in backends[1:])
        found.append(Sides(Kind.BACKEND, backends[0], others, {(c.label,): c.label for c in others}))
    return found


def backends_of(contenders: Sequence[Contender], rows: Iterable[Row]) -> list[Contender]:
    """Return each backend with a value on each of these devices as a contender of its own."""
    there = {(row.machine, row.device, row.backend) for row in rows if row.has_value}
    order = backend_order(backend for *_, backend in there)
    return [
        Contender(c.machine, c.device, f"{c.label} {backend}" if len(contenders) > 1 else backend, backend=backend)
        for c in contenders
        for backend in order
        if (c.machine, c.device, backend) in there
    ]


def backend_order(backends: Iterable[str]) -> list[str]:
    """Return the names of backends, each once: NumPy first, then in alphabetical order."""
    return sorted(set(backends), key=lambda name: (name != FIRST_BACKEND, name))


def contenders_of(rows: Sequence[Row]) -> tuple[list[Contender], list[str]]:
    """Return the devices with a value, the machines in the order of the rows, and a sentence for each other device."""
    names: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.has_value:
            names[row.machine, row.device] = names.get((row.machine, row.device)) or row.device_name
    machines = list(dict.fromkeys(row.machine for row in rows))
    order = sorted(names, key=lambda key: (machines.index(key[0]), key[1] != "cpu", natural(key[1])))
    silent = _silent([row for row in rows if (row.machine, row.device) not in names])
    return [Contender(m, d, _label(m, d, order), names[m, d]) for m, d in order], silent


def _silent(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for the devices without any value, one for machines that have the same reasons."""
    lost: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        lost.setdefault((row.machine, row.device), Counter())[row.absence] += 1
    alike: dict[tuple[str, str], list[str]] = {}
    for (machine, device), reasons in lost.items():
        ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        why = [f"{count:,} {reason}" for reason, count in ordered[:MOST_REASONS]]
        why += [counted(len(ordered) - MOST_REASONS, "other reason")] * (len(ordered) > MOST_REASONS)
        among = f"in any of {reasons.total():,} cases" if reasons.total() > 1 else "in its only case"
        alike.setdefault((device, f"no value {among} ({'; '.join(why)})."), []).append(machine)
    return sorted(
        f"{', '.join(machines)} {device} {'has' if len(machines) == 1 else 'have'} {what}"
        for (device, what), machines in alike.items()
    )


def _label(machine: str, device: str, among: Sequence[tuple[str, str]]) -> str:
    kind, _, index = device.partition(":")
    short = "CPU" if kind == "cpu" else "GPU" if kind == "cuda" else f"GPU ({kind})"
    words = [machine] if len({m for m, _ in among}) > 1 else []
    if is_several(device):
        return " ".join([*words, f"{short} {index}"])
    alike = [d for m, d in among if m == machine and type_of(d) == kind and not is_several(d)]
    return " ".join([*words, short] + [index] * (len(alike) > 1))
