"""Names and values of a file are made safe, and what must not be published is masked."""

import pytest

from bench_core.imported.entries import (
    Entry,
    Imported,
    Masked,
    Quantity,
    moment,
    rate_of,
    size_of,
    with_names_of_their_own,
)
from bench_core.records import Fact, identifier
from tests.support.hostile import CELL_TEXTS, PAGE_TEXTS
from tests.support.properties import given, st


@pytest.mark.parametrize("text", [*CELL_TEXTS, *PAGE_TEXTS, "", "...", "x" * 10_000, "\u202e"])
def test_any_text_becomes_an_identifier_and_a_value(text):
    assert identifier(Masked().name(text)) == Masked().name(text)
    value = Masked().value(text)
    assert value.isprintable()
    assert not set(value) & {";", "="}
    assert len(value) <= 120


@given(st.text(max_size=300))
def test_any_other_text_does_too(text):
    assert identifier(Masked().name(text))
    assert len(Masked().name(text)) <= 120
    assert not set(Masked().value(text)) & {";", "=", "\n", "\x1b"}


def test_long_names_stay_different():
    assert Masked().name("a" * 200 + "b") != Masked().name("a" * 200 + "c")


def test_the_names_that_a_file_has_of_its_computer_are_masked_in_any_case_and_without_their_domain():
    mask = Masked.of(["node-7.example.org", None, "a"])
    assert mask.text("on NODE-7 and node-7.example.org: a /home/me/x") == "on <host> and <host>: a x"


def test_works_whose_names_are_alike_only_when_they_are_made_safe_stay_apart():
    first, second, other = with_names_of_their_own([Entry("f<a>", "f_a"), Entry("f(a)", "f_a"), Entry("g", "g")])
    assert first.workload != second.workload
    assert other.workload == "g"
    assert with_names_of_their_own([Entry("f<a>", "f_a")])[0].workload == "f_a"


def test_the_size_is_the_only_integer():
    assert size_of({"n": "64", "kind": "x"}) == "64"
    assert size_of({"n": "64", "m": "2"}) == ""
    assert size_of({}) == ""


@pytest.mark.parametrize("text", [None, 3, "", "yesterday", "2026-01-01T00:00:00", "9999-12-31T23:59:59-14:00"])
def test_what_is_no_moment_with_a_time_zone_is_none(text):
    assert moment(text) == ""


def test_a_rate_has_the_quantiles_of_the_time_in_reverse():
    times = {"value": 2.0, "mean": 2.5, "min": 1.0, "max": 4.0, "std": 0.5, "n": 7}
    rate = {"value": 5.0, "mean": 4.0, "min": 2.5, "max": 10.0, "std": pytest.approx(0.8), "n": 7}
    assert rate_of(10.0, times) == rate


def test_a_statistic_that_no_measurement_can_be_stays_empty():
    columns = {"value": 2.0, "min": 0.0, "max": -1.0, "std": 0.0, "mean": None, "n": 3}
    assert Quantity("time", columns=columns).statistics == {"value": 2.0, "std": 0.0, "n": 3}


def test_a_machine_is_named_by_its_hardware_and_not_at_all_if_the_file_tells_none():
    threads = {"cpu.threads": Fact(8, "x")}
    assert Imported("t", "", ()).machine == ""
    assert Imported("t", "", (), facts=threads).machine == "cpu-8t"
    assert Imported("t", "", (), facts=threads, gpus=("NVIDIA L4", "NVIDIA L4")).machine == "2x-nvidia-l4"
    model = {"cpu.model": Fact("AMD EPYC 9654 96-Core Processor", "x")}
    assert Imported("t", "", (), facts=model, gpus=("NVIDIA L4",)).machine == "nvidia-l4_amd-epyc-9654"
