"""Makes data/otava.json: series, and the steps that Apache Otava finds in them.

    python -m venv OTAVA && OTAVA/bin/python -m pip install apache-otava==0.8.0
    PYTHONPATH=. OTAVA/bin/python -m tests.history.otava_answers

Otava has a venv of its own because it wants one exact NumPy. Its parameters are its defaults. The series are rounded
to what the file holds before it sees them, so that both see the same numbers.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.support.planted_steps import Planted, steady, step

DATA = Path(__file__).parent / "data" / "otava.json"
PARAMETERS = {"window_len": 50, "max_pvalue": 0.001, "min_magnitude": 0.0}
KINDS = [
    ("steady", steady(60), 8),
    ("steady, Student t", steady(60, "Student t, 3 d.f."), 6),
    ("steady, log-normal", steady(60, "log-normal"), 4),
    ("steady, slow runs", steady(60, "5 % slow by 10 s"), 4),
    ("5 % at 2 %", step(0.05, 0.02), 8),
    ("10 % at 5 %", step(0.1, 0.05), 6),
    ("5 % at 2 %, Student t", step(0.05, 0.02, noise="Student t, 3 d.f."), 4),
    ("10 % at 2 %, last 5 runs", step(0.1, 0.02, 55, 5), 4),
    ("20 %, two up", Planted(((20, 1.0), (20, 1.1), (20, 1.2))), 4),
    ("10 %, up and down", Planted(((20, 1.0), (20, 1.1), (20, 1.0))), 4),
    ("three, 120 runs", Planted(((30, 1.0), (30, 1.1), (30, 1.0), (30, 0.9))), 2),
]


def main():
    from otava.analysis import compute_change_points

    rng, series = np.random.default_rng(24), []
    for name, kind, number in KINDS:
        for _ in range(number):
            values = kind.draw(rng).round(4).tolist()
            places = [int(change.index) for change in compute_change_points(values, **PARAMETERS)[0]]
            series.append({"kind": name, "planted": kind.places, "otava": places, "values": values})
    head = {"made_by": "python -m tests.history.otava_answers", "apache-otava": version("apache-otava"), **PARAMETERS}
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in series)
    DATA.write_text(json.dumps(head)[:-1] + f', "series": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
