"""The output of BabelStream, as text or by `--csv`.

The first call of each kernel does not count, so that there is one sample less than calls. The time is the mean, because
no median is written. The rate that BabelStream prints is that of the fastest call: it is the column `max`; `value` is
that of the mean time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.imported.entries import Entry, Imported, Masked, Quantity, are_times, rate_of
from bench_core.imported.fields import parsed_number
from bench_core.records import Fact, Facts, Status
from bench_core.text import quoted
from bench_core.units import counted

TOOL = "babelstream"
_BYTES = {"mb": 1e6, "gb": 1e9, "tb": 1e12, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}
_BYTES |= {"mbytes": 1e6, "mibytes": 2.0**20, "gbytes": 1e9, "gibytes": 2.0**30}
_DTYPES = {"float": "float32", "double": "float64"}
_BY_SIZE = {4.0: "float32", 8.0: "float64"}
_ELEMENTS = 1 << 50
_HALF_A_DIGIT = 0.5e-5  # seconds: the text has five decimals
# How implementations name their device.
_DEVICE = re.compile(
    r"Using (?P<api>CUDA|HIP|OpenCL|SYCL|HC) device:? (?P<name>.+)|"
    r'CUDA Device (?P<number>[0-9]+): "(?P<quoted>[^"]+)".*'
)
_IS_CPU = re.compile(r"\b(cpu|xeon|epyc|core|ryzen|opteron|processor|neoverse|pthread|cortex)\b", re.IGNORECASE)
_OF_GPUS = re.compile(r"cuda|hip|\bhc\b|thrust", re.IGNORECASE)  # implementations that have no CPU
_HEADER = re.compile(r"Function\s+(\S+?)/s(?:ec)?\s+Min \(sec\)\s+Max\s+Average$")
_PRINTED = ("rate", "min", "max", "mean")  # the columns under it, after the name
_SEVERAL = "a second table of results: import the output of one run at a time"
_FAILED = re.compile(r"^(Validation failed on|FAILED validation of) .*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A line of results.

    calls: those that count. width: bytes of an element. rate: bytes per second of the fastest call; of all calls, if
    `columns` has their mean time alone. columns: seconds by statistical column. error: by which times may be rounded.
    """

    line: int
    name: str
    calls: int
    elements: int | None
    width: float | None
    rate: float
    columns: Mapping[str, float]
    error: float

    @property
    def arrays(self) -> int | None:
        """How many arrays a call moves: what the rate and the time say, if they are known well enough to tell."""
        if not (self.elements and self.width):
            return None
        shortest = self.columns.get("min", self.columns["mean"])
        found = self.rate * shortest / (self.elements * self.width)
        doubt = found * (self.error / shortest + 1e-4)
        return round(found) if doubt < 0.4 and round(found) > 0 and abs(found - round(found)) <= doubt else None


def read(path: Path, text: str) -> Imported:
    """Return the contents of a file. Raises TableError for a line that is missing or wrong."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    mask = Masked()
    head = _head(lines)
    kernels = _of_csv(path, lines) or _of_text(path, lines, head)
    if not kernels:
        raise TableError(path, "no table of results: the output was cut off, or the run failed")
    device, device_name, gpus, notes = _device(lines, head, mask)
    failed = _FAILED.search(text)
    entries = []
    for kernel in kernels:
        entry = _entry(kernel, head, mask)
        entry = replace(entry, device=device, device_name=device_name)
        if failed:
            reason = mask.text(failed[0])
            entry = replace(entry, quantities=(), status=Status.INVALID, reason_code="wrong_answer", reason=reason)
        entries.append(entry)
    facts = _facts(lines, device_name if gpus else "", mask)
    version = mask.text(head.get("Version", ""))
    return Imported(TOOL, version, tuple(entries), worker_facts=facts, gpus=gpus, notes=notes)


def _head(lines: Sequence[tuple[int, str]]) -> dict[str, str]:
    """Return the first value of each line `name: value`."""
    found: dict[str, str] = {}
    for _, line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _entry(kernel: _Kernel, head: Mapping[str, str], mask: Masked) -> Entry:
    about: dict[str, Any] = {
        "said": kernel.name,
        "line": kernel.line,
        "workload": mask.name(kernel.name),
        "implementation": mask.name(head["Implementation"]) if head.get("Implementation") else "default",
        "dtype": _DTYPES.get(head.get("Precision", ""), "") or _BY_SIZE.get(kernel.width or 0.0, ""),
        "size": str(kernel.elements) if kernel.elements else mask.name(head.get("Array size", "").partition("(")[0]),
    }
    if about["size"] == "unnamed":
        about["size"] = ""
    if not are_times(kernel.columns.values()):
        return Entry(**about, status=Status.INVALID, reason_code="no_time", reason="not every time is above 0 s")
    times: dict[str, Any] = {**kernel.columns, "value": kernel.columns["mean"], "n": kernel.calls}
    quantities = [Quantity("time", columns=times)]
    if kernel.rate > 0:
        amount = kernel.rate * times.get("min", times["mean"])
        if kernel.elements and kernel.width and kernel.arrays:
            about["bytes"] = amount = kernel.arrays * kernel.elements * kernel.width
            if "min" in times:  # the rate has more digits than the time, of which it is
                times["min"] = amount / kernel.rate
                times["mean"] = times["value"] = max(times["mean"], times["min"])
        rate = rate_of(amount, times)
        rate |= {"max": kernel.rate} if "max" in rate else {}
        quantities.append(Quantity("bandwidth", columns=rate))
    return Entry(**about, quantities=tuple(quantities))


def _of_csv(path: Path, lines: Sequence[tuple[int, str]]) -> list[_Kernel]:
    """Return the results of the table whose header begins with `function`, by any separator; none if there is none."""
    found: list[_Kernel] = []
    header: list[str] = []
    separator = ","
    for number, line in lines:
        if begun := re.match(r"function(\W+)num_times\b", line):
            separator = begun[1]
            if header:
                raise TableError(path, _SEVERAL, number)
            header = line.split(separator)
            continue
        cells = line.split(separator)
        if not header or separator not in line:
            continue
        if len(cells) != len(header):
            raise TableError(path, f"{len(cells)} cells under {len(header)} columns: cut off", number)
        found.append(_record(path, number, dict(zip(header, cells, strict=True))))
    return found


def _record(path: Path, number: int, cells: Mapping[str, str]) -> _Kernel:
    def value(name: str) -> float:
        if name not in cells:
            raise TableError(path, f"column {name!r} is missing", number)
        return _needed(path, number, f"column {name!r}", cells[name])

    calls, elements, width = value("num_times"), value("n_elements"), value("sizeof")
    named = next((name for name in cells if name.endswith("_per_sec")), "a rate (max_..._per_sec)")
    unit = named.removesuffix("_per_sec").removeprefix("max_").lower()
    rate = value(named) * _unit(path, number, unit)
    if "runtime" in cells:  # of all calls together, as `--triad-only` measures them
        times = {"mean": value("runtime") / (calls or 1)}
        return _kernel(path, _Line(number, cells["function"], calls, elements, width), rate, times, 0.0)
    times = {of: value(f"{name}_runtime") for name, of in {"min": "min", "max": "max", "avg": "mean"}.items()}
    return _kernel(path, _Line(number, cells["function"], calls - 1, elements, width), rate, times, 0.0)


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line of results is of: its number, the kernel, and numbers that are not yet checked."""

    number: int
    name: str
    calls: float
    elements: float | None
    width: float | None


def _kernel(path: Path, line: _Line, rate: float, times: Mapping[str, float], error: float) -> _Kernel:
    elements = 1.0 if line.elements is None else line.elements
    for what, count in (("the number of calls", line.calls), ("the number of elements", elements)):
        if count != int(count) or not 1 <= count <= _ELEMENTS:
            raise TableError(path, f"{what} is {count:g}", line.number)
    if not line.name.strip():
        raise TableError(path, "a result without a name", line.number)
    known = None if line.elements is None else int(elements)
    return _Kernel(line.number, line.name.strip(), int(line.calls), known, line.width, rate, times, error)


def _unit(path: Path, number: int, unit: str) -> float:
    if unit not in _BYTES:
        raise TableError(path, f"{quoted(unit)} is no unit of bytes that BabelStream prints", number)
    return _BYTES[unit]


def _needed(path: Path, number: int, what: str, text: str) -> float:
    value = parsed_number(text.strip())
    if value is None or value < 0:
        raise TableError(path, f"{what} holds {quoted(text.strip())}, which is no number that can be measured", number)
    return value


def _of_text(path: Path, lines: Sequence[tuple[int, str]], head: Mapping[str, str]) -> list[_Kernel]:
    """Return the results of the table whose header begins with `Function`, or of a run of one kernel in a row."""
    begun = [(place, match) for place, (_, line) in enumerate(lines) if (match := _HEADER.match(line))]
    elements = parsed_number(head.get("Number of elements", ""))
    width = {"float": 4.0, "double": 8.0}.get(head.get("Precision", ""))
    if not begun:
        return _of_one(path, lines, head, elements, width)
    (place, match), *others = begun
    number = lines[place][0]
    if others:
        raise TableError(path, _SEVERAL, lines[others[0][0]][0])
    unit = _unit(path, number, match[1].lower())
    running = [calls for _, line in lines[:place] if (calls := re.match(r"Running\b.* (\d{1,15}) times\b", line))]
    if not running:
        raise TableError(path, "no line `Running kernels ... times` before the results", number)
    found: list[_Kernel] = []
    for number, line in lines[place + 1 :]:
        name, *texts = line.split()
        if not texts or parsed_number(texts[0]) is None:
            break  # what follows the table
        if len(texts) != len(_PRINTED):
            raise TableError(path, f"{counted(len(texts), 'number')} instead of {len(_PRINTED)}: cut off", number)
        rate, *times = (_needed(path, number, "a line of the results", text) for text in texts)
        of = _Line(number, name, float(running[-1][1]) - 1, elements, width)
        columns = dict(zip(_PRINTED[1:], times, strict=True))
        found.append(_kernel(path, of, rate * unit, columns, _HALF_A_DIGIT))
    return found


def _of_one(
    path: Path, lines: Sequence[tuple[int, str]], head: Mapping[str, str], elements: float | None, width: float | None
) -> list[_Kernel]:
    """Return the result of a run of one kernel, whose calls were timed together (`--triad-only` up to 5.0)."""
    began = next(((n, m) for n, line in lines if (m := re.match(r"Running (\w+) (\d{1,15}) times", line))), None)
    rate = next(((n, m) for n, line in lines if (m := re.match(r"Bandwidth \((\S+)/s\):\s*(\S+)", line))), None)
    if began is None or rate is None or "Runtime (seconds)" not in head:
        return []
    number, calls = rate[0], float(began[1][2])
    total = _needed(path, number, "the runtime", head["Runtime (seconds)"])
    amount = _needed(path, number, "the bandwidth", rate[1][2]) * _unit(path, number, rate[1][1].lower())
    line_of = _Line(number, began[1][1].capitalize(), calls, elements, width)
    return [_kernel(path, line_of, amount, {"mean": total / (calls or 1)}, _HALF_A_DIGIT / (calls or 1))]


def _device(
    lines: Sequence[tuple[int, str]], head: Mapping[str, str], mask: Masked
) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """Return the address and the name of the device, the names of GPUs, and a note if the file does not name it."""
    found = next((match for _, line in lines if (match := _DEVICE.fullmatch(line))), None)
    name = mask.text(found["name"] or found["quoted"]) if found else ""
    number = (found["number"] if found else None) or "0"
    of_gpus = _OF_GPUS.search(head.get("Implementation", "") + " " + ((found["api"] or "CUDA") if found else ""))
    if of_gpus or (name and not _IS_CPU.search(name)):
        kind = "cuda" if of_gpus else "gpu"
        return f"{kind}:{number}", name, (name,) if name else (), ()
    if name:
        return "cpu", name, (), ()
    return "cpu", "", (), ("the file does not name the device: cpu is assumed (--device names another)",)


def _facts(lines: Sequence[tuple[int, str]], gpu: str, mask: Masked) -> Facts:
    facts = {"gpu.name": Fact(gpu, f"{TOOL}: the device's name")} if gpu else {}
    for _, line in lines:
        name, colon, value = line.partition(":")
        if colon and name in {"Driver", "CUDA Driver"} and value.strip():
            facts["gpu.driver_cuda"] = Fact(mask.text(value), f"{TOOL}: {name}")
    return facts
