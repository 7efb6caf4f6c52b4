"""Run folders as they may be contributed: whole, of one computer, without private data."""

import zlib

from tests.support.tables import on_host, processes, write

BOX = on_host(
    cpu__model="Example CPU 9000", cpu__cores=2, cpu__threads=2, memory__total=8 << 30, system__virtual_machine="none",
    cpu__cores_usable=2, cpu__architecture="x86_64", cpu__vectors=["avx", "avx2", "fma"],
)  # fmt: skip


def contribute(folder, done=(), machine="box", about=BOX, **known):
    """Write a run as it may be contributed; return its folder. Unless they are given, each run has times of its own."""
    own = 1 + zlib.crc32(f"{machine} {known.get('run_id')}".encode()) % 1000 / 10_000
    done = list(done) or processes([1.0 * own, 1.1 * own, 1.2 * own])
    cases = len({m.case for m in done})
    sums = {"planned": cases, "statuses": {"ok": cases}, "options": {"preset": "smoke"}}
    return write(folder, done, machine, sums | about, **known)
