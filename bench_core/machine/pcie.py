"""A PCIe link, and what it carries by the specification."""

from __future__ import annotations

from dataclasses import dataclass

# Bandwidth of one lane in one direction, in B/s, by generation: transfers per second x encoding (8b/10b, 128b/130b,
# 242B/256B flits) / 8. Source: PCI-SIG, PCI Express Base Specification 1.1, 2.1, 3.1, 4.0, 5.0, 6.0.
_LANE = {
    1: 2.5e9 * 8 / 10 / 8,
    2: 5e9 * 8 / 10 / 8,
    3: 8e9 * 128 / 130 / 8,
    4: 16e9 * 128 / 130 / 8,
    5: 32e9 * 128 / 130 / 8,
    6: 64e9 * 242 / 256 / 8,
}


@dataclass(frozen=True, slots=True)
class Link:
    """A PCIe link: its generation and its lanes."""

    generation: int
    lanes: int

    @property
    def rate(self) -> float | None:
        """Bandwidth in one direction in B/s, without packet overhead; None for an unknown generation."""
        lane = _LANE.get(self.generation)
        return None if lane is None else lane * self.lanes

    def __str__(self) -> str:
        return f"PCIe {self.generation}.0 x{self.lanes}"
