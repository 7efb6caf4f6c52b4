"""What several tests share: fakes, imaginary tables, and the places of this repository."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
