"""`bench-core aa`: how many false alarms this machine's noise raises, and the smallest change it can show.

Exit codes: 0; 2 usage; that of the run that left no results; 130 when interrupted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench_core import aa, replicate
from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.compare import read
from bench_core.compare.options import share
from bench_core.render.text import layout
from bench_core.render.view import Table

_CASES = Path(aa.__file__).with_name("aa_cases.py")


@app.command("aa", context_settings=PYTEST_OPTIONS)
def aa_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PYTEST OPTIONS]", help="What to run instead of the built-in cases."),
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=4, max=1000, help="How often the same is run.")] = 10,
    target: Annotated[str, typer.Option(help="The change that comparisons should find.")] = "5%",
    seed: Annotated[int | None, typer.Option(min=0, help="Of the order of the cases; by default drawn.")] = None,
) -> None:
    """Compare this machine with itself, and say which --runs and --min-effect its noise asks for."""
    wanted = share("--target", target)
    passed = list(arguments or []) or [str(_CASES), "-p", "no:cacheprovider", "--bench-backends=numpy"]
    with tempfile.TemporaryDirectory(prefix="bench-core-aa-") as folder:
        try:
            (merged,) = replicate.repeat([replicate.Side("aa")], runs, passed, Path(folder), seed=seed, tell=_tell)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        (reading,) = read([str(merged)])
        finding = aa.analyse(aa.logs_of(reading), wanted)
    typer.echo("\n".join(lines(finding)))


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def lines(finding: aa.Finding) -> list[str]:
    """Return a finding in words."""
    counts = [n for n, _ in finding.detectable]
    header = ("case", "spread of runs", *(f"{n} a side" for n in counts))
    rows = [
        (case.name, _percent(case.spread), *(_percent(case.smallest(n, len(finding.cases), 0.95)) for n in counts))
        for case in finding.cases
    ]
    table = Table(header, tuple(rows), frozenset(range(1, len(header))))
    verdict = f"Use --runs {finding.runs} --min-effect {_percent(finding.min_effect)} on this machine."
    if not finding.reachable:
        verdict += f" It is too noisy to show {_percent(finding.target)} in all of these cases."
    changed, rough = _percent(finding.target), _percent(finding.rough_alarms)
    return [
        f"{2 * finding.pairs} runs of the same: the smallest change found nine times in ten, by runs a side",
        "",
        *layout(table, 100),
        "",
        f"One run against one, called changed at {changed}: a false alarm in {rough} of {finding.pairs} pairs.",
        f"Pairs of runs, tested: a false alarm in {_percent(finding.alarms)} of {finding.relabellings} relabellings.",
        verdict,
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"
