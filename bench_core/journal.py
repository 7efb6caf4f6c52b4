"""The journal of a run: its head, then one record a line, on disk before the next case begins.

The head holds the plan and the options, so that a run that was killed can be finished: its records are
kept and only what is missing is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.csvfile import read_text
from bench_core.errors import TableError
from bench_core.model import (
    Case,
    Fact,
    Facts,
    Measurement,
    Run,
    case_from_json,
    measurement_from_json,
    to_json,
)

JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Head:
    """The first line: which run, under which options (as plain JSON), and what it set out to measure."""

    run: Run
    planned: tuple[Case, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entries:
    """A journal as read: its head, its records, and whether its last line was torn by a kill."""

    head: Head
    measurements: tuple[Measurement, ...]
    environments: Mapping[str, Facts]
    torn: bool


class Journal:
    """A journal open for writing. Raises OSError wherever the disk does."""

    def __init__(self, folder: Path, head: Head) -> None:
        """Begin a new journal in a folder that has none."""
        self.path = folder / JOURNAL
        self._file = self.path.open("x", encoding="utf-8")
        self._write({"head": to_json(head.run), "options": dict(head.options), "planned": to_json(head.planned)})

    @classmethod
    def reopened(cls, folder: Path, entries: Entries) -> Journal:
        """Go on with a journal that was left behind, its torn line cut off."""
        kept = folder / f"{JOURNAL}.kept"
        (folder / JOURNAL).rename(kept)
        journal = cls(folder, entries.head)
        for env_id, facts in entries.environments.items():
            journal.append_environment(env_id, facts)
        for measurement in entries.measurements:
            journal.append(measurement)
        kept.unlink()
        return journal

    def append(self, measurement: Measurement) -> None:
        """Write one record and wait until the disk has it."""
        self._write(to_json(measurement))

    def append_environment(self, env_id: str, facts: Facts) -> None:
        """Write what a worker's environment is, before the first record that names it."""
        self._write({"env_id": env_id, "facts": to_json(facts)})

    def _write(self, plain: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what could not be written was said when it was."""
        with contextlib.suppress(OSError):
            self._file.close()

    def remove(self) -> None:
        """Delete the journal, once everything in it is safe elsewhere."""
        self.path.unlink(missing_ok=True)


def read(path: Path) -> Entries:
    """Return what a journal holds; a torn last line (the run was killed while it wrote) is left out.

    Raises TableError for any other line that is not what it should be.
    """
    lines = read_text(path).split("\n")
    records = [_parsed(path, number, line) for number, line in enumerate(lines[:-1], start=1)]
    if not records or not isinstance(records[0], Head):
        raise TableError(path, "the journal has no head", 1)
    measurements = tuple(record for record in records if isinstance(record, Measurement))
    environments = {record[0]: record[1] for record in records if isinstance(record, tuple)}
    return Entries(records[0], measurements, environments, torn=lines[-1] != "")


def _parsed(path: Path, number: int, line: str) -> Head | Measurement | tuple[str, Facts]:
    try:
        plain = json.loads(line)
        if "env_id" in plain and "facts" in plain:
            return plain["env_id"], {name: Fact(**fact) for name, fact in plain["facts"].items()}
        if number > 1:
            return measurement_from_json(plain)
        return Head(Run(**plain["head"]), _cases(plain["planned"]), plain["options"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(path, f"not a journal line: {error}", number) from None


def _cases(plain: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
    return tuple(case_from_json(case) for case in plain)
