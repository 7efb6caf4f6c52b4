"""`bench-core cost` from outside: costs side by side, and one line for bad input."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from bench_core.records import Traits, to_json
from tests.support.tables import GPT, on_host, processes, tokens, work, write


def run(*arguments):
    done = CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "100"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_the_command_begins_with_what_a_person_buys_and_then_the_rest(tmp_path):
    a = write(tmp_path, [*tokens([0.5, 0.5]), *processes([1.0, 1.0], flops=1e12)], "a")
    b = write(tmp_path, [*tokens([0.1, 0.1]), *processes([1.0, 1.0], flops=1e12), *processes([1.0], work("8"))], "b")
    done = run(a, f"gpu={b}", "--price", "a=3.6EUR", "--price", "gpu=3.6EUR")
    assert done.exit_code == 0, done.output
    title, header, _, first, second, third, hour, gap, rest, *others = done.stdout.splitlines()
    assert (title, gap, rest) == ("What a person buys", "", "Other work")
    assert re.split("  +", header) == ["cost of", "work", "a, EUR", "gpu, EUR", "cheapest"]
    assert re.split("  +", first) == ["1 M tokens generated", "gpt_decode", "5.00 ±<1%", "1.00 ±<1%", "gpu"]
    assert second.endswith("5.00x less")
    assert third.endswith("indicated (2 against 2 runs)")
    assert hour.split() == ["1", "hour", "of", "the", "machine", "3.6", "3.6"]
    assert re.split("  +", others[2])[:4] == ["1 EFLOP", "matmul", "1,000 ±<1%", "1,000 ±<1%"]
    notes = " ".join(line.strip() for line in others)
    assert "Not listed, with a value on one machine only: 1 on gpu. Price one machine alone to list its works." in notes
    assert "Costs of the fastest row of each machine, in EUR; ± or a range is the interval of its rate." in notes


def test_an_interval_with_far_ends_is_written_with_both(tmp_path):
    """A deviation says nothing of the nearer end, and that of the farther exceeds 100 %."""
    wide = write(tmp_path, tokens([0.5, 0.6, 2.0]), "a")
    cost, interval, who = (
        re.split("  +", line.strip())[-1] for line in run(wide, "--price", "a=3.6").stdout.splitlines()[3:6]
    )
    low, high = interval.split(" to ")
    assert float(low) < float(cost) < float(high)
    assert who == "numpy cpu"


def test_machines_without_common_work_leave_their_hours_and_a_count(tmp_path):
    a, b = write(tmp_path, tokens([0.5]), "a"), write(tmp_path, processes([1.0]), "b")
    done = run(a, b, "--price", "a=1", "--price", "b=2")
    assert done.exit_code == 0
    _, _, _, hour, _, *notes = done.stdout.splitlines()
    assert hour.split()[-2:] == ["1", "2"]
    said = " ".join(line.strip() for line in notes)
    assert "on one machine only: 1 on a, 1 on b (among them 1 M tokens generated)" in said
    alone = run(a, b, "--price", "b=2").stdout
    assert "None of these works is what a person buys" in alone
    assert "Not listed" not in alone


def test_energy_is_shown_apart_where_it_was_measured(tmp_path):
    """36 J for 100 tokens in half a second: 0.1 kWh and 5000 s for a million."""
    a = write(tmp_path, [replace(m, values={"energy": 36.0}) for m in tokens([0.5, 0.5])], "a")
    b = write(tmp_path, tokens([0.1, 0.1]), "b")
    prices = ["--price", "a=3.6EUR", "--price", "b=3.6EUR", "--kwh", "2EUR"]
    done = run(a, b, *prices)
    cells = [re.split("  +", line.strip()) for line in done.stdout.splitlines()[3:6]]
    assert [cells[0][2:4], cells[1][1:3]] == [["5.20 ±<1%", "1.00 ±<1%"], ["5.00 + 0.200", "numpy cpu"]]
    assert "at 2 EUR a kWh. Where that line is missing, no energy was measured (1 of 2 have it)." in " ".join(
        done.stdout.split()
    )
    assert "No energy was measured for any row listed" in " ".join(
        run(b, "--price", "b=3.6EUR", "--kwh", "2EUR").stdout.split()
    )


def test_data_for_programs_have_every_work_with_its_costs_and_currency(tmp_path):
    a = write(tmp_path, [replace(m, values={"energy": 36.0}) for m in tokens([0.5, 0.5])], "a")
    b = write(tmp_path, [*tokens([0.1, 0.1]), *processes([1.0])], "b")
    arguments = [a, b, "--price", "a=3.6EUR", "--price", "b=3.6EUR", "--kwh", "2EUR", "--format"]
    plain = json.loads(run(*arguments, "json").stdout)
    assert [plain[name] for name in ("currency", "hourly", "kwh")] == ["EUR", {"a": 3.6, "b": 3.6}, 2.0]
    bought, other = plain["works"]
    assert (bought["cost_of"], bought["is_bought"], other["is_bought"]) == ("1 M tokens generated", True, False)
    by_machine = {cost["machine"]: cost for cost in bought["costs"]}
    assert [by_machine["a"][name] for name in ("cost", "time_cost", "energy_cost", "joules")] == pytest.approx(
        [5.2, 5.0, 0.2, 3.6e5]
    )
    assert [by_machine["b"][name] for name in ("cost", "energy_cost")] == [pytest.approx(1.0), None]
    assert (bought["cheapest"]["cheapest"], bought["cheapest"]["with_energy"], other["cheapest"]) == ("b", False, None)
    lines = list(csv.DictReader(io.StringIO(run(*arguments, "csv").stdout)))
    assert [(line["machine"], line["metric"]) for line in lines] == [
        ("b", "token_rate"),
        ("a", "token_rate"),
        ("b", "flop_rate"),
    ]
    assert [(line["currency"], line["hourly"], line["kwh"]) for line in lines] == [("EUR", "3.6", "2.0")] * 3
    assert [float(line["cost"]) for line in lines[:2]] == pytest.approx([1.0, 5.2])
    assert [line["energy_cost"] == "" for line in lines] == [True, False, True]


def test_text_of_a_table_is_safe_on_a_screen_and_there_are_no_colours_in_a_pipe(tmp_path):
    traits = to_json(Traits(sold_as="tokens \x1b[31mgenerated"))
    a = write(tmp_path, tokens([0.5]), "a", {"traits": {GPT.suite: {GPT.workload: traits}}})
    shown = run(a, "--price", "a=1").stdout
    assert "\x1b" not in shown
    assert "\\x1b[31mgenerated" in shown


def test_two_computers_with_one_name_have_a_price_each_and_a_note_says_so(tmp_path):
    for day, memory in enumerate([25e9, 135e9], start=1):
        about = on_host(memory__total=memory)
        write(tmp_path, tokens([0.5 / day] * 2), "box", about, run_id=f"r{day}", started_at=f"2001-01-0{day}")
    done = run(tmp_path, "--price", "box=3.6", "--price", "box:2=3.6")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert re.split("  +", lines[1]) == ["cost of", "work", "box", "box:2", "cheapest"]
    said = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"
    assert lines[-1] == f"Note: {said}"


@pytest.mark.parametrize(
    ("other", "said"), [((0.45, 0.55, 0.65), "unclear"), ((0.5, 0.6, 0.7), "unclear"), ((0.05, 0.06, 0.07), "b")]
)
def test_no_machine_is_called_the_cheapest_within_the_spread_of_processes(tmp_path, other, said):
    a, b = write(tmp_path, tokens([0.5, 0.6, 0.7]), "a"), write(tmp_path, tokens(other), "b")
    done = run(a, b, "--price", "a=3.6", "--price", "b=3.6")
    assert done.stdout.splitlines()[3].split()[-1] == said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing option '--price'"),
        (["--price", "a=free"], 2, "--price a=free: write MACHINE=PRICE"),
        (["--price", "a=1EUR", "--kwh", "1USD"], 2, "--price a=1EUR and --kwh 1USD: give all prices in one currency"),
        (["--price", "a=1", "--format", "xml"], 2, "--format: no 'xml'; available: table, csv, json"),
        (["--price", "b=1"], 2, "--price: no machine 'b'; available: a"),
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
    assert "10.0x less" in done.stdout
    assert "the same" in run(f"x={run_}", f"y={run_}", "--price", "x=1", "--price", "y=1").stdout
