"""Whoever mistypes a word of an option of the plugin is told the nearest."""

import argparse

import pytest

from bench_core import pytest_options
from bench_core.errors import UsageError

TYPOS = {
    "preset": ("quik", "quick"),
    "backends": ("nunpy", "numpy"),
    "require": ("torhc", "torch"),
    "isolation": ("onn", "on"),
    "suite": ("alwas", "always"),
}
OPEN = {"output", "machine", "budget", "timeout", "seed", "process", "shuffle", "resume", "probes", "cases"}


class Declared(argparse.ArgumentParser):
    """What pytest's parser is to the plugin, and its config after it has parsed a command line."""

    def getgroup(self, *_):
        return self

    def addoption(self, name, **known):
        self.add_argument(name, **known)

    def addini(self, *_, **known):
        pass

    def error(self, message):
        raise UsageError(message)

    def read(self, *arguments):
        found = {"keyword": "", "markexpr": "", **vars(self.parse_args(arguments))}
        config = argparse.Namespace(getoption=found.__getitem__, getini=lambda _: "")
        return pytest_options.read(config, measuring=True)


@pytest.fixture
def declared():
    parser = Declared()
    pytest_options.declare(parser)
    return parser


def test_every_option_with_a_value_is_of_a_closed_set_or_of_none(declared):
    options = {action.dest.removeprefix("bench_") for action in declared._actions if action.nargs != 0}
    assert options == TYPOS.keys() | OPEN


@pytest.mark.parametrize("name", TYPOS)
def test_a_mistyped_word_is_refused_with_the_nearest(declared, name):
    word, meant = TYPOS[name]
    with pytest.raises(UsageError, match=rf"--bench-{name}.*did you mean '{meant}'\? available: "):
        declared.read(f"--bench-{name}={word}")
