"""The command line: `bench-core list | run | compare | report | plot | doctor | aa`.

The only room that prints. Each command lives in a file of its own, which says what it may exit with.
"""

from __future__ import annotations

import typer

app = typer.Typer(name="bench-core", no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
