"""Differences between the machines, drivers and libraries of the sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from bench_core.compare.loading import Reading
from bench_core.compare.pairing import side_name
from bench_core.compare.result import Comparison, Difference, Entry
from bench_core.errors import IncompatibleError, UsageError
from bench_core.machine.facts import VOLATILE, absent, shown
from bench_core.records import Fact, Facts, Row
from bench_core.text import no_such, printable

ROW_CONDITIONS = ("threads", "library", "backend_version", "placement", "device_name", "git_commit", "git_dirty")
_FOOTNOTED = ROW_CONDITIONS[:4]
_conditions = attrgetter(*ROW_CONDITIONS)
_SOFTWARE = {"backend_version": None, "library": None, "git_commit": 9}  # column -> characters shown, None for all
MIXED = " / "  # joins the values that a side has in several runs or workers
Known = dict[str, dict[str, list[str]]]  # fact -> side -> its values, "" if unknown
NOT_MEASURED = "not measured"  # a case on this side, or a backend of which there are facts elsewhere


def gather(readings: Sequence[Reading], columns: Sequence[str]) -> Known:
    """Return every stable fact behind the rows, by side.

    The name of a worker's fact starts with its backend. A side that has the same kind of worker (backend and type of
    device) but lacks the fact gets "", or "unset" for an environment variable, because only those that are set are
    recorded.
    """
    known: Known = {}
    found_in: dict[str, set[tuple[str, str]]] = {}  # fact -> kinds of worker where it was found, ("", "") for the host
    sources: list[tuple[str, tuple[str, str], Facts]] = []  # side, kind of worker, and the facts that it knows
    for reading in readings:
        host = reading.files.facts
        workers = reading.rows.distinct(*columns, "backend", "device_type", "env_id")
        named = dict.fromkeys((side_name(values[:-3]), *values[-3:]) for values in workers)
        sources += [(side, ("", ""), host) for side in dict.fromkeys(side for side, *_ in named)]
        for side, backend, device_type, env_id in named:
            own = reading.files.worker_facts.get(env_id, {}).items()
            facts = {f"{backend} {name}": fact for name, fact in own if name not in host}  # it repeats many of its host
            sources.append((side, (backend, device_type), facts))
    for side, kind, facts in sources:
        for name, fact in facts.items():
            _note(known, name, side, fact)
            found_in.setdefault(name, set()).add(kind)
    for name, by_side in known.items():
        bare = owner_of(name)[1]
        is_variable = bare.startswith("env.")
        for side in (s for s, kind, facts in sources if facts and kind in found_in[name] and name not in facts):
            if is_variable and absent(bare) not in by_side.setdefault(side, []):
                by_side[side].append(absent(bare))
            by_side.setdefault(side, [""])
    return known


def owner_of(name: str) -> tuple[str, str]:
    """Return the owner of a fact and its name there: a backend for "torch torch.threads", "" for one of the host."""
    owner, _, bare = name.rpartition(" ")
    return owner, bare


def _note(known: Known, name: str, side: str, fact: Fact) -> None:
    _, bare = owner_of(name)
    if bare in VOLATILE:
        return
    without = absent(bare) if bare.startswith("package.") else ""  # a variable without a value is set: it is withheld
    text = without if fact.value is None else shown(bare, fact.value)
    values = known.setdefault(name, {}).setdefault(side, [])
    if text not in values:
        values.append(text)


def row_conditions(
    baseline: Entry | None, contender: Entry | None, names: Sequence[str] = _FOOTNOTED
) -> tuple[Difference, ...]:
    """Return the columns of `names` that differ between two entries, or among the runs of one.

    The library and version of two different backends are part of what is compared, not conditions; so are the
    threads of a CPU against a GPU, and where the arrays of two backends or implementations lie. They are left out.
    """
    if baseline is None or contender is None:
        return ()
    if len({_conditions(row) for row in (*baseline.rows, *contender.rows)}) == 1:
        return ()
    if baseline.row.backend != contender.row.backend:
        names = [name for name in names if name not in {"library", "backend_version"}]
    if baseline.row.device_type != contender.row.device_type:
        names = [name for name in names if name != "threads"]
    asked = names is not _FOOTNOTED
    known = all(row.placement for row in (*baseline.rows, *contender.rows))  # earlier tables do not have it
    if not _are_one_form(baseline.row, contender.row) or not (known or asked):
        names = [name for name in names if name != "placement"]
    values = [(name, _texts(baseline, name), _texts(contender, name)) for name in names]
    differ = ((n, a, b) for n, a, b in values if a != b or MIXED in a)
    return tuple(Difference(n, ((baseline.side, a), (contender.side, b))) for n, a, b in differ)


def _texts(entry: Entry, name: str) -> str:
    values = (_coarse(row.placement) if name == "placement" else getattr(row, name) for row in entry.rows)
    return MIXED.join(dict.fromkeys("" if value is None else str(value) for value in values))


def _are_one_form(baseline: Row, contender: Row) -> bool:
    return (baseline.backend, baseline.implementation) == (contender.backend, contender.implementation)


def _coarse(placement: str) -> str:
    """Return a placement with the share of huge pages in tenths: a difference of hundredths says nothing."""
    return re.sub(r"(?<=huge_pages=)[0-9]\.[0-9]+", lambda share: f"{float(share[0]):.1f}", placement)


def pooling_notes(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a line for each machine and backend whose entries pool runs with different software."""
    mixed: dict[str, dict[str, dict[str, None]]] = {}
    runs: dict[str, int] = {}
    for entry in (entry for entry in entries if entry.ok and len(entry.rows) > 1):
        who = f"{entry.row.backend} of {entry.machine}"
        for name in _SOFTWARE:
            values = dict.fromkeys(getattr(row, name)[: _SOFTWARE[name]] or "unknown" for row in entry.rows)
            if len(values) > 1:
                mixed.setdefault(who, {}).setdefault(name, {}).update(values)
                runs[who] = max(runs.get(who, 0), entry.processes)
    for who, names in mixed.items():
        what = "; ".join(f"{name} {', '.join(values)}" for name, values in names.items())
        yield f"{who}: {runs[who]} runs with different software are pooled; labels (old=A new=B) separate them: {what}"


def differences(known: Known, sides: Iterable[str]) -> tuple[Difference, ...]:
    """Return the facts whose values differ between sides; sides without any facts are ignored."""
    order = [side for side in sides if any(side in by_side for by_side in known.values())]
    found = []
    for name, by_side in known.items():
        elsewhere = [NOT_MEASURED if owner_of(name)[0] else ""]
        values = tuple((side, MIXED.join(sorted(by_side.get(side, elsewhere)))) for side in order)
        # Of a backend that only one side has, what was measured differs, not the conditions.
        if len({text for side, text in values if side in by_side}) > 1:
            found.append(Difference(name, values))
    return tuple(found)


def require_same(names: Sequence[str], known: Known, comparisons: Sequence[Comparison], sides: Sequence[str]) -> None:
    """Raise IncompatibleError if a condition differs or is unknown on a side.

    A name is either a column, compared within each pair of results, or a fact of run.json by its full name or its
    last part: "driver" matches both "gpu.driver" and "gpu0_driver". Raises UsageError for any other name.
    """
    for name in names:
        if name in ROW_CONDITIONS:
            apart = [
                d for c in comparisons if c.ratio is not None for d in row_conditions(c.baseline, c.contender, (name,))
            ]
        else:
            apart = _facts_apart(name, known, sides)
        if apart:
            raise IncompatibleError(f"--require-same {name}: {printable(str(apart[0]))}")


def _facts_apart(name: str, known: Known, sides: Sequence[str]) -> list[Difference]:
    meant = {full: by_side for full, by_side in known.items() if full == name or full.endswith(_ends(name))}
    told = no_such("condition of these runs", name, (*ROW_CONDITIONS, *known))
    if known and not meant:
        raise UsageError(f"--require-same: {told}")
    unknown = [side for side in sides if not any(any(by_side.get(side, [])) for by_side in meant.values())]
    if unknown:
        without = "" if known else f" (they have no run.json: {told})"
        raise IncompatibleError(f"--require-same {name}: unknown for {', '.join(unknown)}{without}")
    return list(differences(meant, sides))


def _ends(name: str) -> tuple[str, ...]:
    return tuple(f"{separator}{name}" for separator in "._ ")
