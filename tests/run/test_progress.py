"""The live line: it never wraps, and it leaves cursor and screen as they were."""

import pytest

from bench_core.run.progress import Progress


def shown(status, room):
    written = []
    Progress(written.append, lambda: room).show(status)
    return written[0]


@pytest.mark.parametrize(
    ("status", "room", "text"),
    [("1/9 matmul", 40, "1/9 matmul"), ("1/9 matmul", 5, "1/9 …"), ("x", 0, ""), ("xy", -3, "")],
)
def test_a_status_is_cut_to_the_room_there_is(status, room, text):
    assert shown(status, room) == f"\x1b7\x1b[K{text}\x1b8"


def test_clear_erases_to_the_end_of_the_line_and_goes_back():
    written = []
    Progress(written.append, lambda: 10).clear()
    assert written == ["\x1b7\x1b[K\x1b8"]
