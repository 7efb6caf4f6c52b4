"""The engine `ray` on a fake of Ray; test_ray_cluster.py has a real cluster."""

import os
import signal
import socket
import sys

import psutil
import pytest

from bench_core import __version__
from bench_core.errors import BenchError
from bench_core.fleet import ray as engine
from bench_core.fleet.engine import EngineError, JobState, Place
from bench_core.fleet.plan import Node, Order, Part
from bench_core.fleet.ray import Ray, on_node
from tests.support.fake_ray import EXCEPTIONS, FakeRay, RayTaskError, dead, node
from tests.support.properties import given, st

BEGUN = ("begun", (4711, 1.5))
GPU_NODE = node("gamma", 3, gpus=2, cpus=8)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return a function that starts the task of a node, which gives a script of values: the job, and the fake."""

    def start(*script, at=GPU_NODE):
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        fake = FakeRay(at).install(monkeypatch)
        fake.script[at["NodeID"]] = script
        ray = Ray(tmp_path, {})
        (place,) = ray.places().usable
        return ray.start(order(tmp_path), place), fake

    return start


def order(folder):
    return Order(Node("node-01", (Part("node-01"),)), 1, (), str(folder / "node-01"), "token", str(folder))


def places(monkeypatch, tmp_path, *nodes):
    FakeRay(*nodes).install(monkeypatch)
    return Ray(tmp_path, {}).places()


# ---------------------------------------------------------------- the cluster


def test_a_node_is_named_by_its_host_and_has_the_gpus_that_it_declares(monkeypatch, tmp_path):
    found = places(monkeypatch, tmp_path, node("beta", 2), GPU_NODE)
    assert found.usable == (Place("beta", 0), Place("gamma", 2))
    assert found.absent == ()


def test_nodes_with_one_host_name_have_different_names_in_the_same_order_every_time(monkeypatch, tmp_path):
    nodes = [node("box", 1), node("box", 2), node("box", 3, NodeName="10.0.0.2"), node("alone", 4)]
    names = [place.name for place in places(monkeypatch, tmp_path, *nodes).usable]
    assert names == ["alone", "box/10.0.0.1", "box/10.0.0.2", "box/10.0.0.2#2"]
    assert [place.name for place in places(monkeypatch, tmp_path, *reversed(nodes)).usable] == names


def test_a_dead_node_is_absent_with_the_reason_unless_it_was_taken_out_or_has_come_back(monkeypatch, tmp_path):
    nodes = [
        *(
            node("back", 1),
            dead("back", 2, 2, "crashed"),
            dead("idle", 3, 4, "scaled down"),
            dead("left", 4, 1, "SIGTERM"),
        ),
        *(dead("lost", 5, 2, "missed \x1b[1mheartbeats"), dead("odd", 6, 0, "")),
    ]
    found = places(monkeypatch, tmp_path, *nodes)
    assert [place.name for place in found.usable] == ["back"]
    assert found.absent == (
        ("lost", r"the node died: missed \x1b[1mheartbeats"),
        ("odd", "the node died: Ray does not know why"),
    )


def test_a_head_node_that_offers_nothing_to_tasks_is_left_out(monkeypatch, tmp_path):
    found = places(monkeypatch, tmp_path, node("head", 1, cpus=0), node("gpus", 2, cpus=0, gpus=1))
    assert (found.usable, found.absent) == ((Place("gpus", 1),), ())


def test_an_unknown_setting_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(EngineError, match=r"no setting of ray 'adress'; did you mean 'address'\?"):
        Ray(tmp_path, {"adress": "auto"})


def test_the_address_is_that_of_the_setting_else_of_the_variable_else_of_this_computer(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "_answers", lambda address: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked = []
    for variable, settings in ((None, {}), ("h:1", {}), ("h:1", {"address": "h:2"})):
        if variable:
            monkeypatch.setenv("RAY_ADDRESS", variable)
        fake = FakeRay().install(monkeypatch)
        Ray(tmp_path, settings).places()
        asked += [options["address"] for options in fake.connected]
    assert asked == ["auto", "h:1", "h:2"]


def test_where_nothing_listens_is_said_at_once_and_no_cluster_is_started(monkeypatch, tmp_path):
    fake = FakeRay().install(monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # bound, but nothing listens
        with pytest.raises(EngineError, match=r"no Ray cluster answers at 127.0.0.1:.*ray start --head"):
            Ray(tmp_path, {"address": address}).places()
    for address in ("nonsense", "host:port", "h:99999999"):
        with pytest.raises(EngineError, match="no Ray cluster answers"):
            Ray(tmp_path, {"address": address}).places()
    assert fake.connected == []


@pytest.mark.parametrize(
    ("refuses", "told"),
    [
        (ConnectionError("Could not find any running Ray instance."), "no Ray cluster answers at auto: start one"),
        (RuntimeError("Version mismatch:\n  Python 3.11 \x1b[1m"), r"Ray at auto: Version mismatch: Python 3.11 \\x1b"),
        (EXCEPTIONS.RayError("no token"), "Ray at auto: no token"),
    ],
)
def test_why_ray_does_not_connect_is_told_in_one_line(monkeypatch, tmp_path, refuses, told):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    FakeRay().install(monkeypatch).refuses = refuses
    with pytest.raises(EngineError, match=told) as caught:
        Ray(tmp_path, {}).places()
    assert "\n" not in str(caught.value)


def test_what_listens_and_lets_nobody_in_may_want_a_token(monkeypatch, tmp_path):
    FakeRay().install(monkeypatch).refuses = ConnectionError("Failed to connect")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EngineError, match=rf"Ray does not connect to {address}: .*RAY_AUTH_TOKEN"):
            Ray(tmp_path, {"address": address}).places()


def test_the_ray_client_is_refused(monkeypatch, tmp_path):
    FakeRay().install(monkeypatch)
    with pytest.raises(EngineError, match=r"address=ray://head:10001: must be HOST:PORT"):
        Ray(tmp_path, {"address": "ray://head:10001"}).places()


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="python -m pip install ray"):
        Ray(tmp_path, {}).places()


def test_the_connection_keeps_the_handler_of_sigterm_and_is_closed_only_if_it_was_opened_here(monkeypatch, tmp_path):
    fake = FakeRay(GPU_NODE).install(monkeypatch)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(fake, "init", lambda **_: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    ray = Ray(tmp_path, {"address": "auto"})
    ray.places()
    assert signal.getsignal(signal.SIGTERM) is before
    fake.connected.append("by somebody else")
    another = Ray(tmp_path, {"address": "auto"})
    another.places()
    another.close()
    assert fake.connected == ["by somebody else"]
    ray.close()
    assert fake.connected == []


# ---------------------------------------------------------------- a task


def test_a_task_is_bound_to_its_node_takes_all_of_it_and_is_never_retried(started):
    job, fake = started(None, BEGUN)
    ((_, arguments, options),) = fake.asked
    assert (Order.from_text(arguments[0]), arguments[1]) == (order(job._folder.parent), __version__)
    assert options == {
        "num_cpus": 8,
        "num_gpus": 2,
        "max_retries": 0,
        "scheduling_strategy": (GPU_NODE["NodeID"], False),
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "${OMP_NUM_THREADS}"}},
    }


def test_a_node_that_is_not_in_the_cluster_is_refused(monkeypatch, tmp_path):
    FakeRay(GPU_NODE).install(monkeypatch)
    ray = Ray(tmp_path, {"address": "auto"})
    ray.places()
    with pytest.raises(EngineError, match="no node delta"):
        ray.start(order(tmp_path), Place("delta"))


def test_a_task_waits_then_runs_then_has_ended_with_its_files_in_the_folder_of_the_node(started):
    job, _ = started(None, BEGUN, None, None, ("files", {"a/runs/a/1/run.json": b"{}", "state.json": b"1"}))
    assert [job.state() for _ in range(4)] == [JobState.WAITING, *[JobState.RUNNING] * 2, JobState.ENDED]
    assert job.why == ""
    assert (job._folder / "a/runs/a/1/run.json").read_bytes() == b"{}"
    assert (job._folder / "state.json").read_bytes() == b"1"


def test_what_makes_a_run_complete_is_written_after_the_rest_and_the_state_at_last(started, monkeypatch):
    written = []
    monkeypatch.setattr(engine, "write_atomically", lambda path, content: written.append(path.name))
    job, _ = started(("files", dict.fromkeys(("state.json", "r/run.json", "r/samples.csv", "r/results.csv"), b"")))
    job.state()
    assert written == ["samples.csv", "results.csv", "run.json", "state.json"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "", ".", "a\\..\\x", "C:x", "//host/x", "a\0b", "a/.."])
def test_a_file_outside_the_folder_of_the_node_is_refused_with_all_others(started, name, tmp_path):
    job, _ = started(("files", {"good": b"1", name: b"2"}))
    assert job.state() is JobState.ENDED
    assert job.why.startswith("the node gave a file outside its folder, so none was taken")
    assert list(tmp_path.rglob("*")) == []


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.csv", "\\", "C:", "~"]), max_size=5).map("/".join))
def test_a_path_that_is_taken_never_leaves_the_folder(name):
    if engine._is_inside(name):
        assert os.path.normpath(f"/folder/{name}").startswith("/folder/")


def test_files_that_cannot_be_written_are_told(started, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "write_atomically", full)
    job, _ = started(("files", {"a": b""}))
    assert job.state() is JobState.ENDED
    assert job.why == "what the node gave cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("given_last", "why"),
    [
        (("refused", "this node has bench_core 1, \x1b and not 2"), r"this node has bench_core 1, \x1b and not 2"),
        (EXCEPTIONS.OutOfMemoryError(), "Ray's memory monitor ended the task: the node had too little memory"),
        (EXCEPTIONS.TaskCancelledError(), "cancelled"),
        (EXCEPTIONS.WorkerCrashedError(), "the process of the task died, or the whole node"),
        (EXCEPTIONS.NodeDiedError(), "the process of the task died, or the whole node"),
        (RayTaskError(ValueError("of no use")), "the task failed: ValueError: of no use"),
        (EXCEPTIONS.RayError("another\nmatter"), "RayError: another matter"),
        (StopIteration(), "the task ended without an answer"),
    ],
)
def test_why_a_task_has_ended_is_told_in_few_words(started, given_last, why):
    job, _ = started(BEGUN, given_last)
    assert job.state() is JobState.ENDED
    assert job.why == why


@pytest.mark.parametrize("error", [EXCEPTIONS.WorkerCrashedError(), EXCEPTIONS.TaskUnschedulableError()])
def test_a_node_that_ray_knows_to_be_dead_is_called_that(started, error):
    at = node("gamma", 3)
    job, _ = started(BEGUN, None, error, at=at)
    assert job.state() is JobState.RUNNING
    at.update(Alive=False, DeathReasonMessage="missed heartbeats")
    assert job.state() is JobState.ENDED
    assert job.why == "the node died: missed heartbeats"


def test_a_task_that_waits_is_taken_back_when_it_is_cancelled(started):
    job, fake = started(None, BEGUN)
    job.cancel()
    assert (fake.cancelled, job.state(), job.why) == ([False], JobState.ENDED, "cancelled")


def test_a_task_that_runs_is_told_to_end_by_a_signal_and_gives_what_it_has(started):
    job, fake = started(BEGUN, None, None, ("files", {"a": b"1"}))
    assert job.state() is JobState.RUNNING
    job.cancel()
    function, process, options = fake.asked[1]
    assert (function, process, fake.cancelled) == (engine._told_to_end, (4711, 1.5), [])
    assert options["scheduling_strategy"] == (GPU_NODE["NodeID"], False)
    assert (options["num_cpus"], options["num_gpus"]) == (0, 0)
    assert job.state() is JobState.ENDED
    assert (job.why, (job._folder / "a").read_bytes()) == ("", b"1")


def test_a_task_that_is_cancelled_twice_is_ended_by_force(started):
    job, fake = started(BEGUN, *[None] * 9)
    job.state()
    job.cancel()
    job.cancel()
    assert (fake.cancelled, job.state(), job.why) == ([True], JobState.ENDED, "cancelled")


def test_closing_ends_by_force_what_has_not_ended_and_nothing_else(monkeypatch, tmp_path):
    other = node("delta", 4)
    fake = FakeRay(GPU_NODE, other).install(monkeypatch)
    fake.script.update({GPU_NODE["NodeID"]: [BEGUN, *[None] * 9], other["NodeID"]: [("files", {})]})
    ray = Ray(tmp_path, {"address": "auto"})
    jobs = [ray.start(order(tmp_path), place) for place in ray.places().usable]
    ray.close()
    assert fake.cancelled == [True]
    assert {job.state() for job in jobs} == {JobState.ENDED}


# ---------------------------------------------------------------- on the node


def test_only_the_process_that_was_meant_is_told_to_end(monkeypatch):
    ended = []
    monkeypatch.setattr(psutil.Process, "terminate", lambda process: ended.append(process.pid))
    me = psutil.Process()
    engine._told_to_end(me.pid, me.create_time() - 1)
    assert ended == []
    engine._told_to_end(me.pid, me.create_time())
    assert ended == [me.pid]


@pytest.mark.parametrize(("before", "inside"), [("4", "4"), ("", None), (None, None)])
def test_threads_are_those_that_the_user_has_set_on_the_node_and_no_debugger_of_ray_is_inherited(
    monkeypatch, before, inside
):
    seen = {}
    monkeypatch.setattr(engine, "perform", lambda text: seen.update(os.environ) or {"text": text})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PYTHONBREAKPOINT", "ray.util.rpdb.set_trace")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    outside = dict(os.environ)
    assert on_node("order") == ("files", {"text": "order"})
    assert (seen.get("OMP_NUM_THREADS"), seen["CUDA_VISIBLE_DEVICES"]) == (inside, "0,1")
    assert "PYTHONBREAKPOINT" not in seen
    assert dict(os.environ) == outside


def test_a_debugger_of_the_user_stays(monkeypatch):
    seen = {}
    monkeypatch.setattr(engine, "perform", lambda _: seen.update(os.environ) or {})
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    on_node("order")
    assert seen["PYTHONBREAKPOINT"] == "0"


def test_why_nothing_can_be_measured_comes_back_in_place_of_files(monkeypatch):
    def cannot(text):
        raise BenchError("the disk is full")

    monkeypatch.setattr(engine, "perform", cannot)
    assert on_node("order") == ("refused", "the disk is full")


def test_the_task_says_that_it_has_begun_by_which_process(monkeypatch):
    monkeypatch.setattr(engine, "perform", lambda text: {text: b""})
    me = psutil.Process()
    assert list(engine._carried()("order", __version__)) == [
        ("begun", (me.pid, me.create_time())),
        ("files", {"order": b""}),
    ]


def test_another_version_and_a_missing_bench_core_are_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(engine, "perform", lambda text: pytest.fail("was measured"))
    carried = engine._carried()
    assert list(carried("order", "9.9")) == [("refused", f"this node has bench_core {__version__}, and not 9.9")]
    monkeypatch.setitem(sys.modules, "bench_core.fleet.ray", None)
    ((kind, why),) = carried("order", __version__)
    assert kind == "refused"
    assert why.startswith("bench_core cannot be imported in the workers of Ray on this node: ")
