"""The output of nvbandwidth, as text or by `-j`.

A test has a matrix of numbers, of which each is a case: a GPU, and the CPU or the GPU at the other end. They are
medians, or means by `--useMean`, of several samples, whose number is not written. 0 and N/A mean that nothing was
measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.errors import TableError
from bench_core.imported.entries import Entry, Imported, Masked, Quantity
from bench_core.imported.fields import Node, parsed_number
from bench_core.records import Clock, Fact, Facts, Status
from bench_core.text import printable, quoted
from bench_core.units import counted

TOOL = "nvbandwidth"
_UNITS = {"GB/s": ("bandwidth", 1e9), "ns": ("load_latency", 1e-9)}
_UNIT = re.compile(r"\(([A-Za-z/]+)\)\s*$")
_ENDS = re.compile(r"(CPU|GPU|Gpus?)\s*\((row|column)\)", re.IGNORECASE)
_NO_VALUE = {"N/A", "0", "0.00", "-"}
_STATUSES = {
    "waived": (Status.UNSUPPORTED, "waived"),
    "not found": (Status.UNSUPPORTED, "not_found"),
    "error": (Status.ERROR, "error"),
}
_DEVICE = re.compile(r"(?:.*\): device |Device )?(\d{1,4}): (.+?)(?: \([0-9A-Fa-f]{8}:.*)?")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The results of a test: what was measured in words, and the texts of the cells with the labels of each row."""

    test: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    node: Node


def read(path: Path, text: str) -> Imported:
    """Return the contents of a file. Raises TableError for a field or a line that is missing or wrong."""
    return _of_json(Node.of_text(path, text)) if text.lstrip().startswith("{") else _of_text(path, text)


def _of_json(root: Node) -> Imported:
    top = root["nvbandwidth"]
    listed = [item.text for item in top.optional("GPU Device list")]
    # An item is "0: NAME (bus): (host)".
    mask = Masked.of(found[1] for line in listed if (found := re.search(r": \(([^()]+)\)$", line)))
    devices = dict(_devices(listed, mask))
    entries: list[Entry] = []
    for test in top.optional("testcases"):
        name = test["name"].text
        if test.has("bandwidth_matrix"):
            rows = [tuple(_cell(cell) for cell in row) for row in test["bandwidth_matrix"]]
            columns = tuple(map(str, range(max(map(len, rows), default=0))))
            labelled = tuple((str(i), row) for i, row in enumerate(rows))
            entries += _entries(
                _Matrix(name, test["bandwidth_description"].text, columns, labelled, test), devices, mask
            )
        else:
            why = test.optional("error").text_or_empty
            entries.append(_failed(name, test["status"].text, why, mask))
    if not entries:
        said = top.optional("error").text_or_empty
        raise top.refuse(f"has no testcases{f': {printable(mask.text(said), 120)}' if said else ''}")
    cuda = str(top["CUDA Runtime Version"].count) if top.has("CUDA Runtime Version") else ""
    facts = _versions(top.optional("Driver Version").text_or_empty, cuda, mask)
    return _imported(mask.text(top.optional("version").text_or_empty), entries, facts, devices)


def _cell(node: Node) -> str:
    if isinstance(node.value, str):
        return node.value.strip()
    return "0" if node.number == 0 else repr(node.number)


def _imported(version: str, entries: Sequence[Entry], facts: Facts, devices: dict[str, str]) -> Imported:
    if len(names := set(devices.values())) == 1:
        facts["gpu.name"] = Fact(names.pop(), f"{TOOL}: the list of devices")
    return Imported(TOOL, version, tuple(entries), worker_facts=facts, gpus=tuple(devices.values()))


def _of_text(path: Path, text: str) -> Imported:
    lines = [line.strip() for line in text.splitlines()]
    head: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        if colon:
            head.setdefault(name, value.strip())
    mask = Masked.of(_hosts(lines))
    devices = dict(_devices([line for line in lines if re.match(r"(Process .*: )?[Dd]evice \d", line)], mask))
    entries: list[Entry] = []
    test = ""
    for place, line in enumerate(lines):
        if running := re.fullmatch(r"Running (\w+)\.", line):
            test = running[1]
        elif test and (ended := re.match(r"(Waived|Not Found|Error|ERROR): ?(.*)", line)):
            entries.append(_failed(test, ended[1], ended[2], mask))
        elif test and _UNIT.search(line) and _ENDS.search(line):
            entries += _entries(_matrix(path, lines, place, test), devices, mask)
    if not entries:
        raise TableError(path, "no results: the output was cut off, or no test was run")
    facts = _versions(head.get("Driver Version", ""), head.get("CUDA Runtime Version", ""), mask)
    return _imported(mask.text(head.get("nvbandwidth Version", "")), entries, facts, devices)


def _matrix(path: Path, lines: Sequence[str], place: int, test: str) -> _Matrix:
    """Return the matrix that the line at this place describes: below it the columns, and the rows to an empty line."""
    block: list[list[str]] = []
    for line in lines[place + 1 :]:
        if not line:
            break
        block.append(line.split())
    if len(block) < 2:
        raise TableError(path, f"{test}: no numbers after this line: cut off", place + 1)
    columns, *rows = block
    for number, (_, *cells) in enumerate(rows, place + 3):
        if len(cells) != len(columns):
            raise TableError(
                path, f"{test}: {counted(len(cells), 'number')} under {len(columns)} columns: cut off", number
            )
    node = Node(path, None, f"line {place + 1}, {test}")
    return _Matrix(test, lines[place], tuple(columns), tuple((label, tuple(cells)) for label, *cells in rows), node)


def _versions(driver: str, cuda: str, mask: Masked) -> Facts:
    facts = {"gpu.driver": Fact(mask.text(driver), f"{TOOL}: Driver Version")} if driver else {}
    return facts | ({"gpu.driver_cuda": Fact(_cuda(cuda), f"{TOOL}: CUDA Runtime Version")} if cuda else {})


def _hosts(lines: Sequence[str]) -> Iterator[str]:
    """Yield the names of computers in the text: the line before the devices, and one for each process of several."""
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("Device 0:") and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", before):
            yield before
        if found := re.match(r"Process .*\(([^()]+)\): device \d", line):
            yield found[1]


def _devices(lines: Sequence[str], mask: Masked) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := _DEVICE.fullmatch(re.sub(r": \([^()]+\)$", "", line)):
            yield found[1], mask.text(found[2])


def _cuda(text: str) -> str:
    """Return the version of CUDA that a number such as 12040 means: 12.4."""
    if not re.fullmatch(r"[0-9]{4,6}", text):
        return Masked().text(text)
    return f"{int(text) // 1000}.{int(text) % 1000 // 10}"


def _failed(test: str, status: str, why: str, mask: Masked) -> Entry:
    word, code = _STATUSES.get(status.strip().lower(), (Status.ERROR, "error"))
    reason = mask.text(why) or f"nvbandwidth: {mask.text(status)}"
    return Entry(test, mask.name(test), device="cuda:0", status=word, reason_code=code, reason=reason)


def _entries(matrix: _Matrix, devices: dict[str, str], mask: Masked) -> Iterator[Entry]:
    """Yield the cases of a test."""
    unit = _UNIT.search(matrix.description)
    if unit is None or unit[1] not in _UNITS:
        raise matrix.node.refuse(f"no known unit at the end of {quoted(matrix.description, 80)}")
    metric, scale = _UNITS[unit[1]]
    ends = {axis.lower(): kind.upper() for kind, axis in _ENDS.findall(matrix.description)}
    kind = _direction(matrix.description)
    # The device is the GPU of the column or, if both ends are GPUs, that of the row, and the peer is the other end.
    mine = "row" if ends.get("row", "CPU") != "CPU" else "column"
    peer = {"row": "column", "column": "row"}[mine]
    for row, cells in matrix.rows:
        for column, text in zip(matrix.columns, cells, strict=False):
            value = 0.0 if text in _NO_VALUE else parsed_number(text, matrix.node)
            if not value or value < 0:
                continue
            labels = {"row": row, "column": column}
            params = {"peer": f"{ends[peer].lower()}{mask.name(labels[peer])}"} if peer in ends else {}
            number = labels[mine] if labels[mine].isdecimal() else ""
            yield Entry(
                f"{matrix.test} {kind}",
                mask.name(matrix.test),
                (Quantity(metric, Clock.DEVICE, columns={"value": value * scale}),),
                params=params | ({"kind": kind} if kind else {}),
                device=f"cuda:{number}" if number else "cuda",
                device_name=devices.get(number, ""),
            )


def _direction(description: str) -> str:
    """Return which of several numbers of one test a matrix has ("Read1", "Total"); "" for a test that has one."""
    found = re.search(r"\b(Read\d|Write\d|Total)\b", description)
    return found[1].lower() if found else ""
