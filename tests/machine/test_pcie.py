"""A PCIe link carries what the standard says."""

import pytest

from bench_core.machine.pcie import Link


@pytest.mark.parametrize(
    ("link", "rate"),
    [
        (Link(1, 4), 1e9),
        (Link(3, 16), pytest.approx(15.75e9, rel=1e-3)),
        (Link(5, 16), pytest.approx(63.0e9, rel=1e-3)),
        (Link(9, 16), None),
    ],
    ids=str,
)
def test_a_link_carries_what_the_standard_says(link, rate):
    assert link.rate == rate


def test_a_link_is_shown_with_its_generation_and_lanes():
    assert str(Link(5, 8)) == "PCIe 5.0 x8"
