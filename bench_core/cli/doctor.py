"""`bench-core doctor`: show what this machine has, what is missing and what would disturb a measurement.

Exit codes: 0; 1 nothing can be measured; 2 usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench_core.cli import app
from bench_core.cli.common import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.padding import Padding

    from bench_core.machine.topology import Topology
    from bench_core.plan.discovery import Probe
    from bench_core.plan.doctor import Advice, Findings
    from bench_core.records import Fact


@app.command("doctor")
def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Show this machine, and what would disturb a measurement on it."""
    from rich.console import Console

    from bench_core.plan import doctor
    from bench_core.plan.doctor import Level
    from bench_core.plan.findings import gather_findings

    found = gather_findings()
    advice = doctor.examine(found)
    if as_json:
        typer.echo(json.dumps(_to_json(found, advice), indent=2))
    else:
        _show(Console(), found, advice)
    raise typer.Exit(1 if any(item.level is Level.BLOCKER for item in advice) else 0)


def _to_json(found: Findings, advice: list[Advice]) -> dict[str, Any]:
    from bench_core.machine import environment
    from bench_core.plan import discovery

    return {
        "machine": _label(found),
        "host": environment.facts_to_json(found.host),
        "backends": [discovery.probe_to_json(p) for p in found.probes],
        "gpus": [environment.facts_to_json(card) for card in found.cards],
        "no_gpus": found.no_cards,
        "topology": _topology_to_json(found.topology),
        "advice": [asdict(item) for item in advice],
    }


def _topology_to_json(found: Topology) -> dict[str, Any]:
    from bench_core.machine.environment import facts_to_json

    pairs = [
        {"gpus": [pair.first, pair.second], "nvlinks": pair.nvlinks, "through_nvswitch": pair.through_switch}
        | facts_to_json({"pcie": pair.level, "peer_access": pair.p2p})
        for pair in found.pairs
    ]
    return {
        "gpus": [{"gpu": gpu.number, "name": gpu.name, **facts_to_json(gpu.facts())} for gpu in found.gpus],
        "silent": [asdict(gpu) for gpu in found.silent],
        "pairs": pairs,
    }


def _label(found: Findings) -> str:
    from bench_core.machine import environment

    names = {d.device: d.name for p in found.probes for d in p.devices if d.device != "cpu"}
    return environment.machine_label(found.host, names.values())


def _show(console: Console, found: Findings, advice: list[Advice]) -> None:
    from bench_core.machine import topology
    from bench_core.plan.doctor import Level

    marks = {Level.BLOCKER: "[bold red]x[/]", Level.WARNING: "[yellow]![/]", Level.NOTE: "[dim]-[/]"}
    console.print(f"[bold]{plain(_label(found))}[/]")
    console.print(_grid((name, _text(name, fact)) for name, fact in sorted(found.host.items())))
    console.print("\n[bold]Backends[/]")
    console.print(_grid(_backend_lines(found.probes)))
    console.print("\n[bold]GPUs by the driver[/]")
    for card in found.cards:
        console.print(_grid((name, _text(name, fact)) for name, fact in card.items()))
    if not found.cards:
        console.print(f"  {plain(found.no_cards or 'none')}", highlight=False)
    if found.topology.gpus or found.topology.silent:
        console.print("\n[bold]Topology[/], numbered as by the driver")
        console.print(_grid(topology.lines(found.topology)))
    console.print("\n[bold]Advice[/]")
    for item in advice:
        console.print(f"{marks[item.level]} {plain(item.what)}", highlight=False, soft_wrap=True)
        console.print(f"    {plain(item.why)}.\n    [green]{plain(item.remedy)}.[/]", highlight=False, soft_wrap=True)
    if not advice:
        console.print("  This machine is ready.")


def _backend_lines(probes: Sequence[Probe]) -> Iterator[tuple[str, str]]:
    for found in probes:
        if not found.available:
            yield found.backend, f"{found.reason} ({found.reason_code})"
        for device in found.devices:
            yield f"{found.backend} {found.version} {device.device}", f"{device.name}, {device.library}"


def _grid(lines: Iterable[tuple[str, str]]) -> Padding:
    """Return two columns of text that stay indented where the terminal is too narrow for their lines."""
    from rich.padding import Padding
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for left, right in lines:
        grid.add_row(plain(left), plain(right))
    return Padding.indent(grid, 2)


def _text(name: str, fact: Fact) -> str:
    """Return a fact as text; if it has no value, the reason in parentheses."""
    from bench_core.machine.facts import shown

    return f"({fact.reason})" if fact.value is None else shown(name, fact.value)
