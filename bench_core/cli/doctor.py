"""`bench-core doctor`: show what this machine has, what is missing and what would disturb a measurement.

Exit codes: 0; 1 nothing can be measured; 2 usage.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench_core import child_main
from bench_core.backends import registry
from bench_core.backends.numpy import openblas_core
from bench_core.cli import app
from bench_core.cli.common import plain
from bench_core.machine import cpu_limits, environment, host, nvml, processor
from bench_core.machine.facts import shown
from bench_core.plan import discovery, doctor
from bench_core.plan.discovery import Probe, probe_all
from bench_core.plan.doctor import Advice, Findings, Level
from bench_core.records import Fact

_LOOK_S = 1.0  # seconds for which the load of the machine is observed
_MARKS = {Level.BLOCKER: "[bold red]x[/]", Level.WARNING: "[yellow]![/]", Level.NOTE: "[dim]-[/]"}


@app.command("doctor")
def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Show this machine, and what would disturb a measurement on it."""
    found = gather_findings()
    advice = doctor.examine(found)
    if as_json:
        typer.echo(json.dumps(_to_json(found, advice), indent=2))
    else:
        _show(Console(), found, advice)
    raise typer.Exit(1 if any(item.level is Level.BLOCKER for item in advice) else 0)


def gather_findings() -> Findings:
    """Return the facts, backends and GPUs of this machine; takes a second to observe its load."""
    facts = environment.host_environment() | _watch(_LOOK_S)  # before the probes, which themselves load the machine
    facts["cpu.limit"] = cpu_limits.fact(cpu_limits.read())
    probes = list(probe_all(registry.names()).values())
    best, shadows = openblas_core(processor.flags()), child_main.shadows([os.curdir])
    try:
        return Findings(facts, probes, best, nvml.cards(), shadows=shadows)
    except nvml.NoDriver as error:
        return Findings(facts, probes, best, no_cards=str(error), shadows=shadows)


def _watch(seconds: float) -> dict[str, Fact]:
    """Return the load of the machine while this process sleeps for `seconds`."""
    before = host.cpu_times()
    time.sleep(seconds)
    after = host.cpu_times()
    spent = {name: after[name] - before[name] for name in after.keys() & before.keys()}
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)  # in `user` already
    if total <= 0:
        return {}
    steal = spent.get("steal", 0.0)
    resting = spent.get("idle", 0.0) + spent.get("iowait", 0.0) + steal
    return doctor.load_facts(1 - resting / total, steal / total)


def _to_json(found: Findings, advice: list[Advice]) -> dict[str, Any]:
    return {
        "machine": _label(found),
        "host": environment.facts_to_json(found.host),
        "backends": [discovery.probe_to_json(p) for p in found.probes],
        "gpus": [environment.facts_to_json(card) for card in found.cards],
        "no_gpus": found.no_cards,
        "advice": [asdict(item) for item in advice],
    }


def _label(found: Findings) -> str:
    names = {d.device: d.name for p in found.probes for d in p.devices if d.device != "cpu"}
    return environment.machine_label(found.host, names.values())


def _show(console: Console, found: Findings, advice: list[Advice]) -> None:
    console.print(f"[bold]{plain(_label(found))}[/]")
    console.print(_grid((name, _text(name, fact)) for name, fact in sorted(found.host.items())))
    console.print("\n[bold]Backends[/]")
    console.print(_grid(_backend_lines(found.probes)))
    console.print("\n[bold]GPUs by the driver[/]")
    for card in found.cards:
        console.print(_grid((name, _text(name, fact)) for name, fact in card.items()))
    if not found.cards:
        console.print(f"  {plain(found.no_cards or 'none')}", highlight=False)
    console.print("\n[bold]Advice[/]")
    for item in advice:
        console.print(f"{_MARKS[item.level]} {plain(item.what)}", highlight=False, soft_wrap=True)
        console.print(f"    {plain(item.why)}.\n    [green]{plain(item.remedy)}.[/]", highlight=False, soft_wrap=True)
    if not advice:
        console.print("  This machine is ready.")


def _backend_lines(probes: Sequence[Probe]) -> Iterator[tuple[str, str]]:
    for found in probes:
        if not found.available:
            yield found.backend, f"{found.reason} ({found.reason_code})"
        for device in found.devices:
            yield f"{found.backend} {found.version} {device.device}", f"{device.name}, {device.library}"


def _grid(lines: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for left, right in lines:
        grid.add_row(f"  {plain(left)}", plain(right))
    return grid


def _text(name: str, fact: Fact) -> str:
    """Return a fact as text; if it has no value, the reason in parentheses."""
    return f"({fact.reason})" if fact.value is None else shown(name, fact.value)
