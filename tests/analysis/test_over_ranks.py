"""Curves over ranks: one line for each implementation of each target, and nothing of single devices among them."""

import random
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import pytest

from bench_core import stats
from bench_core.analysis import figures, over_ranks
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Kind
from bench_core.records import Fact
from bench_core.report.charts import looks, ranks_chart, value
from bench_core.results.run_files import RunFiles
from tests.support import tables
from tests.support.ranks import LINK, across, alike, paired, several_devices


@pytest.fixture(name="data", scope="module")
def data_of_a_run():
    return ReportData([several_devices()])


def test_each_work_has_a_panel_and_each_implementation_a_line(data):
    weak, strong = sorted(over_ranks.scalings(data), key=lambda s: s.metric)
    assert (weak.title, weak.metric) == ("train_together float32 tiny · weak scaling", "parallel_efficiency")
    assert (strong.title, strong.metric) == ("train_together float32 tiny · strong scaling", "speedup")
    values = {c.label: [(x, row.value) for x, row in c.points] for c in weak.curves}
    assert values == {
        "torch ddp": [(2, pytest.approx(0.9)), (4, pytest.approx(0.81))],
        "torch fsdp": [(2, pytest.approx(0.8)), (4, pytest.approx(0.64))],
    }
    assert {c.label: c.last.value for c in strong.curves} == {
        "torch ddp": pytest.approx(4 * 0.64),
        "torch fsdp": pytest.approx(4 * 0.49),
    }


@pytest.mark.parametrize(
    ("level", "shown"), [(0.5, False), (0.9375, False), (stats.CONFIDENCE, True), (0.99, True), (None, True)]
)
def test_an_interval_of_less_than_the_usual_confidence_is_neither_shown_nor_drawn(level, shown):
    """As that of the quotient of two ranges of two blocks."""
    reading = several_devices("a")
    known = {"value": 0.9, "ci_low": 0.85, "ci_high": 0.95, "ci_level": level}
    rows = [replace(row, **known) if row.metric == over_ranks.EFFICIENCY else row for row in reading.rows]
    data = ReportData([replace(reading, rows=rows)])
    weak = next(s for s in over_ranks.scalings(data) if s.kind == "weak")
    row = weak.curves[0].last
    assert (row.ci_low, row.ci_high, row.ci_level) == (0.85, 0.95, level)
    assert over_ranks.percent(row) == "90.0 %" + " (85.0 % to 95.0 %)" * shown
    assert value(row) == "0.900" + " (0.850 to 0.950)" * shown
    points = ranks_chart(weak, looks(c.label for c in weak.curves), [weak])["datasets"]["points"]
    drawn = {(d["low"], d["high"]) for d in points if d["x"] > 1}
    assert drawn == ({(0.85, 0.95)} if shown else {(None, None)})


def test_an_exchange_has_a_line_for_each_number_of_ranks_and_the_rate_of_the_link(data):
    (panel,) = over_ranks.exchanges(data)
    assert {c.label: [x for x, _ in c.points] for c in panel.curves} == {
        f"{ranks} ranks": [4096, 65536, 1 << 22] for ranks in (2, 4)
    }
    assert panel.curves[-1].last.value == pytest.approx(LINK / 2)
    assert [(link.rate, link.source) for link in panel.links] == [(LINK, "datasheet of a link")]


@pytest.mark.parametrize("fact", [Fact(reason="no driver"), Fact("fast"), Fact(0.0), Fact(-1.0), None])
def test_without_a_rate_in_the_facts_no_link_is_drawn(fact):
    facts = {} if fact is None else {"ranks.link_bandwidth": fact}
    (panel,) = over_ranks.exchanges(ReportData([replace(several_devices(), files=RunFiles(facts=facts))]))
    assert panel.links == ()


def test_the_link_may_be_a_fact_of_the_worker():
    reading = several_devices(link=0)
    rows = [replace(row, env_id="e_1") for row in reading.rows]
    known = {
        "e_1": {"ranks.link_bandwidth": Fact(5e10, "PCIe")},
        "e_2": {"ranks.link_bandwidth": Fact(1e9, "of another")},
    }
    data = ReportData([replace(reading, rows=rows, files=RunFiles(worker_facts=known))])
    assert [link.rate for link in over_ranks.exchanges(data)[0].links] == [5e10]


def test_two_machines_have_lines_of_their_own():
    data = ReportData([several_devices("a"), several_devices("b", 2, "cuda:x2")])
    weak = next(s for s in over_ranks.scalings(data) if s.kind == "weak")
    assert {(c.label, c.last.ranks) for c in weak.curves} == {
        *((f"a GPU x4 torch {name}", 4) for name in ("ddp", "fsdp")),
        *((f"b GPU x2 torch {name}", 2) for name in ("ddp", "fsdp")),
    }


def test_work_of_one_device_has_no_curve_over_ranks():
    data = ReportData([tables.reading(tables.processes([1.0, 1.1]))])
    assert not over_ranks.scalings(data)
    assert not over_ranks.exchanges(data)


def test_several_devices_are_in_no_figure_of_single_ones():
    """Of a run with a CPU, a GPU and four GPUs together, which did what the CPU did in two parts."""
    single = [m for device, t in (("cpu", 1.0), ("cuda:0", 0.1)) for m in tables.processes([t], device=device)]
    parts = [across((9.0, 9.1, 9.2), n, device="cpu:x2", size="tiny", implementation="ddp") for n in (1, 2)]
    data = ReportData([several_devices(others=[*single, *parts])])
    assert [c.label for c in data.contenders] == ["CPU", "CPU x2", "GPU", "GPU x4"]
    assert [c.label for c in data.gpus] == ["GPU"]
    (sides,) = data.sides
    assert (sides.kind, [c.label for c in sides.contenders]) == (Kind.GPU, ["GPU"])
    assert {s.family.workload for s in figures.speedups(data)} == {"matmul"}
    assert not any(c.is_several for c in data.drawn)
    works = [c.family for c in figures.crossovers(data)] + [s.family for s in figures.sweeps(data)]
    works += [rate.family for rate in figures.model_rates(data)]
    assert not any(family.across_ranks for family in works)
    assert {cell.line for cell in figures.heat(data)} == {"matmul float32 · 64"}
    assert not any(cell.column.is_several for cell in figures.heat(data))


def test_machines_are_compared_on_equal_ranks():
    data = ReportData([several_devices("a"), several_devices("b", 2, "cuda:x2")])
    (sides,) = data.sides
    assert sides.kind is Kind.MACHINE
    assert {s.row.ranks for s in figures.speedups(data)} == {1, 2}
    assert all(s.row.ranks == s.base.ranks for s in figures.speedups(data))


# ---------------------------------------------------------------- pairs of ranks

ROW = several_devices(ranks=2, device="cuda:x2").rows[0]


def rates(ranks, slow=(), share=0.5):
    """Return the rates of all pairs: those in which all of these ranks are have `share` of the others'."""
    return {pair: 1e9 * (share if slow and set(slow) <= set(pair) else 1.0) for pair in combinations(range(ranks), 2)}


def rows_at(rates, half=0.01):
    """Return rows of pairs at these rates, each with an interval of so much to either side."""
    known = {pair: {"ci_low": rate * (1 - half), "ci_high": rate * (1 + half)} for pair, rate in rates.items()}
    return {pair: replace(ROW, value=rate, ci_level=stats.CONFIDENCE, **known[pair]) for pair, rate in rates.items()}


def noisy(rates, scatter, seed):
    drawn = random.Random(seed)
    return {pair: rate * drawn.gauss(1.0, scatter) for pair, rate in rates.items()}


@pytest.mark.parametrize("ranks", [3, 4, 5, 8])
def test_a_rank_of_which_all_pairs_are_slow_is_named_and_so_is_a_single_slow_link(ranks):
    for who in (*((rank,) for rank in range(ranks)), *combinations(range(ranks), 2)):
        found = over_ranks.slow(rows_at(noisy(rates(ranks, who), 0.02, seed=1)))
        assert found.ranks == who
        assert found.share == pytest.approx(0.5, rel=0.1)


def test_the_words_say_whether_it_is_a_rank_or_a_link():
    rank, link = (over_ranks.slow(rows_at(rates(4, who))) for who in ((2,), (0, 3)))
    assert rank.text == "rank 2 is slow (at most 50.0 % of any other pair)"
    assert link.text == "link 0-3 is slow (at most 50.0 % of any other pair)"


@pytest.mark.parametrize("ranks", [3, 4, 5, 8])
@pytest.mark.parametrize(("scatter", "most"), [(0.0, 0), (0.03, 0), (0.1, 6)])
def test_of_equal_ranks_noise_makes_none_slow(ranks, scatter, most):
    """Even if the intervals tell nothing of how much cases differ from each other: of 200 runs, 3 % at 10 %."""
    runs = (noisy(rates(ranks), scatter, seed) for seed in range(200 if scatter else 1))
    found = [over_ranks.slow({at: SimpleNamespace(value=v, interval=(v, v)) for at, v in run.items()}) for run in runs]
    assert sum(each is not None for each in found) <= most


def test_a_single_disturbed_case_makes_no_link_slow():
    assert not over_ranks.slow(rows_at(rates(8, (2, 5), 0.8)))
    assert over_ranks.slow(rows_at(rates(8, (2, 5), 0.7))).ranks == (2, 5)


def test_a_small_difference_is_told_of_many_ranks_but_not_of_few():
    """Of three, one has the two slower pairs by chance alone."""
    assert {n: bool(over_ranks.slow(rows_at(rates(n, (1,), 0.85)))) for n in (3, 4, 8)} == {3: False, 4: True, 8: True}
    assert {n: bool(over_ranks.slow(rows_at(rates(n, (1,), 0.93)))) for n in (3, 4, 8)} == {3: False, 4: False, 8: True}
    assert not over_ranks.slow(rows_at(rates(8, (1,), 0.96), half=0.001))


def test_an_interval_that_reaches_the_others_makes_none_slow():
    assert over_ranks.slow(rows_at(rates(4, (1,)), half=0.25))
    assert not over_ranks.slow(rows_at(rates(4, (1,)), half=0.4))
    one = rows_at(rates(4, (1,)))
    one[0, 1] = replace(one[0, 1], ci_high=1.1e9)
    assert not over_ranks.slow(one)


def test_links_of_two_kinds_or_two_bad_ones_or_a_fast_one_make_none_slow():
    kinds = {(a, b): 4e9 if a // 2 == b // 2 else 1e9 for a, b in combinations(range(8), 2)}
    assert not over_ranks.slow(rows_at(kinds))
    assert not over_ranks.slow(rows_at(rates(8) | {(0, 1): 5e8, (4, 6): 5e8}))
    assert not over_ranks.slow(rows_at(rates(8) | {(0, 1): 5e9}))
    assert not over_ranks.slow(rows_at(rates(8, (3,)) | {(3, 4): 9e8})), "one pair of the rank is as fast as others"


def test_a_rank_with_a_single_pair_is_not_told_from_its_link():
    assert over_ranks.slow(rows_at(rates(5) | {(0, 5): 5e8})).ranks == (0, 5)
    assert not over_ranks.slow(rows_at(rates(5) | {(0, 5): 8.5e8}))


@pytest.mark.parametrize("pairs", [(), ((0, 1),), ((0, 1), (1, 2)), ((0, 1), (2, 3))])
def test_fewer_than_three_pairs_tell_nothing(pairs):
    assert over_ranks.slow(rows_at({pair: 1e9 / (1 + place) for place, pair in enumerate(pairs)})) is None


def test_a_row_without_an_interval_counts_by_its_value():
    rows = {pair: replace(ROW, value=rate, ci_low=None, ci_high=None) for pair, rate in rates(5, (4,)).items()}
    assert over_ranks.slow(rows).ranks == (4,)


def test_pairs_are_no_curves_over_bytes_and_those_of_each_size_and_target_are_apart():
    small = paired(rates(4, (2,)), size=4096)
    there = ReportData([several_devices(others=small), several_devices("b", 3, "cuda:x3")])
    assert {e.title for e in over_ranks.exchanges(there)} == {"swap float32"}
    found = {(p.contender.label, p.work): p for p in over_ranks.pairs(there)}
    assert {at: (p.ranks, len(p.rows), p.slow and p.slow.ranks) for at, p in found.items()} == {
        ("a GPU x4", "swap_two float32 4 KiB"): (4, 6, (2,)),
        ("a GPU x4", "swap_two float32 16 MiB"): (4, 6, None),
        ("b GPU x3", "swap_two float32 16 MiB"): (3, 3, None),
    }


def test_of_two_results_of_a_pair_the_better_counts():
    others = paired(rates(4), noise=0.0, implementation="other")
    (found,) = over_ranks.pairs(ReportData([several_devices(others=others)]))
    best = {pair: max(rate, 1e9) for pair, rate in alike(4).items()}
    assert {pair: row.value for pair, row in found.rows.items()} == pytest.approx(best)


@pytest.mark.parametrize("pair", ["", "0", "0-0", "1-", "a-b", "0-1-2", "-1-2", "0-9999999"])
def test_what_is_no_pair_of_ranks_is_neither_a_cell_nor_a_curve(pair):
    reading = several_devices()
    rows = [replace(row, params=row.params.replace("pair=0-1", f"pair={pair}")) for row in reading.rows]
    there = ReportData([replace(reading, rows=rows)])
    assert (0, 1) not in over_ranks.pairs(there)[0].rows
    assert len(over_ranks.pairs(there)[0].rows) == 5
    assert {e.title for e in over_ranks.exchanges(there)} == {"swap float32"}


def test_the_summary_has_a_line_of_the_pairs_that_names_the_slow_one():
    there = ReportData([several_devices(others=paired(rates(4, (2,)), size=4096))])
    said = {one.work: one.value for one in over_ranks.reached(there)}
    assert said["swap_two float32 4 KiB, 6 pairs"] == (
        "bus 500 MB/s to 1.00 GB/s; rank 2 is slow (at most 50.0 % of any other pair)"
    )
    assert said["swap_two float32 16 MiB, 6 pairs"] == "bus 150 GB/s to 153 GB/s"
    assert not [work for work in said if work.startswith("swap_two") and "pairs" not in work]
