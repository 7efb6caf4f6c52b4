"""The engine of this computer: it counts the GPUs, starts tasks in processes of their own, and tells how they ended."""

import os
import platform
import signal
import tempfile

import psutil
import pytest

from bench_core.fleet.engine import Engine, EngineError, Job, JobState, Place
from bench_core.fleet.local import Local
from bench_core.fleet.plan import Node, Part, PartState
from tests.faulty.runs import statuses
from tests.support.node_orders import Site, driver, environ, until

PLACE = Place("this computer")


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = Site(tmp_path)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    environ(monkeypatch, site.project, TMPDIR=str(folder))
    return site


@pytest.fixture
def engine(site):
    engine = Local(site.fleet.private, {})
    yield engine
    engine.close()


def ended(job):
    until(lambda: job.state() is JobState.ENDED, "the task ends")
    return job


def test_it_is_an_engine_and_its_tasks_are_jobs(engine, site):
    known: Engine = engine
    job: Job = known.start(site.order(), PLACE)
    assert known.name == "local"
    assert known.poll_s > 0
    assert job.state() is JobState.RUNNING
    assert job.why == ""


@pytest.mark.parametrize(("visible", "gpus"), [(None, 2), ("1", 1), ("", 0)])
def test_the_only_node_is_this_computer_with_the_gpus_that_this_process_may_use(
    engine, pynvml, monkeypatch, visible, gpus
):
    """It has the name of its host, so that another computer does not finish its fleet."""
    monkeypatch.setattr(platform, "node", lambda: "host-a")
    pynvml.devices[:] = pynvml.connected(2, "PCIe")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert engine.places().usable == (Place("host-a", gpus),)


def test_without_a_driver_it_has_no_gpu(engine, pynvml, monkeypatch):
    monkeypatch.setattr(pynvml, "driver", None)
    monkeypatch.setattr(platform, "node", lambda: "")
    assert engine.places().usable == (Place("this computer", 0),), "nor a name"


def test_where_it_is_unclear_which_gpus_are_meant_it_has_no_places(engine, pynvml, monkeypatch):
    pynvml.devices[:] = [pynvml.h100(), pynvml.h100("GPU-aaaaaaaa", Name="NVIDIA L4")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(EngineError, match="set CUDA_DEVICE_ORDER=PCI_BUS_ID too"):
        engine.places()


def test_a_setting_is_refused(site):
    with pytest.raises(EngineError, match="no setting of the engine local 'partition'"):
        Local(site.fleet.private, {"partition": "gpu"})


def test_a_task_measures_and_ends_by_itself(engine, site):
    job = ended(engine.start(site.order(), PLACE))
    assert job.why == ""
    assert site.state.parts == {"node-01": PartState((0,))}
    assert statuses(site.complete()[0]) == {"good": "ok"}


def test_two_gpus_of_this_computer_are_two_parts(engine, site, tmp_path, monkeypatch):
    environ(monkeypatch, site.project, driver(tmp_path / "driver", "connected(2, 'PCIe')"), TMPDIR=os.environ["TMPDIR"])
    site.node = Node("node-01", (Part("node-01-gpu-0", 0), Part("node-01-gpu-1", 1)))
    assert ended(engine.start(site.order(), PLACE)).why == ""
    assert [len(site.complete(part.label)) for part in site.node.parts] == [1, 1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signals on Windows")
def test_a_task_that_was_killed_is_told_by_its_signal(engine, site, monkeypatch):
    site.chosen = "test_struck"
    monkeypatch.setenv("STRIKE_TASK", str(int(signal.SIGKILL)))
    job = ended(engine.start(site.order(), PLACE))
    assert job.why == "the task was killed by SIGKILL"
    assert job.why == "the task was killed by SIGKILL", "also when asked again"


@pytest.mark.skipif(os.name == "nt", reason="a task of Windows ends without a word")
def test_a_task_that_is_cancelled_says_so_and_ends_by_itself(engine, site, tmp_path, monkeypatch):
    """It is cancelled when its run has begun, which then waits for another that never comes."""
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    monkeypatch.setenv("MEETING", "2")
    job = engine.start(site.order(), PLACE)
    until(lambda: list((tmp_path / "meet").iterdir()), "the run has begun")
    job.cancel()
    assert ended(job).why == ""
    assert site.state.parts["node-01"].reason == "interrupted: this node was told to end"
    job.cancel()  # raises nothing


def test_the_last_words_of_a_task_that_fails_are_the_reason(engine, site):
    site.folder.mkdir()
    (site.folder / "state.json").mkdir()
    job = ended(engine.start(site.order(), PLACE))
    assert job.why.startswith(f"{site.folder}: the state of the node cannot be written: ")


def test_a_task_that_cannot_be_started_is_an_error(engine, site):
    site.folder.write_text("a file")
    with pytest.raises(EngineError, match="no task can be started: "):
        engine.start(site.order(), PLACE)


def test_closing_ends_what_still_runs(site, tmp_path, monkeypatch):
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    monkeypatch.setenv("MEETING", "2")
    engine = Local(site.fleet.private, {})
    job = engine.start(site.order(), PLACE)
    (run,) = until(lambda: list((tmp_path / "meet").iterdir()), "the run has begun")
    engine.close()
    assert job.state() is JobState.ENDED
    until(lambda: not _lives(int(run.name)), "its run has ended too")


def _lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
