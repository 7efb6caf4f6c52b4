"""`bench-core cost` from outside: costs side by side, and one line for bad input."""

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support.tables import on_host, processes, tokens, work, write


def run(*arguments):
    done = CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "100"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_the_command_shows_costs_side_by_side(tmp_path):
    a, b = write(tmp_path, tokens([0.5, 0.5]), "a"), write(tmp_path, tokens([0.1, 0.1]), "b")
    done = run(a, f"gpu={b}", "--price", "a=3.6", "--price", "gpu=3.6")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["work", "cost", "of", "a", "gpu", "cheapest"]
    assert "5.00 ±0%" in lines[2] and "1.00 ±0%" in lines[2] and lines[2].endswith("gpu")  # noqa: PT018
    assert lines[3].endswith("5.00x less")
    assert lines[4].endswith("indicated (2 against 2 runs)")


def test_two_computers_with_one_name_have_a_price_each_and_a_note_says_so(tmp_path):
    for day, memory in enumerate([25e9, 135e9], start=1):
        about = on_host(memory__total=memory)
        write(tmp_path, tokens([0.5 / day] * 2), "box", about, run_id=f"r{day}", started_at=f"2001-01-0{day}")
    done = run(tmp_path, "--price", "box=3.6", "--price", "box:2=3.6")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["work", "cost", "of", "box", "box:2", "cheapest"]
    said = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"
    assert lines[-1] == f"Note: {said}"


@pytest.mark.parametrize(
    ("other", "said"), [((0.45, 0.55, 0.65), "unclear"), ((0.5, 0.6, 0.7), "unclear"), ((0.05, 0.06, 0.07), "b")]
)
def test_no_machine_is_called_the_cheapest_within_the_spread_of_processes(tmp_path, other, said):
    a, b = write(tmp_path, tokens([0.5, 0.6, 0.7]), "a"), write(tmp_path, tokens(other), "b")
    done = run(a, b, "--price", "a=3.6", "--price", "b=3.6")
    assert done.stdout.splitlines()[2].split()[-1] == said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--price'"),
        (["--price", "a"], 2, "--price a: write MACHINE=PRICE"),
        (["--price", "a=free"], 2, "--price a=free: write MACHINE=PRICE"),
        (["--price", "a=0"], 2, "--price a=0: write MACHINE=PRICE"),
        (["--price", "=1"], 2, "--price =1: write MACHINE=PRICE"),
        (["--price", "b=1"], 2, "--price b: no such machine; available: a"),
        (["--price", "a=1", "--filter", "workload == 'none'"], 3, "nothing to price"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(tmp_path, arguments, code, said):
    done = run(write(tmp_path, processes([1.0], work()), "a"), *arguments)
    assert done.exit_code == code
    assert said in done.stderr


def test_one_run_under_two_names_costs_what_its_prices_say(tmp_path):
    run_ = write(tmp_path, tokens([0.5, 0.5]), "a")
    done = run(f"x={run_}", f"y={run_}", "--price", "x=1", "--price", "y=10")
    assert "10.00x less" in done.stdout
    assert "the same" in run(f"x={run_}", f"y={run_}", "--price", "x=1", "--price", "y=1").stdout
