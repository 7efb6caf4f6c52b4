"""Inputs and references are made once by the processes of a run, and are the same as if each had made its own."""

import ctypes
import errno
import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench_core.backends.numpy import NumpyBackend
from bench_core.records import Case, Status
from bench_core.timing import shared
from bench_core.timing.case import Settings, run_case
from bench_core.timing.sampling import Durations
from bench_core.timing.shared import Shared
from tests.support.workloads import Double

SETTINGS = Settings(Durations(), seed=1, last_level_cache=1 << 20, check_only=True)


@pytest.fixture(autouse=True)
def every_value_is_worth_it(monkeypatch):
    monkeypatch.setattr(shared, "WORTH_S", 0.0)


class Made:
    """Makes a new array at each call, and counts the calls."""

    def __init__(self, size=8):
        self.calls, self.size = 0, size

    def __call__(self):
        self.calls += 1
        return {"x": np.full(self.size, self.calls)}


def test_what_one_process_has_made_another_reads(tmp_path):
    make = Made()
    first, second = (Shared(str(tmp_path), Double()).get("key", make) for _ in range(2))
    assert make.calls == 1
    assert np.array_equal(first["x"], second["x"])
    second["x"][:] = -1  # as a kernel may: each has a copy of its own
    assert Shared(str(tmp_path), Double()).get("key", make)["x"][0] == 1


def test_another_key_and_another_state_of_a_workload_are_made_anew(tmp_path):
    make, other = Made(), Double()
    other.name = "another"
    Shared(str(tmp_path), Double()).get("key", make)
    Shared(str(tmp_path), Double()).get("other key", make)
    Shared(str(tmp_path), other).get("key", make)
    assert make.calls == 3


def test_without_a_folder_nothing_is_kept(tmp_path):
    make = Made()
    for each in (Shared(), Shared("", Double()), Shared(str(tmp_path / "gone"), Double())):
        each.get("key", make)
        each.get("key", make)
    assert make.calls == 6


LINES = "from tests.support.workloads import Double\n\n\nclass Mine(Double):\n    pass\n"


def test_code_that_has_changed_is_another_key(tmp_path, monkeypatch):
    """As between the two sides of a comparison. A file that the module imports counts as well."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("")
    (tmp_path / "mine/load.py").write_text(LINES)
    (tmp_path / "kept").mkdir()
    make = Made()
    try:
        mine = importlib.import_module("mine.load").Mine
        Shared(str(tmp_path / "kept"), mine()).get("key", make)
        Shared(str(tmp_path / "kept"), mine()).get("key", make)
        assert make.calls == 1
        (tmp_path / "mine/helper.py").write_text("x = 1\n")
        Shared(str(tmp_path / "kept"), mine()).get("key", make)
        assert make.calls == 2
    finally:
        for name in ("mine", "mine.load"):
            sys.modules.pop(name, None)


def test_a_workload_that_cannot_be_written_down_shares_nothing(tmp_path):
    make, odd = Made(), Double()
    odd.function = lambda: None
    for _ in range(2):
        Shared(str(tmp_path), odd).get("key", make)
    assert make.calls == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit", "other"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    make = Made()
    for _ in range(2):
        Shared(str(tmp_path), Double()).get("key", make)
        file = next(tmp_path.glob("*.pickle"))
        whole = file.read_bytes()
        flipped = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
        file.write_bytes({"empty": b"", "cut": whole[:-1], "one bit": flipped, "other": b"no pickle"}[damage])
    assert make.calls == 2


class Tagged(np.ndarray):
    """An array with an attribute, which pickle forgets."""


@dataclass
class Record:
    x: np.ndarray


def noted():
    """Return a record with an attribute that its class does not know."""
    record = Record(np.zeros(2))
    record.more = 1
    return record


def test_records_lists_and_numbers_come_back_as_they_were(tmp_path):
    value = {"a": [Record(np.arange(3)), (1, 2.5, "x", None, np.float32(2))]}
    make = Made()
    for _ in range(2):
        (record, rest) = Shared(str(tmp_path), Double()).get("key", lambda: (make(), value)[1])["a"]
        assert (record.x.tolist(), rest) == ([0, 1, 2], (1, 2.5, "x", None, np.float32(2)))
    assert make.calls == 1


def test_a_workload_that_notes_something_while_it_makes_its_inputs_shares_nothing(tmp_path):
    """Another process would read the inputs, and lack what was noted."""
    for _ in range(2):
        workload = Double()
        make = Made()

        def noting(workload=workload, make=make):
            workload.noted = 2
            return make()

        Shared(str(tmp_path), workload).get("key", noting)
        assert (make.calls, workload.noted) == (1, 2)


def test_no_file_has_its_name_before_it_is_whole_and_half_a_file_is_removed(tmp_path, monkeypatch):
    seen = []

    def full(path, data):
        seen.append(path.suffix)
        path.open("wb").write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert Shared(str(tmp_path), Double()).get("key", Made())["x"][0] == 1
    assert len(seen) == 1
    assert seen != [".pickle"]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_little_left_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shared.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    Shared(str(tmp_path), Double()).get("key", Made(100))
    assert list(tmp_path.iterdir()) == []


def test_large_values_quick_ones_and_what_pickle_refuses_are_not_kept(tmp_path, monkeypatch):
    here = Shared(str(tmp_path), Double())
    monkeypatch.setattr(shared, "LARGEST", 1000)
    here.get("large", Made(1000))
    here.get("function", lambda: {"x": min})
    here.get("type", lambda: [np.zeros(2).view(Tagged)])
    here.get("objects", lambda: np.array([{}], dtype=object))
    here.get("pointer", lambda: {"x": ctypes.pointer(ctypes.c_int(1))})
    here.get("noted", noted)
    monkeypatch.setattr(shared, "WORTH_S", 10.0)
    here.get("quick", Made())
    assert list(tmp_path.iterdir()) == []


def test_all_files_together_have_a_limit(tmp_path, monkeypatch):
    here = Shared(str(tmp_path), Double())
    here.get("0", Made(100))
    monkeypatch.setattr(shared, "MOST", 2 * next(tmp_path.iterdir()).stat().st_size)
    for key in "1234":
        here.get(key, Made(100))
    assert len(list(tmp_path.iterdir())) == 2


class Counted(Double):
    """Counts how often its inputs and references are made."""

    made: list = []  # noqa: RUF012 - of the class, so that a new object has it as well

    def inputs(self, work, rng):
        self.made.append("inputs")
        return super().inputs(work, rng)

    def reference(self, work, host):
        self.made.append("reference")
        return super().reference(work, host)


def test_the_second_case_of_a_work_makes_nothing_and_is_judged_alike(tmp_path):
    work = Counted().work("64", "float64")
    case = Case(work, "numpy", "cpu")
    Counted.made.clear()
    alone = run_case(case, Counted(), NumpyBackend("cpu"), SETTINGS)
    first, second = (
        run_case(case, Counted(), NumpyBackend("cpu"), replace(SETTINGS, shared=str(tmp_path))) for _ in range(2)
    )
    once = ["inputs", "reference", "inputs", "reference"]  # of the first check, then of the second
    assert Counted.made == [*once, *once]
    assert {(m.status, m.rel_error) for m in (alone, first, second)} == {(Status.OK, alone.rel_error)}


def test_a_wrong_kernel_is_found_by_a_reference_that_another_process_has_made(tmp_path):
    work = Counted().work("64", "float64")
    case, settings = Case(work, "numpy", "cpu"), replace(SETTINGS, shared=str(tmp_path))
    assert run_case(case, Counted(), NumpyBackend("cpu"), settings).status is Status.OK

    class Wrong(NumpyBackend):
        def to_host(self, array):
            return super().to_host(array) * 1.01

    assert run_case(case, Counted(), Wrong("cpu"), settings).status is Status.INVALID
