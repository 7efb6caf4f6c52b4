"""The options of the pytest plugin: on the command line as --bench-NAME, in the ini file as bench_NAME."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from bench_core.errors import UsageError
from bench_core.plan.suite import UseSuite
from bench_core.plan.targets import entries_of, require_known
from bench_core.records import Preset, identifier
from bench_core.results.schema import UNFINISHED
from bench_core.run.session import RunOptions
from bench_core.text import no_such


def _timeouts() -> str:
    return ", ".join(f"{RunOptions(preset).seconds_until_timeout:.0f} at {preset}" for preset in Preset)


# name -> (metavar, help); each is an option --bench-NAME and an ini key bench_NAME.
OPTIONS = {
    "preset": ("|".join(Preset), "how much is measured (default: quick)"),
    "backends": ("LIST", "e.g. numpy,torch:cpu,torch:cuda,cupy:cuda:1 (default: all, on one device of each type)"),
    "output": ("DIR", "folder in which the results folder is created (default: results)"),
    "machine": ("LABEL", "name of this machine in the tables (default: its GPU and CPU models)"),
    "budget": ("SECONDS", "timed seconds per series; a case has one series per clock (default: by preset)"),
    "timeout": ("SECONDS", f"maximum seconds for one case, from build to result (default: by preset, {_timeouts()})"),
    "require": ("BACKEND[:DEVICE]", "fail unless this is available; may be a comma-separated list"),
    "seed": ("N", "seed of all random inputs (default: 0)"),
    "isolation": ("on|off", "measure in worker processes (default: on); off is for profilers"),
}


def declare(parser: pytest.Parser) -> None:
    """Declare the options and their ini keys."""
    group = parser.getgroup("bench-core", "bench-core: GPU vs CPU benchmarks")
    for name, (metavar, about) in OPTIONS.items():
        group.addoption(f"--bench-{name}", metavar=metavar, default=None, help=about)
        parser.addini(f"bench_{name}", f"the same as --bench-{name}", default="")
    about = "measure the benchmarks that come with bench-core if no path is given: always, or if none are here (auto)"
    group.addoption("--bench-suite", type=_use_suite, metavar="|".join(UseSuite), default=UseSuite.NEVER, help=about)
    group.addoption("--bench-process", type=int, default=0, help="number of this process among repeated runs")
    group.addoption("--bench-shuffle", type=int, metavar="SEED", help="measure in random order, with this seed")
    group.addoption("--bench-resume", metavar="RUN", help="finish this run folder: measure only its missing cases")
    hidden = {"default": None, "type": Path, "help": argparse.SUPPRESS}  # what `bench-core run --precision` hands on
    group.addoption("--bench-probes", **hidden)
    group.addoption("--bench-cases", **hidden)
    group.addoption("--bench-keep-journal", action="store_true", help="keep journal.jsonl, which has the full records")


def read(config: pytest.Config, *, measuring: bool) -> RunOptions:
    """Return the options of a session; the command line overrides the ini file. A resumed run keeps its options.

    Raises UsageError that names an invalid option.
    """
    resume = config.getoption("bench_resume")
    if resume == "":
        raise UsageError("--bench-resume=: has no value; name a run folder")
    if measuring and resume:
        return RunOptions.resuming(Path(resume))
    given = {name: _given(config, name) for name in OPTIONS}
    return RunOptions(
        preset=_choice("preset", given["preset"] or ("quick" if measuring else "smoke"), Preset),
        backends=_backends("backends", given["backends"]),
        output=Path(given["output"] or "results"),
        machine=_machine(given["machine"]),
        budget=_number("budget", given["budget"]),
        timeout=_number("timeout", given["timeout"]),
        require=_backends("require", given["require"]),
        seed=_seed(given["seed"] or "0"),
        keyword=config.getoption("keyword"),
        markers=config.getoption("markexpr"),
        isolated=_isolated(given["isolation"] or "on"),
        check_only=not measuring,
        process=config.getoption("bench_process"),
        keep_journal=config.getoption("bench_keep_journal"),
        probes=config.getoption("bench_probes"),
        cases=config.getoption("bench_cases"),
    )


def _given(config: pytest.Config, name: str) -> str:
    """Return an option, else its ini key. Raises UsageError for an empty option: it may be an unset variable."""
    option = config.getoption(f"bench_{name}")
    if option is not None and not option.strip():
        raise UsageError(f"--bench-{name}=: has no value; leave the option out for its default")
    return str(option if option is not None else config.getini(f"bench_{name}"))


def _backends(name: str, text: str) -> tuple[str, ...]:
    entries = entries_of(text)
    require_known(entries, f"--bench-{name}={text}")
    return entries


def _machine(text: str) -> str:
    if text == UNFINISHED:
        raise UsageError(f"--bench-machine={text}: a folder of this name holds runs that are not finished")
    try:
        return identifier(text) if text else ""
    except ValueError as error:
        raise UsageError(f"--bench-machine: {error}") from None


def _use_suite(text: str) -> UseSuite:
    if text not in list(UseSuite):
        raise argparse.ArgumentTypeError(no_such("", text, UseSuite))
    return UseSuite(text)


def _choice(name: str, text: str, choices: type[Preset]) -> Preset:
    try:
        return choices(text)
    except ValueError:
        raise UsageError(f"--bench-{name}={text}: {no_such('', text, choices)}") from None


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < sys.float_info.max:
        raise UsageError(f"--bench-{name}={text}: must be a positive number of seconds")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--bench-seed={text}: must be a whole number, 0 or more")
    return int(text)


def _isolated(text: str) -> bool:
    if text not in {"on", "off"}:
        raise UsageError(f"--bench-isolation={text}: {no_such('', text, ('on', 'off'))}")
    return text == "on"
