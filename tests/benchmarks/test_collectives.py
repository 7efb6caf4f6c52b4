"""Collectives: exact answers on every rank, a faulty one is found on any, and bytes are counted as nccl-tests does."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bench_core.errors import WrongAnswer
from bench_core.machine.cpu_limits import limits_of
from bench_core.plan.expansion import expand
from bench_core.records import Case, Clock, Machine, Measurement, Preset, Series, Status, Target, Traffic
from bench_core.results.reader import read_rows
from bench_core.results.rows import rows_of_run
from bench_core.results.traits import TraitsOf
from bench_core.run.plausibility import refuse_implausible
from benchmarks import bench_collectives
from benchmarks.bench_collectives import KIB, MIB
from tests.support import ROOT
from tests.support import kernels as support
from tests.support.planned import FILES, workloads
from tests.support.rates import RUN, measured
from tests.support.simulated_ranks import Collectives, on_every_rank

ALL = {each.name: each for each in workloads([path for path in FILES if path.stem == "bench_collectives"])}
PAIRS = "send_recv_pair"
TOGETHER = [name for name in ALL if name != PAIRS]  # the works of all ranks
REDUCTIONS = [name for name, each in ALL.items() if each.reduces]
DTYPES = bench_collectives.DTYPES


def machine(ranks):
    return Machine(32 << 20, 2, "cpu", ranks)


def planned(preset, ranks=8, name="all_reduce"):
    return list(ALL[name].works(preset, machine(ranks)))


# ---------------------------------------------------------------- the right answers


def simulated(name, arrays, work):
    """Return the answer on each rank, given the array of each: written down again, whole arrays at once."""
    n = len(arrays)
    parts = [np.split(array, n) for array in arrays] if name in {"reduce_scatter", "all_to_all"} else []
    return {
        "all_reduce": lambda: [np.sum(arrays, axis=0)] * n,
        "all_gather": lambda: [np.concatenate(arrays)] * n,
        "reduce_scatter": lambda: [np.sum([part[rank] for part in parts], axis=0) for rank in range(n)],
        "broadcast": lambda: [arrays[0]] * n,
        "all_to_all": lambda: [np.concatenate([part[rank] for part in parts]) for rank in range(n)],
        "send_recv": lambda: [arrays[rank - 1] for rank in range(n)],
        "send_recv_pair": lambda: [arrays[1], arrays[0], *arrays[2:]],
    }[name]()


def case(name, ranks, size, dtype="float32"):
    """Return a work, what each rank sends, the right answers, and what each rank expects."""
    workload, work = ALL[name], ALL[name].exchange(size, dtype, ranks)
    host = workload.inputs(work, np.random.default_rng(0))
    own = [workload.on_rank(work, host, rank) for rank in range(ranks)]
    arrays = [np.resize(each["x"], bench_collectives.sent(work)) for each in own]
    return work, arrays, simulated(name, arrays, work), [workload.reference(work, each) for each in own]


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [4 * KIB, 2 * MIB])  # 2 MiB: the numbers of a rank are repeated
def test_the_right_answer_is_exact_on_every_rank_and_fits_no_other(name, ranks, size):
    work, _, answers, expected = case(name, ranks, size)
    for rank in {0, 1, ranks - 1}:
        assert ALL[name].verify(work, expected[rank], {"out": answers[rank]}) == 0.0
    if name in {"reduce_scatter", "all_to_all", "send_recv", "send_recv_pair"}:
        with pytest.raises(WrongAnswer):
            ALL[name].verify(work, expected[0], {"out": answers[1]})


@pytest.mark.parametrize("ranks", [2, 64, 256])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_bfloat16_holds_every_sum_in_any_order(name, ranks):
    """Numbers below 0 or broken ones would not do: partial sums too are integers up to 256."""
    torch = pytest.importorskip("torch")
    work, arrays, answers, expected = case(name, ranks, 4 * KIB, "bfloat16")
    assert max(array.max() for array in arrays) >= 1
    rank = ranks - 1
    rounded = [torch.from_numpy(array).bfloat16() for array in arrays]
    if name == "reduce_scatter":
        rounded = [each.chunk(ranks)[rank] for each in rounded]
    for order in (rounded, rounded[::-1]):
        total = order[0].clone()
        for each in order[1:]:
            total += each
        assert np.array_equal(total.float().numpy(), answers[rank])
        assert ALL[name].verify(work, expected[rank], {"out": total.float().numpy()}) == 0.0


@pytest.mark.parametrize("ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("name", ALL)
def test_a_collective_that_does_nothing_leaves_out_a_rank_or_confuses_two_is_wrong(name, ranks):
    work, arrays, answers, expected = case(name, ranks, 16 * KIB)
    workload, faults = ALL[name], {}
    for left_out in {0, ranks - 1}:
        without = [np.zeros_like(x) if rank == left_out else x for rank, x in enumerate(arrays)]
        twice = [arrays[left_out - 1] if rank == left_out else x for rank, x in enumerate(arrays)]
        faults |= {f"without {left_out}": simulated(name, without, work)}
        faults |= {f"{left_out - 1} in place of {left_out}": simulated(name, twice, work)}
    if name in {"all_gather", "all_to_all"}:
        faults["swapped"] = [np.concatenate(np.split(x, ranks)[::-1]) for x in answers]
    if len(arrays[0]) == len(answers[0]):
        faults["does nothing"] = arrays
    for fault, wrong in faults.items():
        found = []
        for rank in {0, 1, ranks // 2, ranks - 1}:
            if not np.array_equal(wrong[rank], answers[rank]):
                with pytest.raises(WrongAnswer):
                    workload.verify(work, expected[rank], {"out": wrong[rank]})
                found.append(rank)
        assert found or name in {"broadcast", "send_recv"}, f"{fault}: nobody would notice"


def test_a_single_wrong_element_is_found():
    work, _, answers, expected = case("all_gather", 3, 2 * MIB)
    wrong = answers[2].copy()
    wrong[-1] += 1
    with pytest.raises(WrongAnswer):
        ALL["all_gather"].verify(work, expected[2], {"out": wrong})


# ---------------------------------------------------------------- the kernels, as a run checks them

CALLS = {
    "all_reduce",
    "broadcast",
    "all_gather_single",
    "reduce_scatter_single",
    "all_to_all_single",
    "batch_isend_irecv",
}


def outcomes(name, ranks, collectives=Collectives, dtype="float32"):
    """Return the status and the reason of each rank after both checks of a case."""
    return checked(ALL[name], ALL[name].exchange(4 * KIB, dtype, ranks), collectives)


def checked(workload, work, collectives=Collectives):
    done = on_every_rank(work.ranks, lambda on: support.looked_at(workload, work, on), collectives)
    return [(each.status, each.reason, each.rel_error, each.flags) for each in done]


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("name", ALL)
def test_every_kernel_is_right_in_both_looks_on_every_rank(name, ranks):
    pytest.importorskip("torch")
    assert outcomes(name, ranks) == [(Status.OK, "", 0.0, ())] * ranks


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_reduction_is_exact_in_bfloat16(name):
    pytest.importorskip("torch")
    assert outcomes(name, 3, dtype="bfloat16") == [(Status.OK, "", 0.0, ())] * 3


class DoesNothing(Collectives):
    """Every call after so many returns at once."""

    working = 0

    def __getattribute__(self, name):
        found = super().__getattribute__(name)

        def call(*given, **named):
            self.working -= 1
            return found(*given, **named) if self.working >= 0 else []

        return call if name in CALLS else found


class DoesNothingAnyMore(DoesNothing):
    """Each but the first: the answer is there from then on."""

    working = 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("fault", [DoesNothing, DoesNothingAnyMore])
def test_a_collective_that_does_nothing_is_found_on_every_rank(name, fault):
    pytest.importorskip("torch")
    found = outcomes(name, 3, fault)
    assert [status for status, *_ in found] == [Status.INVALID] * 3
    assert len({reason for _, reason, *_ in found}) == 1
    assert "rank " in found[0][1]


class LeavesOutTheLast(Collectives):
    """Nobody hears of the last rank."""

    def of_all(self, x):
        return [*super().of_all(x)[:-1], x * 0]


@pytest.mark.parametrize("name", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_a_rank_that_nobody_hears_of_is_found(name):
    pytest.importorskip("torch")
    assert {status for status, *_ in outcomes(name, 3, LeavesOutTheLast)} == {Status.INVALID}


# ---------------------------------------------------------------- two of the ranks

PAIR = ALL[PAIRS]


@pytest.mark.parametrize("ranks", [3, 4])
def test_every_pair_is_right_in_both_looks_on_every_rank(ranks):
    pytest.importorskip("torch")
    measured = bench_collectives.pairs(ranks)
    assert sorted(measured) == list(combinations(range(ranks), 2))
    for pair in measured:
        work = PAIR.exchange(4 * KIB, "float32", ranks, pair)
        assert checked(PAIR, work) == [(Status.OK, "", 0.0, ())] * ranks


def test_the_ranks_of_a_pair_alone_are_timed():
    """If one that waits began late, the time would be too short."""
    pytest.importorskip("torch")
    work = PAIR.exchange(4 * KIB, "float32", 4, (1, 3))

    def takes_part(on):
        host = PAIR.inputs(work, np.random.default_rng(0))
        kernel = PAIR.build(on, Case(work, "torch", "cpu:x4"), PAIR.on_rank(work, host, on.ranks.rank))
        return kernel.takes_part

    assert on_every_rank(4, takes_part) == [False, True, False, True]


class TakenForTheNext(Collectives):
    """Every rank does what the next should do: other ranks exchange their arrays than those of the pair."""

    def get_rank(self, group):
        return (self.rank + 1) % self.size

    def get_global_rank(self, group, rank):
        return (rank - 1) % self.size


def with_kernel(spoilt):
    """Return the workload with `spoilt(kernel, rank)` as what is timed."""

    def build(backend, work, host):
        kernel = bench_collectives.torch_pair(backend, work, host)
        return replace(kernel, run=spoilt(kernel, backend.ranks.rank))

    return type("Spoilt", (type(PAIR),), {"kernels": {"torch": {"default": build}}})()


def overwriting(whom, calls_before=0):
    """Return a fault: the output of a rank is overwritten in every call after so many."""

    def spoilt(kernel, rank):
        calls = iter(range(1000))

        def run():
            out = kernel.run()
            return out.add_(1) if next(calls) >= calls_before and rank == whom else out

        return run

    return spoilt


def test_what_is_sent_to_another_rank_is_wrong_on_all_three():
    pytest.importorskip("torch")
    work, arrays, answers, expected = case(PAIRS, 3, 4 * KIB)
    assert [status for status, *_ in checked(PAIR, work, TakenForTheNext)] == [Status.INVALID] * 3
    for rank, wrong in enumerate([arrays[2], arrays[1], arrays[0]]):
        assert not np.array_equal(wrong, answers[rank])
        with pytest.raises(WrongAnswer):
            PAIR.verify(work, expected[rank], {"out": wrong})


@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_rank_that_waits_and_is_overwritten_is_found_also_in_the_second_look_alone(calls_before):
    pytest.importorskip("torch")
    work = PAIR.exchange(4 * KIB, "float32", 3, (0, 1))
    found = checked(with_kernel(overwriting(2, calls_before)), work)
    assert [status for status, *_ in found] == [Status.INVALID] * 3
    assert all(reason.startswith("rank 2: ") == (not calls_before) for _, reason, *_ in found)
    assert all("rank 2: " in reason for _, reason, *_ in found)


def test_pairs_are_measured_on_three_ranks_and_more_in_float32_but_not_in_smoke_and_headline():
    every = {preset: planned(preset, 8, PAIRS) for preset in Preset if preset is not Preset.HEADLINE}
    assert {preset: len(works) for preset, works in every.items()} == {
        Preset.SMOKE: 0,
        Preset.QUICK: 28,
        Preset.STANDARD: 56,
        Preset.FULL: 56,
    }
    assert {work["bytes"] for work in every[Preset.QUICK]} == {16 * MIB}
    assert {work["bytes"] for work in every[Preset.FULL]} == {4 * KIB, 16 * MIB}
    for works in every.values():
        assert {(work.dtype, work.ranks) for work in works} <= {("float32", 8)}
        assert len({work.size for work in works}) == len(works) == len({work.case_id for work in works})
    assert not any(planned(preset, 2, PAIRS) for preset in every)
    assert len(planned(Preset.QUICK, 3, PAIRS)) == 3


@pytest.mark.parametrize("ranks", [9, 11, 16, 64])
def test_of_many_ranks_each_is_measured_with_those_at_powers_of_two(ranks):
    found = bench_collectives.pairs(ranks)
    apart = {(high - low) % ranks for low, high in found}
    assert {min(step, ranks - step) for step in apart} == {1 << i for i in range(6) if 2 << i <= ranks}
    assert len(set(found)) == len(found)
    assert all(low < high for low, high in found)
    assert len({sum(rank in pair for pair in found) for rank in range(ranks)}) == 1


def test_no_rank_has_its_pairs_one_after_the_other():
    """What disturbs the machine for a while would look like a slow rank."""
    for ranks in (4, 5, 8):
        found = bench_collectives.pairs(ranks)
        for rank in range(ranks):
            places = [place for place, pair in enumerate(found) if rank in pair]
            assert places[-1] - places[0] >= 2 * (len(places) - 1) - 1


def test_the_bytes_of_a_pair_are_counted_once():
    costs = PAIR.costs(PAIR.exchange(MIB, "float32", 3, (0, 2)))
    assert costs.amounts == {"algorithm_bytes": MIB, "bus_bytes": MIB}


# ---------------------------------------------------------------- a run

METRICS = {"time", "algorithm_bandwidth", "bus_bandwidth"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The rows of a run of smoke on two processes that PyTorch has launched: some 10 s, for all tests below."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("smoke")
    options = ["--benchmark-only", "--bench-preset=smoke", "--bench-backends=torch:cpu:x2", f"--bench-output={folder}"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", bench_collectives.__file__, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_rows(next(folder.rglob("results.csv")))


def test_smoke_is_right_on_two_processes(smoke):
    assert {row.status for row in smoke} == {"ok"}
    assert {row.rel_error for row in smoke if row.metric == "time"} == {0.0}
    assert len({row.case_id for row in smoke}) == len(TOGETHER) + len(REDUCTIONS)


def test_no_rank_is_slow_by_its_place_in_an_exchange(smoke):
    """The root of a broadcast is done before the others."""
    assert {each.traits.traffic for each in ALL.values()} == {Traffic.LINK}
    assert not [row for row in smoke if "slow_rank" in row.flags]


def test_its_rows_have_the_bandwidths_of_nccl_tests_and_none_of_memory(smoke):
    for case_id in {row.case_id for row in smoke}:
        found = {row.metric: row.value for row in smoke if row.case_id == case_id}
        assert found.keys() >= METRICS
        assert not any(name.startswith(("bandwidth", "fraction")) for name in found)
        workload = next(row.workload for row in smoke if row.case_id == case_id)
        assert found["bus_bandwidth"] == pytest.approx(ALL[workload].factor(2) * found["algorithm_bandwidth"])
        assert found["algorithm_bandwidth"] == pytest.approx(64 * KIB / found["time"])


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("all_reduce", lambda n: 2 * (n - 1) / n),
        ("all_gather", lambda n: (n - 1) / n),
        ("reduce_scatter", lambda n: (n - 1) / n),
        ("broadcast", lambda n: 1),
        ("all_to_all", lambda n: (n - 1) / n),
        ("send_recv", lambda n: 1),
    ],
)
def test_bytes_are_those_of_nccl_tests(name, factor):
    """github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md. Memory traffic is not counted: no ceiling of memory applies."""
    for ranks in (2, 3, 8, 64):
        work = ALL[name].exchange(MIB, "float32", ranks)
        costs = ALL[name].costs(work)
        size = MIB // (4 * ranks) * 4 * ranks
        assert costs.amounts == {"algorithm_bytes": size, "bus_bytes": pytest.approx(factor(ranks) * size)}
        assert (costs.bytes, costs.least_bytes, costs.flops) == (None, None, None)
        whole = max(bench_collectives.sent(work), bench_collectives.received(work))
        assert 4 * whole == size, "S is the larger array of a rank"


H200 = "NVIDIA H200"  # 4.8 TB/s of memory, 450 GB/s of NVLink in each direction


@pytest.mark.parametrize("rate", [482e9, 20e12])
@pytest.mark.parametrize(("device", "model"), [("cuda:x8", H200), ("cpu:x8", "Some CPU")])
@pytest.mark.parametrize("name", ALL)
def test_a_bus_bandwidth_above_the_wire_or_above_memory_is_not_implausible(name, device, model, rate):
    """Switches that reduce pass the wire's rate by this count: 8 x H200 reach 482 GB/s. It has no share of memory's."""
    workload, place = ALL[name], {"device": device, "name": model, "threads": None}
    work = workload.exchange(16 * MIB, "float32", 8)
    costs, traits = workload.costs(work), TraitsOf({(workload.suite, name): workload.traits})
    series = (Series("time", Clock.WALL, (costs.amounts["bus_bytes"] / rate,) * 3),)
    done = Measurement(Case(work, "torch", device), Status.OK, costs=costs, series=series, device_name=model)
    assert refuse_implausible(done, traits, limits_of({"sse2", "avx2"}, cores=2, memory_bandwidth=80e9)) is done
    stream = measured("memory", "copy", 1e-3, bytes_=1e9, least=1e9, **place)
    rows = [row for row in rows_of_run(RUN, [[done], [stream]], traits) if row.suite == workload.suite]
    assert {row.metric for row in rows} == METRICS
    assert {row.flags for row in rows} == {"single_run"}
    assert next(row.value for row in rows if row.metric == "bus_bandwidth") == pytest.approx(rate)


def test_sizes_are_from_4_kib_to_1_gib_and_long_enough_to_fit():
    for preset in (Preset.QUICK, Preset.STANDARD, Preset.FULL):
        sizes = [work["bytes"] for work in planned(preset) if (work.dtype, work.ranks) == ("float32", 8)]
        assert len(sizes) >= 4
        assert min(sizes) == 4 * KIB
        assert preset is Preset.QUICK or max(sizes) == 1024 * MIB


def test_standard_measures_fewer_ranks_as_well_and_no_two_works_have_one_label():
    for preset, counts in {
        Preset.SMOKE: {6},
        Preset.QUICK: {6},
        Preset.STANDARD: {2, 4, 6},
        Preset.FULL: {2, 4, 6},
    }.items():
        works = planned(preset, 6)
        assert {work.ranks for work in works} == counts
        assert len({(work.size, work.dtype) for work in works}) == len(works) == len({w.case_id for w in works})


def test_smoke_is_cheap():
    works = [work for name in ALL for work in planned(Preset.SMOKE, 2, name)]
    assert len(works) == len(TOGETHER) + len(REDUCTIONS)
    assert max(work["bytes"] for work in works) <= 64 * KIB


def test_full_measures_both_formats_everywhere_and_standard_those_that_add():
    for name in TOGETHER:
        assert {work.dtype for work in planned(Preset.FULL, 2, name)} == set(DTYPES)
        assert ({work.dtype for work in planned(Preset.STANDARD, 2, name)} == set(DTYPES)) == (name in REDUCTIONS)


def test_headline_has_one_bandwidth_of_each_on_all_ranks_and_one_latency():
    target = Target("torch", "torch", "cuda:x8")
    cases = [c for each in ALL.values() for c in expand(each, Preset.HEADLINE, [target], lambda _: machine(8))]
    assert sorted(c.work.size for c in cases) == ["4KiB-x8"] + ["64MiB-x8"] * 6


def test_what_does_not_fit_is_known_before_it_is_made():
    """Two arrays of the whole size at most, and one for the library."""
    for name, arrays in {"all_reduce": 3, "all_gather": 2.125, "reduce_scatter": 2.125, "send_recv": 3}.items():
        work = ALL[name].exchange(1024 * MIB, "bfloat16", 8)
        assert ALL[name].footprint(work) == arrays * 1024 * MIB
