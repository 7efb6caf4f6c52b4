"""What a file of another program says, before it becomes rows: its cases, each with the quantities measured.

Texts of these files become names of workloads, parameters and machines, which are shown and written everywhere, so they
are made safe here: `name` for identifiers, `value` for parameters, `Masked` for what must not be published.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bench_core import stats
from bench_core.machine.environment import machine_label
from bench_core.machine.facts import known
from bench_core.machine.privacy import scrub
from bench_core.records import Cache, Clock, Facts, Status
from bench_core.text import file_name, harmless, one_line

_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TEXT = 120, 120, 300
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+:/-]+")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_SHORTEST_HOST = 3  # a host called "a" must not turn every "a" into "<host>"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One metric of a case, in base units.

    samples: raw values, of one process, in order of measurement; of `time` by the wall clock they are stored. columns:
    the statistical columns of the row, by name, where there are no samples. inner_loops: calls per sample.
    """

    metric: str
    clock: str = Clock.WALL
    samples: tuple[float, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    cache: Cache = Cache.HOT
    inner_loops: int | None = None

    @property
    def statistics(self) -> dict[str, Any]:
        """The statistical columns; `value` is the median of the samples. What no measurement can be stays empty."""
        if not self.samples:
            known = {name: number for name, number in self.columns.items() if number is not None}
            return {name: number for name, number in known.items() if number > 0 or (name == "std" and number == 0)}
        found = asdict(stats.summarise(self.samples))
        found["value"] = found.pop("median")
        if len(self.samples) == 1:
            found = {name: found[name] for name in ("n", "value", "mean", "min", "max")}
        return found


@dataclass(frozen=True, slots=True)
class Entry:
    """One case of a file.

    said: what the file calls it, which no other case of the file may be called, and line: where, if it is a text.
    workload: an identifier. params: by name, both safe. size: "" for that which `size_of` finds in the parameters.
    flops, bytes: of one call, by the program's own count.
    """

    said: str
    workload: str
    quantities: tuple[Quantity, ...] = ()
    suite: str = ""
    size: str = ""
    dtype: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    implementation: str = "default"
    device: str = "cpu"
    device_name: str = ""
    threads: int | None = None
    bytes: float | None = None
    status: Status = Status.OK
    reason_code: str = ""
    reason: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """The contents of one file.

    tool: the name of the program, as in `foreign.TOOLS`, and its version. started_at: ISO 8601 with a time zone, "" if
    unknown. facts: of the host; worker_facts: of its libraries and devices. gpus: names of the devices, each once for
    every device. notes: what a person must know of the reading. left_out: quantities that no metric stands for, by
    case and name.
    """

    tool: str
    version: str
    entries: tuple[Entry, ...]
    started_at: str = ""
    git_commit: str = ""
    git_dirty: bool | None = None
    facts: Facts = field(default_factory=dict)
    worker_facts: Facts = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def machine(self) -> str:
        """A label of the hardware that the file names, never the host's name; "" if it names none."""
        if known(self.facts, "cpu.model"):
            return machine_label(self.facts, self.gpus)
        counts = {name: self.gpus.count(name) for name in self.gpus if file_name(name)}
        gpus = [(f"{count}x-" if count > 1 else "") + file_name(name) for name, count in counts.items()]
        threads, frequency = known(self.facts, "cpu.threads"), known(self.facts, "cpu.frequency")
        if not gpus and threads:
            return f"cpu-{threads}t" + (f"-{frequency / 1e6:.0f}mhz" if frequency else "")
        return "_".join(gpus)


@dataclass(frozen=True, slots=True)
class Masked:
    """Makes texts of a file fit to publish: without names of hosts and users, paths, addresses, control characters.

    hosts: names that the file itself gives to the computer it is from.
    """

    hosts: tuple[str, ...] = ()

    @classmethod
    def of(cls, hosts: Iterable[object]) -> Masked:
        """Return what masks these names, and the part of each before the first dot; what is no text is ignored."""
        names = {part for host in hosts if isinstance(host, str) for part in (host, host.partition(".")[0])}
        return cls(tuple(sorted((name for name in names if len(name) >= _SHORTEST_HOST), key=lambda n: (-len(n), n))))

    def text(self, text: object, longest: int = _LONGEST_TEXT) -> str:
        """Return a text on one line."""
        line = scrub(one_line(text)[: 8 * longest])
        for host in self.hosts:
            line = re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", "<host>", line, flags=re.IGNORECASE)
        return harmless(line)[:longest]

    def name(self, text: object) -> str:
        """Return a text as an identifier; "unnamed" if nothing of it is left. What is cut off leaves a hash."""
        safe = _UNSAFE.sub("_", self.text(text, 4 * _LONGEST_NAME)).strip("_").lstrip(".+:/-")
        if len(safe) > _LONGEST_NAME:
            safe = f"{safe[: _LONGEST_NAME - 7]}-{short_digest(safe)}"
        return safe or "unnamed"

    def value(self, text: object) -> str:
        """Return a text as the value of a parameter, in which neither `;` nor `=` may stand."""
        plain = {True: "true", False: "false", None: "none"}.get(text) if isinstance(text, bool | None) else None
        line = plain or self.text(text, 4 * _LONGEST_VALUE).replace(";", ",").replace("=", ":")
        return line if len(line) <= _LONGEST_VALUE else f"{line[: _LONGEST_VALUE - 7]}-{short_digest(line)}"


def short_digest(text: str) -> str:
    """Return six hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:6]


def size_of(params: Mapping[str, str]) -> str:
    """Return the value of the only parameter that is an integer; "" if there is none, or several."""
    found = [text for text in params.values() if _INTEGER.fullmatch(text)]
    return found[0].lstrip("-") if len(found) == 1 else ""


def moment(text: object) -> str:
    """Return a point in time in UTC, ISO 8601; "" for one without a time zone, and for any other text."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
        if found is None or found.tzinfo is None:
            return ""
        return found.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return ""


def with_names_of_their_own(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries in which workloads of different names stay different, although names are made safe.

    Where the safe names of several are equal, a hash of what the file calls each is added.
    """
    taken: dict[tuple[object, ...], set[str]] = {}
    for entry in entries:
        taken.setdefault(_case(entry), set()).add(entry.said)
    return [
        replace(entry, workload=f"{entry.workload}-{short_digest(entry.said)}")
        if len(taken[_case(entry)]) > 1
        else entry
        for entry in entries
    ]


def _case(entry: Entry) -> tuple[object, ...]:
    work = (entry.suite, entry.workload, entry.size, entry.dtype, tuple(sorted(entry.params.items())))
    return (*work, entry.implementation, entry.device, entry.threads)


def rate_of(amount: float, times: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statistical columns of a rate from those of the time in which this amount is done.

    The quantiles change places; the mean is the amount over the mean time.
    """
    swapped = {"value": "value", "mean": "mean", "min": "max", "max": "min", "p25": "p75", "p75": "p25"}
    found = {to: amount / times[of] for to, of in swapped.items() if times.get(of)}
    if times.get("std") and times.get("mean"):
        found["std"] = found["mean"] * times["std"] / times["mean"]
    return {**found, **({"n": times["n"]} if "n" in times else {})}


def are_times(values: Iterable[float]) -> bool:
    """Return whether all of these are above 0 and finite: a time of 0 s allows no rate."""
    return all(0 < value < math.inf for value in values)
