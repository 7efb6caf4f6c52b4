"""Where arrays of this process lie: the share of them in huge pages, as Linux counts it per mapping (proc(5), smaps).

A huge page (2 MiB on x86) needs one entry in the CPU's page tables where 512 small ones need 512 of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bench_core.machine import kernel_files

Span = tuple[int, int]  # the first address of an array, and the address after its last byte
# Memory in huge pages, of a private mapping, of shared memory, of a file; and in pages of hugetlbfs.
_HUGE = frozenset({"AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Private_Hugetlb", "Shared_Hugetlb"})
_HUGETLB = frozenset({"Private_Hugetlb", "Shared_Hugetlb"})  # these are not part of Rss


def huge_page_share(spans: Sequence[Span]) -> float | None:
    """Return the share of the bytes of arrays that lie in huge pages, from 0 to 1.

    The kernel counts huge pages per mapping, not per address. An array counts with the share of its mapping's resident
    memory. None if the system does not tell, if there are no arrays, or if none of their memory is resident.
    """
    if not spans:
        return None  # without that file, for which the kernel walks through all memory of the process
    text = kernel_files.read_bytes("/proc/self/smaps")
    return None if text is None else share_in(text.decode("ascii", errors="replace"), spans)


def share_in(smaps: str, spans: Sequence[Span]) -> float | None:
    """Return the same for the text of an smaps file."""
    huge = total = 0.0
    for begin, end, share in _mappings(smaps):
        inside = sum(max(0, min(end, last) - max(begin, first)) for first, last in spans)
        if inside and share is not None:
            huge += inside * share
            total += inside
    return huge / total if total else None


def _mappings(smaps: str) -> Iterator[tuple[int, int, float | None]]:
    """Yield each mapping: first address, address after it, and the share of its resident memory in huge pages."""
    for block in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.MULTILINE):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", block)
        if head is None:
            continue
        sizes = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", block, re.MULTILINE)}
        resident = _sum(sizes, {"Rss"} | _HUGETLB)
        yield int(head[1], 16), int(head[2], 16), min(1.0, _sum(sizes, _HUGE) / resident) if resident else None


def _sum(sizes: dict[str, int], names: Iterable[str]) -> int:
    return sum(sizes.get(name, 0) for name in names)
