"""The exact output of a comparison in every format; run with UPDATE_GOLDEN=1 to renew the files.

The goldens are of machines that do not exist (tests/support/imaginary_machines.py).
"""

import os
from pathlib import Path

import pytest

from bench_core import render
from tests.support.imaginary_machines import five, two

GOLDEN = Path(__file__).parent / "golden"
FORMATS = {
    "two-80.txt": lambda: render.text(two(), 80),
    "two-140.txt": lambda: render.text(two(), 140),
    "five-80.txt": lambda: render.text(five(), 80),
    "five-160.txt": lambda: render.text(five(), 160),
    "two.md": lambda: render.markdown(two()),
    "five.md": lambda: render.markdown(five()),
    "two.csv": lambda: render.as_csv(two()),
    "two.json": lambda: render.as_json(two()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_output_equals_the_golden_file(name):
    """A change of any character shows up as a change of a file under review."""
    shown = FORMATS[name]()
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")
