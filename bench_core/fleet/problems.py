"""What can be wrong with a node of a fleet, or odd about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong with a node, or odd about it."""

    NOTHING = "nothing"
    FEWER = "fewer runs"
    UNFINISHED = "unfinished run"
    DAMAGED = "damaged"
    LABEL = "label"
    OPTIONS = "other options"
    VERSION = "other version"
    DISK = "disk full"
    KEPT = "not replaced"
    COPY = "not copied"
    MIXED = "other cases"  # than other runs of the same part
    FAILED = "nothing measured"
    FAILED_HERE = "failed here"
    CASES = "fewer cases"  # than other nodes
    CLOCK = "clock"

    @property
    def is_note(self) -> bool:
        """Whether the runs can be used nevertheless."""
        return self in {Kind.FAILED_HERE, Kind.CASES, Kind.CLOCK}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a node. part: the label of the part that has it, that of the node if all have. text: a sentence."""

    node: str
    part: str
    kind: Kind
    text: str


class Fault(Exception):
    """Why a run cannot be used."""

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(text)
