"""No kernel is `ok` that was not timed doing its work: real runs of planted cheats (tests/faulty/cheats.py)."""

import pytest

from bench_core.machine import cpu_limits
from bench_core.results.reader import read_rows
from tests.faulty.outcomes import note
from tests.faulty.runs import Project
from tests.standin import install as standin
from tests.support import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("installed")]

BACKENDS = ("numpy", "cupy", "torch")
WRONG, LATE = "wrong_second_look", "not_synchronised"
# workload: what each cheat is found out by. Where two are named, it is a race which of them comes first.
CAUGHT = {
    "squares": {
        **{cheat: {WRONG} for cheat in ("previous", "cached_1", "nothing", "half", "alternate")},
        **{cheat: {WRONG, LATE} for cheat in ("lazy", "thread")},  # whichever shows first
    },
    "short": {"cached_50": {WRONG}},
    "mlp_train": {"half_batch": {"wrong_training"}, "second_step": {"wrong_training"}},
    "cnn_train": {"averages": {"wrong_training"}, "second_step": {"wrong_training"}},
    "gpt_train": {"no_decay": {"wrong_training"}, "gradient": {"wrong_training"}, "second_step": {"wrong_training"}},
    "gpt_decode": {"half_steps": {"wrong_answer"}},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The rows of one run over all backends, by backend, workload and cheat."""
    pytest.importorskip("torch")
    project = Project(tmp_path_factory.mktemp("cheats"), standin.environ(), source="cheats.py")
    done = project.run(backends=",".join(BACKENDS), PYTHONPATH=str(ROOT))
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.said
    rows = read_rows(project.folder / "results.csv")
    return {(row.backend, row.workload, row.size): row for row in rows if row.reason_code != "no_device"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("workload", "cheat"), [(w, cheat) for w, cheats in CAUGHT.items() for cheat in cheats])
def test_a_cheat_is_invalid_and_has_no_time(found, backend, workload, cheat):
    row = found[backend, workload, cheat]
    if row.reason_code == "one_thread":
        pytest.skip(row.reason)
    assert (row.status, row.value) == ("invalid", None), row
    assert row.reason_code in CAUGHT[workload][cheat], row.reason
    note(f"cheat: {workload}, {cheat}", backend, {cheat: row.status}, 1, f"{row.reason_code}: {row.reason}")


@pytest.mark.skipif(bool(cpu_limits.read().unknown), reason="the limits of this CPU are unknown")
@pytest.mark.parametrize("backend", ["numpy", "torch"])  # the stand-in's GPU has no datasheet
def test_work_that_is_left_out_where_no_answer_can_show_it_is_implausible(found, backend):
    row, honest = (found[backend, "repeated", size] for size in ("once", "honest"))
    assert (row.device, row.status, row.reason_code, row.value) == ("cpu", "invalid", "implausible", None), row
    assert "is more than this CPU can do (" in row.reason
    assert (honest.status, honest.reason) == ("ok", "")
    note("cheat: repeated, once", backend, {"once": row.status}, 1, f"{row.reason_code}: {row.reason}")


@pytest.mark.parametrize("backend", ["numpy", "torch"])  # the stand-in's time is not that of its kernels
def test_calls_that_get_slower_are_flagged(tmp_path, backend):
    """In one of three runs: other programs may hide a trend, and `context_switches` says so."""
    pytest.importorskip("torch")
    for attempt in ("first", "second", "third"):
        (tmp_path / attempt).mkdir()
        project = Project(tmp_path / attempt, source="cheats.py")
        done = project.run("-k", "short and slowing", "--bench-budget=1", backends=backend, PYTHONPATH=str(ROOT))
        rows = [r for r in read_rows(project.folder / "results.csv") if r.device == "cpu" and r.metric == "time"]
        assert [row.status for row in rows] == ["ok"], done.said
        (row,) = rows
        if "trend" in row.flags.split(";"):
            break
    assert "trend" in row.flags.split(";")
    note("cheat: short, slowing", backend, {"slowing": row.status}, 1, f"flags: {row.flags}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("workload", CAUGHT)
def test_the_same_work_done_honestly_is_ok(found, backend, workload):
    row = found[backend, workload, "honest"]
    assert (row.status, row.reason) == ("ok", "")
    assert row.value > 0
