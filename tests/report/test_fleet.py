"""A report says which nodes of a fleet differ, by how much and how often that is wrong; of few machines, nothing."""

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench_core.diagnosis.result import Diagnosis, Standing
from tests.support import diagnoses, tables
from tests.support.hostile import PAGE_TEXTS

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.report import fleet, page


@pytest.fixture(scope="module")
def part():
    return fleet.fleet_section(diagnoses.diagnosis()).fleets[0]


def runs_of(machines, runs=3):
    """Return a reading for each run of each machine, of one case."""
    return [
        tables.reading(
            [tables.measured([0.001] * 3)], f"m{i}", run_id=f"r{i}-{k}", started_at=f"2001-01-0{k + 1}T00:00Z"
        )
        for i in range(machines)
        for k in range(runs)
    ]


def markup_of(diagnosis):
    """Return the section as it stands in the page."""
    return str(page._template("fleet.html.j2").module.section(fleet.fleet_section(diagnosis)))


def page_of(monkeypatch, diagnosis, readings=()):
    monkeypatch.setattr(fleet, "_diagnose", lambda _: diagnosis)
    return page.render(readings or runs_of(5))


def shown(markup):
    """Return markup as text."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def rows(heat_map):
    return {row.node: row for row in heat_map.rows}


def cells(heat_map, node):
    """Return the cells of a node that say something, by column."""
    labels = [column.label for column in heat_map.columns]
    found = zip(labels, rows(heat_map)[node].cells, strict=True)
    return {label: (cell.look, cell.text) for label, cell in found if cell.text}


# ---------------------------------------------------------------- words


def test_the_verdict_names_who_is_slow_who_is_fast_and_who_has_too_few_runs():
    groups = diagnoses.groups_of(2, 2)

    def node(name, *ratios, few=False):
        return diagnoses.report(name, [diagnoses.finding(g, r, few=few) for g, r in zip(groups, ratios, strict=False)])

    nodes = (
        node("a", 1.051),
        node("b", 1, 1.1, 1.2),
        node("c", 0.94),
        *(node(name, 1, 1) for name in "defg"),
        node("h", 1, few=True),
    )
    one = replace(diagnoses.fleet(5), nodes=nodes)
    (found,) = fleet.fleet_section(Diagnosis((one,))).fleets
    assert found.verdict == (
        "Of 8 nodes 2 are slow and 1 is fast: a +5.1 % (+4.2 to +6.1 %) in all work; "
        "b +20.0 % (+18.9 to +21.1 %) in matmul on cpu, +10.0 % (+9.0 to +11.0 %) in memory on cpu; "
        "c -6.0 % (-6.8 to -5.2 %) in all work. 1 node has too few results to be judged: h."
    )


def test_a_healthy_fleet_is_said_to_be_healthy_and_has_no_tables():
    (found,) = fleet.fleet_section(diagnoses.diagnosis(diagnoses.fleet(7, few={2, 4}))).fleets
    assert found.verdict.startswith(
        "None of 5 nodes is slow or fast. 2 nodes have too few results to be judged: node-0"
    )
    assert set(re.findall(r"node-\d\d", found.verdict)) == {"node-02", "node-04"}
    assert found.nodes == ()
    assert all(not row.place for row in found.whole.rows)


def test_of_many_nodes_that_differ_ten_are_named_and_twenty_have_a_table():
    (found,) = fleet.fleet_section(
        diagnoses.diagnosis(diagnoses.fleet(60, 1, 2, off=[(i, "", 1.08) for i in range(1, 26)]))
    ).fleets
    assert found.verdict.startswith("Of 60 nodes 25 are slow: ")
    assert found.verdict.endswith("; and 15 more.")
    assert len(found.nodes) == fleet.MOST_TABLES
    assert found.more == "5 more nodes that differ from the fleet: see the map."
    assert sum(bool(row.place) for row in found.whole.rows) == fleet.MOST_TABLES


def test_the_rate_of_false_alarms_the_confidence_and_the_least_difference_are_stated(part):
    assert "At most 1 % of healthy nodes are called slow or fast in anything by chance." in part.how
    assert "A difference below 2 % is called neither slow nor fast." in part.how
    assert "Intervals are at 95 % confidence." in part.how
    other = replace(diagnoses.fleet(), alarm_rate=0.005, least=0.015, confidence=0.999)
    how = fleet.fleet_section(diagnoses.diagnosis(other)).fleets[0].how
    assert all(words in how for words in ("0.5 % of healthy", "below 1.5 %", "at 99.9 % confidence"))


# ---------------------------------------------------------------- maps


def test_the_map_has_a_row_for_each_node_in_the_order_of_concern_and_columns_of_everything_and_families(part):
    assert [row.node for row in part.whole.rows] == [node.node for node in diagnoses.two_slow().nodes]
    assert {row.node for row in part.whole.rows[:3]} == {"node-07", "node-12", "node-16"}
    families = [f"{suite} on cpu" for suite in diagnoses.SUITES]
    assert [column.label for column in part.whole.columns] == ["all work", *families]
    assert {column.spread for column in part.whole.columns} == {"SD 0.4 %"}
    assert part.whole.heads == ()
    assert part.whole.left_out == ""
    assert rows(part.whole)["node-03"].standing == "not judged"
    assert rows(part.whole)["node-01"].standing == "like the fleet"


def test_what_is_slow_or_fast_has_a_look_and_a_number_and_the_tip_has_interval_and_processes(part):
    of = cells(part.whole, "node-12")
    assert of == {"memory on cpu": ("slow clear", of["memory on cpu"][1])}
    assert re.fullmatch(r"\+(8|9|10)\.\d %", of["memory on cpu"][1])
    of = cells(part.whole, "node-16")
    assert {look for look, _ in of.values()} == {"fast clear"}
    slow = next(cell for cell in rows(part.whole)["node-12"].cells if cell.text)
    assert re.fullmatch(rf"{re.escape(slow.text)} \(\+\d+\.\d to \+\d+\.\d %\), 3 processes", slow.tip)
    assert set(cells(part.whole, "node-03").values()) == {("few", "few")}


@pytest.mark.parametrize(
    ("ratio", "look", "text"),
    [
        (1.0, "", ""),
        (1.0099, "", ""),
        (1 / 1.0099, "", ""),
        (1.0101, "near-slow", "+1.0 %"),
        (1 / 1.0101, "near-fast", "-1.0 %"),
        (1.0199, "near-slow", "+2.0 %"),
        (1.0201, "slow called", "+2.0 %"),
        (1 / 1.0201, "fast called", "-2.0 %"),
        (1.05, "slow clear", "+5.0 %"),
        (0.95, "fast clear", "-5.0 %"),
        (12.0, "slow clear", "12.0x"),
    ],
)
def test_a_cell_is_blank_near_the_fleet_and_has_a_number_before_it_is_called_anything(ratio, look, text):
    cell = fleet._cell(diagnoses.finding(diagnoses.groups_of(1, 1)[0], ratio))
    assert (cell.look, cell.text) == (look, text)


def test_a_node_that_lacks_a_group_and_one_without_an_interval_have_a_cell_that_says_so():
    groups = diagnoses.groups_of(1, 1)
    one = diagnoses.finding(groups[0], 1.004, processes=1, few=True)
    unknown = [replace(one, low=low, high=high) for low, high in ((math.nan, math.nan), (0.0, math.inf))]
    assert {fleet._cell(finding).tip for finding in unknown} == {"+0.4 %, 1 process"}
    row = fleet._row(diagnoses.report("x", unknown[:1]), groups, "")
    assert [(cell.look, cell.tip) for cell in row.cells[1:]] == [("none", "no value")] * 2
    assert fleet.interval(diagnoses.finding(groups[0], 11.0)) == "10.9 to 11.1x"


def test_few_works_stand_in_one_map_below_their_families():
    few = diagnoses.fleet(6, 3, 2)
    shuffled = replace(few, groups=(*few.groups[:4], *few.groups[4::2], *few.groups[5::2]))
    (found,) = fleet.fleet_section(diagnoses.diagnosis(shuffled)).fleets
    assert found.works is None
    assert found.whole.heads == (("", 4), ("memory on cpu", 2), ("matmul on cpu", 2), ("attention on cpu", 2))
    labels = [column.label for column in found.whole.columns]
    assert labels[4:6] == ["memory_0 float32 512 torch", "memory_1 float32 1024 torch"]


def test_of_many_works_those_in_which_nodes_differ_most_have_a_map_and_the_nodes_take_turns(part):
    assert part.works.title == "The 12 of 60 pieces of work in which nodes differ most"
    assert len(part.works.columns) == sum(width for _, width in part.works.heads) == fleet.MOST_WORKS
    assert [row.node for row in part.works.rows] == [row.node for row in part.whole.rows]
    groups = [group.key for group in diagnoses.two_slow().groups]
    chosen = fleet._furthest(diagnoses.two_slow(), diagnoses.two_slow().groups[7:])
    keys = [group.key for group in chosen]
    assert keys == sorted(keys, key=groups.index)
    by_node = {node.node: node for node in diagnoses.two_slow().nodes}
    for node in ("node-07", "node-12", "node-16"):
        works = [f for f in by_node[node].findings if f.group.kind == "work"]
        assert {f.group.key for f in sorted(works, key=lambda f: -f.distance)[:4]} <= set(keys)


def test_a_map_of_too_many_nodes_or_groups_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(fleet, "MOST_CELLS", 7 * 12)
    monkeypatch.setattr(fleet, "MOST_GROUPS", 6)
    (found,) = fleet.fleet_section(diagnoses.diagnosis()).fleets
    assert (len(found.whole.columns), len(found.whole.rows)) == (6, 14)
    assert found.whole.left_out == "Not shown: 6 more nodes and 1 more column."
    assert {row.node for row in found.whole.rows[:3]} == {"node-07", "node-12", "node-16"}
    monkeypatch.setattr(fleet, "MOST_CELLS", 0)
    (found,) = fleet.fleet_section(diagnoses.diagnosis()).fleets
    assert len(found.whole.rows) == fleet.FEWEST_ROWS


def test_fleets_share_the_cells_of_the_maps(monkeypatch):
    monkeypatch.setattr(fleet, "MOST_CELLS", 2 * 7 * 15)
    two = fleet.fleet_section(diagnoses.diagnosis(diagnoses.two_slow(), diagnoses.fleet())).fleets
    assert [len(found.whole.rows) for found in two] == [15, 15]


def test_the_labels_of_many_columns_are_turned_and_on_paper_their_numbers_too():
    looks = []
    for families in (9, 10, 12):
        (found,) = fleet.fleet_section(diagnoses.diagnosis(diagnoses.fleet(5, families, 20))).fleets
        looks.append((found.whole.look, found.works.look))
    assert looks == [("", "upright"), ("upright", "upright"), ("upright many", "upright")]


def test_the_legend_explains_every_look_that_there_is_and_no_other(part):
    section = fleet.fleet_section(diagnoses.diagnosis())
    there = {cell.look for of in (part.whole, part.works) for row in of.rows for cell in row.cells}
    assert {cell.look for cell, _ in section.legend} == there
    assert {"slow clear", "fast clear", "few", ""} <= there
    healthy = fleet.fleet_section(diagnoses.diagnosis(diagnoses.fleet(6, 1, 1)))
    assert "slow" not in " ".join(cell.look.replace("near-slow", "") for cell, _ in healthy.legend)


# ---------------------------------------------------------------- nodes that differ


def test_a_node_that_differs_has_a_table_of_its_findings_and_the_causes(part):
    by_node = {table.node: table for table in part.nodes}
    assert [table.node for table in part.nodes] == [row.node for row in part.whole.rows[:3]]
    table = by_node["node-12"]
    assert table.about == "slow, 3 processes"
    assert (table.rows[0].work, table.rows[0].look, table.rows[0].works) == ("memory on cpu", "slow", "10")
    assert all(row.work.startswith("memory_") and row.works == "" for row in table.rows[1:])
    assert table.causes == (
        "gpu.pcie: generation 3 of 5; 4 everywhere else.",
        "cpu.governor: powersave; performance elsewhere.",
    )
    whole = by_node["node-07"]
    assert whole.rows[0].work == "all work"
    assert {row.work for row in whole.rows[1:7]} == {f"{suite} on cpu" for suite in diagnoses.SUITES}
    assert len(whole.rows) == 1 + 6 + fleet.MOST_FINDINGS
    assert whole.more == "And in 52 other pieces of work."
    assert table.more == "And in 2 other pieces of work."
    assert [row.work for row in table.rows[1:3]] == [
        finding.group.label
        for finding in sorted(diagnoses.two_slow().nodes[0].findings, key=lambda f: -f.distance)
        if finding.group.kind == "work"
    ][:2]


def test_a_node_without_causes_says_that_its_environment_is_that_of_the_others(monkeypatch):
    alone = diagnoses.diagnosis(diagnoses.fleet(6, 1, 1, off=[(1, "", 1.1)]))
    assert "Nothing in its environment differs from that of most other nodes." in markup_of(alone)
    assert "Nothing in its environment" not in markup_of(diagnoses.diagnosis())


# ---------------------------------------------------------------- the page


def test_no_judged_fleet_has_no_section():
    assert fleet.fleet_section(Diagnosis(())) is None
    few = replace(diagnoses.fleet(3), reason="a fleet of fewer than 5 nodes")
    assert fleet.fleet_section(Diagnosis((few,), ("a note",))) is None


def test_fleets_that_are_not_judged_and_notes_stand_below_those_that_are():
    few = replace(diagnoses.fleet(3, name="Another CPU"), reason="fewer than 5 nodes")
    section = fleet.fleet_section(diagnoses.diagnosis(diagnoses.two_slow(), few, notes=("x\x1b[31m is left out",)))
    assert section.notes == ("Another CPU: 3 nodes, not judged: fewer than 5 nodes", "x\\x1b[31m is left out")
    many = fleet.fleet_section(diagnoses.diagnosis(diagnoses.two_slow(), notes=tuple(map(str, range(25)))))
    assert many.notes[-2:] == ("19", "and 5 more notes")


def test_two_fleets_have_a_part_each_and_no_id_twice(monkeypatch):
    other = diagnoses.fleet(8, 2, 3, off=[(1, "", 1.08)], name="Another CPU")
    text = page_of(monkeypatch, diagnoses.diagnosis(diagnoses.two_slow(), other))
    ids = [i for i in re.findall(r'\bid="([^"]*)"', text) if i.startswith("fleet")]
    assert ids == ["fleet", "fleet-1-1", "fleet-1-2", "fleet-1-3", "fleet-2-1"]
    assert set(re.findall(r'href="#(fleet[^"]*)"', text)) == set(ids)
    assert '<a href="#fleet">Fleet</a>' in text
    assert text.count('<ul class="legend map">') == 1


@pytest.mark.parametrize(("machines", "runs"), [(4, 3), (5, 2), (1, 9)])
def test_too_few_machines_or_runs_are_not_diagnosed_and_the_page_knows_nothing_of_fleets(monkeypatch, machines, runs):
    monkeypatch.setattr(fleet, "_diagnose", lambda _: pytest.fail("diagnosed"))
    text = page.render(runs_of(machines, runs))
    assert "fleet" not in text.lower()
    assert "verdict-of" not in text
    assert fleet.diagnosis_of(runs_of(machines, runs)) is None


def test_five_machines_of_three_runs_are_diagnosed_once_with_all_readings(monkeypatch):
    asked = []
    monkeypatch.setattr(fleet, "_diagnose", lambda readings: asked.append(readings) or Diagnosis(()))
    text = page.render(runs_of(5))
    assert [len(readings) for readings in asked] == [15]
    assert "fleet" not in text.lower()  # it found none


def test_a_page_without_a_judged_fleet_is_the_same_to_the_byte_as_one_that_was_never_diagnosed(monkeypatch):
    without = page_of(monkeypatch, Diagnosis((), ("a note",)))
    monkeypatch.setattr(fleet, "FEWEST_NODES", 6)
    assert page.render(runs_of(5)) == without


def test_a_fleet_brings_its_style_and_the_policy_allows_it(monkeypatch):
    text = page_of(monkeypatch, diagnoses.diagnosis())
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "verdict-of" in style
    assert page._hash(style) in text
    assert not re.search(r"\bstyle=|\son\w+=|@import|url\((?!#)", text)


def test_every_mark_of_a_map_has_a_word_or_a_number_beside_its_colour():
    text = markup_of(diagnoses.diagnosis())
    looks = re.findall(r'<td class="([^"]+)" title="[^"]*">([^<]*)</td>', text)
    assert len(looks) > 30
    assert [look for look, words in looks if not words] == []


def test_hostile_texts_stay_texts(monkeypatch):
    for hostile in PAGE_TEXTS:
        group = diagnoses.groups_of(1, 1)[0]
        groups = tuple(replace(g, label=hostile, key=f"{hostile}{i}") for i, g in enumerate((group,) * 2))
        groups = (groups[0], replace(groups[1], kind="work", family=hostile))
        nodes = tuple(
            diagnoses.report(f"{hostile}{i}", [diagnoses.finding(g, 1.1 if i == 0 else 1.0) for g in groups], [hostile])
            for i in range(5)
        )
        one = replace(diagnoses.fleet(5), name=hostile, nodes=nodes, groups=groups)
        text = page_of(monkeypatch, Diagnosis((one,), (hostile,)))
        assert 'id="fleet-1-1"' in text
        assert text.count("<script") == 2
        assert "<img" not in text
        assert "\x1b" not in text
        assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', "", text.split("</style>")[1].split("<script")[0]))


def test_a_hundred_nodes_by_hundreds_of_works_make_less_than_a_megabyte():
    off = [(7, "", 1.06), (12, "memory on cpu", 1.09)]
    for families, works in ((12, 25), (30, 50)):
        markup = markup_of(diagnoses.diagnosis(diagnoses.fleet(100, families, works, off=off, causes=("x" * 100,) * 8)))
        assert len(markup.encode()) < 1_000_000
        assert shown(markup).count("node-100") == 2


class Tags(HTMLParser):
    """What is open, from the outside in; closing anything else is an error."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], 0

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs))
        self.seen += 1
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("works", [2, 60])
def test_every_tag_is_closed_where_it_was_opened_and_rows_have_as_many_cells_as_columns(works):
    markup = markup_of(diagnoses.diagnosis(diagnoses.fleet(20, 3, works, off=[(1, "", 1.1)])))
    tags = Tags()
    tags.feed(markup)
    assert tags.open == []
    assert tags.seen > 200
    for table in re.findall(r'<div class="scroll map".*?</table>', markup, re.DOTALL):
        columns = table.count('class="group"')
        body = re.findall(r"<tr><th scope=\"row\">.*?</tr>", table)
        assert {row.count("<td") for row in body} == {1 + columns}
        if "colspan" in table:
            assert sum(map(int, re.findall(r'colspan="(\d+)"', table))) == columns


def test_the_standings_of_the_page_are_all_that_there_are():
    assert {*fleet.OFF, Standing.UNSURE, Standing.ALIKE, Standing.FEW} == set(Standing)
