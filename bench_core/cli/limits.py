"""What `bench-core check` does: measure the limits of this machine, or read them, and show how they are judged."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.markup import escape

from bench_core import child_process
from bench_core.analysis.machine_check import LimitReading, LimitVerdict, exit_code, judge_limits, unmeasured
from bench_core.cli.common import plain, print_progress, require_temporary_folder
from bench_core.errors import TableError, UsageError
from bench_core.files import is_folder
from bench_core.machine.normal_ranges import Range
from bench_core.plan import doctor
from bench_core.plan.doctor import Advice, Level
from bench_core.plan.findings import gather_findings
from bench_core.records import Ceiling, Fact, Facts
from bench_core.results import reader, schema
from bench_core.results.run_files import read_run_files
from bench_core.run import replicate
from bench_core.scratch import Scratch
from bench_core.text import printable
from bench_core.units import show

# Options of the user are appended to these, and so override them.
_MEASURE = ("--bench-preset=headline", "--bench-machine=check", "-p", "no:cacheprovider")
# The user's selection is combined with these by "and". The bfloat16 product, sized for a GPU, takes minutes on a CPU.
_SELECT = {"-m": "ceiling", "-k": "not (cpu and bfloat16)"}
_MARKS = {
    LimitVerdict.WRONG: "bold red",
    LimitVerdict.LOW: "red",
    LimitVerdict.HIGH: "yellow",
    LimitVerdict.IN_RANGE: "green",
    LimitVerdict.UNKNOWN: "dim",
    LimitVerdict.NOT_MEASURED: "yellow",
}
_SAID = {
    0: "All right: every limit with a known range is in its range.",
    1: "Not all right: see the limits marked low or wrong.",
    3: "No range is known for this device: compare its values with those of another device.",
}


def check(given: Sequence[str], results: Path | None, *, as_json: bool) -> int:
    """Measure the limits, or read those of a run folder, print how they are judged, and return the exit code.

    given: options of pytest. Raises UsageError if there is nothing to judge.
    """
    advice: list[Advice] = []
    if results:
        readings = _read(results, {})
    else:
        found = gather_findings()  # before the measurement, which itself loads the machine
        advice, readings = doctor.examine(found), _measure(given, found.host)
        names = [str(card["gpu.name"].value) for card in found.cards if card.get("gpu.name", Fact()).value]
        readings += unmeasured(names, readings)
    code = exit_code(readings)
    if as_json:
        typer.echo(json.dumps(_to_json(readings, advice, code), indent=2))
    else:
        _show(Console(highlight=False, soft_wrap=True), readings, advice, code)
    return code


def _measure(given: Sequence[str], before: Facts) -> list[LimitReading]:
    """Measure in a separate pytest session with a temporary results folder, and return the readings."""
    if any(argument.startswith("--bench-output") for argument in given):
        raise UsageError(
            "check keeps no results; to keep them: bench-core run --bench-preset=headline, then check --from RUN"
        )
    require_temporary_folder()
    print_progress("measuring the limits of this machine: about two minutes")
    with Scratch() as folder:
        output = Path(folder) / "run"
        turn = replicate.Turn(replicate.Side("this"), 0, seed=0)
        try:
            code = replicate.launch(turn, output, [*_MEASURE, *selecting(given)])
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        return _read(_only_run(output, code), before)


def selecting(given: Sequence[str]) -> list[str]:
    """Return the pytest options with -k and -m added, each restricted to the limits of the machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in _SELECT:
        parser.add_argument(option)
    chosen, others = parser.parse_known_args(list(given))
    for option, ours in _SELECT.items():
        theirs = getattr(chosen, option.removeprefix("-"))
        others += [option, f"{ours} and ({theirs})" if theirs else ours]
    return others


def _only_run(output: Path, code: int) -> Path:
    """Return the run folder below `output`; raises UsageError if there is none."""
    found = list(output.glob(f"*/*/{schema.RUN}"))
    if found:
        return found[0].parent
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError("no benchmark of a limit matches; --bench-suite=always selects those of bench-core")
    log = (output / replicate.LOG).read_text(encoding="utf-8", errors="replace")
    raise UsageError(f"nothing was measured, pytest {child_process.ending(code)}: {replicate.last_error(log)}")


def _read(folder: Path, before: Facts) -> list[LimitReading]:
    """Return the readings of a run folder. before: facts of the host from before the measurement.

    Raises UsageError if the folder cannot be judged.
    """
    try:
        path = folder / schema.RESULTS if is_folder(folder) else folder
        rows = reader.read_rows(path)
    except (TableError, OSError) as error:
        raise UsageError(f"--from {folder}: {error}") from None
    beside = read_run_files(path)
    readings = judge_limits(rows, _ceilings(beside.about, path), before | beside.facts, beside.worker_facts)
    if not readings:
        raise UsageError(f"{path}: no row measures a limit of a machine")
    return readings


def _ceilings(about: Any, path: Path) -> dict[str, Ceiling]:
    """Return the limit that each workload measures, from run.json. Raises UsageError if run.json lacks it."""
    found = about.get("ceilings")
    if not isinstance(found, dict):
        raise UsageError(f"{path.with_name(schema.RUN)} does not name the workloads of limits: measure again")
    words = set(Ceiling)
    return {str(name): Ceiling(word) for name, word in found.items() if word in words}


def _to_json(readings: Sequence[LimitReading], advice: Sequence[Advice], code: int) -> dict[str, Any]:
    return {
        "exit_code": code,
        "said": _SAID[code],
        "readings": [asdict(reading) for reading in readings],
        "doctor": [asdict(item) for item in advice],
    }


def _show(console: Console, readings: Sequence[LimitReading], advice: Iterable[Advice], code: int) -> None:
    sources = list(dict.fromkeys(r.normal.source for r in readings if r.normal))
    for device in dict.fromkeys(r.device for r in readings):
        mine = [r for r in readings if r.device == device]
        name = next((r.device_name for r in mine if r.device_name), "")
        console.print(f"[bold]{plain(', '.join(filter(None, (device, name))))}[/]")
        for line in _lines(mine, sources):
            console.print(line)
    if sources:
        console.print("\n[bold]Sources of the normal ranges[/]")
    for number, source in enumerate(sources, 1):
        console.print(f"  \\[{number}] {plain(source)}")
    warnings = [item for item in advice if item.level is not Level.NOTE]
    if warnings:
        console.print("\n[bold]Warnings of bench-core doctor[/]")
    for item in warnings:
        console.print(f"  {plain(item.what)}. {plain(item.why)}. [green]{plain(item.remedy)}.[/]")
    console.print(f"\n{_SAID[code]}")


def _lines(readings: Sequence[LimitReading], sources: Sequence[str]) -> Iterator[str]:
    width = max(len(r.what) for r in readings), max(len(r.who) for r in readings)
    for r in readings:
        note = r.reason or _normal_range(r.normal, r.unit, sources)
        mark = f"[{_MARKS[r.verdict]}]{r.verdict:13}[/]"
        value = f"{show(r.value, r.unit):>13}"
        what = escape(f"{printable(r.what):{width[0]}}  {printable(r.who):{width[1]}}")
        yield f"  {mark}  {what}  {value}  {plain(note)}".rstrip()
        if r.verdict is LimitVerdict.LOW:
            for cause in r.causes or ("no cause is confirmed by the driver or the rows",):
                yield f"                 {plain(cause)}"


def _normal_range(expected: Range | None, unit: str, sources: Sequence[str]) -> str:
    if expected is None:
        return ""
    return f"normal {show(expected.low, unit)} to {show(expected.high, unit)} [{sources.index(expected.source) + 1}]"
