"""The share of arrays in huge pages follows from the kernel's list of mappings, and from its real one."""

import mmap
import sys

import numpy as np
import pytest

from bench_core.machine import pages

MIB = 1 << 20
# Two mappings of 4 MiB: the first half huge, the second small. Then one of hugetlbfs, and one that nobody has touched.
SMAPS = """\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
Rss:                4096 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
VmFlags: rd wr mr mw me ac sd hg
7f0000400000-7f0000800000 rw-p 00000000 00:00 0                          [heap]
Size:               4096 kB
Rss:                1024 kB
AnonHugePages:         0 kB
7f0000800000-7f0000a00000 rw-s 00000000 00:0e 17   /dev/hugepages/a file
Size:               2048 kB
Rss:                   0 kB
Shared_Hugetlb:     2048 kB
7f0000a00000-7f0000b00000 rw-p 00000000 00:00 0
Size:               1024 kB
Rss:                   0 kB
AnonHugePages:         0 kB
"""
FIRST = 0x7F0000000000


@pytest.mark.parametrize(
    ("spans", "share"),
    [
        ([(0, 4)], 0.5),
        ([(1, 3)], 0.5),  # the kernel does not say which half
        ([(4, 8)], 0.0),
        ([(8, 10)], 1.0),
        ([(2, 6)], 0.25),  # across two mappings, by bytes
        ([(0, 4), (8, 10)], 4 / 6),
        ([(10, 11)], None),  # not resident
        ([(100, 101)], None),
        ([], None),
    ],
)
def test_arrays_count_by_their_bytes_with_the_share_of_their_mapping(spans, share):
    assert pages.share_in(SMAPS, [(FIRST + a * MIB, FIRST + b * MIB) for a, b in spans]) == share


@pytest.mark.parametrize("text", ["", "no mappings\n", "7f00-8000 rw-p\nRss: many kB\n"])
def test_a_text_without_sizes_tells_nothing(text):
    assert pages.share_in(text, [(0x7F00, 0x8000)]) is None


def test_a_system_without_the_file_tells_nothing(plant):
    assert pages.huge_page_share([(FIRST, FIRST + MIB)]) is None
    plant("proc/self/smaps", SMAPS)
    assert pages.huge_page_share([(FIRST, FIRST + MIB)]) == 0.5


def test_without_arrays_the_file_is_not_read(monkeypatch):
    """The kernel walks through all memory of a process to write it: longer than a small case takes."""
    monkeypatch.setattr(pages.kernel_files, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    assert pages.huge_page_share([]) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_an_array_that_asked_for_small_pages_has_no_huge_ones():
    memory = mmap.mmap(-1, 8 * MIB)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    array = np.frombuffer(memory, np.uint8)
    array.fill(1)
    assert pages.huge_page_share([(array.ctypes.data, array.ctypes.data + array.nbytes)]) == 0
