"""What is known of a workload comes from it, from run.json, or from its name in an old table."""

import json

import pytest

import bench_core
from bench_core.records import Claim, Limit, Traffic, Traits, Work, to_json
from bench_core.results.legacy import traits_by_name
from bench_core.results.traits import FIT, TraitsOf, merged
from benchmarks import bench_matmul, bench_memory
from tests.support import ROOT
from tests.support.planned import WORKLOADS

OWN = Traits(1, "sample_rate", Limit.COMPUTE, Traffic.LINK, "words", (Claim.TRAINING, Claim.NETWORKS), "own work")


def work(suite, workload):
    return Work(suite, workload, "1", "float32")


def test_traits_survive_run_json():
    traits = TraitsOf({("a", "own"): OWN, ("b", "own"): Traits()})
    assert TraitsOf.from_json(json.loads(json.dumps(traits.to_json()))) == traits


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        "x",
        {"a": None},
        {"a": {"own": None}},
        {"a": {"own": {}}},
        {"a": {"own": {"order": "1", "headline": "", "measures": None, "traffic": "link"}}},
        {"a": {"own": {"order": 1, "headline": "speed", "measures": None, "traffic": "link"}}},
        {"a": {"own": {"order": 1, "headline": [], "measures": None, "traffic": "link"}}},
        {"a": {"own": {"order": 1, "headline": "", "measures": "noise", "traffic": "link"}}},
        {"a": {"own": {"order": 1, "headline": "", "measures": None, "traffic": None}}},
        {"a": {"own": {"order": 1, "headline": "", "measures": None, "traffic": "link", "sold_as": None}}},
        {"a": {"own": {"order": 1, "headline": "", "measures": None, "traffic": "link", "short_for": 1}}},
    ],
)
def test_what_is_not_understood_is_left_out(plain):
    assert TraitsOf.from_json(plain) == TraitsOf()


def test_what_an_earlier_version_did_not_write_is_that_of_old_tables():
    plain = to_json(Traits(order=7))
    del plain["sold_as"], plain["short_for"]
    read = TraitsOf.from_json({"model": {"gpt_train": plain, "own": plain}, "transfer": {"h2d": plain}})
    assert read(work("transfer", "h2d")).short_for == "host to device"
    assert read(work("model", "gpt_train")) == Traits(order=7, sold_as="tokens trained")
    assert read(work("model", "own")) == Traits(order=7)


def test_known_traits_come_before_those_by_name():
    traits = TraitsOf({("matmul", "matmul"): OWN})
    assert traits(work("matmul", "matmul")) == OWN
    assert traits(work("matmul", "matmul_batched")).measures is Limit.COMPUTE
    assert traits(work("own", "own")) == Traits()


def test_an_entry_from_before_there_were_claims_has_those_of_its_name_and_its_place():
    """Its order was that of its suite. A claim of a later version is left out."""
    entry = {"order": 3, "headline": "", "measures": None, "traffic": "caches"}
    old = TraitsOf.from_json({"model": {"gpt_train": entry, "lstm": entry}, "own": {"own": entry}})
    assert old(work("model", "gpt_train")) == traits_by_name("model", "gpt_train")
    assert (old(work("model", "lstm")).order, old(work("own", "own")).order) == (
        traits_by_name("model", "lstm").order,
        3,
    )
    later = TraitsOf.from_json({"own": {"own": entry | {"claims": ["training", "quantum"]}}})
    assert later(work("own", "own")) == Traits(order=3, claims=(Claim.TRAINING,))


def test_what_is_fitted_to_a_sweep_has_the_traits_of_the_work():
    assert TraitsOf({("own", "own"): OWN})(work("own", f"own{FIT}")) == OWN


def test_of_two_runs_the_later_counts():
    first, second = TraitsOf({("s", "a"): OWN, ("s", "b"): OWN}), TraitsOf({("s", "b"): Traits()})
    assert merged([first, second]).known == (first | second).known == {("s", "a"): OWN, ("s", "b"): Traits()}


def test_a_workload_of_another_suite_may_have_the_same_name():
    traits = TraitsOf({("own", "triad"): OWN})
    assert traits(work("own", "triad")) == OWN
    assert traits(work("memory", "triad")).is_stream


def test_old_tables_are_read_with_the_traits_that_their_workloads_have_now():
    """The committed ones of the first release have none in run.json."""
    rows = bench_core.load(ROOT / "results").drop_duplicates("workload")
    old = {row.workload: row.suite for row in rows.itertuples() if not row.workload.endswith(FIT)}
    assert len(old) > 30
    now = {workload.name: workload.traits for workload in WORKLOADS if workload.name in old}
    assert {name: traits_by_name(suite, name) for name, suite in old.items()} == now


def test_streams_are_shown_by_bandwidth_and_products_are_not():
    assert bench_memory.Triad.traits.is_stream
    assert not bench_matmul.Square.traits.is_stream
    assert not Traits(headline="bandwidth", traffic=Traffic.LINK).is_stream
