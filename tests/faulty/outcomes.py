"""The table fault x outcome, each line written by a test: BENCH_FAULTS_TABLE=FILE pytest -m faults."""

from __future__ import annotations

import os
from pathlib import Path

HEADER = "| fault | where | measured | not measured | exit code | message |\n|---|---|---|---|---|---|\n"


def note(fault, where, statuses, code, message):
    """Add a line about a fault: the final statuses of its run, by size, and what was said of it."""
    path = os.environ.get("BENCH_FAULTS_TABLE")
    if not path:
        return
    found = list(statuses.values())
    missing = {status: found.count(status) for status in dict.fromkeys(found) if status != "ok"}
    lost = ", ".join(f"{count} {status}" for status, count in missing.items()) or "none"
    words = " ".join(str(message).split()).replace("|", "/")
    line = f"| {fault} | {where} | {found.count('ok')} of {len(found)} | {lost} | {code} | {words} |\n"
    with Path(path).open("a", encoding="utf-8") as file:
        if not file.tell():
            file.write(HEADER)
        file.write(line)
