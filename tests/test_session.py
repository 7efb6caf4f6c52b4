"""A run from plan to results, without pytest: targets, required backends, counts that add up, the journal."""

import json
import os

import pytest

from bench_core import session as sessions
from bench_core import table
from bench_core.errors import UsageError
from bench_core.model import Case, Measurement, Preset, Status, Work
from bench_core.probe import Device, Probe
from bench_core.session import Options, Roster, Session, matches

NUMPY = Probe("numpy", "2", (Device("cpu"),))
TORCH = Probe("torch", "2", (Device("cpu"), Device("cuda:0", "GPU A"), Device("cuda:1", "GPU B")))
NO_GPU = Probe("torch", "2", (Device("cpu"),))
NO_CUPY = Probe("cupy", reason_code="not_installed", reason="cupy is not installed")
PROBES = {"numpy": NUMPY, "torch": TORCH, "cupy": NO_CUPY}


def places(roster):
    return [(target.backend, target.device) for target in roster.targets]


def test_every_device_present_and_every_device_expected_is_a_target():
    roster = Roster(("numpy", "torch", "cupy"), PROBES)
    assert places(roster) == [
        *(("numpy", "cpu"), ("torch", "cpu"), ("torch", "cuda:0"), ("torch", "cuda:1")),
        ("cupy", "cuda"),
    ]
    assert roster.absent["cupy", "cuda"].reason == "cupy is not installed"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("torch:cpu", [("torch", "cpu")]),
        ("torch:cuda", [("torch", "cuda:0"), ("torch", "cuda:1")]),
        ("torch:cuda:1", [("torch", "cuda:1")]),
        ("torch:xpu", [("torch", "xpu")]),
    ],
)
def test_a_backend_may_be_narrowed_to_devices(asked, expected):
    assert places(Roster((asked,), PROBES)) == expected


def test_an_absent_device_type_is_a_target_with_its_reason():
    roster = Roster(("torch",), {"torch": NO_GPU})
    assert places(roster) == [("torch", "cpu"), ("torch", "cuda")]
    assert roster.absent["torch", "cuda"].code == "no_device"
    assert roster.absent["torch", "cuda"].reason == "torch finds no cuda device"


def test_required_backends_that_are_there_pass():
    Roster(("numpy",), PROBES).require(("numpy", "torch:cuda", "torch:cuda:1"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [("cupy", "cupy is not installed"), ("torch:xpu", "it finds cpu, cuda:0, cuda:1"), ("torch:cuda:7", "it finds")],
)
def test_a_required_backend_that_is_absent_is_named(entry, message):
    with pytest.raises(UsageError, match=f"--bench-require={entry}: not available: .*{message}"):
        Roster(("numpy",), PROBES).require((entry,))


def test_accelerators_are_named_once_each_and_the_cpu_is_none():
    assert Roster(("torch",), PROBES).accelerator_names() == ["GPU A", "GPU B"]


def test_an_address_matches_itself_its_type_and_nothing_more():
    assert matches("cuda:1", "cuda:1")
    assert matches("cuda:1", "cuda")
    assert matches("cuda:1", "")
    assert not matches("cuda:1", "cuda:11")
    assert not matches("cuda:1", "cpu")


class ScriptedWorkers:
    """Workers whose every answer the test has written."""

    def __init__(self, answers):
        self.answers, self.closed, self.environments = answers, 0, {}

    def perform(self, case, source, settings, timeout, tell):
        answer = self.answers[case.work.size]
        if isinstance(answer, BaseException):
            raise answer
        return Measurement(case, answer)

    def close(self):
        self.closed += 1


def case(size, backend="numpy", device="cpu"):
    return Case(Work("tests", "double", size, "float64"), backend, device)


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "probe_all", lambda options: PROBES)
    made = Session(Options(output=tmp_path / "results", machine="m", backends=("numpy", "cupy")))
    made.workers = ScriptedWorkers({"a": Status.OK, "b": Status.ERROR, "c": KeyboardInterrupt()})
    return made


def test_every_planned_case_has_a_status_and_they_add_up(session):
    planned = [case("a"), case("b"), case("never"), case("x", "cupy", "cuda")]
    session.open()
    for one in (planned[0], planned[1], planned[3]):
        session.perform(one, None)
    rows = session.close(planned)
    about = json.loads((session.folder / "run.json").read_text())
    assert about["statuses"] == {"ok": 1, "skipped": 1, "error": 1, "interrupted": 1}
    assert about["planned"] == sum(about["statuses"].values())
    assert {row.size for row in rows} >= {"b", "never", "x"}
    assert session.workers.closed


def test_an_interrupt_is_recorded_before_it_goes_on(session):
    session.open()
    with pytest.raises(KeyboardInterrupt):
        session.perform(case("c"), None)
    (line,) = table.read_journal(session.folder / "journal.jsonl")
    assert line.status is Status.INTERRUPTED


def test_a_measurement_is_on_disk_before_the_next_case_begins(session):
    session.open()
    session.perform(case("a"), None)
    assert [m.case for m in table.read_journal(session.folder / "journal.jsonl")] == [case("a")]


def test_a_case_that_stands_twice_in_the_plan_is_measured_once(session):
    first = session.perform(case("a"), None)
    session.workers.answers = {}
    assert session.perform(case("a"), None) is first


def test_without_a_folder_nothing_is_written(session, tmp_path):
    session.perform(case("a"), None)
    session.close([case("a")])
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(session, tmp_path):
    (tmp_path / "results").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot write there: Permission denied"):
        session.open()


def test_an_output_that_is_a_file_is_refused(session, tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UsageError, match="cannot write there"):
        session.open()


def test_two_runs_never_share_a_folder(session):
    assert session.run.run_id != session._new_run().run_id


def test_the_budget_follows_the_preset_and_the_warm_up_the_device(session):
    assert session.settings(case("a")).plan.budget == 1.0
    assert session.settings(case("a", device="cuda:0")).plan.warmup == 0.5
    assert Options(preset=Preset.FULL).seconds_per_case == 5.0
    assert Options(preset=Preset.FULL, budget=0.5).seconds_per_case == 0.5


def test_the_path_of_the_results_is_not_in_them(session):
    """A folder's name may hold a user's name."""
    assert "output" not in session.about(0)["options"]
