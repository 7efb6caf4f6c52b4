"""`bench-core noise` (formerly `aa`): the false alarms that noise raises, and the smallest detectable change.

It also writes the spread between processes to results/MACHINE/noise.json, which `compare` then assumes for single runs.

Exit codes: 0; 2 usage; 130 interrupted; if a run wrote no results, its exit code.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import print_progress, require_temporary_folder, say, split_output
from bench_core.errors import UsageError
from bench_core.files import write_atomically

if TYPE_CHECKING:
    from bench_core.compare import Reading
    from bench_core.noise import analysis

_SHOWN = (5, 7, 10)  # runs per side for which the smallest change is shown


@app.command("noise", context_settings=PYTEST_OPTIONS)
def noise_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="Run these benchmarks instead of the built-in cases."),
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=4, max=1000, help="Number of runs of the same measurement.")] = 10,
    target: Annotated[str, typer.Option(help="The change that comparisons should detect.")] = "5%",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed for the order of the cases. Default: random.")] = None,
) -> None:
    """Compare this machine with itself, and show the smallest change that its noise lets you detect.

    Recommends --runs and --min-effect, and writes the spread between runs for `compare` (--bench-output=DIR: where).
    """
    from bench_core.compare import read
    from bench_core.compare.options import share
    from bench_core.noise import analysis
    from bench_core.results.schema import RESULTS
    from bench_core.run import replicate

    wanted = share("--target", target)
    if not 0 < wanted < 1:
        raise UsageError(f"--target {target}: must be above 0 and below 100%")
    output, given = split_output(list(arguments or []))
    cases = Path(analysis.__file__).with_name("cases.py")
    passed = given or [str(cases), "-p", "no:cacheprovider", "--bench-backends=numpy"]
    require_temporary_folder()
    folder = Path(tempfile.mkdtemp(prefix="bench-core-noise-"))
    is_named = True  # by a message, as that of a failed run names its log
    try:
        (merged,) = replicate.repeat(
            [replicate.Side("noise")], replicate.Fixed(runs), passed, folder, seed=seed, on_progress=print_progress
        )
        readings = read([str(merged)])
        is_named = False
    except KeyboardInterrupt:
        is_named = any(folder.glob(f"*/*/{RESULTS}"))  # of the runs that were complete
        raise typer.Exit(130) from None
    finally:
        if not is_named:
            shutil.rmtree(folder, ignore_errors=True)
    typer.echo("\n".join(lines(analysis.analyse(analysis.logs_of(readings[0]), wanted))))
    if written := _write(readings[0], runs, output):
        say(f"For single runs of this machine, compare assumes the spreads in {written}")


def _write(reading: Reading, runs: int, output: Path) -> Path | None:
    """Write the spreads of a machine beside its runs, and return the file; None if there are too few runs."""
    from bench_core.compare import spread
    from bench_core.results.schema import NOISE

    spreads = spread.measured([reading])
    if not spreads:
        return None
    run = reading.files.about["run"]
    about = {"noise_version": 1, "machine": run["machine"], "measured_at": run["started_at"], "runs": runs}
    about |= {"spreads": spread.to_json(spreads), "host": reading.files.about["environment"]["host"]}
    path = output / str(run["machine"]) / NOISE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(about, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"--bench-output={output}: cannot write there: {error.strerror}") from None
    return path


def lines(finding: analysis.Finding) -> list[str]:
    """Return a finding as lines of text."""
    from bench_core.render.text_table import Table, layout

    header = ("case", "spread of runs", *(f"{n} per side" for n in _SHOWN))
    rows = []
    for case in finding.cases:
        found = (case.smallest(n, len(finding.cases), finding.confidence) for n in _SHOWN)
        rows.append((case.name, _percent(case.spread), *map(_percent, found)))
    table = Table(header, tuple(rows), frozenset(range(1, len(header))))
    noisy = f"This machine is too noisy to detect a change of {_percent(finding.target)} in all of these cases."
    changed, rough = _percent(finding.target), _percent(finding.rough_alarms)
    return [
        f"{2 * finding.pairs} runs of the same: the smallest change detected with 90 % probability, by runs per side",
        "",
        *layout(table, 100),
        "",
        f"Single runs, threshold {changed}: a false alarm in {rough} of {finding.pairs} pairs.",
        f"Pairs of runs, tested: a false alarm in {_percent(finding.alarms)} of {finding.relabellings} relabellings.",
        *([] if finding.reachable else [noisy]),
        f"To detect a change of {_percent(finding.found)} with 90 % probability, alternate runs of two environments:",
        f"  bench-core run --runs {finding.runs} --against PYTHON",
        f"  bench-core compare base=RUN change=RUN --min-effect {100 * finding.min_effect:g}%",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 1 else f"{100 * value:.0f} %"
