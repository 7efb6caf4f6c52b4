"""Start child processes with the same bench_core as this process.

A child inherits the environment, but not what pytest adds to sys.path of its own process. That is how pytest finds a
checkout that is not installed, so it must be added for the child. Such a checkout also has no entry point through which
pytest would find the plugin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Options of pytest that load the plugin, installed or not. The entry point was once named `bench_core`: an old
# installation would load the same module again under that name, which pytest refuses.
PLUGIN = ("-p", "bench_core.pytest_plugin", "-p", "no:bench_core")
# With these, pytest measures. What the user gives follows, and so overrides the last of them.
MEASURING = (*PLUGIN, "--benchmark-only", "--bench-suite=auto")

_ROOT = Path(__file__).resolve().parents[1]


def environ(base: Mapping[str, str] = os.environ, root: Path = _ROOT) -> dict[str, str]:
    """Return environment variables with which `python -m bench_core...` finds the package below `root`.

    Only a checkout, recognised by its pyproject.toml, is added to PYTHONPATH. An installed copy is not, because
    PYTHONPATH precedes the standard library, and other packages in site-packages would hide parts of it.
    """
    before = base.get("PYTHONPATH", "")
    if not (root / "pyproject.toml").is_file() or before.split(os.pathsep)[0] == str(root):
        return dict(base)
    return {**base, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), before]))}
