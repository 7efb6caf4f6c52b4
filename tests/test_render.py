"""What people and programs see of a comparison, to the last character; run with UPDATE_GOLDEN=1 to renew it.

The goldens are of machines that do not exist (tests/tables.py).
"""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench_core import render
from bench_core.compare import Options, compare
from bench_core.model import Clock, Fact, Status
from bench_core.render.markdown import inert
from bench_core.render.text import columns
from tests.tables import absent, processes, reading, work
from tests.test_table import HOSTILE

GOLDEN = Path(__file__).parent / "golden"
FIVE = (1.00e-3, 1.01e-3, 0.99e-3, 1.02e-3, 0.98e-3)


def times(factor, runs=5):
    return [factor * t for t in FIVE[:runs]]


def machine(name, speed, *, gpu=True, runs=5, facts=()):
    """An imaginary machine with two backends on its CPU and one on its GPU."""
    done = []
    for size, seconds in (("512", 1.0), ("1024", 8.0)):
        of = work(size)
        done += processes(times(seconds / speed, runs), of, threads=int(4 * speed))
        done += processes(times(0.5 * seconds / speed, runs), of, backend="torch", threads=int(4 * speed))
        if gpu:
            done += processes(times(0.02 * seconds / speed, runs), of, backend="torch", device="cuda:0")
        else:
            done.append(absent(of, "torch", "cuda", Status.SKIPPED, "no CUDA device on this machine"))
    table = reading(done, name)
    return replace(table, sidecar=replace(table.sidecar, facts={key: Fact(value) for key, value in facts}))


def two():
    """Two machines with everything that can be said: ratios, missing, incomparable, doubts, differences."""
    a = machine("box-a", 1.0, facts=[("cpu", "CPU A"), ("driver", "550.1"), ("python", "3.11.9")])
    b = machine("box-b", 2.0, gpu=False, facts=[("cpu", "CPU B"), ("python", "3.11.9")])
    precisions = {"box-a": "ieee", "box-b": "tf32"}
    odd = [reading(processes(times(1), work("64", precision=p)), m, run_id=f"odd-{m}") for m, p in precisions.items()]
    return compare([a, b, *odd], Options(fail_on=("missing",)))


def five():
    """Five machines, the last with one run."""
    names = ["box-a", "box-b", "box-c", "box-d", "box-e"]
    return compare([machine(n, 1.0 + i / 2, runs=1 if n == "box-e" else 5) for i, n in enumerate(names)])


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


def test_a_comparison_by_the_device_s_clock_says_where_the_time_is_the_host_s():
    def machine_with(flags, name):
        done = processes(times(1.0), work("512"), backend="torch", device="cuda:0")
        device = [replace(m, series=(replace(m.series[0], clock=Clock.DEVICE, flags=flags),)) for m in done]
        return reading(device, name)

    starved = compare([machine_with((), "box-a"), machine_with(("launch_bound",), "box-b")])
    assert "launch_bound in box-b: the device waited for the host" in " ".join(render.text(starved, 140).split())
    fed = compare([machine_with((), "box-a"), machine_with((), "box-b")])
    assert "launch_bound" not in render.text(fed, 140)


@pytest.mark.parametrize("name", FORMATS)
def test_output_is_as_it_was(name):
    """A change of any character shows up as a change of a file under review."""
    shown = FORMATS[name]()
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("result", [two, five])
def test_no_line_is_wider_than_the_terminal(width, result):
    assert max(map(columns, render.text(result(), width).split("\n"))) <= width


def test_colour_adds_nothing_but_colour():
    plain, painted = render.text(two(), 100), render.text(two(), 100, colour=True)
    assert "\x1b[32m" in painted
    assert re.sub(r"\x1b\[\d*m", "", painted) == plain


def test_the_csv_is_a_table():
    lines = list(csv.DictReader(io.StringIO(render.as_csv(two()))))
    assert len(lines) == len(two().comparisons)
    first = next(line for line in lines if line["ratio"])
    assert float(first["ci_low"]) < float(first["ratio"]) < float(first["ci_high"])
    assert {line["verdict"] for line in lines} == {"faster", "missing", "incomparable"}
    assert all((line["ratio"] == "") == (line["verdict"] in {"missing", "incomparable"}) for line in lines)


def test_the_json_holds_everything():
    plain = json.loads(render.as_json(two()))
    assert plain["breaches"]
    assert {c["verdict"] for c in plain["comparisons"]} == {"faster", "missing", "incomparable"}
    assert plain["best"][0]["contender"]["name"] == "box-a torch cuda:0"
    assert plain["environment"][0] == {"name": "cpu", "values": [["box-a", "CPU A"], ["box-b", "CPU B"]]}


# ---------------------------------------------------------------- hostile texts


def hostile(text):
    """A comparison in which a text from elsewhere stands wherever one can."""
    a, b = reading(processes(FIVE), "a"), reading(processes(FIVE), "b")
    bad = {"library": text, "backend_version": text, "device_name": text, "machine": text or "b", "reason": text}
    changed = tuple(replace(row, **bad) for row in b.rows)
    lost = tuple(replace(row, **bad, status="oom", size=text or "x", case_id="c") for row in b.rows)
    other = replace(b, rows=(*changed, *lost), origins=(("run-b", text),), notes=(text,), path=text)
    other = replace(other, sidecar=replace(other.sidecar, facts={text: Fact(text)}))
    return compare([replace(a, sidecar=replace(a.sidecar, facts={text: Fact("x")})), other])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_no_control_character_from_a_file(text):
    shown = render.text(hostile(text), 100)
    assert all(c == "\n" or c.isprintable() for c in shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_from_a_file_stays_text(text):
    """Whatever is not plain stands in a code span, where no HTML, link, mention or cell border works."""
    shown = render.markdown(hostile(text))
    outside = re.sub(r"`[^`]*`", "", shown)
    assert not re.search(r"<(?!br>)|\]\(|@|//", outside)
    rows = [line for line in shown.split("\n") if line.startswith("|")]
    assert rows
    assert {row.count("|") for row in rows} <= {4, 3, 5, 7}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_the_csv_runs(text):
    for record in csv.reader(io.StringIO(render.as_csv(hostile(text)))):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\uff1d")) for cell in record)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_ascii_and_parses(text):
    shown = render.as_json(hostile(text))
    assert shown.isascii()
    assert json.loads(shown)["notes"] == [text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("matmul 64 float32", "matmul 64 float32"),
        ("a|b", "`a¦b`"),
        ("`x`", "`'x'`"),
        ("@someone", "`@someone`"),
        ("http://x", "`http://x`"),
        ("a__b__", "`a__b__`"),
        ("", ""),
    ],
)
def test_markdown_is_inert(text, shown):
    assert inert(text) == shown
