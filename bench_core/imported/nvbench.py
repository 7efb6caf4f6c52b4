"""The CSV and the JSON of nvbench (`--csv FILE`, `--json FILE`).

A state of a benchmark is a case. Isolated measurements, between which nvbench clears the cache, are `cold`: "CPU Time"
by the wall clock, "GPU Time" by the device's. "Batch GPU" is `hot`: many launches in a row. The JSON has medians and
quartiles since 2026; before that, and in the CSV, the time is a mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.imported.entries import Entry, Imported, Masked, Quantity, are_times, size_of
from bench_core.imported.fields import Node, parsed_number
from bench_core.records import Cache, Clock, Fact, Facts, Status
from bench_core.text import printable

TOOL = "nvbench"
_FIRST = ["Benchmark", "Device", "Device Name"]
_POWER = " (pow2)"  # a column that says the exponent of the next one
# Tags of summaries in the JSON below nv/, each with the clock and the cache of the times that it groups.
_TIMES = {
    "cold/time/cpu": (Clock.WALL, Cache.COLD),
    "cold/time/gpu": (Clock.DEVICE, Cache.COLD),
    "batch/time/gpu": (Clock.DEVICE, Cache.HOT),
    "cpu_only/time/cpu": (Clock.WALL, Cache.HOT),
}
_STATISTICS = {"min": "min", "max": "max", "mean": "mean", "median": "value", "q1": "p25", "q3": "p75"}
_STATISTICS |= {"stdev/absolute": "std"}
# The rates of a state: the time of which they are, by tag.
_RATES = {"bw/item_rate": "sample_rate", "bw/global/bytes_per_second": "bandwidth"}
# The columns of the CSV: metric, clock and cache. "Samples" and "Noise" are of the time beside them.
_COLUMNS = {
    "CPU Time (sec)": ("time", Clock.WALL, Cache.COLD),
    "GPU Time (sec)": ("time", Clock.DEVICE, Cache.COLD),
    "Batch GPU (sec)": ("time", Clock.DEVICE, Cache.HOT),
    "Elem/s (elem/sec)": ("sample_rate", Clock.DEVICE, Cache.COLD),
    "GlobalMem BW (bytes/sec)": ("bandwidth", Clock.DEVICE, Cache.COLD),
}


def read(path: Path, text: str) -> Imported:
    """Return the contents of a file. Raises TableError for a field, a column or a cell that is missing or wrong."""
    return _of_json(Node.of_text(path, text)) if text.lstrip().startswith("{") else _of_csv(path, text)


def _of_json(root: Node) -> Imported:
    mask = Masked()
    names = {}
    for device in root["devices"]:
        names[device["id"].count] = mask.text(device["name"].text)
    version = root.optional("meta").optional("version").optional("nvbench").optional("string").text_or_empty
    entries = tuple(
        _state(state, bench["name"].text, names, mask) for bench in root["benchmarks"] for state in bench["states"]
    )
    if not entries:
        raise root.refuse("benchmarks: is empty: no benchmark of the run has a result")
    return Imported(TOOL, mask.text(version), entries, worker_facts=_facts(root), gpus=tuple(names.values()))


def _facts(root: Node) -> Facts:
    """Return the facts of the devices, if all are of one model."""
    told: dict[str, set[Any]] = {}
    named = {"gpu.name": "name", "gpu.memory": "global_memory_size", "gpu.ecc": "ecc_state"}
    for device in root["devices"]:
        for name, field in named.items():
            value = device.optional(field).value
            if isinstance(value, str | bool | int):
                told.setdefault(name, set()).add(Masked().text(value) if isinstance(value, str) else value)
    return {
        name: Fact(values.pop(), f"{TOOL}: devices.{named[name]}") for name, values in told.items() if len(values) == 1
    }


def _state(state: Node, bench: str, names: Mapping[int, str], mask: Masked) -> Entry:
    axes = state.optional("axis_values")
    params = {mask.name(axis["name"].text): mask.value(axis.optional("value").value) for axis in axes}
    if state.has("device"):
        number = state["device"].count
        about = _about(bench, params, str(number), names.get(number, ""))
    else:
        about = _about(bench, params, "", "")
    if state.optional("is_skipped").value is True:
        why = mask.text(state.optional("skip_reason").text_or_empty or "skipped by the benchmark")
        return Entry(**about, status=Status.SKIPPED, reason_code="skipped", reason=why)
    return _with(about, _quantities(_told(state)))


def _told(state: Node) -> dict[str, float]:
    """Return the numbers of the summaries of a state by tag, without `nv/`."""
    told: dict[str, float] = {}
    for summary in state.optional("summaries"):
        if not summary.has("tag"):
            raise summary.refuse("has no tag: the JSON of nvbench from before its version 1.0 is not read")
        tag, number = summary["tag"].text.removeprefix("nv/"), _number(summary)
        if number is not None:
            told[tag] = number
    return told


def _quantities(told: Mapping[str, float]) -> Iterator[Quantity]:
    for group, (clock, cache) in _TIMES.items():
        kind = group.partition("/")[0]
        tags = {f"{group}/{of}": to for of, to in _STATISTICS.items()}
        columns: dict[str, Any] = {to: told[tag] for tag, to in tags.items() if tag in told}
        columns.setdefault("value", columns.get("mean"))
        columns["n"] = _count(told.get(f"{kind}/sample_size"))
        yield Quantity("time", clock, columns=columns, cache=cache)
        if group in {"cold/time/gpu", "cpu_only/time/cpu"}:  # of which rates are
            for tag, metric in _RATES.items():
                rate = told.get(f"{kind}/{tag}")
                yield Quantity(metric, clock, columns={"value": rate, "mean": rate, "n": columns["n"]}, cache=cache)
    yield Quantity("gpu_clock", "", columns={"value": told.get("cold/sm_clock_rate/mean")}, cache=Cache.COLD)


def _number(summary: Node) -> float | None:
    """Return the number of a summary, which is written as a text; None for one that is no number (`inf`, `nan`)."""
    for item in summary.optional("data"):
        if item.optional("name").value == "value":
            value = item["value"].value
            return parsed_number(value) if isinstance(value, str) else item["value"].number
    return None


def _with(about: Mapping[str, Any], quantities: Iterable[Quantity]) -> Entry:
    known = tuple(q for q in quantities if are_times([q.columns.get("value") or 0.0]))
    if not any(q.metric == "time" for q in known):
        return Entry(**about, status=Status.INVALID, reason_code="no_time", reason="there is no time above 0 s")
    return Entry(**about, quantities=known)


def _count(number: float | None) -> int | None:
    return int(number) if number and number == int(number) and 0 < number < 2**53 else None


def _about(bench: str, params: dict[str, str], number: str, device_name: str) -> dict[str, Any]:
    """Return what identifies a state, whichever of the two forms it is written in."""
    return {
        "said": bench,
        "workload": Masked().name(bench),
        "params": params,
        "size": size_of(params),
        "device": f"cuda:{number}" if number else "cpu",
        "device_name": device_name,
    }


def _of_csv(path: Path, text: str) -> Imported:
    lines = [(number, line.split(",")) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    (first, header), *records = lines
    header = [cell.strip() for cell in header]
    if header[:3] != _FIRST or "Skipped" not in header:
        raise TableError(path, f"not the header of the CSV of nvbench: {', '.join(_FIRST)} ... Skipped", first)
    if not records:
        raise TableError(path, "no line after the header: no benchmark of the run has a result", first)
    entries = []
    for number, cells in records:
        if len(cells) != len(header):
            # The program writes a comma within a cell as it is.
            why = "use the JSON, which commas in names do not break" if cells[len(header) :] else "cut off"
            raise TableError(path, f"{len(cells)} cells under {len(header)} columns ({why})", number)
        entries.append(_line(path, number, header, [cell.strip() for cell in cells]))
    gpus = {entry.device: entry.device_name for entry in entries if entry.device != "cpu"}
    return Imported(TOOL, "", tuple(entries), gpus=tuple(gpus.values()))


def _line(path: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Entry:
    mask = Masked()
    bench, device, device_name = cells[:3]
    if not bench:
        raise TableError(path, "column 'Benchmark' is empty", number)
    if not re.fullmatch(r"[0-9]{0,5}", device):
        raise TableError(path, f"column 'Device' holds {printable(device, 40)!r}, which is no number", number)
    skipped = header.index("Skipped")
    axes = [(name, cell) for name, cell in zip(header[3:skipped], cells[3:skipped], strict=True) if cell]
    params = {mask.name(name): mask.value(cell) for name, cell in axes if not name.endswith(_POWER)}
    about = _about(bench, params, device, mask.text(device_name))
    if cells[skipped].lower() == "yes":
        return Entry(**about, status=Status.SKIPPED, reason_code="skipped", reason="skipped by the benchmark")
    measured = zip(header[skipped + 1 :], cells[skipped + 1 :], strict=True)
    return _with(about, _of_cells(path, number, measured))


def _of_cells(path: Path, number: int, cells: Iterable[tuple[str, str]]) -> list[Quantity]:
    """Return the quantities in the cells of a line, each with the name of its column."""
    found: list[tuple[str, dict[str, Any]]] = []
    samples: int | None = None
    for name, cell in cells:
        value = parsed_number(cell)
        if name in _COLUMNS and cell:
            if value is None:
                raise TableError(path, f"column {name!r} holds {printable(cell, 40)!r}, which is no number", number)
            found.append((name, {"value": value, "mean": value, "n": samples}))
        elif name == "Samples":
            samples = _count(value)
        elif name in {"Noise", "Noise (%)"} and found and value is not None:
            share = value / 100 if name.endswith("(%)") else value  # earlier versions wrote percent
            found[-1][1]["std"] = share * found[-1][1]["value"]
    return [
        Quantity(metric, clock, columns=columns, cache=cache)
        for name, columns in found
        for metric, clock, cache in [_COLUMNS[name]]
    ]
