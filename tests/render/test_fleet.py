"""A diagnosis for people and programs: which nodes are slow, in what, by how much, and what their environment says."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from bench_core.diagnosis.result import Diagnosis, Finding, Fleet, Group, NodeReport, Standing
from bench_core.render.fleet import (
    diagnosis_csv,
    diagnosis_json,
    diagnosis_markdown,
    diagnosis_text,
    verdict_lines,
)
from tests.support.hostile import CELL_TEXTS

SLOW, FAST, UNSURE, ALIKE, FEW = Standing
ALL = Group("all", "everything", "all", "", 3, 0.004)
MEMORY = Group("memory on cpu", "memory on cpu", "family", "memory on cpu", 2, 0.006)
MODEL = Group("model on cuda", "model on cuda", "family", "model on cuda", 1, 0.006)
COPY = Group("w1", "copy 1GiB float32 numpy cpu", "work", "memory on cpu", 1, 0.01)
TRIAD = Group("w2", "triad 1GiB float32 numpy cpu", "work", "memory on cpu", 1, 0.01)
DECODE = Group("w3", "gpt_decode torch cuda:0", "work", "model on cuda", 1, 0.01)
GROUPS = (ALL, MEMORY, MODEL, COPY, TRIAD, DECODE)


def finding(group, ratio=1.0, standing=ALIKE, distance=0.1):
    return Finding(group, ratio, ratio - 0.009, ratio + 0.009, 3, standing, distance)


def report(name, standing=ALIKE, findings=(), causes=(), runs=3):
    """Return a node of which the groups that are not given are like the fleet."""
    given = {f.group.key: f for f in findings}
    every = tuple(given.get(group.key, finding(group)) for group in GROUPS)
    return NodeReport(name, standing, runs, every, tuple(causes), max(f.distance for f in every))


HEALTHY = [report(f"node-{n:02}") for n in range(1, 9)]
EVERYTHING = report(
    "node-09",
    SLOW,
    [finding(group, 1.051, SLOW, 2.5) for group in GROUPS],
    ["driver: 570; on 9 of 9 other nodes: 580"],
)
IN_MEMORY = report("node-10", SLOW, [finding(g, 1.08, SLOW, d) for g, d in ((MEMORY, 1.6), (COPY, 1.4), (TRIAD, 1.5))])
FLEET = Fleet("8 x Imaginary GPU", (EVERYTHING, IN_MEMORY, *HEALTHY), GROUPS, 0.01, 0.95, 0.02)
TWO = Diagnosis((FLEET,), ("git commit differs: aaa on node-01; bbb on 9 nodes",))
NONE = Diagnosis((replace(FLEET, nodes=tuple(HEALTHY)),))
NOT_JUDGED = Diagnosis((replace(FLEET, nodes=(), reason="2 nodes of one kind, and 5 are needed"),))


def section(text, title):
    """Return the lines of one section."""
    return re.split(r"\n\n(?=\S+.*\n)", f"{text}\n\n".partition(f"{title}\n")[2])[0].strip().splitlines()


def words(line):
    return re.split(r"  +", line.strip())


def test_the_verdict_names_each_node_that_is_off_with_its_interval_and_in_what():
    (line,) = verdict_lines(TWO)
    first, second = line.split("; ")
    assert first == "Of 10 nodes 2 are slow: node-09 +5.1 % (+4.2 to +6.0 %) in everything"
    assert second == "node-10 +8.0 % (+7.1 to +8.9 %) in memory on cpu"
    assert verdict_lines(NONE) == ["None of 8 nodes is slow or fast"]
    assert verdict_lines(NOT_JUDGED) == ["No node is judged: 2 nodes of one kind, and 5 are needed"]
    assert verdict_lines(Diagnosis(())) == ["No node is judged: there are no values that count"]


def test_a_fast_node_is_told_as_one():
    fast = report("node-09", FAST, [finding(ALL, 0.95, FAST, 2.0)])
    mixed = replace(FLEET, nodes=(fast, IN_MEMORY, *HEALTHY))
    (line,) = verdict_lines(Diagnosis((mixed,)))
    assert line.startswith("Of 10 nodes 1 is slow and 1 is fast: node-09 -5.0 % (-5.9 to -4.1 %) in everything; ")


def test_a_node_that_is_slow_in_one_thing_and_fast_in_another_says_which_is_which():
    node = report("node-09", SLOW, [finding(MEMORY, 1.08, SLOW, 1.6), finding(MODEL, 0.9, FAST, 3.0)])
    (line,) = verdict_lines(Diagnosis((replace(FLEET, nodes=(node, *HEALTHY)),)))
    assert line.endswith("-10.0 % (-10.9 to -9.1 %) in model on cuda, +8.0 % (+7.1 to +8.9 %) in memory on cpu")


def test_what_takes_twice_as_long_is_told_as_a_ratio():
    node = report("node-09", SLOW, [finding(ALL, 2.5, SLOW, 60.0)])
    (line,) = verdict_lines(Diagnosis((replace(FLEET, nodes=(node, *HEALTHY)),)))
    assert line.endswith("node-09 2.50x (2.49 to 2.51x) in everything")


def test_many_findings_and_many_nodes_are_counted():
    groups = [replace(COPY, key=f"w{n}", label=f"work {n}", family=f"f{n}") for n in range(5)]
    node = NodeReport("n", SLOW, 3, tuple(finding(g, 1.05, SLOW, 2.0) for g in groups), (), 2.0)
    nodes = tuple(replace(node, node=f"n{n}") for n in range(12))
    (line,) = verdict_lines(Diagnosis((replace(FLEET, nodes=(*nodes, *HEALTHY), groups=tuple(groups)),)))
    assert line.startswith("Of 20 nodes 12 are slow: n0 +5.0 % (+4.1 to +5.9 %) in work 0, ")
    assert ", and in 2 more; n1 +5.0 %" in line
    assert line.endswith("; and 2 more")


def test_several_fleets_are_told_by_their_names():
    other = replace(NONE.fleets[0], name="Imaginary CPU")
    lines = verdict_lines(Diagnosis((FLEET, other)))
    assert [line.partition(": ")[0] for line in lines] == ["8 x Imaginary GPU", "Imaginary CPU"]


def test_the_false_alarm_rate_the_smallest_difference_and_what_is_assumed_are_told():
    text = " ".join(diagnosis_text(TWO, 140).split())
    assert "Of healthy nodes at most 1 % are called slow or fast." in text
    assert "A difference below 2 % is called neither slow nor fast. Intervals: 95 %" in text
    assert "Assumed: in each kind of work most nodes are healthy" in text
    assert "healthy" not in diagnosis_text(NOT_JUDGED, 140)


def test_the_table_has_every_node_in_its_order_of_concern():
    lines = section(diagnosis_text(TWO, 140), "Nodes: 8 x Imaginary GPU")
    assert words(lines[0]) == ["node", "standing", "in everything", "furthest from the fleet", "runs", "distance"]
    assert words(lines[2]) == ["node-09", "slow", "+5.1 %", "memory on cpu +5.1 %", "3", "2.5"]
    assert words(lines[3]) == ["node-10", "slow", "+0.0 %", "memory on cpu +8.0 %", "3", "1.6"]
    assert [words(line)[1] for line in lines[4:12]] == ["like the fleet"] * 8


def test_a_limit_is_said():
    lines = section(diagnosis_text(TWO, 140, most=3), "Nodes: 8 x Imaginary GPU")
    assert lines[5].strip() == "7 more lines: --limit 0 shows all"
    lines = diagnosis_text(TWO, 140, most=3).partition("\nnode-09: slow\n")[2].splitlines()
    assert lines[7].strip() == "3 more lines: --limit 0 shows all"


def test_of_each_node_that_is_off_its_causes_and_findings_are_told():
    lines = section(diagnosis_text(TWO, 140), "node-09: slow")
    assert lines[0].strip() == "driver: 570; on 9 of 9 other nodes: 580"
    text = diagnosis_text(TWO, 140)
    table = [words(line) for line in text.partition("\nnode-09: slow\n")[2].splitlines()[2:6]]
    assert table[0] == ["in", "standing", "time", "interval, 95 %", "runs", "distance"]
    assert table[2] == ["everything", "slow", "+5.1 %", "+4.2 to +6.0 %", "3", "2.5"]
    assert (
        "Nothing that is known of its environment differs from most other nodes" in text.partition("node-10: slow")[2]
    )
    assert "node-01: " not in text


def test_notes_come_last():
    assert section(diagnosis_text(TWO, 140), "\nNotes") == ["git commit differs: aaa on node-01; bbb on 9 nodes"]


def test_names_of_the_engine_are_shown_on_the_terminal_alone():
    names = {"node-09": "gpu07", "node-10": "node-10"}
    text = diagnosis_text(TWO, 140, names=names)
    assert "node-09 (gpu07) +5.1 %" in text
    assert "\nnode-09 (gpu07): slow\n" in text
    assert "node-10 (" not in text
    assert "gpu07" not in diagnosis_markdown(TWO) + diagnosis_csv(TWO) + diagnosis_json(TWO)


def test_markdown_has_the_same_tables():
    text = diagnosis_markdown(TWO)
    assert "| node-09 | slow | +5.1 % | memory on cpu +5.1 % | 3 | 2.5 |" in text
    assert "### node-10: slow" in text


def test_csv_has_a_line_for_each_node_and_group():
    rows = list(csv.DictReader(io.StringIO(diagnosis_csv(TWO))))
    assert len(rows) == 10 * len(GROUPS)
    assert rows[0] == {
        "fleet": "8 x Imaginary GPU",
        "node": "node-09",
        "group": "everything",
        "kind": "all",
        "works": "3",
        "ratio": "1.051",
        "low": "1.042",
        "high": "1.0599999999999998",
        "confidence": "0.95",
        "standing": "slow",
        "distance": "2.5",
        "processes": "3",
    }


def test_json_has_everything():
    plain = json.loads(diagnosis_json(TWO))
    (fleet,) = plain["fleets"]
    assert (fleet["name"], fleet["alarm_rate"], fleet["confidence"], fleet["least"]) == (FLEET.name, 0.01, 0.95, 0.02)
    assert [group["key"] for group in fleet["groups"]] == [group.key for group in GROUPS]
    assert [node["node"] for node in fleet["nodes"]] == [node.node for node in FLEET.nodes]
    first = fleet["nodes"][0]
    assert (first["standing"], first["runs"], first["distance"]) == ("slow", 3, 2.5)
    assert first["causes"] == ["driver: 570; on 9 of 9 other nodes: 580"]
    assert first["findings"][1]["group"] == "memory on cpu"
    assert plain["notes"] == [*TWO.notes]


def test_infinite_ends_are_null_and_shown_as_such():
    endless = replace(finding(ALL, 1.5, SLOW, float("inf")), low=0.0, high=float("inf"))
    node = NodeReport("n", SLOW, 1, (endless,), (), float("inf"))
    diagnosis = Diagnosis((replace(FLEET, nodes=(node, *HEALTHY)),))
    (found, *_) = json.loads(diagnosis_json(diagnosis))["fleets"][0]["nodes"]
    assert (found["distance"], found["findings"][0]["high"]) == (None, None)
    assert "inf" in diagnosis_text(diagnosis, 100)
    assert next(csv.DictReader(io.StringIO(diagnosis_csv(diagnosis))))["high"] == ""


def hostile(text):
    """Return a diagnosis in which a text from elsewhere stands wherever one can."""
    group = replace(ALL, label=text)
    node = NodeReport(text, SLOW, 3, (finding(group, 1.05, SLOW, 2.0),), (text,), 2.0)
    fleet = replace(FLEET, name=text, nodes=(node,), groups=(group,))
    return Diagnosis((fleet, replace(fleet, nodes=(), reason=text)), (text,))


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_no_output_has_control_characters_or_a_formula(text):
    diagnosis = hostile(text)
    shown = diagnosis_text(diagnosis, 100, names={text: text}) + diagnosis_markdown(diagnosis)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert diagnosis_json(diagnosis).isascii()
    for row in csv.reader(io.StringIO(diagnosis_csv(diagnosis))):
        assert all(cell.isprintable() for cell in row)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, diagnosis_text(TWO, width).splitlines())) <= width
