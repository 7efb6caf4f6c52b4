"""Differences between the machines, drivers and libraries of the sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bench_core.compare.loading import Reading
from bench_core.compare.pairing import side_of
from bench_core.compare.result import Comparison, Difference, Entry
from bench_core.errors import IncompatibleError, UsageError
from bench_core.machine.facts import VOLATILE, shown
from bench_core.records import Fact, Row
from bench_core.text import printable, quoted

ROW_CONDITIONS = ("threads", "library", "backend_version", "placement", "device_name", "git_commit", "git_dirty")
_FOOTNOTED = ROW_CONDITIONS[:4]
_SOFTWARE = {"backend_version": None, "library": None, "git_commit": 9}  # column -> characters shown, None for all
_MIXED = " / "
Known = dict[str, dict[str, list[str]]]  # fact -> side -> its values, "" if unknown


def gather(readings: Sequence[Reading], columns: Sequence[str]) -> Known:
    """Return every stable fact of the tables by side; the name of a worker's fact starts with its backend."""
    known: Known = {}
    for reading in readings:
        sides: dict[str, None] = {}
        workers: dict[tuple[str, str, str], None] = {}
        for row in reading.rows:
            side = side_of(row, columns)
            sides[side] = None
            workers[side, row.backend, row.env_id] = None
        host = reading.files.facts
        for side in sides:
            for name, fact in host.items():
                _note(known, name, side, fact)
        for side, backend, env_id in workers:
            for name, fact in reading.files.worker_facts.get(env_id, {}).items():
                if name not in host:  # a worker repeats many facts of its host
                    _note(known, f"{backend} {name}", side, fact)
    return known


def _note(known: Known, name: str, side: str, fact: Fact) -> None:
    bare = name.rpartition(" ")[2]
    if bare in VOLATILE:
        return
    text = "" if fact.value is None else shown(bare, fact.value)
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
    if baseline.row.backend != contender.row.backend:
        names = [name for name in names if name not in {"library", "backend_version"}]
    if baseline.row.device_type != contender.row.device_type:
        names = [name for name in names if name != "threads"]
    asked = names is not _FOOTNOTED
    known = all(row.placement for row in (*baseline.rows, *contender.rows))  # earlier tables do not have it
    if not _are_one_form(baseline.row, contender.row) or not (known or asked):
        names = [name for name in names if name != "placement"]
    values = [(name, _texts(baseline, name), _texts(contender, name)) for name in names]
    differ = ((n, a, b) for n, a, b in values if a != b or _MIXED in a)
    return tuple(Difference(n, ((baseline.side, a), (contender.side, b))) for n, a, b in differ)


def _texts(entry: Entry, name: str) -> str:
    values = (_coarse(row.placement) if name == "placement" else getattr(row, name) for row in entry.rows)
    return _MIXED.join(dict.fromkeys("" if value is None else str(value) for value in values))


def _are_one_form(baseline: Row, contender: Row) -> bool:
    return (baseline.backend, baseline.implementation) == (contender.backend, contender.implementation)


def _coarse(placement: str) -> str:
    """Return a placement with the share of huge pages in tenths: a difference of hundredths says nothing."""
    return re.sub(r"(?<=huge_pages=)[0-9]\.[0-9]+", lambda share: f"{float(share[0]):.1f}", placement)


def pooling_notes(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a line for each machine and backend whose entries pool runs with different software."""
    mixed: dict[str, dict[str, dict[str, None]]] = {}
    runs: dict[str, int] = {}
    for entry in (entry for entry in entries if entry.ok):
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
        values = tuple((side, _MIXED.join(sorted(by_side.get(side, [""])))) for side in order)
        # If only one side has a backend, what was measured differs, not the conditions.
        if len({text for _, text in values}) > 1 and sum(side in by_side for side in order) > 1:
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
    if known and not meant:
        some = printable(", ".join(known), 900)
        raise UsageError(f"--require-same: no condition {quoted(name)} in these runs; available: {some}")
    unknown = [side for side in sides if not any(any(by_side.get(side, [])) for by_side in meant.values())]
    if unknown:
        raise IncompatibleError(f"--require-same {name}: unknown for {', '.join(unknown)}")
    return list(differences(meant, sides))


def _ends(name: str) -> tuple[str, ...]:
    return tuple(f"{separator}{name}" for separator in "._ ")
