"""The plan of a fleet and its folder: what is written is read again, and private things are private."""

import json
import stat
import sys
from dataclasses import replace

import pytest

from bench_core.errors import TableError
from bench_core.fleet.plan import (
    FleetFolder,
    Node,
    Order,
    Part,
    PartState,
    Seen,
    State,
    is_superseded,
    new_id,
    write_state,
)
from bench_core.results import reader
from tests.support.fleets import begin_run, fleet, plan_of, say, whole, write_run


def test_a_plan_and_the_names_of_its_nodes_are_read_as_they_were_written(tmp_path):
    plan = plan_of(nodes=3, gpus=2, settings={"partition": "gpu"})
    folder = fleet(tmp_path, plan)
    assert folder.plan() == plan
    assert folder.names() == {"node-01": "host-01", "node-02": "host-02", "node-03": "host-03"}


def test_a_plan_from_before_the_working_folder_was_kept_is_read(tmp_path):
    folder = fleet(tmp_path, plan_of(working="/there", dirty=True))
    path = folder.private / "plan.json"
    plain = json.loads(path.read_text())
    assert (plain.pop("working"), plain.pop("dirty")) == ("/there", True)
    path.write_text(json.dumps(plain))
    assert folder.plan() == plan_of()


@pytest.mark.parametrize(
    "label", ["../outside", "..", "", ".fleet", "/tmp", "a/b", "a\\b", "a b", "a\n", "\x1b[2J", "-k"]
)
@pytest.mark.parametrize("of", ["node", "part"])
def test_a_label_that_could_lead_out_of_the_fleet_is_refused(tmp_path, label, of):
    folder = fleet(tmp_path)
    path = folder.private / "plan.json"
    plain = json.loads(path.read_text())
    node = plain["nodes"][1]
    (node if of == "node" else node["parts"][0])["label"] = label
    path.write_text(json.dumps(plain))
    with pytest.raises(TableError) as caught:
        folder.plan()
    assert str(caught.value).startswith(f"{path}: not written by this version of bench-core: ")
    assert str(caught.value).isprintable()


def test_labels_like_names_of_nodes_are_plain(tmp_path):
    nodes = tuple(Node(label, (Part(f"{label}-gpu-0", 0),)) for label in ("gpu1.cluster", "_a", "7", "A-b_c.d"))
    plan = replace(plan_of(), nodes=nodes)
    assert fleet(tmp_path, plan).plan() == plan


def test_an_order_is_text_and_back():
    order = Order(Node("n", (Part("n-gpu-0", 0), Part("n"))), 3, ("-k", "a b"), "/folder", "token", "/here")
    assert Order.from_text(order.to_text()) == order


def test_what_a_node_says_is_read_as_it_was_written(tmp_path):
    folder = fleet(tmp_path)
    assert folder.state("node-01") is None
    state = State(1.5, None, {"node-01": PartState((0, 1), "why")}, "1.0", "", "token")
    folder.node("node-01").mkdir()
    write_state(folder.node("node-01"), state)
    assert folder.state("node-01") == state
    folder.forget("node-01")
    folder.forget("node-01")
    assert folder.state("node-01") is None


def test_what_was_seen_is_read_as_it_was_written(tmp_path):
    folder = fleet(tmp_path)
    assert folder.seen("node-01") is None
    folder.node("node-01").mkdir()
    for seen in (Seen(1.0), Seen(1.0, 2.0, 3.0, "NODE_FAIL", "token")):
        folder.write_seen("node-01", seen)
        assert folder.seen("node-01") == seen


def test_an_order_is_superseded_by_another_token_and_by_nothing_else(tmp_path):
    folder = fleet(tmp_path)
    assert not is_superseded(folder, "mine"), "a node that does not see the folder"
    (folder.private / "token").write_text("mine")
    assert not is_superseded(folder, "mine")
    (folder.private / "token").write_text("newer")
    assert is_superseded(folder, "mine")


def test_texts_from_a_node_cannot_change_a_terminal(tmp_path):
    folder = fleet(tmp_path)
    say(folder, "node-01", reason="\x1b[2Ja", version="\x1b[2Jb", node_01="\x1b[2Jc")
    folder.write_seen("node-01", Seen(1.0, why="\x1b[2Jd"))
    state = folder.state("node-01")
    said = (state.reason, state.version, state.parts["node-01"].reason, folder.seen("node-01").why)
    assert said == (r"\x1b[2Ja", r"\x1b[2Jb", r"\x1b[2Jc", r"\x1b[2Jd")


@pytest.mark.parametrize("text", ["", "[]", "{", "1", '{"began": "noon"}', '{"began": 1, "parts": []}'])
def test_files_that_were_damaged_are_named(tmp_path, text):
    folder = fleet(tmp_path)
    folder.node("node-01").mkdir()
    read = {
        folder.private / "plan.json": folder.plan,
        folder.private / "names.json": folder.names,
        folder.node("node-01") / "state.json": lambda: folder.state("node-01"),
        folder.node("node-01") / "seen.json": lambda: folder.seen("node-01"),
    }
    for path, reading in read.items():
        if path.name == "names.json" and text.startswith('{"'):
            continue  # any words are names
        path.write_text(text)
        with pytest.raises(TableError) as caught:
            reading()
        assert str(caught.value).startswith(f"{path}: not written by this version of bench-core")


def test_a_run_is_complete_when_no_case_of_it_is_left(tmp_path):
    folder = fleet(tmp_path)
    run = write_run(folder, "node-01", 0)
    begun = begin_run(folder, "node-01", 1)
    interrupted = write_run(folder, "node-01", 2)
    (interrupted / "journal.jsonl").write_text("{}\n")
    assert folder.complete("node-01", "node-01") == [run]
    assert folder.unfinished("node-01", "node-01") == [begun, interrupted]
    assert folder.complete("node-02", "node-02") == []


def test_what_is_private_is_for_the_user_alone_and_neither_git_nor_a_reader_takes_it(tmp_path):
    folder = whole(tmp_path)
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700
    assert (folder.private / ".gitignore").read_text().endswith("\n*\n")
    with pytest.raises(TableError, match=r"no results\.csv here"):
        reader.find_results(folder.path)


def test_two_fleets_have_two_names():
    assert len({new_id() for _ in range(5)}) == 5
    assert new_id().startswith("fleet-2")


def test_the_files_are_plain_json(tmp_path):
    folder = fleet(tmp_path)
    assert json.loads((folder.private / "plan.json").read_text())["nodes"][0]["label"] == "node-01"
    assert FleetFolder(folder.path).plan() == folder.plan()
