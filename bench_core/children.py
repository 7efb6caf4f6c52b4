"""What a child process inherits, so that it runs the same bench_core as its parent.

Whatever let the parent import bench_core is inherited as it is, but for one thing: what pytest puts on sys.path
of its own process, which is how a checkout that is not installed is found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

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
