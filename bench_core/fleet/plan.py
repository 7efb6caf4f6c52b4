"""What is measured where: the plan of a fleet, and the folder in which it is kept.

FLEET/                          such as results/fleet-20261129T101500Z-1a2b
    LABEL/RUN/                  the gathered runs: a folder of runs like any other; LABEL is the machine in the tables
    .fleet/                     private: it has names of nodes and logs, and may not be published; readers skip it
        plan.json
        token                   what is also in every order
        names.json              the name of each node in its engine, by label
        ENGINE/                 what the engine writes
        NODE/                   a node, by its label
            order.json          what the node is told
            state.json          what the node says of itself (State)
            seen.json           when this computer saw it begin and end (Seen)
            LABEL/              a part of the node
                runs/LABEL/RUN/ its runs, as `bench-core run` writes them
                log-0.txt       what the first of them printed

Labels are numbers (node-01), because names of hosts are private, unless the user wants names.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from bench_core.errors import TableError
from bench_core.files import read_text, write_atomically
from bench_core.results import schema
from bench_core.text import harmless, quoted

PRIVATE = ".fleet"
TOKEN = "token"  # noqa: S105 - in the private folder: by its content two computers know that they share it
_IGNORED = "# Made by `bench-core fleet run`: names of nodes and logs, not for publication.\n*\n"
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # the name of a folder, which leads to no other folder
_LITTLE = 1 << 16  # bytes: where no more are free, nothing can be written
_Read = TypeVar("_Read")
_PLAN, _NAMES, _ORDER, _STATE, _SEEN = "plan.json", "names.json", "order.json", "state.json", "seen.json"


@dataclass(frozen=True, slots=True)
class Part:
    """What one process of a node measures: the whole node, or one of its GPUs.

    label: the machine in the tables. gpu: a number among the GPUs that the node gives, counted from 0; None for all.
    """

    label: str
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A computer with its parts, which are measured at the same time."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a fleet.

    engine: "slurm", "ray" or "local". runs: of each part. arguments: of pytest, the same everywhere. version: that of
    bench_core. commit: of the benchmarks, "" if unknown. settings: options of the engine, for a resumption. working:
    the folder where it was started, "" in a plan that was written before this was kept. dirty: whether the checkout
    there had changes that are in no commit, None if unknown.
    """

    fleet_id: str
    engine: str
    runs: int
    arguments: tuple[str, ...]
    nodes: tuple[Node, ...]
    version: str
    commit: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    working: str = ""
    dirty: bool | None = None

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return a plan from plain JSON; raises KeyError, TypeError, ValueError."""
        lists = {"arguments": tuple(map(str, plain["arguments"])), "nodes": tuple(map(_node, plain["nodes"]))}
        return cls(**{**plain, **lists, "runs": int(plain["runs"]), "settings": dict(plain["settings"])})


@dataclass(frozen=True, slots=True)
class Order:
    """What a node is told: everything that it needs, as plain JSON.

    folder: that of the node, as the computer that gives the order names it. token: the content of a file there, by
    which the node knows that it sees the same folder. working: the working folder of the run. complete: how many runs
    of each part are there already, by label, for a node that does not see them.
    """

    node: Node
    runs: int
    arguments: tuple[str, ...]
    folder: str
    token: str
    working: str
    complete: Mapping[str, int] = field(default_factory=dict)

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return an order from its text; raises KeyError, TypeError, ValueError."""
        plain = json.loads(text)
        return cls(**{**plain, "node": _node(plain["node"]), "arguments": tuple(plain["arguments"])})


@dataclass(frozen=True, slots=True)
class PartState:
    """How far a part is. exit_codes: of its runs so far. reason: why it stopped early, "" if it did not."""

    exit_codes: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a node says of itself. began, ended: by its own clock, in seconds since 1970; ended is None until then.

    parts: by label. reason: why it could not even begin, "" if it did. token: that of the order at which it works.
    """

    began: float
    ended: float | None = None
    parts: Mapping[str, PartState] = field(default_factory=dict)
    version: str = ""
    reason: str = ""
    token: str = ""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return a state from plain JSON; raises KeyError, TypeError, ValueError."""
        parts = {
            label: PartState(tuple(map(int, part["exit_codes"])), harmless(part["reason"]))
            for label, part in plain["parts"].items()
        }
        texts = {name: harmless(plain[name]) for name in ("version", "reason")}
        texts["token"] = str(plain.get("token", ""))
        return cls(
            **{**plain, **texts, "parts": parts, "began": float(plain["began"]), "ended": _moment(plain["ended"])}
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """When the computer that runs the engine gave an order, first saw its state, and saw its end; by its own clock.

    why: what the engine says about the end, such as "NODE_FAIL"; "" if nothing. token: that of the order; a state with
    another one is of a task with an earlier order.
    """

    sent: float
    begun: float | None = None
    ended: float | None = None
    why: str = ""
    token: str = ""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return it from plain JSON; raises KeyError, TypeError, ValueError."""
        begun, ended = _moment(plain["begun"]), _moment(plain["ended"])
        return cls(float(plain["sent"]), begun, ended, harmless(plain["why"]), str(plain.get("token", "")))


def new_id() -> str:
    """Return the name of a new fleet."""
    return f"fleet-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class FleetFolder:
    """The folder of a fleet. Its methods raise TableError for a file that cannot be read, OSError if writing fails."""

    path: Path

    @property
    def private(self) -> Path:
        return self.path / PRIVATE

    def node(self, label: str) -> Path:
        """Return the private folder of a node."""
        return self.private / label

    def runs(self, node: str, part: str) -> Path:
        """Return the folder of the runs of a part, each in a folder of its own."""
        return self.node(node) / part / "runs" / part

    def complete(self, node: str, part: str) -> list[Path]:
        """Return the folders of the complete runs of a part, the first first."""
        every = sorted(file.parent for file in self.runs(node, part).glob(f"*/{schema.RUN}"))
        return [folder for folder in every if not (folder / schema.JOURNAL).exists()]  # else cases were interrupted

    def unfinished(self, node: str, part: str) -> list[Path]:
        """Return the folders of the runs of a part that can be resumed, the first first."""
        return sorted(file.parent for file in self.runs(node, part).glob(f"*/{schema.JOURNAL}"))

    def create(self, plan: Plan, names: Mapping[str, str]) -> None:
        """Write the plan of a new fleet. names: those of its nodes in the engine, by label."""
        self.private.mkdir(parents=True, exist_ok=True)  # an engine may have been there before
        self.private.chmod(0o700)
        write_atomically(self.private / ".gitignore", _IGNORED)
        write_atomically(self.private / _NAMES, _json(dict(names)))
        write_atomically(self.private / _PLAN, _json(asdict(plan)))  # last: a folder with a plan is complete

    def plan(self) -> Plan:
        return _read(self.private / _PLAN, Plan.from_json)

    def names(self) -> dict[str, str]:
        return _read(self.private / _NAMES, lambda plain: {str(k): harmless(str(v)) for k, v in plain.items()})

    def state(self, node: str) -> State | None:
        """Return what a node last said; None if it has said nothing."""
        return _read_if_there(self.node(node) / _STATE, State.from_json)

    def seen(self, node: str) -> Seen | None:
        """Return what was last seen of a node; None if it was given no order."""
        return _read_if_there(self.node(node) / _SEEN, Seen.from_json)

    def write_order(self, order: Order) -> Path:
        folder = self.node(order.node.label)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _ORDER, order.to_text())
        return folder / _ORDER

    def forget(self, node: str) -> None:
        """Remove what a node said of itself in an earlier attempt."""
        (self.node(node) / _STATE).unlink(missing_ok=True)

    def write_seen(self, node: str, seen: Seen) -> None:
        write_atomically(self.node(node) / _SEEN, _json(asdict(seen)))


def is_superseded(fleet: FleetFolder, token: str) -> bool:
    """Return whether newer orders than one with this token were given to a fleet.

    Where the token cannot be read, they were not: a node without the folder of the fleet works in one that has none.
    """
    try:
        return read_text(fleet.private / TOKEN).strip() != token
    except TableError:
        return False


def is_full(folder: Path) -> bool:
    """Return whether no more can be written into a folder."""
    try:
        return shutil.disk_usage(folder).free < _LITTLE
    except OSError:
        return False


def write_state(folder: Path, state: State) -> None:
    """Write what a node says of itself into its private folder; raises OSError."""
    write_atomically(folder / _STATE, _json(asdict(state)))


def _moment(plain: Any) -> float | None:
    return None if plain is None else float(plain)


def _node(plain: Mapping[str, Any]) -> Node:
    parts: Sequence[Mapping[str, Any]] = plain["parts"]
    node = Node(str(plain["label"]), tuple(Part(**part) for part in parts))
    for label in (node.label, *(part.label for part in node.parts)):
        _require_plain(label)
    return node


def _require_plain(label: str) -> None:
    """Raise ValueError for a label that could name a folder elsewhere: a plan may come from another computer."""
    if not _LABEL.fullmatch(label):
        raise ValueError(f"the label {quoted(label)} is not a plain name")


def _json(plain: Any) -> str:
    return json.dumps(plain, indent=1) + "\n"


def _read(path: Path, parse: Callable[[Any], _Read]) -> _Read:
    try:
        return parse(json.loads(read_text(path)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(path, f"not written by this version of bench-core: {error}") from None


def _read_if_there(path: Path, parse: Callable[[Any], _Read]) -> _Read | None:
    return _read(path, parse) if path.exists() else None
