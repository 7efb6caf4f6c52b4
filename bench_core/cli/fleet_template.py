"""`bench-core fleet template`: what one measures many machines with where `fleet run` cannot be used.

Exit codes: 0 done; 2 usage.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from bench_core.cli.common import chosen

TEMPLATES = {"slurm": "slurm.sbatch", "skypilot": "skypilot.yaml"}  # engine -> file


def template(engine: str) -> str:
    """Return the template of an engine; raises UsageError for one that has none."""
    name = TEMPLATES[chosen("ENGINE", engine, TEMPLATES)]
    return files("bench_core.fleet").joinpath("templates", name).read_text(encoding="utf-8")


def template_command(
    engine: Annotated[str, typer.Argument(metavar="|".join(TEMPLATES), help="What starts the tasks.")],
) -> None:
    """Print a file for sbatch or for SkyPilot that runs one task on each machine; its comments say how to use it."""
    typer.echo(template(engine), nl=False)
