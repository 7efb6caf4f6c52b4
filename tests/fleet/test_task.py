"""A node measures its parts at the same time, counts what it has measured before, and tells why it lacks something."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import pytest

from bench_core import __version__, child_process
from bench_core.errors import BenchError
from bench_core.fleet import task
from bench_core.fleet.devices import Device, Lock
from bench_core.fleet.plan import Node, Part, PartState
from bench_core.machine import allotment
from bench_core.results.schema import JOURNAL
from tests.faulty.runs import in_journal, in_samples, statuses
from tests.support.disks import mounted
from tests.support.node_orders import Site, about, driver, environ, fact, until

TWO = Node("node-01", (Part("node-01-gpu-0", 0), Part("node-01-gpu-1", 1)))
GPUS = "connected(2, 'PCIe')"
FIRST, SECOND = (f"GPU-{number:08x}-0506-0708-090a-0b0c0d0e0f10" for number in range(2))  # of them
SLOTS = {"calm.1", "struck", "calm.2", "calm.3"}  # the cases of test_struck
linux = pytest.mark.skipif(sys.platform != "linux", reason="signals, and a child that ends with its parent")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own, for this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch, temporary):
    site = Site(tmp_path)
    environ(monkeypatch, site.project, TMPDIR=str(temporary))
    return site


@pytest.fixture
def gpus(site, monkeypatch, tmp_path, temporary, pynvml):
    """Two cards, for this process and for those that it starts, with a part of the node for each."""
    pynvml.devices[:] = pynvml.connected(2, "PCIe")
    environ(monkeypatch, site.project, driver(tmp_path / "driver", GPUS), TMPDIR=str(temporary))
    site.node = TWO
    return site


def perform(site, *arguments, now=None, **changes):
    clock = count(100.0)
    return task.perform(site.order(*arguments, **changes).to_text(), now or (lambda: next(clock)))


def alone(site, **variables):
    """Return a task in a process of its own, which is no child of a thread here."""
    file = site.fleet.write_order(site.order())
    command = child_process.command("bench_core.fleet.task", str(file))
    return subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True)


# ---------------------------------------------------------------- runs and state


def test_a_node_measures_as_many_runs_as_it_is_told_under_its_label_and_tells_its_state(site):
    assert perform(site, runs=2) == {}
    assert [about(run)["run"]["machine"] for run in site.complete()] == ["node-01"] * 2
    assert [statuses(run) for run in site.complete()] == [{"good": "ok"}] * 2
    state = site.state
    assert state.parts == {"node-01": PartState((0, 0))}
    assert (state.began, state.ended, state.version, state.reason) == (100.0, 101.0, __version__, "")
    assert state.token == "agreed"
    assert "results: " in site.log(number=0)
    assert "results: " in site.log(number=1)


def test_the_state_is_written_at_the_beginning_and_after_each_run(site, monkeypatch):
    written, write = [], task.write_state
    monkeypatch.setattr(task, "write_state", lambda folder, state: (written.append(state), write(folder, state)))
    perform(site, runs=2)
    assert [(state.parts["node-01"].exit_codes, state.ended) for state in written] == [
        ((), None),
        ((0,), None),
        ((0, 0), None),
        ((0, 0), 101.0),
    ]


def test_a_task_whose_order_was_given_anew_leaves_the_state_to_the_newer_one(site, monkeypatch):
    write = task.write_state

    def written(folder, state):
        write(folder, state)
        site.shares("of a newer driver")

    monkeypatch.setattr(task, "write_state", written)
    perform(site)
    assert len(site.complete()) == 1
    assert (site.state.parts["node-01"], site.state.ended) == (PartState(), None), "as it was written before"


def test_complete_runs_count_and_are_not_touched(site):
    perform(site)
    (first,) = site.complete()
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    perform(site, runs=2)
    assert site.complete()[0] == first
    assert len(site.complete()) == 2
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == before
    perform(site, runs=2)
    assert site.state.parts == {"node-01": PartState()}, "nothing was left to do"
    assert "results: " in site.log(number=1), "the log of the first order is kept"


def test_a_run_with_wrong_answers_is_a_run(site):
    site.chosen = "test_every and (wrong or good)"
    perform(site)
    assert site.state.parts["node-01"].exit_codes == (1,)
    assert site.state.parts["node-01"].reason == ""
    assert statuses(site.complete()[0])["wrong"] == "invalid"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--nosuch",), "log-0.txt: exit code 4: unrecognized arguments: --nosuch"),
        (("-k", "nosuch"), "log-0.txt: exit code 5: "),
        (("--bench-backends=nosuch",), "log-0.txt: exit code 4: "),
    ],
)
def test_a_run_that_leaves_nothing_is_not_repeated_and_its_words_are_the_reason(site, arguments, reason):
    perform(site, *arguments, runs=3)
    part = site.state.parts["node-01"]
    assert part.reason.startswith(reason)
    assert len(part.exit_codes) == 1
    assert site.complete() == []


def test_a_missing_working_folder_is_a_reason(site, tmp_path):
    perform(site, working=str(tmp_path / "nosuch"))
    assert site.state.reason == f"{tmp_path}/nosuch: this node has no such working folder"
    assert site.state.ended is not None


def test_what_is_no_order_is_refused_in_one_line(tmp_path, capsys):
    file = tmp_path / "order.json"
    file.write_text('{"runs": 3}')
    assert task.main([str(file)]) == 2
    assert task.main([str(tmp_path / "nosuch.json")]) == 3
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{file}: not an order of this version of bench-core: ")
    assert second == f"{tmp_path}/nosuch.json: no such file or folder"


def test_an_error_of_bench_core_itself_in_a_part_is_its_reason(site, monkeypatch):
    monkeypatch.setattr(task.child_process, "pytest_command", lambda *_, **__: 1 / 0)
    perform(site)
    assert site.state.parts["node-01"].reason == "ZeroDivisionError: division by zero"


# ---------------------------------------------------------------- without a shared folder


def test_a_node_without_the_folder_of_the_order_returns_its_files(site, temporary):
    site.shares("of another fleet")
    files = perform(site, working="/nosuch/folder")
    assert not site.folder.exists()
    assert not any(path.is_dir() for path in temporary.iterdir()), "nothing stays on the node"
    site.folder.mkdir()
    for name, content in files.items():
        (site.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / name).write_bytes(content)
    assert site.state.parts == {"node-01": PartState((0,))}
    assert statuses(site.complete()[0]) == {"good": "ok"}
    assert "lock" not in files


def test_a_node_that_does_not_see_what_it_gave_before_measures_only_what_is_missing(site):
    site.shares("of another fleet")
    files = perform(site, runs=3, complete={"node-01": 2, "node-02": 9})
    assert len([name for name in files if name.endswith("run.json")]) == 1


def test_a_folder_with_another_token_is_not_taken_for_that_of_the_order(site):
    site.shares("of another fleet")
    assert "state.json" in perform(site, "--nosuch")
    assert not site.folder.exists()


# ---------------------------------------------------------------- GPUs


needs_two_cores = pytest.mark.skipif(not allotment.share_of_cpus(0, 2), reason="one core")


@linux
@needs_two_cores
def test_the_parts_of_a_node_measure_at_the_same_time_each_on_a_device_and_on_cores_of_its_own(
    gpus, temporary, monkeypatch, tmp_path
):
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    monkeypatch.setenv("MEETING", "2")
    perform(gpus)
    assert {label: part.reason for label, part in gpus.state.parts.items()} == {p.label: "" for p in TWO.parts}
    first, second = (gpus.complete(part.label)[0] for part in TWO.parts)
    assert {about(run)["run"]["machine"] for run in (first, second)} == {part.label for part in TWO.parts}
    cores = [set(allotment.kernel_files.numbers(fact(run, "cpu.affinity"))) for run in (first, second)]
    assert cores == [allotment.share_of_cpus(0, 2), allotment.share_of_cpus(1, 2)]
    assert not cores[0] & cores[1]
    assert fact(first, "env.CUDA_VISIBLE_DEVICES") == "<GPU id>"
    for path in [*temporary.rglob("*"), *gpus.fleet.path.rglob("*")]:
        assert "0506-0708-090a" not in path.name
        assert not path.is_file() or b"0506-0708-090a" not in path.read_bytes(), path
    assert allotment.cpus() == allotment.affinity().value, "this thread runs where it ran before"


@linux
def test_each_part_shows_its_process_one_device(gpus, monkeypatch):
    """And hands it the locks of the node and of the device, which it then has as long as it lives."""
    started = []

    def start(command, *, env, pass_fds, **_):
        locked = {Path(f"/proc/self/fd/{number}").readlink() for number in pass_fds}
        started.append((env["CUDA_DEVICE_ORDER"], env["CUDA_VISIBLE_DEVICES"], locked))
        raise OSError(8, "not here")

    monkeypatch.setattr(task.subprocess, "Popen", start)
    perform(gpus)
    node = gpus.folder / "lock"
    wanted = [("PCI_BUS_ID", uuid, {node, Device(0, uuid).lock().path}) for uuid in (FIRST, SECOND)]
    assert sorted(started, key=lambda each: each[1]) == wanted


def test_a_node_that_is_one_part_has_all_cores_and_the_devices_that_it_was_given(gpus):
    gpus.node = Node("node-01", (Part("node-01"),))
    perform(gpus)
    (run,) = gpus.complete()
    assert set(allotment.kernel_files.numbers(fact(run, "cpu.affinity"))) == allotment.cpus()
    assert "env.CUDA_VISIBLE_DEVICES" not in about(run)["environment"]["host"]


@pytest.mark.parametrize(
    ("visible", "reason"), [("1", "this process may use 1 GPU"), ("", "this process may use 0 GPUs")]
)
def test_a_part_whose_device_is_not_there_says_so_and_the_others_are_measured(gpus, monkeypatch, visible, reason):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    perform(gpus)
    assert gpus.state.parts["node-01-gpu-1"] == PartState((), f"GPU 1 is not here: {reason}")
    assert len(gpus.complete("node-01-gpu-0")) == (1 if visible else 0)


def test_without_a_driver_the_reason_of_a_part_is_that_of_the_driver(gpus, pynvml, monkeypatch):
    monkeypatch.setattr(pynvml, "driver", None)
    perform(gpus)
    reason = "GPU 0 is not here: no NVIDIA driver: NVML Shared Library Not Found"
    assert gpus.state.parts["node-01-gpu-0"].reason == reason


@linux
@pytest.mark.parametrize("whole", [False, True])
def test_two_fleets_on_one_device_take_turns(gpus, tmp_path, monkeypatch, temporary, whole):
    """Both wait for this process, which has the device; then one waits for the other."""
    monkeypatch.setenv("TURNS", str(tmp_path / "turns"))
    sites = [gpus, Site(tmp_path / "other")]
    for site in sites:
        site.node = Node("node-01", (Part("node-01", None if whole else 0),))
    lock = Device(0, FIRST).lock()
    assert lock.acquire(lambda: False)
    tasks = [alone(site) for site in sites]
    waits = "waits for GPU 0, on which another task of this computer measures"
    for site in sites:
        until(lambda site=site: site.state and site.state.parts["node-01"].reason == waits, "a task waits")
    assert not (tmp_path / "turns").exists()
    lock.release()
    assert [process.wait(120) for process in tasks] == [0, 0]
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    assert [what for what, _ in turns] == ["begins", "ends"] * 2
    assert [turns[0][1], turns[2][1]] == [turns[1][1], turns[3][1]]
    assert [site.state.parts["node-01"] for site in sites] == [PartState((0,))] * 2


# ---------------------------------------------------------------- what goes wrong


@linux
def test_a_killed_run_is_told_and_a_second_order_finishes_it_to_its_plan(site, monkeypatch):
    site.chosen = "test_struck"
    with monkeypatch.context() as patch:
        patch.setenv("FAULT", "kill_pytest.block")
        perform(site, runs=2)
    assert site.state.parts["node-01"] == PartState((-9,), "log-0.txt: the run was killed by SIGKILL")
    assert site.complete() == []
    (run,) = site.unfinished()
    kept = in_journal(run)
    assert kept.keys() == {"calm.1"}
    perform(site, runs=2)
    assert site.state.parts["node-01"] == PartState((0, 0))
    assert site.unfinished() == []
    assert [statuses(each) for each in site.complete()] == [dict.fromkeys(SLOTS, "ok")] * 2
    assert site.complete()[0] == run
    assert in_samples(run)["calm.1"] == kept["calm.1"]
    assert about(run)["resumed"]


@linux
def test_a_run_that_cannot_be_finished_here_is_replaced_and_the_reason_is_kept(site, monkeypatch):
    """It is of another commit, as its journal says; its plan and its cases stay where they are."""
    site.chosen = "test_struck"
    with monkeypatch.context() as patch:
        patch.setenv("FAULT", "kill_pytest.block")
        perform(site)
    (run,) = site.unfinished()
    journal = (run / JOURNAL).read_text(encoding="utf-8").split("\n", 1)
    head = json.loads(journal[0])
    head["head"]["git_commit"] = "0123abc"
    (run / JOURNAL).write_text(json.dumps(head) + "\n" + journal[1], encoding="utf-8")
    perform(site)
    part = site.state.parts["node-01"]
    assert part.exit_codes == (2, 0)
    why = f"--bench-resume=runs/node-01/{run.name}: started with git_commit '0123abc', which is now ''"
    assert part.reason == f"a new run replaces {run.name}, not to be finished: log-1.txt: exit code 2: {why}"
    assert len(site.complete()) == 1
    assert site.unfinished() == [run]


@linux
def test_a_task_that_is_told_to_end_has_its_runs_write_what_they_have(site):
    site.chosen = "test_struck"
    process = alone(site, STRIKE_TASK=str(int(signal.SIGTERM)))
    assert process.wait(120) == 0
    state = site.state
    assert state.parts["node-01"] == PartState((2,), "interrupted: this node was told to end")
    assert state.ended is not None
    (run,) = site.unfinished()
    assert statuses(run)["calm.1"] == "ok"
    perform(site)
    assert statuses(site.complete()[0]) == dict.fromkeys(SLOTS, "ok")


@linux
def test_runs_of_a_killed_task_end_too_and_the_next_task_waits_for_them(site):
    site.chosen = "test_struck"
    process = alone(site, STRIKE_TASK=str(int(signal.SIGKILL)))
    assert process.wait(120) == -signal.SIGKILL
    assert site.state.ended is None
    perform(site)  # at once: the run may be writing
    assert site.state.parts["node-01"] == PartState((0,))
    assert statuses(site.complete()[0]) == dict.fromkeys(SLOTS, "ok")
    assert site.unfinished() == []


@linux
def test_a_task_waits_for_the_runs_that_an_earlier_one_has_left_and_says_so(site):
    """As the runs do, this process has the lock of the node."""
    site.folder.mkdir()
    earlier = Lock(site.folder / "lock")
    assert earlier.acquire(lambda: False)
    process = alone(site)
    waits = "waits for the runs of an earlier task with this order to end"
    until(lambda: site.state and site.state.parts["node-01"].reason == waits, "the task waits")
    assert not (site.folder / "node-01").exists()
    earlier.release()
    assert process.wait(120) == 0
    assert site.state.parts["node-01"] == PartState((0,))


@linux
def test_a_task_that_is_told_to_end_while_it_waits_for_a_device_measures_nothing(gpus):
    gpus.node = Node("node-01", (Part("node-01", 0),))
    lock = Device(0, FIRST).lock()
    assert lock.acquire(lambda: False)
    process = alone(gpus)
    until(lambda: gpus.state and gpus.state.parts["node-01"].reason, "the task waits")
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    assert gpus.state.parts["node-01"] == PartState((), "interrupted: this node was told to end")
    assert not (gpus.folder / "node-01").exists()


@linux
def test_the_handlers_of_signals_are_those_of_before(site):
    before = signal.getsignal(signal.SIGTERM)
    perform(site, "--nosuch")
    assert signal.getsignal(signal.SIGTERM) is before


@linux
def test_where_no_file_may_grow_the_reason_is_that_of_the_run(site, monkeypatch):
    site.chosen = "test_struck"
    with monkeypatch.context() as patch:
        environ(patch, site.project, STRIKE="size:6000", TMPDIR=os.environ["TMPDIR"])
        perform(site)
    reason = site.state.parts["node-01"].reason
    assert reason == "log-0.txt: exit code 1: the journal could not be written: File too large"
    perform(site)
    assert statuses(site.complete()[0]) == dict.fromkeys(SLOTS, "ok")


@pytest.fixture
def small_disk(site):
    """The folder of the fleet on a disk of 200 kB; skips where none may be mounted."""
    results = site.project.path / "results"  # which the fault fills
    results.mkdir()
    with mounted(results, "size=200k"):
        (site.path / "fleet").rename(site.path / "unused")
        (site.path / "fleet").symlink_to(results, target_is_directory=True)
        site.shares()
        yield results


@linux
def test_a_full_disk_is_told_and_what_was_measured_before_is_kept(site, small_disk, monkeypatch):
    site.chosen = "test_struck"
    with monkeypatch.context() as patch:
        patch.setenv("FAULT", "fill.block")
        with pytest.raises(BenchError, match="the state of the node cannot be written: No space left on device"):
            perform(site)
    assert site.state.ended is None, "what was written last is whole"
    (small_disk / "junk").unlink()
    perform(site)
    assert statuses(site.complete()[0]) == dict.fromkeys(SLOTS, "ok")
    assert site.state.parts["node-01"] == PartState((0,))


@linux
def test_the_reason_names_a_full_disk_where_a_state_can_still_be_written(site, small_disk, monkeypatch):
    """A line of the state fits, and no results do."""
    site.chosen = "test_struck"
    written = []
    monkeypatch.setattr(task, "write_state", lambda _, state: written.append(state))
    monkeypatch.setenv("FAULT", "fill.block")
    perform(site)
    assert written[-1].parts["node-01"].reason.startswith("log-0.txt: exit code 1: the disk is full: ")


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(site, tmp_path):
    site.folder.write_text("a file")
    with pytest.raises(BenchError, match="node-01: cannot be made: "):
        perform(site)


def test_what_a_part_runs_is_a_normal_run(site, monkeypatch):
    commands = []

    def start(command, *, cwd, **_):
        commands.append((command, Path(cwd)))
        raise OSError(8, "not here")

    monkeypatch.setattr(task.subprocess, "Popen", start)
    perform(site, "--bench-seed=3")
    ((command, cwd),) = commands
    assert cwd == site.project.path
    place = command.index("pytest") + 1
    options = site.order("--bench-seed=3").arguments
    where = (f"--bench-output={site.folder}/node-01/runs", "--bench-machine=node-01")
    assert tuple(command[place:]) == (*child_process.MEASURING, *options, *where)
    assert site.state.parts["node-01"].reason == "OSError: [Errno 8] not here"
