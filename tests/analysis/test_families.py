"""Which cases are of one kind of work, and in which order kinds of work stand in a report."""

import random
from dataclasses import replace

from bench_core.analysis.families import families_of
from bench_core.analysis.report_data import ReportData
from bench_core.records import Traits
from bench_core.results.traits import TraitsOf
from tests.support import synthetic
from tests.support.planned import WORKLOADS
from tests.support.reports import reading_of, row_of

TRAITS = TraitsOf({(workload.suite, workload.name): workload.traits for workload in WORKLOADS})


def product(size, params, **known):
    row = row_of(workload="matmul", size="512", dtype="float32", metric="time", status="ok")
    return replace(row, size=size, params=params, case_id=f"c_{size}_{params}", **known)


def test_parameters_that_follow_from_the_size_make_no_family_and_a_layout_does():
    nn, nt = product("512", "layout=nn;n=512"), product("512", "layout=nt;n=512")
    assert [f.label for f in families_of([nn], TRAITS)] == ["matmul float32"]
    assert [f.label for f in families_of([nt, nn], TRAITS)] == ["matmul float32 layout=nn", "matmul float32 layout=nt"]


def test_a_parameter_that_was_added_makes_one_family_before_and_one_after():
    """Also if no size is in both runs, and if the parameter follows from the size."""
    older = [product(n, f"n={n}") for n in ("256", "512")]
    for added, label in (("layout=nn", "layout=nn"), ("half={}", "with half")):
        newer = [product(n, f"{added.format(int(n) // 2)};n={n}", machine="new") for n in ("512", "1024")]
        found = families_of([*newer, *older], TRAITS)
        assert [(f.variant, list(cases)) for f, cases in found.items()] == [
            ("", ["256", "512"]),
            (label, ["512", "1024"]),
        ]
        apart = ReportData([reading_of(*older), reading_of(*newer)])
        assert apart.sides == []  # no pair of the two is of the same work
        assert len(families_of([older[0], newer[1]], TRAITS)) == 2


def test_the_name_of_a_work_has_its_version_if_there_are_several():
    older, newer = product("256", "n=256"), product("256", "n=256", workload_version=3)
    newer = replace(newer, case_id="c_newer")
    assert [f.label for f in families_of([older, newer], TRAITS)] == ["matmul v1 float32", "matmul v3 float32"]
    assert [f.label for f in families_of([newer], TRAITS)] == ["matmul float32"]
    one, other = families_of([older, newer], TRAITS)
    assert one.is_form_of(other)
    assert not one.is_form_of(replace(other, dtype="float64"))


def test_work_that_answers_a_claim_comes_first_and_then_the_catalogue():
    row = row_of(metric="time", status="ok")
    there = [w for w in WORKLOADS if not w.across_ranks]  # of which no table without run.json has any
    rows = [replace(row, suite=w.suite, workload=w.name, case_id=w.name) for w in there]
    random.Random(0).shuffle(rows)
    order = list(dict.fromkeys(family.workload for family in families_of(rows, TRAITS)))
    assert order[:9] == ["matmul", "copy", "sum", "triad", "d2h", "h2d", "mlp_infer", "mlp_train", "cnn_infer"]
    assert order[10:16] == ["gpt_train", "gpt_decode", "gpt_prefill", "gan_generate", "gan_train", "diffusion_sample"]
    assert order[17:20] == ["matmul_batched", "matmul_data", "matmul_layout"]
    assert order[-2:] == ["lstm", "softmax"]
    assert order == list(dict.fromkeys(f.workload for f in families_of(rows, TraitsOf())))  # a table without run.json


def test_wide_formats_come_first_and_sizes_are_in_the_order_of_their_numbers():
    found = families_of(synthetic.readings("machine-b")[0].rows, TRAITS)
    formats = [family.arithmetic for family in found if family.workload == "matmul"]
    assert formats == ["float64", "float32", "float32 tf32", "bfloat16"]
    assert list(next(iter(found.values()))) == [str(n) for n in synthetic.MATMUL_SIZES]


def test_the_order_of_work_is_the_same_for_every_order_of_measuring():
    rows = list(synthetic.readings("machine-c")[0].rows)
    data = ReportData([reading_of(*rows)])
    random.Random(1).shuffle(rows)
    again = ReportData([reading_of(*rows)])
    assert again.rows == data.rows
    assert list(again.families.items()) == list(data.families.items())
    assert again.contenders == data.contenders


def test_own_work_stands_where_its_traits_say():
    rows = [row_of(metric="time", status="ok")]
    own = [replace(rows[0], suite="own", workload=name, case_id=name) for name in ("late", "early", "unknown")]
    traits = TraitsOf({("own", "late"): Traits(order=99), ("own", "early"): Traits(order=-1)})
    assert [family.workload for family in families_of(own, traits)] == ["early", "unknown", "late"]
