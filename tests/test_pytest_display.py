"""What a measuring session shows: the line of progress, and the tables of pytest-benchmark."""

import os
import re
import select
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from pytest_benchmark import plugin as benchmark_plugin
from pytest_benchmark.session import BenchmarkSession
from pytest_benchmark.utils import DEFAULT_COLUMNS, NAME_FORMATTERS

from bench_core import pytest_display
from bench_core.pytest_display import Display, fit_tables
from bench_core.records import Case, Measurement, Status, Work
from bench_core.run.progress import Progress
from tests.support import TESTS

CASES = [Case(Work("own", f"w{i}", "1", "float32"), "numpy", "cpu") for i in range(20)]


class Terminal:
    """pytest's reporter, as far as it is used."""

    verbosity, hasmarkup = 0, False

    def __init__(self, *, isatty=False, width=80):
        self.isatty, self._tw, self.said = isatty, SimpleNamespace(fullwidth=width), ""

    def write(self, text, **_):
        self.said += text

    def write_line(self, text, **_):
        self.said += f"{text}\n"

    def ensure_newline(self): ...

    section = write_line

    @property
    def lines(self):
        return self.said.splitlines()


def display(terminal, monkeypatch, **environ):
    for name in ("CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    config = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin={"terminalreporter": terminal}.get))
    return Display(config, Progress(dict.fromkeys(CASES, 1.0)))


def measure(on_phase, of=CASES[0]):
    for phase in ("build", "measure"):
        on_phase(phase)
    return Measurement(of, Status.OK)


def test_a_terminal_shows_each_phase_below_its_line_and_erases_it_at_the_end(monkeypatch, capsys):
    shown = display(Terminal(isatty=True), monkeypatch)
    assert shown.during(CASES[0], measure).case is CASES[0]
    said = capsys.readouterr().out
    below, back = "\x1bD\x1b[A\x1b7\r\n\x1b[K", "\x1b8"
    build, phase, erase, end = said.split(back)
    assert [build.startswith(below), phase.startswith(below), erase] == [True, True, "\x1b7\r\n\x1b[K"]
    assert end == ""
    assert phase.removeprefix(below).endswith("0/20, under 1 min left  measure  w0 numpy-cpu-float32-1")
    assert len(phase.removeprefix(below)) < 80


def test_the_line_is_erased_if_a_case_is_interrupted(monkeypatch, capsys):
    def interrupted(on_phase):
        on_phase("measure")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        display(Terminal(isatty=True), monkeypatch).during(CASES[0], interrupted)
    assert capsys.readouterr().out.endswith("\x1b7\r\n\x1b[K\x1b8")


@pytest.mark.parametrize(
    ("terminal", "environ"),
    [
        (Terminal(), {}),
        (Terminal(isatty=True), {"CI": "true"}),
        (Terminal(isatty=True), {"TERM": "dumb"}),
        (Terminal(isatty=True, width=20), {}),
        (None, {}),
    ],
    ids=["pipe", "CI", "dumb", "narrow", "none"],
)
def test_elsewhere_no_escape_sequence_is_written(terminal, environ, monkeypatch, capsys):
    shown = display(terminal, monkeypatch, **environ)
    shown.during(CASES[0], measure)
    shown.between_cases()
    assert capsys.readouterr().out == ""


class Clock:
    seconds = 0.0

    def __init__(self, monkeypatch):
        monkeypatch.setattr(pytest_display, "monotonic", lambda: self.seconds)


def test_without_a_terminal_there_is_a_line_at_each_tenth_but_not_within_half_a_minute(monkeypatch):
    clock = Clock(monkeypatch)
    terminal = Terminal()
    shown = display(terminal, monkeypatch)
    at = []
    for number, case in enumerate(CASES, start=1):
        clock.seconds += 20.0
        before = terminal.said
        shown.during(case, partial(measure, of=case))
        shown.between_cases()
        at += [number] * (terminal.said != before)
    assert at == [2, 4, 6, 8, 10, 12, 14, 16, 18], "and none at the end, where the summary follows"
    assert terminal.said.startswith("bench-core: 2/20, under 1 min left")


def test_a_slow_run_says_something_every_five_minutes_and_a_quiet_one_nothing(monkeypatch):
    clock = Clock(monkeypatch)
    terminal, quiet = Terminal(), Terminal()
    quiet.verbosity = -1
    for reporter in (terminal, quiet):
        clock.seconds = 0.0
        shown = display(reporter, monkeypatch)
        for clock.seconds in (100.0, 301.0, 400.0, 602.0):
            shown.between_cases()
    assert (terminal.said.count("bench-core: 0/20"), quiet.said) == (2, "")


LONG = "test_transformer[torch-cuda:0-fast_accumulation-float8_e4m3fn-llama7b-projection]"


def tables(monkeypatch, *given, groups=1, rows=2, name="test_one", width=120, isatty=True):
    """What pytest-benchmark shows of `groups` tables of `rows` rows each, and its session."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    stats = {"min": 1e-3, "max": 1.0, "mean": 2e-3, "stddev": 1e-3, "median": 1.5e-3, "iqr": 1e-4, "ops": 500.0}
    others = {"outliers": "1;2", "rounds": 30, "iterations": 1, "source": "", "fullname": name}
    bench = {"name": name, **stats, **others}
    session = object.__new__(BenchmarkSession)
    hook = SimpleNamespace(pytest_benchmark_scale_unit=partial(_scale_unit))
    session.config = SimpleNamespace(hook=hook)
    session.columns, session.sort, session.name_format = DEFAULT_COLUMNS, "min", NAME_FORMATTERS["normal"]
    session.quiet = session.verbose = False
    session.histogram, session.compare_fail, session.performance_regressions, session.logger = None, None, [], None
    session.groups = [(f"group {i}", [dict(bench) for _ in range(rows)]) for i in range(groups)]
    fit_tables(
        SimpleNamespace(
            pluginmanager=SimpleNamespace(getplugin={"pytest-benchmark": session}.get),
            getini={"addopts": []}.get,
            invocation_params=SimpleNamespace(args=given),
        )
    )
    terminal = Terminal(width=width, isatty=isatty)
    session.display(terminal)
    return terminal.lines, session


def _scale_unit(**known):
    return benchmark_plugin.pytest_benchmark_scale_unit(**{**known, "config": None})


@pytest.mark.parametrize(
    ("name", "width", "columns"),
    [
        ("test_one", 120, ["Min", "Median", "IQR", "Outliers", "Rounds"]),
        ("test_matmul[torch-cpu-tuned-float32-4096]", 120, ["Median", "IQR", "Rounds"]),
        ("test_matmul[torch-cpu-tuned-float32-4096]", 80, ["Median", "Rounds"]),
        (LONG, 120, ["Median"]),
    ],
)
def test_the_columns_are_those_that_fit_100_columns_or_a_narrower_terminal(monkeypatch, name, width, columns):
    lines, session = tables(monkeypatch, name=name, width=width)
    (header,) = [line for line in lines if line.startswith("Name")]
    assert header.split()[4:] == columns
    assert all(len(line) <= min(100, width) for line in lines if name != LONG)
    assert "Legend" not in " ".join(lines)
    assert session.sort == "median"
    assert any(line.startswith(name.removeprefix("test_")) for line in lines), "names are short"


def test_without_a_terminal_the_tables_take_100_columns(monkeypatch):
    lines, _ = tables(monkeypatch, name="test_matmul[torch-cpu-tuned-float32-4096]", width=80, isatty=False)
    assert 80 < max(map(len, lines)) <= 100


def test_more_than_a_screen_of_tables_is_one_line_that_says_how_to_see_them(monkeypatch):
    shown, _ = tables(monkeypatch, groups=1, rows=35)
    assert sum("one" in line for line in shown) == 35
    left, _ = tables(monkeypatch, groups=6, rows=2)
    assert left == ["pytest-benchmark: 12 rows in 6 tables are left out (--benchmark-sort=name shows them)"]
    assert len(left[0]) <= 100


@pytest.mark.parametrize("option", ["--benchmark-sort=name", "--benchmark-compare", "--benchmark-histogram=h"])
def test_an_option_of_the_tables_shows_them_however_many_there_are(monkeypatch, option):
    lines, session = tables(monkeypatch, option, groups=20)
    assert sum(line.startswith("one") for line in lines) == 40
    assert max(map(len, lines)) <= 100
    assert session.sort == ("min" if "sort" in option else "median")


def test_chosen_columns_are_left_alone(monkeypatch):
    lines, session = tables(monkeypatch, "--benchmark-columns=min,max", groups=20, name=LONG)
    assert (session.columns, session.sort, "Legend:" in lines) == (DEFAULT_COLUMNS, "min", True)


FAULTS = (TESTS / "faulty" / "faults.py").read_text(encoding="utf-8")
MEASURE = (
    *("--benchmark-only", "--bench-preset=smoke", "--bench-budget=0.02", "--bench-backends=numpy"),
    *("--bench-machine=m", "-k", "test_good and numpy", "-p", "no:cacheprovider", "-p", "no:xdist"),
)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_the_output_of_pytest_is_whole_without_the_line_of_progress(installed, tmp_path):
    (tmp_path / "bench_faults.py").write_text(FAULTS, encoding="utf-8")
    said = in_terminal([sys.executable, "-m", "pytest", "bench_faults.py", *MEASURE], tmp_path)
    lines = re.findall("\x1bD\x1b\\[A\x1b7\r\n\x1b\\[K(.*?)\x1b8", said)
    assert any(" 0/1, under 1 min left  measure  fault numpy-cpu-float64-good" in line for line in lines)
    rest = re.sub("(\x1bD\x1b\\[A)?\x1b7\r\n\x1b\\[K.*?\x1b8", "", said)
    assert "\x1b" not in rest
    assert re.search(r"^bench_faults\.py \. +\[100%\]\r$", rest, re.MULTILINE)
    assert rest.index("good[numpy") < rest.index("= bench-core =") < rest.index("results: results/m/")
    assert re.fullmatch(r"=+ 1 passed.* in .*=", rest.strip().splitlines()[-1])


def in_terminal(command, folder):
    """Return what a command writes to a terminal of 80 columns without colours."""
    master, slave = os.openpty()
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST") and k not in {"CI", "COLUMNS"}}
    environ = {**clean, "TERM": "xterm", "NO_COLOR": "1", "LINES": "24"}
    with subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=environ) as run:
        os.close(slave)
        said = b""
        while select.select([master], [], [], 60)[0]:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
    os.close(master)
    assert run.returncode == 0, said
    return said.decode().replace("\r\r\n", "\r\n")  # the terminal adds one
