"""A price by the hour over what is done in that hour: of the fastest row of each machine, never of a guess."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.compare.cost import costs
from bench_core.errors import NothingToCompare, UsageError
from bench_core.model import Costs, Work
from tests.tables import absent, processes, reading, work, write

GPT = Work("model", "gpt_decode", "tiny", "float32")


def tokens(seconds, count=100.0, **known):
    """Return processes that make `count` tokens in these seconds."""
    costs_ = Costs(flops=1e9, amounts={"tokens": count, "samples": 2.0})
    return [replace(m, costs=costs_) for m in processes(seconds, GPT, **known)]


def test_a_cost_is_the_price_of_the_seconds_that_the_work_takes():
    """100 tokens in 0.5 s are 720,000 an hour: at 3.6 an hour, a million cost 5."""
    (found,) = costs([reading(tokens([0.5]), "a")], {"a": 3.6})
    assert found.amount == "1 M tokens"
    assert found.by_machine["a"].value == pytest.approx(5.0)


def test_samples_and_flops_are_priced_where_there_are_no_tokens():
    samples = [replace(m, costs=Costs(amounts={"samples": 10.0})) for m in processes([1.0], GPT)]
    (found,) = costs([reading(samples, "a")], {"a": 36.0})
    assert (found.amount, found.by_machine["a"].value) == ("1 k samples", pytest.approx(1.0))
    (found,) = costs([reading(processes([1.0], flops=1e12), "a")], {"a": 3.6})
    assert (found.amount, found.by_machine["a"].value) == ("1 EFLOP", pytest.approx(1000.0))


def test_a_machine_is_priced_by_its_fastest_row_which_is_named():
    slow, fast = tokens([1.0]), tokens([0.1], backend="torch", device="cuda:0")
    (found,) = costs([reading([*slow, *fast], "a")], {"a": 1.0})
    row = found.by_machine["a"].entry.row
    assert (row.backend, row.device) == ("torch", "cuda:0")


def test_the_interval_of_the_rate_becomes_that_of_the_cost():
    (found,) = costs([reading(tokens([0.4, 0.5, 0.6]), "a")], {"a": 3.6})
    cost = found.by_machine["a"]
    assert cost.low < cost.value < cost.high
    assert (cost.low, cost.high) == pytest.approx(
        (3.6 * 1e6 / 3600 / cost.entry.ci_high, 3.6 * 1e6 / 3600 / cost.entry.ci_low)
    )


def test_the_cheapest_machine_is_the_first_and_need_not_be_the_fastest():
    found = costs([reading(tokens([0.1]), "fast"), reading(tokens([0.5]), "slow")], {"fast": 10.0, "slow": 1.0})
    assert list(found[0].by_machine) == ["slow", "fast"]


def test_what_failed_on_a_machine_has_no_cost_there():
    tables = [reading(tokens([0.1]), "a"), reading([absent(GPT)], "b")]
    assert list(costs(tables, {"a": 1.0, "b": 1.0})[0].by_machine) == ["a"]


def test_a_price_for_a_machine_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match="--price z: no such machine; there are: a"):
        costs([reading(tokens([0.1]), "a")], {"z": 1.0})


def test_nothing_with_a_rate_is_nothing_to_price():
    with pytest.raises(NothingToCompare, match="nothing to price"):
        costs([reading([absent(GPT)], "a")], {"a": 1.0})


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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--price'"),
        (["--price", "a"], 2, "--price a: write MACHINE=PRICE"),
        (["--price", "a=free"], 2, "--price a=free: write MACHINE=PRICE"),
        (["--price", "a=0"], 2, "--price a=0: write MACHINE=PRICE"),
        (["--price", "=1"], 2, "--price =1: write MACHINE=PRICE"),
        (["--price", "b=1"], 2, "--price b: no such machine; there are: a"),
        (["--price", "a=1", "--filter", "workload == 'none'"], 3, "nothing to price"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(tmp_path, arguments, code, said):
    done = run(write(tmp_path, processes([1.0], work()), "a"), *arguments)
    assert done.exit_code == code
    assert said in done.stderr
