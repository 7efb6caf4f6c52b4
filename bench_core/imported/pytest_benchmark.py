"""The JSON of pytest-benchmark, by `--benchmark-json` or saved by itself (`--benchmark-autosave`).

Each benchmark has a time; with the raw rounds in `stats.data` it has samples, which `--benchmark-json` always writes,
and saved runs with `--benchmark-save-data`. The names of folders and computers in it are left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.imported.entries import Entry, Imported, Masked, Quantity, are_times, moment
from bench_core.imported.fields import Node, checked_number
from bench_core.records import Fact, Facts, Status

TOOL = "pytest-benchmark"
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_STATISTICS = {"mean": "mean", "min": "min", "max": "max", "q1": "p25", "q3": "p75", "median": "value"}


def read(path: Path, text: str) -> Imported:
    """Return the contents of a file. Raises TableError for a field that is missing or wrong."""
    root = Node.of_text(path, text)
    machine, commit = root["machine_info"], root.optional("commit_info")
    mask = Masked.of([machine.fields.get("node")])
    entries = tuple(_entry(node, mask) for node in root["benchmarks"])
    if not entries:
        raise TableError(path, "benchmarks: is empty: no benchmark of the run has a result")
    commit_id = commit.optional("id").text_or_empty
    dirty = commit.optional("dirty").value
    is_known = _COMMIT.fullmatch(commit_id) is not None
    return Imported(
        TOOL,
        mask.text(root.optional("version").text_or_empty),
        entries,
        moment(root.optional("datetime").value),
        commit_id if is_known else "",
        dirty if is_known and isinstance(dirty, bool) else None,
        _facts(machine, mask),
        _of_python(machine, mask),
    )


def _entry(node: Node, mask: Masked) -> Entry:
    full = node.optional("fullname").text_or_empty or node["name"].text
    place, *inner = re.sub(r"\[.*\]$", "", full, flags=re.DOTALL).split("::")
    stem = re.split(r"[/\\]", place)[-1].removesuffix(".py")
    identity = re.search(r"\[(.*)\]$", full, re.DOTALL)
    given = node.optional("params").value
    if isinstance(given, dict) and given:
        params = {mask.name(name): mask.value(_plain(value)) for name, value in given.items()}
    else:
        params = {"id": mask.value(identity[1])} if identity else {}
    group = node.optional("group").text_or_empty
    about: dict[str, Any] = {
        "said": full,
        "workload": mask.name("/".join([stem, *inner])),
        "suite": f"{TOOL}/{mask.name(group)}" if group else TOOL,
        "params": params,
    }
    stats = node["stats"]
    data = [checked_number(item.value, item) for item in stats.optional("data")]
    loops = stats.optional("iterations").count if stats.has("iterations") else None
    if data:
        quantity = Quantity("time", samples=tuple(data), inner_loops=loops)
        is_time = are_times(data)
    else:
        columns: dict[str, Any] = {to: stats[of].number for of, to in _STATISTICS.items() if stats.has(of)}
        if "value" not in columns:
            columns["value"] = stats["mean"].number
        columns["n"] = stats["rounds"].count if stats.has("rounds") else None
        if columns["n"] and columns["n"] > 1 and stats.has("stddev"):  # of one round it is written as 0
            columns["std"] = stats["stddev"].number
        quantity = Quantity("time", columns=columns, inner_loops=loops)
        is_time = are_times([columns["value"]])
    if not is_time:
        why = "not every round is a time above 0 s"
        return Entry(**about, status=Status.INVALID, reason_code="no_time", reason=why)
    return Entry(**about, quantities=(quantity,))


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _facts(machine: Node, mask: Masked) -> Facts:
    """Return what the file says of the computer, under the names of facts of a run."""
    cpu = machine.optional("cpu").value
    cpu = cpu if isinstance(cpu, dict) else {}
    told = {
        "cpu.model": (cpu.get("brand_raw") or cpu.get("brand"), "cpu.brand_raw"),
        "cpu.architecture": (machine.fields.get("machine"), "machine"),
        "cpu.threads": (cpu.get("count"), "cpu.count"),
        "system.os": (machine.fields.get("system"), "system"),
    }
    frequency = cpu.get("hz_actual")
    if isinstance(frequency, list) and frequency:
        told["cpu.frequency"] = (frequency[0], "cpu.hz_actual")
    return {
        name: Fact(mask.text(value) if isinstance(value, str) else value, f"{TOOL}: machine_info.{source}")
        for name, (value, source) in told.items()
        if value and isinstance(value, str | int) and not isinstance(value, bool) and _is_small(value)
    }


def _is_small(value: str | int) -> bool:
    return isinstance(value, str) or 0 < value < 10**15


def _of_python(machine: Node, mask: Masked) -> Facts:
    named = {"python.version": "python_version", "python.implementation": "python_implementation"}
    found = {name: machine.optional(of).text_or_empty for name, of in named.items()}
    return {name: Fact(mask.text(text), f"{TOOL}: machine_info.{named[name]}") for name, text in found.items() if text}
