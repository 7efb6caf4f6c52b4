"""A run from plan to results, without pytest: targets, required backends, counts that add up, the journal."""

import errno
import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import pytest

from bench_core.errors import InternalError, UsageError
from bench_core.files import write_atomically
from bench_core.machine import cpu_limits, environment
from bench_core.machine.cpu_limits import CpuLimits, limits_of
from bench_core.plan.discovery import Device, Probe
from bench_core.records import (
    Case,
    Ceiling,
    Clock,
    Costs,
    Fact,
    Limit,
    Measurement,
    Part,
    Preset,
    Series,
    Status,
    Traffic,
    Traits,
    Work,
)
from bench_core.results import reader, writer
from bench_core.results.traits import TraitsOf
from bench_core.run import journal
from bench_core.run import session as sessions
from bench_core.run.session import ROUND_BUDGET, RunOptions, Session, read_cases, write_cases
from tests.support.probes import PROBES


class ScriptedWorkers:
    """Workers whose every answer the test has written."""

    def __init__(self, answers):
        self.answers, self.closed, self.environments = answers, 0, {}

    def dispatch(self, case, source, settings, timeout, on_phase):
        answer = self.answers[case.work.size]
        if isinstance(answer, BaseException):
            raise answer
        series = (Series("time", Clock.WALL, (1.0, 1.0)),) if answer is Status.OK else ()
        return Measurement(case, answer, series=series)

    def close(self):
        self.closed += 1


def case(size, backend="numpy", device="cpu"):
    return Case(Work("tests", "double", size, "float64"), backend, device)


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "probe_all", lambda entries, kept=None: PROBES)
    made = Session(RunOptions(output=tmp_path / "results", machine="m", backends=("numpy", "cupy")))
    made.workers = ScriptedWorkers({"a": Status.OK, "b": Status.ERROR, "c": KeyboardInterrupt()})
    return made


def test_every_planned_case_has_a_status_and_they_add_up(session):
    planned = [case("a"), case("b"), case("never"), case("x", "cupy", "cuda")]
    session.open(planned)
    for one in (planned[0], planned[1], planned[3]):
        session.measure(one, None)
    rows = session.close(planned)
    about = json.loads((session.folder / "run.json").read_text())
    assert about["statuses"] == {"ok": 1, "skipped": 1, "error": 1, "interrupted": 1}
    assert about["planned"] == sum(about["statuses"].values())
    assert {row.size for row in rows} == {"a", "b", "never", "x"}
    assert session.workers.closed


def test_the_cache_of_a_case_is_that_of_its_own_device(tmp_path, monkeypatch):
    """A case that is measured cold rotates through its device's cache, whatever the CPU beside it has."""
    gpu = Device("cuda:0", "GPU A", facts={"gpu.l2_cache": Fact(50 << 20, "cudaGetDeviceProperties")})
    probes = PROBES | {"torch": Probe("torch", "2", (Device("cpu"), gpu, Device("mps")))}
    monkeypatch.setattr(sessions, "probe_all", lambda entries, kept=None: probes)
    monkeypatch.setattr(sessions.host, "last_level_cache", lambda: 300 << 20)
    made = Session(RunOptions(output=tmp_path, backends=("torch:cpu", "torch:cuda", "torch:mps")))
    caches = {t.device: made.settings(case("a", "torch", t.device)).last_level_cache for t in made.targets.taking_part}
    assert caches == {"cpu": 300 << 20, "cuda:0": 50 << 20, "mps": 32 << 20}


def test_a_run_tells_the_traits_of_its_workloads_and_which_limits_they_show(session):
    class Streams(NamedTuple):
        name: str
        ceiling: Ceiling | None
        traits: Traits = Traits(headline="bandwidth", measures=Limit.BANDWIDTH)
        suite: str = "own"

    planned = [case("a")]
    session.open(planned)
    for workload in (Streams("copy", Ceiling.MEMORY), Streams("gather", None)):
        session.cases(workload)  # nothing is yielded before it is asked for
    session.close(planned)
    about = json.loads((session.folder / "run.json").read_text())
    assert about["ceilings"] == {"copy": "memory"}
    traits = {"order": 2, "headline": "bandwidth", "measures": "bandwidth", "traffic": "caches", "sold_as": ""}
    traits |= {"claims": [], "short_for": ""}
    assert about["traits"] == {"own": {"copy": traits, "gather": traits}}


def test_an_interrupt_is_recorded_before_it_goes_on(session):
    session.open([case("c")])
    with pytest.raises(KeyboardInterrupt):
        session.measure(case("c"), None)
    (line,) = journal.read(session.folder / "journal.jsonl").measurements
    assert line.status is Status.INTERRUPTED


def test_a_second_try_waits_and_the_calmer_record_counts_on_disk_too(session, monkeypatch):
    waits, tries = [], [0.5, 0.7, 0.2]

    def dispatch(case, source, settings, timeout, on_phase):
        waits.append((settings.wait, timeout))
        lost = tries.pop(0)
        series = Series("time", Clock.WALL, (lost,) * 3, flags=("never_quiet",), disturbance=lost)
        return Measurement(case, Status.OK, series=(series,))

    session.workers.dispatch = dispatch
    session.open([case("a")] * 30)
    first = session.measure(case("a"), None)
    assert session.puts_off(first)
    assert session.measure(case("a"), None, second=True).series == first.series
    assert session.measure(case("a"), None, second=True).series[0].disturbance == 0.2
    (line,) = journal.read(session.folder / "journal.jsonl").measurements
    assert line.series[0].disturbance == 0.2
    usual = session.options.seconds_until_timeout
    wait = session.budget(case("a"))
    assert waits == [(0.0, usual), (wait, usual + wait), (wait, usual + wait)]


def test_an_interrupt_of_a_second_try_keeps_the_first_record(session):
    session.open([case("a")])
    first = session.measure(case("a"), None)
    session.workers.answers["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        session.measure(case("a"), None, second=True)
    assert session.measurements == {case("a"): first}
    (line,) = journal.read(session.folder / "journal.jsonl").measurements
    assert line.status is Status.OK


def test_a_measurement_is_on_disk_before_the_next_case_begins(session):
    session.open([case("a")])
    session.measure(case("a"), None)
    assert [m.case for m in journal.read(session.folder / "journal.jsonl").measurements] == [case("a")]


def test_a_case_that_stands_twice_in_the_plan_is_measured_once(session):
    first = session.measure(case("a"), None)
    session.workers.answers = {}
    assert session.measure(case("a"), None) is first


def test_a_case_that_is_measured_again_has_one_record_the_last(session):
    session.open([case("b")])
    assert session.measure(case("b"), None).status is Status.ERROR
    session.workers.answers["b"] = Status.OK
    assert session.measure(case("b"), None, again=True).status is Status.OK
    assert [row.status for row in session.close([case("b")]) if row.metric == "time"] == ["ok"]


def test_the_workloads_of_the_preset_headline_are_known_even_if_one_cannot_say_what_it_would_measure(session):
    class One(NamedTuple):
        name: str
        fails: bool = False
        suite: str = "own"
        traits: Traits = Traits()
        ceiling: Ceiling | None = None
        across_ranks: bool = False

        def implementations(self, target, preset):
            return ()

        def works(self, preset, machine):
            if self.fails:
                raise KeyError(preset)
            yield Work(self.suite, self.name, "a", "float64")

        def selects(self, work, implementation):
            return True

        def threads(self, work, preset):
            return (None,)

        def is_headline(self, work, implementation, machine):
            return self.name == "important"

    for workload in (One("important"), One("other"), One("narrow", fails=True)):
        session.cases(workload)
    assert session.headlines() == {("own", "important")}


def test_a_case_is_given_a_budget_for_each_clock_of_its_device(session):
    cpu, gpu = session.budget(case("a")), session.budget(case("a", "cupy", "cuda:0"))
    assert cpu == pytest.approx(0.2 + 1.1)
    assert gpu == pytest.approx(2 * (0.5 + 1.1))


def planned(test):
    """Return the planned case of a test, whose work is not known."""
    return Case(Work("own", test, "unknown", "unknown"), "numpy", "cpu")


def test_a_case_takes_the_place_of_the_planned_one_whose_work_was_not_known(session):
    plan = [planned("f"), planned("g"), planned("h"), case("b")]
    session.open(plan)
    session.measure(case("a"), None, planned_as=plan[0])
    assert session.note_unmeasured(plan[1], Status.ERROR, "test_failed", "no inputs")
    assert not session.note_unmeasured(plan[0], Status.ERROR, "test_failed", "it has a record")
    rows = session.close(plan)
    found = {(row.size, row.status, row.reason_code) for row in rows}
    assert {(size, status) for size, status, _ in found} == {
        ("a", "ok"),
        ("unknown", "error"),
        ("unknown", "interrupted"),
        ("b", "interrupted"),
    }
    assert ("unknown", "error", "test_failed") in found


def test_two_planned_cases_never_share_a_measurement(session):
    session.measure(case("a"), None, planned_as=planned("f"))
    with pytest.raises(UsageError, match=r"double a float64 was measured by another test: .* name="):
        session.measure(case("a"), None, planned_as=planned("g"))
    session.note_unmeasured(planned("g"), Status.ERROR, "test_failed", "same work")
    assert {row.status for row in session.close([planned("f"), planned("g")])} == {"ok", "error"}


def test_a_test_that_is_tried_again_has_one_record(session):
    session.note_unmeasured(planned("f"), Status.ERROR, "test_failed", "first try")
    session.measure(case("b"), None, planned_as=planned("f"))
    session.measure(case("a"), None, planned_as=planned("f"))
    assert [(row.size, row.status) for row in session.close([planned("f")])] == [("a", "ok")]


def test_a_resumed_run_knows_which_planned_cases_were_measured(session):
    plan = [planned("f"), planned("g"), planned("h")]
    session.open(plan)
    session.note_unmeasured(plan[0], Status.ERROR, "test_failed", "first try")
    session.measure(case("a"), None, planned_as=plan[0])
    session._journal.close()
    again = resumed(session.folder, {"b": Status.OK})
    assert again.planned == frozenset(plan)
    again.open([])
    again.measure(case("a"), None, planned_as=plan[0])  # it has no answer in the script: it must not be asked for
    again.measure(case("b"), None, planned_as=plan[1])
    again.close(plan)
    about = json.loads((session.folder / "run.json").read_text())
    assert about["statuses"] == {"ok": 2, "interrupted": 1}
    once_more = resumed(session.folder, {"c": Status.OK})
    once_more.open([])
    once_more.measure(case("c"), None, planned_as=plan[2])  # the others are not even collected
    once_more.close([plan[2]])
    assert json.loads((session.folder / "run.json").read_text())["statuses"] == {"ok": 3}


def test_without_a_folder_nothing_is_written(session, tmp_path):
    session.measure(case("a"), None)
    session.close([case("a")])
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(session, tmp_path):
    (tmp_path / "results").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot write there: Permission denied"):
        session.open([])


def test_an_output_that_is_a_file_is_refused(session, tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UsageError, match="cannot write there"):
        session.open([])


def test_two_runs_never_share_a_folder(session):
    assert session.run.run_id != session._new_run().run_id


def test_the_budget_follows_the_preset_and_the_warm_up_the_device(session):
    assert session.durations(case("a")).budget == 1.1
    assert session.durations(case("a", device="cuda:0")).warmup == 0.5
    assert RunOptions(preset=Preset.FULL).seconds_per_case == 5.0
    assert RunOptions(preset=Preset.FULL, budget=0.5).seconds_per_case == 0.5


@pytest.mark.parametrize(
    ("budget", "device", "least", "warmup", "cap"),
    [
        (0.02, "cpu", 0.02, 0.04, 0.04),
        (0.15, "cpu", 0.15, 0.2, 0.3),
        (0.15, "cuda:0", 0.15, 0.3, 0.3),
        (1.0, "cpu", 0.2, 0.2, 0.5),
        (1.0, "cuda:0", 0.2, 0.5, 1.0),
        (5.0, "cuda:0", 0.2, 0.5, 2.5),
    ],
)
def test_a_short_budget_shortens_the_warm_up_and_the_least_time_as_well(session, budget, device, least, warmup, cap):
    session.options = replace(session.options, preset=Preset.STANDARD, budget=budget)
    found = session.durations(case("a", device=device))
    assert (found.budget, found.least, found.warmup, found.warmup_cap) == (budget, least, warmup, cap)


@pytest.mark.parametrize(("preset", "longest"), [("headline", 2.0), ("standard", math.inf)])
def test_headline_begins_no_call_of_many_seconds_on_a_cpu(session, preset, longest):
    session.options = replace(session.options, preset=Preset(preset))
    assert session.settings(case("a")).longest_call == longest


def test_what_workers_have_shared_is_removed_when_a_session_ends(session):
    folder = Path(session.settings(case("a")).shared)
    assert folder.is_dir()
    session.end()
    assert not folder.exists()


def spent(size, **parts):
    """Return the measurement of a case that spent seconds in parts."""
    return {case(size): Measurement(case(size), Status.OK, spent={Part(name): s for name, s in parts.items()})}


@pytest.mark.parametrize(
    ("preset", "share", "least"), [("quick", 0.6, 1.1), ("quick", 0.7, 0.2), ("standard", 0.6, 0.2)]
)
def test_in_a_quick_run_no_series_stops_early_while_all_else_takes_a_third_of_the_time(session, preset, share, least):
    session.options = replace(session.options, preset=Preset(preset))
    session._begin = perf_counter() - 1000.0
    session.measurements = spent("a", timed=1000.0 * share)
    assert session.durations(case("b")).least == least


def test_the_account_has_what_the_run_spent_before_and_beside_its_cases(session):
    session.open([case("a")])
    session._begin, session._starting = perf_counter() - 10.0, 3.0
    session.measurements = spent("a", starting=1.0, timed=2.0)
    account = session.about()["time"]
    other = account["parts_s"].pop("other")
    assert account["parts_s"] == {"starting": 4.0, "timed": 2.0}
    assert account["total_s"] == pytest.approx(6.0 + other, abs=0.01)
    assert other >= 4.0
    assert account["cases_s"] == {f"tests double {case('a').label}": {"starting": 1.0, "timed": 2.0}}


def test_the_account_of_a_resumed_run_has_what_the_cases_of_before_have_spent(session):
    session.open([case("a"), case("b")])
    session._keep(next(iter(spent("a", timed=1000.0, checks=500.0).values())))
    session._close_journal()
    again = resumed(session.folder, {"b": Status.OK})
    again.measure(case("b"), None)
    assert 1500.0 < again.account.total < 1600.0
    assert again.account.measuring_share == pytest.approx(1000.0 / again.account.total)


@pytest.mark.parametrize(
    ("preset", "given", "budget"),
    [(Preset.QUICK, None, ROUND_BUDGET), (Preset.SMOKE, None, 0.01), (Preset.QUICK, 0.4, 0.4)],
)
def test_a_round_of_a_series_with_a_precision_is_short_unless_a_budget_is_given(tmp_path, preset, given, budget):
    """Its time limit is not: a case of long calls takes as long as in any run."""
    usual = RunOptions(preset, budget=given)
    of_round = replace(usual, probes=tmp_path)
    assert (of_round.seconds_per_case, of_round.seconds_until_timeout) == (budget, usual.seconds_until_timeout)


def test_in_a_round_a_gpu_warms_up_as_long_as_in_any_run_and_energy_is_measured_in_the_first_alone(session, tmp_path):
    write_cases(tmp_path / "cases", [case("a")])
    session.options = replace(session.options, preset=Preset.STANDARD)
    usual = [session.durations(case("a", device=device)) for device in ("cpu", "cuda:0")]
    session.options = replace(session.options, probes=tmp_path)
    first = [session.durations(case("a", device=device)) for device in ("cpu", "cuda:0")]
    assert (first[1].warmup, first[1].warmup_cap) == (usual[1].warmup, usual[1].warmup_cap)
    assert first[0].warmup < usual[0].warmup
    assert first[0].energy == usual[0].energy > 0
    session.options = replace(session.options, cases=tmp_path / "cases")
    assert session.durations(case("a")).energy == 0


def test_a_disturbed_case_has_no_second_try_in_a_later_round(session, tmp_path):
    session.open([case("a")] * 60)
    series = Series("time", Clock.WALL, (0.5,) * 3, flags=("never_quiet",), disturbance=0.5)
    disturbed = Measurement(case("a"), Status.OK, series=(series,))
    assert session.puts_off(disturbed)
    session.options = replace(session.options, cases=tmp_path / "cases")
    assert not session.puts_off(disturbed)


def test_the_cases_of_a_round_are_read_as_they_were_written_and_any_other_file_is_refused(tmp_path):
    path = tmp_path / "cases"
    several = [case("a"), replace(case("b", "torch", "cuda:0"), implementation="compile", threads=1)]
    write_cases(path, several)
    assert read_cases(path) == frozenset(several)
    path.write_text('[{"work": 1}]')
    with pytest.raises(UsageError, match=f"--bench-cases={re.escape(str(path))}: not a list of cases: "):
        read_cases(path)


def test_the_path_of_the_results_is_not_in_them(session):
    """A folder's name may hold a user's name."""
    assert session.about()["options"].keys().isdisjoint({"output", "resume", "probes", "cases"})


@pytest.fixture
def killed(session):
    """A run folder whose run was killed in its second case, with half a line of it in the journal."""
    session.open([case("a"), case("b"), case("c")])
    session.workers.environments["e_1"] = {"numpy": Fact("2", "test")}
    session.measure(case("a"), None)
    path = session.folder / "journal.jsonl"
    session._journal.close()
    path.write_text(path.read_text() + '{"case":{"work":{"sui')
    return session.folder


def resumed(folder, answers):
    again = Session(RunOptions.resuming(folder))
    again.workers = ScriptedWorkers(answers)
    return again


def test_a_killed_run_is_finished_from_its_journal_and_measures_only_what_is_missing(killed):
    again = resumed(killed, {"b": Status.OK, "c": Status.OK})
    assert again.planned == {case("a"), case("b"), case("c")}
    again.open([])
    planned = [case("a"), case("b"), case("c")]
    for one in planned:  # "a" has no answer in the script: it must not be asked for
        again.measure(one, None)
    again.close(planned)
    about = json.loads((killed / "run.json").read_text())
    assert about["resumed"] is True
    assert about["run"]["run_id"] == killed.name
    assert about["statuses"] == {"ok": 3}
    assert "e_1" in about["environment"]["workers"]
    assert {row.flags for row in reader.read_rows(killed / "results.csv") if row.size == "b"} == {"resumed;single_run"}
    assert not (killed / "journal.jsonl").exists()


def test_a_resumed_run_has_the_traits_and_ceilings_of_all_its_workloads(session):
    """Those of a workload whose file is not collected again are in the journal's head."""
    traits = TraitsOf({("memory", "copy"): Traits(measures=Limit.BANDWIDTH)})
    session.traits, session.ceilings = traits, {"copy": Ceiling.MEMORY}
    session.open([case("a")])
    session._close_journal()
    again = resumed(session.folder, {"a": Status.OK})
    assert (again.traits, again.ceilings) == (traits, {"copy": Ceiling.MEMORY})


def test_a_run_that_is_interrupted_keeps_its_journal_for_the_next_try(killed):
    again = resumed(killed, {"b": Status.OK})
    again.open([])
    again.measure(case("b"), None)
    again.close([case("a"), case("b"), case("c")])
    once_more = resumed(killed, {"c": Status.OK})
    assert set(once_more.measurements) == {case("a"), case("b")}


def test_a_finished_run_has_nothing_to_resume(session):
    session.open([case("a")])
    session.measure(case("a"), None)
    session.close([case("a")])
    with pytest.raises(UsageError, match="nothing to resume: the run is finished"):
        RunOptions.resuming(session.folder)
    with pytest.raises(UsageError, match=r"nothing to resume: no journal\.jsonl there"):
        RunOptions.resuming(session.folder / ("x" * 300))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no journal\.jsonl there"):
        RunOptions.resuming(tmp_path)


def test_a_run_is_not_finished_on_another_machine_or_commit(killed):
    text = (killed / "journal.jsonl").read_text()
    (killed / "journal.jsonl").write_text(text.replace('"machine":"m"', '"machine":"elsewhere"', 1))
    with pytest.raises(UsageError, match="started with machine 'elsewhere', which is now 'm'"):
        resumed(killed, {})


def test_a_run_is_not_finished_on_another_computer_that_has_the_same_label(killed):
    """Two machines of one model and number of cores, told apart by what stays the same on each."""
    path = killed / "journal.jsonl"
    text = path.read_text()
    head = json.loads(text.splitlines()[0])
    assert {"cpu.cores", "memory.total"} <= head["computer"].keys()
    there = head["computer"]["memory.total"] * 4
    path.write_text(text.replace(json.dumps(head["computer"]["memory.total"]), json.dumps(there), 1))
    with pytest.raises(UsageError, match=r"started on another computer: memory\.total: \S+ .B against \S+ .B"):
        resumed(killed, {})


def test_a_run_is_finished_on_the_same_computer_whatever_label_another_version_gives_it(session):
    """The facts in the journal tell computers apart; the cores and the devices that may be used must be the same."""
    begun = Session(replace(session.options, machine=""))
    begun.open([case("a")])
    begun._journal.close()
    path = begun.folder / "journal.jsonl"
    text = path.read_text()
    cores = environment.labelled_cores(begun.run.machine)
    assert cores == environment.known(begun.host_facts, "cpu.cores_usable")

    def written(hardware, **more):
        head = json.loads(text)
        head["hardware"] = head["head"]["machine"] = hardware
        path.write_text(json.dumps(head | {"computer": head["computer"] | more}) + "\n")
        return resumed(begun.folder, {}).run.machine

    assert written(f"other-label-{cores}c") == f"other-label-{cores}c", "the run keeps its label"
    with pytest.raises(UsageError, match=rf"other hardware may be used now: cpu\.cores_usable: 4096 against {cores}$"):
        written("other-label-4096c")
    with pytest.raises(UsageError, match=r"other hardware .*: device_name of cuda:7: GPU C against unknown$"):
        written(f"other-label-{cores}c", **{"device_name of cuda:7": "GPU C"})
    with pytest.raises(UsageError, match=r"other hardware .*: device_name of cuda:1: unknown against GPU B$"):
        written(f"other-label-{cores}c", **{"device_name of cuda:1": None})
    with pytest.raises(UsageError, match=r"another computer: cpu\.cores: 4096 against"):
        written(f"other-label-{cores}c", **{"cpu.cores": 4096})


def test_a_journal_of_an_earlier_version_is_judged_by_what_its_workers_saw(killed, session):
    """It has no facts of the computer, and perhaps a label that is another one today."""
    path = killed / "journal.jsonl"
    head, environment_, *rest = path.read_text().splitlines()
    plain, seen = json.loads(head), json.loads(environment_)
    del plain["computer"]
    plain["hardware"] = min(environment.former_labels(session.host_facts, session.targets.accelerator_names()))

    def write(facts):
        path.write_text("\n".join([json.dumps(plain), json.dumps({**seen, "facts": facts}), *rest]))

    write({"cpu.model": {"value": "arm", "source": "platform.processor", "reason": ""}})
    assert resumed(killed, {}).planned is not None
    write({"cpu.cores": {"value": 4096, "source": "psutil", "reason": ""}})
    with pytest.raises(UsageError, match=r"started on another computer: cpu\.cores: 4096 against"):
        resumed(killed, {})


def test_a_full_disk_loses_nothing_that_is_in_memory(session, monkeypatch):
    """The journal fails from the second record on, the folder at the end as well: another place is found."""
    planned = [case("a"), case("b")]
    session.open(planned)
    session.measure(case("a"), None)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(session._journal, "append", full)
    session.measure(case("b"), None)
    lost = session.folder
    write = write_atomically
    for module in (sessions, writer):
        monkeypatch.setattr(
            module, "write_atomically", lambda path, text: full() if lost in path.parents else write(path, text)
        )
    rows = session.close(planned)
    assert {row.size for row in rows} == {"a", "b"}
    assert session.folder != lost
    assert (session.folder / "run.json").is_file()
    assert [trouble.count("No space left on device") for trouble in session.write_errors] == [1, 1]


def test_an_interrupted_run_whose_disk_is_full_can_be_finished_from_where_its_results_went(session, monkeypatch):
    """The journal goes along, whole, though the first one failed half way."""
    planned = [case("a"), case("b"), case("never")]
    session.open(planned)
    session.measure(case("a"), None)
    write, lost = write_atomically, session.folder

    def full(path, text):
        if lost in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(journal.Journal, "append", lambda *_: full(lost / "x", ""))
    for module in (sessions, writer):
        monkeypatch.setattr(module, "write_atomically", full)
    session.measure(case("b"), None)
    session.close(planned)
    again = resumed(session.folder, {"never": Status.OK})
    assert session.folder != lost
    assert set(again.measurements) == {case("a"), case("b")}


def test_a_journal_that_could_not_be_written_is_made_whole_as_soon_as_it_can(session, monkeypatch):
    session.open([case("a"), case("b"), case("x", "cupy", "cuda")])
    with monkeypatch.context() as patch:
        patch.setattr(session._journal, "append", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        session.measure(case("a"), None)
    session.measure(case("b"), None)
    session.measure(case("x", "cupy", "cuda"), None)
    kept = journal.read(session.folder / "journal.jsonl").measurements
    assert [m.case for m in kept] == [case("a"), case("b"), case("x", "cupy", "cuda")]
    assert session.write_errors == ["the journal could not be written: full"]


def test_counts_that_do_not_add_up_are_an_internal_error_once_the_results_are_written(session, monkeypatch):
    session.open([case("a"), case("b")])
    for size in "ab":
        session.measure(case(size), None)
    rows_of_run = sessions.rows_of_run
    monkeypatch.setattr(sessions, "rows_of_run", lambda *known: [r for r in rows_of_run(*known) if r.size != "b"])
    with pytest.raises(InternalError, match=r"2 planned, 2 kept, 1 without a row of their status: numpy-cpu-float64-b"):
        session.close([case("a"), case("b")])
    assert (session.folder / "run.json").is_file()


def test_a_folder_that_is_removed_during_the_run_is_made_again(session):
    session.open([case("a")])
    session.measure(case("a"), None)
    shutil.rmtree(session.folder)
    session.close([case("a")])
    assert (session.folder / "run.json").is_file()


def test_a_rate_above_the_datasheet_of_a_gpu_is_invalid(session):
    impossible = Measurement(
        case("a", device="cuda:0"), Status.OK, device_name="NVIDIA H200", costs=Costs(flops=1e18),
        series=(Series("time", Clock.WALL, (1.0,)),),
    )  # fmt: skip
    session.workers.dispatch = lambda *_: impossible
    done = session.measure(impossible.case, None)
    assert (done.status, done.reason_code) == (Status.INVALID, "implausible")


def test_a_rate_above_the_limits_of_the_cpu_is_invalid(session):
    """A no-op on two cores showed 1.71 TFLOP/s, where 1.2 GFLOP/s were true."""
    work, series = Costs(flops=1.71e9), (Series("time", Clock.WALL, (1e-3, 1e-3)),)
    session.cpu_limits = limits_of({"sse2", "avx2", "avx512f"}, cores=2)
    session.workers.dispatch = lambda case, *_: Measurement(case, Status.OK, costs=work, series=series)
    done = session.measure(case("a"), None)
    assert (done.status, done.reason_code) == (Status.INVALID, "implausible")
    assert done.reason.startswith(
        "1.71 TFLOP/s by the wall clock is more than this CPU can do (624 GFLOP/s: 2 cores x "
    )


def test_the_limits_of_a_session_are_those_of_this_computer(session):
    assert session.cpu_limits == cpu_limits.read()


# ---------------------------------------------------------------- streams that the others contradict


SPEEDS = {"copy": 30e9, "scale": 28e9, "add": 25e9, "triad": 3e12}  # B/s


def stream(workload):
    return Case(Work("memory", workload, "256MiB", "float64"), "numpy", "cpu")


@pytest.fixture
def streams(session):
    """A session whose traits say what streams are, and whose workers measure SPEEDS."""

    def dispatch(case, *_):
        seconds = 1e9 / SPEEDS[case.work.workload]
        return Measurement(
            case, Status.OK, costs=Costs(bytes=1e9), series=(Series("time", Clock.WALL, (seconds,) * 3),)
        )

    session.cpu_limits = CpuLimits()
    session.workers.dispatch = dispatch
    traits = Traits(headline="bandwidth", measures=Limit.BANDWIDTH, traffic=Traffic.MEMORY)
    session.traits = TraitsOf({("memory", name): traits for name in SPEEDS})
    return session


def test_a_stream_that_the_others_contradict_is_invalid_at_the_end_and_the_sums_hold(streams):
    planned = [stream(name) for name in ("triad", "copy", "scale", "add")]
    streams.open(planned)
    assert {streams.measure(one, None).status for one in planned} == {Status.OK}
    rows = streams.close(planned)
    assert {(row.workload, row.status) for row in rows if row.status != "ok"} == {("triad", "invalid")}
    (refused,) = streams.refused
    assert (refused.case, refused.reason_code) == (planned[0], "implausible")
    about = json.loads((streams.folder / "run.json").read_text())
    assert (about["planned"], about["statuses"]) == (4, {"ok": 3, "invalid": 1})
    samples = (streams.folder / "samples.csv").read_text()
    assert stream("copy").work.case_id in samples
    assert stream("triad").work.case_id not in samples
    shares = {row.workload: row.value for row in rows if row.metric == "fraction_of_measured_peak"}
    assert shares["copy"] == pytest.approx(1.0)  # the refused stream is no ceiling


def test_the_journal_keeps_what_was_measured(streams):
    planned = [*map(stream, SPEEDS), case("never")]
    streams.open(planned)
    for one in planned[:-1]:
        streams.measure(one, None)
    streams.close(planned)  # interrupted, so that the journal stays
    kept = {m.case: m for m in journal.read(streams.folder / "journal.jsonl").measurements}
    assert (kept[stream("triad")].status, len(kept[stream("triad")].series)) == (Status.OK, 1)
    assert kept[case("never")].status is Status.INTERRUPTED


def test_a_resumed_run_compares_its_streams_with_those_measured_before(streams, tmp_path):
    planned = [*map(stream, SPEEDS)]
    streams.open(planned)
    for one in planned[:2]:
        streams.measure(one, None)
    assert not [row for row in streams.close(planned) if row.status == "invalid"]
    again = Session(RunOptions(output=tmp_path, machine="m", resume=streams.folder, backends=("numpy", "cupy")))
    again.workers, again.cpu_limits = streams.workers, CpuLimits()
    again.open(planned)
    for one in planned:
        again.measure(one, None)
    rows = again.close(planned)
    assert {(row.workload, row.status) for row in rows if row.status != "ok"} == {("triad", "invalid")}
