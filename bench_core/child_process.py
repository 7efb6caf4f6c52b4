"""What a child process is given, so that it runs the same bench_core as its parent.

Whatever let the parent import bench_core is inherited as it is, but for what pytest puts on sys.path of its own
process, which is how a checkout that is not installed is found. And such a checkout has no entry point by which
pytest would find the plugin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Options of pytest that load the plugin, installed or not. `bench_core` was its entry point's name once: in an install
# of then it would be the same module again, under a second name, which pytest refuses.
PLUGIN = ("-p", "bench_core.pytest_plugin", "-p", "no:bench_core")

_ROOT = Path(__file__).resolve().parents[1]


def environ(base: Mapping[str, str] = os.environ, root: Path = _ROOT) -> dict[str, str]:
    """Return environment variables with which `python -m bench_core...` finds the package below `root`.

    Only a checkout, told by its pyproject.toml, is put in PYTHONPATH, which comes before the standard library:
    in site-packages, where an installed copy lies, other packages would hide parts of it.
    """
    before = base.get("PYTHONPATH", "")
    if not (root / "pyproject.toml").is_file() or before.split(os.pathsep)[0] == str(root):
        return dict(base)
    return {**base, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), before]))}
