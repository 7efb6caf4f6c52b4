"""The spread assumed for a single run is one that was measured: on this machine, or in the committed tables."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bench_core.compare import CompareOptions, Reading, Verdict, compare, read, spread
from bench_core.compare.spread import ACCELERATOR, SPREADS, SPREADS_FROM, Spreads
from bench_core.records import Fact, Limit, Traffic, Traits
from bench_core.results.run_files import sample_key
from tests.support import ROOT
from tests.support.comparisons import FIVE, only
from tests.support.tables import measured, processes, reading, work

REPEATED = "results/amd-epyc-2c/20261126T201025Z-d6ca"  # three runs of `standard`


def row(backend="numpy", device="cpu", **known):
    return reading([measured([1.0], backend=backend, device=device)], **known).rows[0]


def test_the_spreads_in_the_code_are_those_of_the_table_that_they_name():
    assert REPEATED.rpartition("/")[0] in SPREADS_FROM
    assert spread.measured(read([str(ROOT / REPEATED)])) == SPREADS


def single(run, process):
    """One process of a run of several, as a run of a machine of its own."""
    found = {key: by_process[process] for key, by_process in run.files.samples.items() if process in by_process}
    rows = []
    for old in run.rows:
        seconds = found.get(sample_key(old))
        if old.metric == "time" and seconds:
            middle = float(np.median(seconds))
            low = float(np.quantile(seconds, 0.1))
            of_one = {"n": len(seconds), "processes": 1, "value": middle, "p10": low, "ci_low": None, "ci_high": None}
            rows.append(replace(old, machine=f"m{process}", run_id=f"r{process}", **of_one))
    files = replace(run.files, samples=None, facts={})
    return Reading.of(f"{process}.csv", rows, files=files)


def test_intervals_of_single_runs_hold_the_truth_on_a_real_noisy_machine():
    """Each process of the committed runs as a run of its own: nothing differs between them, whatever is measured."""
    (run,) = read([str(ROOT / REPEATED)])
    singles = [single(run, process) for process in range(3)]
    found = [c for i in (0, 1) for c in compare(singles[i:]).compared]
    assert len(found) > 800
    assert sum(c.ci_low <= 1 <= c.ci_high for c in found) / len(found) >= 0.94
    assert {c.verdict for c in found} <= {Verdict.UNCLEAR, Verdict.INDICATED}


def test_a_spread_is_the_95_percent_quantile_of_the_differences_of_two_processes():
    rng = np.random.default_rng(0)
    cases = [m for n in range(40) for m in processes(np.exp(rng.normal(0, 0.05, 10)), work(str(n + 8)))]
    found = spread.measured([reading(cases)])
    assert found == {("numpy", "cpu", "products"): pytest.approx(0.05, rel=0.1)}


def test_too_few_differences_are_no_figure():
    assert spread.measured([reading(processes(FIVE))]) == {}


@pytest.mark.parametrize(
    ("traits", "kind"),
    [
        (Traits(measures=Limit.COMPUTE), "products"),
        (Traits(headline="bandwidth", traffic=Traffic.MEMORY), "streams"),
        (Traits(measures=Limit.LATENCY), "launches"),
        (Traits(), "layers and models"),
    ],
)
def test_the_kind_of_work_follows_from_the_traits(traits, kind):
    assert spread.kind(traits) == kind


def test_the_noise_of_this_machine_precedes_the_table():
    noise = {"spreads": spread.to_json({("numpy", "cpu", "products"): 0.01, ("numpy", "cpu", "streams"): 0.03})}
    table = reading([measured([1.0])], "box")
    noisy = replace(table, files=replace(table.files, noise=noise))
    look = Spreads.of([noisy, reading([measured([1.0])], "other")])
    assert look(row(machine="box")) == spread.Spread(0.01, "bench-core noise on box")
    assert look(row(machine="other")) == spread.Spread(SPREADS["numpy", "cpu", "products"], SPREADS_FROM)
    assert look(row("torch", machine="box")).source == SPREADS_FROM, "torch was not measured on it"
    launch = replace(row(machine="box"), suite="latency", workload="launch")
    largest = spread.Spread(SPREADS["numpy", "cpu", "products"], f"{SPREADS_FROM}, the largest of numpy")
    assert look(launch) == largest, "neither has launches: the largest of all that is known of NumPy"
    model = replace(row(machine="box"), suite="model", workload="mlp_train")
    assert look(model) == spread.Spread(SPREADS["numpy", "cpu", "layers and models"], SPREADS_FROM)


def test_of_several_noise_files_of_one_machine_the_largest_counts_in_any_order():
    tables = [
        replace(table, files=replace(table.files, noise={"spreads": spread.to_json({("numpy", "cpu", "products"): x})}))
        for x, table in ((x, reading([measured([1.0])], "box", run_id=f"r{x}")) for x in (0.01, 0.2, 0.05))
    ]
    for order in itertools.permutations(tables):
        assert Spreads.of(order)(row(machine="box")).value == 0.2


def test_where_nothing_was_repeated_the_largest_is_assumed():
    assert Spreads()(row("jax")).value == max(SPREADS.values())
    assert Spreads()(row("jax", "tpu:0")).value == ACCELERATOR
    assert Spreads()(row("torch", "cuda:0")).value == ACCELERATOR


@pytest.mark.parametrize(("total", "expected"), [(64e9, 0.01), (16e9, SPREADS["numpy", "cpu", "products"])])
def test_the_noise_of_another_computer_with_this_name_is_not_used(total, expected):
    host = {"memory.total": {"value": 64e9, "source": "psutil"}}
    noise = {"spreads": spread.to_json({("numpy", "cpu", "products"): 0.01}), "host": host}
    table = reading([measured([1.0])], "box", facts={"memory.total": Fact(total, "psutil")})
    own = replace(table, files=replace(table.files, noise=noise))
    assert Spreads.of([own])(row(machine="box")).value == expected


def test_a_quiet_machine_indicates_what_the_table_could_not():
    pair = [reading([measured([t])], name) for name, t in (("a", 1.0), ("b", 1.2))]
    assert only(pair).verdict is Verdict.UNCLEAR
    noise = {"spreads": spread.to_json({("numpy", "cpu", "products"): 0.01})}
    quiet = [replace(r, files=replace(r.files, noise=noise)) for r in pair]
    c = only(quiet)
    assert (c.verdict, c.change) == (Verdict.INDICATED, "1.20x slower")
    assert "numpy 1 % (bench-core noise on a); numpy 1 % (bench-core noise on b)" in c.reason
    assert math.log(c.ci_high / c.ci_low) < 0.1


@pytest.mark.parametrize(
    "text",
    ["[]", '{"spreads": 3}', '{"spreads": [3, {}, {"backend": "numpy"}]}', '{"spreads": null, "host": 3}',
     '{"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": -1.0}]}',
     '{"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": 1e200}]}',
     '{"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": 1e-300}]}',
     '{"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": true}]}',
     '{"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": "NaN"}]}'],
)  # fmt: skip
def test_noise_of_any_origin_is_read_without_an_error(text):
    plain = json.loads(text)
    assert spread.from_json(plain if isinstance(plain, dict) else {}) == {}


def test_a_whole_number_is_a_spread():
    entry = {"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": 1}
    assert spread.from_json({"spreads": [entry]}) == {("numpy", "cpu", "products"): 1.0}


def test_untimed_values_say_that_their_spread_is_that_of_times():
    sides = [
        reading([replace(m, values={"peak_memory": size}) for m in processes([1.0])], name)
        for name, size in (("a", 1000.0), ("b", 1001.0))
    ]
    assert "numpy 36 % as of times (results/amd-epyc-2c" in only(sides, metrics=("peak_memory",)).reason


def test_options_do_not_change_the_assumed_spread():
    pair = [reading([measured([t])], name) for name, t in (("a", 1.0), ("b", 1.0))]
    strict, lax = (compare(pair, CompareOptions(confidence=c)).comparisons[0] for c in (0.99, 0.9))
    assert math.log(strict.ci_high) / math.log(lax.ci_high) == pytest.approx(2.576 / 1.645, rel=0.01)


def test_the_spread_of_a_kind_of_rows_is_looked_up_once(monkeypatch):
    looked_up = []
    of = Spreads._of
    monkeypatch.setattr(Spreads, "_of", lambda spreads, of_row: looked_up.append(of_row) or of(spreads, of_row))
    spreads = Spreads()
    assert len({spreads(replace(row(), size=str(i))) for i in range(9)}) == 1
    assert len(looked_up) == 1
