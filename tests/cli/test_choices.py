"""Whoever mistypes a word of a closed set is told the nearest, for every option of every command."""

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support.tables import tokens, write

# What each option with a closed set is given, and what is meant. "{a}" and "{b}" are two runs.
TYPOS = {
    ("compare", "--baseline"): ("best-cpuu", "best-cpu"),
    ("compare", "--row"): ("worklod", "workload"),
    ("compare", "--col"): ("bakcend", "backend"),
    ("compare", "--metric"): ("tiem", "time"),
    ("compare", "--filter"): ("worklod=matmul", "workload"),
    ("compare", "--require-same"): ("libary", "library"),
    ("compare", "--fail-on"): ("regresion", "regression"),
    ("compare", "--format"): ("jsno", "json"),
    ("cost", "--price"): ("machine-aa=1", "machine-a"),
    ("cost", "--filter"): ("worklod == 'x'", "workload"),
    ("cost", "--format"): ("csvv", "csv"),
    ("history query", "--format"): ("jsno", "json"),
    ("history show", "--metric"): ("tiem", "time"),
    ("history show", "--filter"): ("worklod == 'x'", "workload"),
    ("history show", "--fail-on"): ("new-regresion", "new-regression"),
    ("history show", "--format"): ("jsno", "json"),
    ("fleet diagnose", "--filter"): ("worklod == 'x'", "workload"),
    ("fleet diagnose", "--format"): ("jsno", "json"),
    ("fleet run", "--on"): ("slrum", "slurm"),
    ("fleet run", "--per"): ("gpuu", "gpu"),
    ("report", "--filter"): ("status == 'okk'", "ok"),
    ("plot", "--chart"): ("spedup", "speedup"),
    ("import", "--as"): ("nvbenhc", "nvbench"),
    ("plot", "--filter"): ("clock in ('wal')", "wall"),
}
NEEDED = {
    "fleet run": ["--on", "local"],
    "cost": ["--price", "machine-a=1"],
    "plot": ["-o", "x.svg"],
    "import": ["-o", "x"],
}
# Numbers, files, prices, titles and programs: any may be right.
OPEN = {
    *(("run", name) for name in ("--runs", "--precision", "--time", "--against", "--seed", "--resume")),
    *(("compare", name) for name in ("--min-effect", "--confidence", "--threshold", "--output")),
    *(("fleet run", name) for name in ("--runs", "--nodes", "--set", "--resume")),
    *(("fleet diagnose", name) for name in ("--least", "--output", "--limit")),
    *(("noise", name) for name in ("--runs", "--target", "--seed")),
    *(("report", name) for name in ("--output", "--title")),
    *(("plot", name) for name in ("--output", "--scale")),
    *(("cost", "--kwh"), ("check", "--from")),
    *(("import", name) for name in ("--output", "--machine", "--device", "--started-at")),
    *((f"history {command}", name) for command in ("query", "show") for name in ("--output", "--limit")),
}


def commands(group, prefix=""):
    """Yield every command and its name, those of a group too."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_every_option_with_a_value_is_of_a_closed_set_or_of_none():
    takes_value = {
        (name, option.opts[-1])
        for name, command in commands(get_command(app))
        for option in command.params
        if not getattr(option, "is_flag", True)  # an argument has no such attribute
    }
    assert takes_value == TYPOS.keys() | OPEN
    assert not TYPOS.keys() & OPEN


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [str(write(folder, tokens([seconds]), f"machine-{name}")) for name, seconds in (("a", 1.0), ("b", 2.0))]


@pytest.mark.parametrize(("command", "option"), TYPOS)
def test_a_mistyped_word_is_refused_with_the_nearest(runs, command, option):
    if (command, option) in {("report", "--filter"), ("plot", "--filter")}:
        pytest.importorskip("vl_convert", reason="charts need the extra `report`")
    word, meant = TYPOS[command, option]
    needed = [] if option in NEEDED.get(command, []) else NEEDED.get(command, [])
    paths = runs[:1] if command in {"import", "history show"} else runs
    done = CliRunner().invoke(app, [*command.split(), *paths, *needed, option, word])
    assert done.exit_code == (4 if option == "--require-same" else 2), done.output
    (line,) = done.stderr.splitlines()
    assert option in line
    assert f"; did you mean '{meant}'? available: " in line
