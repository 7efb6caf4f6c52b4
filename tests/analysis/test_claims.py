"""The claims of README.md are those of the report, and each is answered by the rows of the work that tests it."""

import re
from dataclasses import replace

import pytest

from bench_core.analysis.claims import RESIDENT, STATEMENTS, answers, has_tested_claims, of_each_workload
from bench_core.analysis.report_data import ReportData
from bench_core.compare import Reading
from bench_core.records import Claim, Costs, Preset, Scope, Work
from bench_core.results.metrics import METRICS
from tests.support import ROOT, synthetic, tables
from tests.support.planned import HEADLINE, MACHINE, WORKLOADS
from tests.support.reports import row_of

README = (ROOT / "README.md").read_text(encoding="utf-8")


def readme_table():
    """Return the cells of the table under "The claims it tests"."""
    _, _, below = README.partition("| claim | measured by | metric |\n")
    lines = below.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def by_text(readings):
    return {answer.statement.text: answer for answer in answers(ReportData(readings))}


def test_the_claims_of_the_readme_are_those_of_the_report_with_the_same_work_and_metrics():
    shown = readme_table()
    assert [cells[0] for cells in shown] == [statement.text for statement in STATEMENTS]
    names = {workload.name for workload in WORKLOADS}
    for (_, measured_by, metrics), statement in zip(shown, STATEMENTS, strict=True):
        testing = {w.name for w in WORKLOADS if statement.claim and statement.claim in w.traits.claims}
        assert set(re.findall(r"`(\w+)`", measured_by)) & names == testing
        assert set(re.findall(r"`(\w+)`", metrics)) & set(METRICS) == set(statement.metrics)


def test_what_every_preset_is_said_to_have_is_in_every_preset():
    presets = set(Preset) - {Preset.HEADLINE}
    measured = {preset: {w.name for w in WORKLOADS if list(w.works(preset, MACHINE))} for preset in presets}
    measured[Preset.HEADLINE] = {case.work.workload for case in HEADLINE}
    for statement in (s for s in STATEMENTS if "in every preset" in s.needs):
        testing = {w.name for w in WORKLOADS if statement.claim in w.traits.claims}
        assert all(names & testing for names in measured.values()), statement.text


def test_every_claim_of_a_workload_has_its_words():
    assert {statement.claim for statement in STATEMENTS} == {None, *Claim}


def test_with_a_gpu_each_answer_is_its_ratio_to_the_best_cpu():
    (products,) = [a for a in answers(ReportData(synthetic.readings("machine-b"))) if a.statement is STATEMENTS[0]]
    assert [e.family.arithmetic for e in products.evidence] == ["float64", "float32", "float32 tf32", "bfloat16"]
    wide = products.evidence[0]
    assert (wide.metric, {s.against for s in wide.speedups}) == ("flop_rate", {"the best CPU"})
    (s,) = wide.speedups
    assert (s.row.metric, s.base.metric) == ("flop_rate", "flop_rate")
    assert s.row.value / s.base.value == pytest.approx(s.ratio, rel=0.1)


def test_of_what_has_nothing_to_be_compared_with_the_best_row_is_the_answer():
    one = tables.reading(tables.processes((1e-3,), tables.work("64")) + tables.processes((2e-3,), tables.work("128")))
    found = by_text([one])
    (products,) = found["parallel arithmetic decides"].evidence
    assert (products.speedups, [row.size for row in products.alone]) == ((), ["128"])
    assert [text for text, answer in found.items() if answer.is_known] == ["parallel arithmetic decides"]
    assert all(answer.statement.needs for answer in found.values())


def test_a_metric_of_its_own_is_judged_by_itself_and_a_rate_by_its_time():
    """Of the two contenders, one has the shorter time per token and the other the shorter time to the first."""
    rows = []
    for device, total, first in (("cpu", 2.0, 0.1), ("cuda:0", 1.0, 0.4)):
        known = {"device": device, "backend": "torch", "workload": "gpt_decode", "metric": "time", "status": "ok"}
        row = replace(row_of(**known, clock="wall"), value=total, p10=total, ci_low=total, ci_high=total)
        ttft = {"metric": "time_to_first_token", "value": first, "p10": first, "ci_low": first, "ci_high": first}
        per_token = {"metric": "time_per_output_token", "value": total / 9, "ci_low": None, "ci_high": None}
        rows += [row, replace(row, **ttft), replace(row, **per_token)]
    found = by_text([Reading.of("x", rows)])["inference: token by token"]
    ratios = {e.metric: s.ratio for e in found.evidence for s in e.speedups}
    assert ratios == pytest.approx({"time_per_output_token": 2.0, "time_to_first_token": 0.25})


def test_the_transfer_of_its_data_is_a_ratio_to_the_same_work_on_data_that_is_there():
    there = Work("model", "gpt_train", "tiny", "float32")
    moved = replace(there, scope=Scope.END_TO_END)
    known = {"device": "cuda:0", "backend": "torch"}
    reading = tables.reading([*tables.processes((1.0,), there, **known), *tables.processes((1.5,), moved, **known)])
    (evidence,) = by_text([reading])["moving data to the device takes time"].evidence
    (s,) = evidence.speedups
    assert (s.against, s.family.scope, s.ratio) == (RESIDENT, "end_to_end", pytest.approx(1 / 1.5))


def test_energy_is_answered_by_any_work_whose_energy_was_read():
    done = [
        replace(m, values={"energy": joules}, costs=Costs(flops=1e9, amounts={"tokens": 100.0}))
        for device, joules in (("cpu", 40.0), ("cuda:0", 4.0))
        for m in tables.processes((1.0,), tables.GPT, device=device, backend="torch")
    ]
    found = by_text([tables.reading(done)])["energy use"]
    ratios = {e.metric: s.ratio for e in found.evidence for s in e.speedups}
    assert ratios == pytest.approx({"tokens_per_joule": 10.0, "flops_per_joule": 10.0})


def test_other_accelerators_are_answered_only_by_their_own_rows():
    done = [
        m for device in ("cpu", "cuda:0", "mps:0") for m in tables.processes((1.0,), device=device, backend="torch")
    ]
    (evidence,) = by_text([tables.reading(done)])["other accelerators"].evidence
    assert [s.contender.device for s in evidence.speedups] == ["mps:0"]
    assert not by_text([tables.reading(done[:2])])["other accelerators"].is_known


def test_rows_that_nothing_has_checked_answer_no_claim():
    readings = synthetic.readings("machine-b", "machine-d")
    assert any(answer.is_known for answer in answers(ReportData(readings)))
    marked = [replace(r, rows=tuple(replace(row, flags="unchecked;imported") for row in r.rows)) for r in readings]
    data = ReportData(marked)
    assert [answer.statement.text for answer in answers(data) if answer.is_known] == []
    assert not has_tested_claims(data)
    assert of_each_workload(data)


def test_beside_checked_rows_of_other_work_unchecked_ones_answer_nothing():
    """Of one claim, all rows are planted; the answers to the others stay what they are."""
    (before,) = synthetic.readings("machine-b")
    products = {row.case_id for row in before.rows if Claim.ARITHMETIC in before.traits(row).claims}
    rows = [replace(row, flags="unchecked") if row.case_id in products else row for row in before.rows]
    after = by_text([replace(before, rows=tuple(rows))])
    for text, answer in by_text([before]).items():
        if answer.statement.claim:  # others rest on any work, the planted too
            assert after[text].is_known == (answer.is_known and answer.statement.claim is not Claim.ARITHMETIC), text
    shown = [s.row for answer in after.values() for e in answer.evidence for s in e.speedups]
    assert shown
    assert not any(row.is_unchecked for row in shown)
