"""The journal of a run: a head, then one record per line, each on disk before the next case begins.

The head contains the plan and the options, so that a run that was killed can be resumed: its records are
kept, and only the missing cases are measured.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench_core.errors import TableError
from bench_core.files import read_text
from bench_core.machine.facts import Lasting, valid
from bench_core.records import Case, Fact, Facts, Measurement, Run, case_from_json, measurement_from_json, to_json
from bench_core.results.schema import JOURNAL


@dataclass(frozen=True, slots=True)
class Head:
    """The first line: the run, its planned cases, and its options (as plain JSON).

    hardware: the machine label made of CPU and GPUs, whatever label the user has chosen. computer: the facts by which
    computers of one label are told apart (machine/facts.py). workloads: their traits and ceilings, in the format of
    run.json. Both are empty in the journals of earlier versions.
    """

    run: Run
    planned: tuple[Case, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = ""
    workloads: Mapping[str, Any] = field(default_factory=dict)
    computer: Lasting = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalContents:
    """The contents of a journal: its head, its records, and the environments of its workers by id."""

    head: Head
    measurements: tuple[Measurement, ...]
    environments: Mapping[str, Facts]

    def by_planned(self) -> dict[Case, Measurement]:
        """Return the records by planned case, which one of unknown work no longer is once it is measured."""
        planned = {(c.work.case_id, c.backend, c.device): c for c in self.head.planned}
        return {
            planned[m.planned_as, m.case.backend, m.case.device] if m.planned_as else m.case: m
            for m in self.measurements
        }


class Journal:
    """A journal open for writing, by one process at a time. All methods except `close` raise OSError."""

    def __init__(self, folder: Path, head: Head) -> None:
        """Create a new journal in a folder that has none."""
        self._open(folder, "x")
        self._write(_head(head))

    @classmethod
    def reopened(cls, folder: Path) -> Journal:
        """Open the journal of an unfinished run to continue it; only an incomplete last line is removed."""
        journal = cls.__new__(cls)
        journal._open(folder, "r+")
        end = journal.path.read_bytes().rfind(b"\n") + 1
        journal._file.seek(end)
        journal._file.truncate()
        return journal

    def _open(self, folder: Path, mode: str) -> None:
        self.path = folder / JOURNAL
        self._file = self.path.open(mode, encoding="utf-8", newline="\n")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise

    def append(self, measurement: Measurement) -> None:
        """Write one record and wait until the disk has it."""
        self._write(_record(measurement))

    def append_environment(self, env_id: str, facts: Facts) -> None:
        """Write the environment of a worker; call this before the first record that refers to it."""
        self._write(_environment(env_id, facts))

    def _write(self, plain: Mapping[str, Any]) -> None:
        if not self.path.exists():  # writing to a removed file raises no error, but the data is lost
            raise FileNotFoundError(errno.ENOENT, "it was removed during the run")
        self._file.write(_line(plain))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; errors of earlier writes were raised when they occurred."""
        with contextlib.suppress(OSError):
            self._file.close()


def text(head: Head, measurements: Iterable[Measurement], environments: Mapping[str, Facts]) -> str:
    """Return a whole journal as text, to be written in one step."""
    lines = [_head(head)]
    lines += [_environment(env_id, facts) for env_id, facts in environments.items()]
    lines += [_record(measurement) for measurement in measurements]
    return "".join(map(_line, lines))


def _head(head: Head) -> dict[str, Any]:
    about = {"options": dict(head.options), "hardware": head.hardware, "workloads": dict(head.workloads)}
    about["computer"] = dict(head.computer)
    about["planned"] = to_json(head.planned)
    return {"head": to_json(head.run), **about}


def _environment(env_id: str, facts: Facts) -> dict[str, Any]:
    return {"env_id": env_id, "facts": to_json(facts)}


def _record(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as plain JSON without its traceback: that is shown, and in no file."""
    return {name: value for name, value in to_json(measurement).items() if name != "traceback"}


def _line(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n"


def _lock(file: IO[str]) -> None:
    """Lock a journal until this process ends, however it ends; raises BlockingIOError if another process has it."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process is writing this run") from None
    except (ImportError, OSError):
        return  # this system or file system has no locks


def read(path: Path) -> JournalContents:
    """Return the contents of a journal; an incomplete last line (the run was killed while it wrote) is left out.

    Of several records of one case the last one counts. Raises TableError for any other invalid line.
    """
    lines = read_text(path).split("\n")
    records = [_parsed(path, number, line) for number, line in enumerate(lines[:-1], start=1)]
    if not records or not isinstance(records[0], Head):
        raise TableError(path, "the journal has no head", 1)
    measurements = tuple({record.case: record for record in records if isinstance(record, Measurement)}.values())
    environments = {record[0]: record[1] for record in records if isinstance(record, tuple)}
    return JournalContents(records[0], measurements, environments)


def _parsed(path: Path, number: int, line: str) -> Head | Measurement | tuple[str, Facts]:
    try:
        plain = json.loads(line)
        if "env_id" in plain and "facts" in plain:
            return plain["env_id"], {name: Fact(**fact) for name, fact in plain["facts"].items()}
        if number > 1:
            return measurement_from_json(plain)
        return Head(
            Run(**plain["head"]),
            _cases(plain["planned"]),
            plain["options"],
            plain["hardware"],
            plain.get("workloads", {}),
            valid(plain.get("computer", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(path, f"not a journal line: {error}", number) from None


def _cases(plain: Sequence[Mapping[str, Any]]) -> tuple[Case, ...]:
    return tuple(case_from_json(case) for case in plain)
