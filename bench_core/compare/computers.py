"""Tell apart computers that have one name.

A machine is named after its CPU, its cores and its GPUs, or by the user, and any table can be given any label. So two
computers can have one name. Their runs are told apart by facts that do not change (`LASTING` of machine/facts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count

from bench_core.machine.facts import Lasting, against, contradictions
from bench_core.text import printable

_LONGEST_FACT = 150  # characters of a fact with its values in a note

Identity = tuple[str, str, str]  # label of the table, machine in the table, run_id


@dataclass(frozen=True, slots=True)
class TableRun:
    """A run in one table. label: that of the table, "" for none. lasting: the lasting facts that the table knows."""

    label: str
    machine: str
    run_id: str
    started_at: str
    lasting: Lasting

    @property
    def identity(self) -> Identity:
        return self.label, self.machine, self.run_id


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the computer of a run: `machine` in place of its name in the table, `shown` in place of its label.

    shown: equal to `machine` if the table has no label. notes: which computers were kept apart.
    """

    machine: str
    shown: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Computer:
    """The runs of one computer, the earliest first.

    known: their lasting facts, each combination once. unsure: the facts fit one of the other computers at least, so it
    may be no other.
    """

    runs: tuple[TableRun, ...]
    known: tuple[Lasting, ...]
    unsure: bool = False

    def value(self, name: str) -> str | float | None:
        """Return the value of a lasting fact in the earliest run that knows it."""
        return next((facts[name] for facts in self.known if name in facts), None)


def names(runs: Iterable[TableRun]) -> dict[Identity, Names]:
    """Return the names of the computer of each run, which no two computers share. The order of `runs` does not matter.

    The first computer of `told_apart` keeps the name in the table, the others get a number: "box", "box:2", "box:3". A
    label that is given to several computers is numbered in the same way.
    """
    everything = list(runs)
    taken = {run.machine for run in everything} | {run.label for run in everything}
    by_machine = _groups(everything, lambda run: run.machine)
    machines = _numbered(by_machine, taken)
    by_shown = _groups(everything, lambda run: run.label or machines[run.identity])
    shown = _numbered(by_shown, taken)
    # If all runs of a name have one label, the note of the label says the same.
    noted = [(name, found) for name, found in by_machine.items() if _labels(found) == {""} or len(_labels(found)) > 1]
    notes: dict[Identity, dict[str, None]] = {}
    for name, computers in [*noted, *by_shown.items()]:
        if len(computers) > 1:
            said = _note(name, computers, shown)
            for run in (run for computer in computers for run in computer.runs):
                notes.setdefault(run.identity, {})[said] = None
    return {
        run.identity: Names(machines[run.identity], shown[run.identity], tuple(notes.get(run.identity, ())))
        for run in everything
    }


def _groups(runs: Iterable[TableRun], name_of: Callable[[TableRun], str]) -> dict[str, list[Computer]]:
    """Return the computers behind each name, in alphabetical order of the names."""
    groups: dict[str, list[TableRun]] = {}
    for run in runs:
        groups.setdefault(name_of(run), []).append(run)
    return {name: told_apart(group) for name, group in sorted(groups.items())}


def _labels(computers: Iterable[Computer]) -> set[str]:
    return {run.label for computer in computers for run in computer.runs}


def told_apart(runs: Iterable[TableRun]) -> list[Computer]:
    """Return the computers behind runs of one name: those that are surely different first, the earliest first.

    Two runs are of one computer if they contradict the same runs. So no computer has two runs that contradict each
    other; without any contradiction there is one computer; and a run with too few facts to tell whose it is stays
    apart, instead of joining one of the computers by chance. The order of `runs` does not matter. A run that is in
    several tables is one run.
    """
    by_facts = _by_facts(runs)
    known = [dict(facts) for facts in by_facts]
    by_foes: dict[frozenset[int], list[int]] = {}
    for i, facts in enumerate(known):
        foes = frozenset(j for j, other in enumerate(known) if contradictions(facts, other))
        by_foes.setdefault(foes, []).append(i)
    found = []
    everything = list(by_facts.values())
    for foes, mine in by_foes.items():
        own = sorted((run for i in mine for run in everything[i]), key=_start)
        # Runs that contradict only a part of what others contradict may be of the computer of these others.
        found.append((any(foes < others for others in by_foes), _start(own[0]), foes, mine, tuple(own)))
    sure: list[Computer] = []
    unsure: list[Computer] = []
    foes_of_all = frozenset(range(len(known)))  # the runs that contradict all of `sure`
    for _, _, foes, mine, own_runs in sorted(found, key=lambda entry: entry[:2]):
        is_sure = foes_of_all.issuperset(mine)
        (sure if is_sure else unsure).append(Computer(own_runs, tuple(known[i] for i in mine), not is_sure))
        foes_of_all &= foes if is_sure else foes_of_all
    return [*sure, *unsure]


def _by_facts(runs: Iterable[TableRun]) -> dict[tuple[tuple[str, str | float], ...], list[TableRun]]:
    """Return the runs by their lasting facts, the earliest first. The copies of a run have the facts of all of them."""
    copies: dict[tuple[str, str], list[TableRun]] = {}
    for run in sorted(runs, key=_start):
        copies.setdefault((run.machine, run.run_id), []).append(run)
    by_facts: dict[tuple[tuple[str, str | float], ...], list[TableRun]] = {}
    for same in copies.values():
        by_facts.setdefault(tuple(sorted(_agreed(same).items())), []).extend(same)
    return by_facts


def _start(run: TableRun) -> tuple[str, str, str, str]:
    return run.started_at, run.run_id, run.machine, run.label


def _agreed(copies: Sequence[TableRun]) -> dict[str, str | float]:
    """Return the facts of the copies of one run; a fact on which they disagree is unknown."""
    values: dict[str, set[str | float]] = {}
    for run in copies:
        for name, value in run.lasting.items():
            values.setdefault(name, set()).add(value)
    return {name: next(iter(several)) for name, several in values.items() if len(several) == 1}


def _numbered(groups: Mapping[str, Sequence[Computer]], taken: set[str]) -> dict[Identity, str]:
    """Return the name of each run's computer. taken: names that exist already; the new ones are added."""
    named: dict[Identity, str] = {}
    for name, computers in groups.items():
        numbers = count(2)
        for place, computer in enumerate(computers):
            own = name
            while place and own in taken:
                own = f"{name}:{next(numbers)}"
            taken.add(own)
            named |= {run.identity: own for run in computer.runs}
    return named


def _note(name: str, computers: Sequence[Computer], shown: Mapping[Identity, str]) -> str:
    """Return that a name stands for several computers, the facts that differ, and the names under which they are shown.

    The facts come first, because a terminal shows the beginning of a long note.
    """
    sure = [computer for computer in computers if not computer.unsure]
    sides = [", ".join(dict.fromkeys(shown[run.identity] for run in computer.runs)) for computer in computers]
    differing = dict.fromkeys(
        fact
        for one, other in combinations(sure, 2)
        for a in one.known
        for b in other.known
        for fact in contradictions(a, b)
    )
    values = {fact: [computer.value(fact) for computer in sure] for fact in differing}
    facts = "; ".join(printable(against(fact, values[fact]), _LONGEST_FACT) for fact in values)
    unsure = ", ".join(sides[len(sure) :])
    text = f"{name} is the name of {len(sure)} computers ({facts}), kept apart as {' and '.join(sides[: len(sure)])}"
    return f"{text}; {unsure} may be one of them" if unsure else text
