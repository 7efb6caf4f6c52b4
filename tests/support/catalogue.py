"""The table of workloads in benchmarks/README.md."""

import re

from tests.support import ROOT


def catalogue():
    """Yield (file, suite, workload) of each; `_skinny` behind `matmul` is short for matmul_skinny."""
    row = re.compile(r"^\| `(bench_\w+)\.py` \| (\w+) \| (.*?) \|", re.MULTILINE)
    for file, suite, named in row.findall((ROOT / "benchmarks/README.md").read_text(encoding="utf-8")):
        first, *others = re.findall(r"`(\w+)`", named)
        yield from ((file, suite, first + name if name.startswith("_") else name) for name in (first, *others))
