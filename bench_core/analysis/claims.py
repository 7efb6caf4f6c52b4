"""The claims that a report answers, in the order in which it shows them, and the results that answer each.

A claim is a sentence about why generative AI needs GPUs; README.md lists them. Which work tests a claim is a trait of
the workload (`Traits.claims`). This is not the claim of a comparison, which is the highest step of its ladder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench_core.analysis import figures, over_ranks
from bench_core.analysis.families import Family
from bench_core.analysis.figures import Speedup
from bench_core.analysis.report_data import ReportData
from bench_core.compare.verdicts import Pair
from bench_core.records import Claim, Row, Scope, type_of
from bench_core.results.metrics import METRICS


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim in words.

    claim: that of the workloads that test it, None if other rows do. metrics: those that test it. shown: those of them
    that the page shows; of a family that has none of them, its headline metric. needs: what runs lack that do not
    answer it.
    """

    text: str
    claim: Claim | None
    metrics: tuple[str, ...]
    shown: tuple[str, ...]
    needs: str


PRODUCTS = Statement(
    "parallel arithmetic decides",
    Claim.ARITHMETIC,
    ("flop_rate", "fraction_of_measured_peak"),
    ("flop_rate",),
    "matrix products (in every preset)",
)
STREAMS = Statement(
    "memory bandwidth decides",
    Claim.BANDWIDTH,
    ("bandwidth",),
    ("bandwidth",),
    "memory streams (in every preset)",
)
MOVING = Statement(
    "moving data to the device takes time",
    Claim.MOVING_DATA,
    ("latency", "fitted_bandwidth", "time"),
    ("fitted_bandwidth", "latency"),
    "transfers to and from a GPU (in every preset, if there is one)",
)
TRAINING = Statement(
    "training: predict the next word, adjust the weights",
    Claim.TRAINING,
    ("token_rate", "flop_rate"),
    ("token_rate",),
    "the training of a language model (in every preset)",
)
TOKENS = Statement(
    "inference: token by token",
    Claim.TOKENS,
    ("time_to_first_token", "time_per_output_token"),
    ("time_per_output_token", "time_to_first_token"),
    "text generation (in every preset)",
)
IMAGES = Statement(
    "inference: an image",
    Claim.IMAGES,
    ("sample_rate",),
    ("sample_rate",),
    "image generation (in every preset)",
)
NETWORKS = Statement(
    "deep networks, Transformers, GANs",
    Claim.NETWORKS,
    ("sample_rate", "peak_memory"),
    ("sample_rate",),
    "networks (in every preset)",
)
SCALING = Statement(
    "scaling up",
    None,
    (),
    (),
    "several sizes on a GPU and a CPU of one machine, as the presets quick and standard have",
)
CLUSTERS = Statement(
    "scaling up to clusters",
    Claim.SCALING,
    (over_ranks.EFFICIENCY, "speedup", "exposed_communication"),
    (over_ranks.EFFICIENCY,),
    "training on several devices together (--bench-backends=torch:cuda:x8 on eight GPUs, torch:cpu:x2 on a CPU in two "
    "parts)",
)
ENERGY = Statement(
    "energy use",
    None,
    ("energy", "tokens_per_joule", "flops_per_joule"),
    ("tokens_per_joule", "flops_per_joule"),
    "the preset standard, and an energy counter that can be read: NVML of a GPU, RAPL of a CPU",
)
COST = Statement("cloud cost", None, (), (), "the price of an hour of each machine, which bench-core cost takes")
OTHERS = Statement(
    "other accelerators", None, (), (), "an Apple (mps) or Intel (xpu) GPU, or a plug-in for another device"
)
STATEMENTS = (PRODUCTS, STREAMS, MOVING, TRAINING, TOKENS, IMAGES, NETWORKS, SCALING, CLUSTERS, ENERGY, COST, OTHERS)


RESIDENT = "the same work on data that is there"  # the baseline of work that includes the transfer of its data


@dataclass(frozen=True, slots=True)
class Evidence:
    """The results of one family that answer a claim, in one metric, at one size.

    speedups: those of all contenders; their rows are of this metric. alone: if there are none, because there is nothing
    to compare with, or for a transfer, the best row of each device, of each backend of the only device.
    """

    family: Family
    metric: str
    speedups: tuple[Speedup, ...]
    alone: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What these runs say about a claim: nothing if they do not answer it.

    crossed: for SCALING alone; scaled: for CLUSTERS alone.
    """

    statement: Statement
    evidence: tuple[Evidence, ...] = ()
    crossed: tuple[figures.Crossover, ...] = ()
    scaled: tuple[over_ranks.Scaling, ...] = ()

    @property
    def is_known(self) -> bool:
        return bool(self.evidence or self.crossed or self.scaled)


def answers(data: ReportData) -> list[Answer]:
    """Return the answer to every statement, in their order."""
    found = _found(data, {metric for statement in STATEMENTS for metric in statement.shown})
    return [_checked(data, _answer(data, statement, found)) for statement in STATEMENTS]


def _checked(data: ReportData, answer: Answer) -> Answer:
    """Return an answer without what rests on a value that has not been checked."""
    if not data.unchecked:
        return answer
    evidence = (
        replace(
            e,
            speedups=tuple(s for s in e.speedups if s.is_checked),
            alone=tuple(row for row in e.alone if not row.is_unchecked),
        )
        for e in answer.evidence
    )
    scaled = (s for s in answer.scaled if not any(row.is_unchecked for c in s.curves for _, row in c.points))
    return replace(
        answer,
        evidence=tuple(e for e in evidence if e.speedups or e.alone),
        crossed=tuple(c for c in answer.crossed if data.unchecked.isdisjoint(data.cases(c.family).values())),
        scaled=tuple(scaled),
    )


def has_tested_claims(data: ReportData) -> bool:
    """Return whether any work that tests a claim has a value."""
    tested = {case_id for f in data.families if data.traits(f).claims for case_id in data.cases(f).values()}
    return any(row.has_value and row.case_id in tested - data.unchecked for row in data.rows)


def of_each_workload(data: ReportData) -> list[Answer]:
    """Return what these runs say about every workload, for runs that answer no claim; its name is the statement."""
    works = {family: data.rate_of(family) for family in data.families}
    found = _found(data, works.values())
    names = dict.fromkeys((family.suite, family.workload) for family in works)
    by_name = {name: [(f, [metric]) for f, metric in works.items() if (f.suite, f.workload) == name] for name in names}
    return [
        answer
        for (_, workload), tested in by_name.items()
        if (answer := Answer(Statement(workload, None, (), (), ""), tuple(_evidence(data, tested, found)))).is_known
    ]


Found = Mapping[str, Mapping[Family, Sequence[Speedup]]]  # by the metric that is compared


def _found(data: ReportData, shown: Iterable[str]) -> Found:
    """Return the speed-ups in the metrics by which those that are shown are compared, and in time."""
    there = {row.metric for row in data.rows if row.has_value}
    wanted = {_compared(metric) for metric in shown} | {"time"}
    return {metric: _by_family(figures.speedups(data, metric=metric)) for metric in sorted(wanted & there)}


def _by_family(found: Iterable[Speedup]) -> dict[Family, list[Speedup]]:
    families: dict[Family, list[Speedup]] = {}
    for s in found:
        families.setdefault(s.family, []).append(s)
    return families


def _answer(data: ReportData, statement: Statement, found: Found) -> Answer:
    if statement is SCALING:
        return Answer(statement, crossed=tuple(figures.crossovers(data)))
    if statement is CLUSTERS:
        return Answer(statement, scaled=tuple(over_ranks.scalings(data)))
    families = [family for family in data.families if family.is_plain]
    if statement is OTHERS:
        tested = [(family, [data.rate_of(family)]) for family in families if data.traits(family).claims]
        evidence = (_of_others(data, e) for e in _evidence(data, tested, found))
        return Answer(statement, tuple(e for e in evidence if e.speedups or e.alone))
    if statement is ENERGY:
        measured = [(family, _there(data, family, statement.shown)) for family in families]
        return Answer(statement, tuple(_evidence(data, measured, found)))
    tested = [
        (family, _there(data, family, statement.shown) or [data.rate_of(family)])
        for family in families
        if statement.claim in data.traits(family).claims
    ]
    if statement is MOVING:  # a transfer has no counterpart: against another library it does not tell what moving costs
        return Answer(statement, (*_evidence(data, tested, {}), *_end_to_end(data)))
    return Answer(statement, tuple(_evidence(data, tested, found)))


def _there(data: ReportData, family: Family, metrics: Iterable[str]) -> list[str]:
    """Return the metrics that this family has."""
    cases = data.cases(family).values()
    return [metric for metric in metrics if any(data.holders(case_id, metric) for case_id in cases)]


def _evidence(data: ReportData, tested: Iterable[tuple[Family, Sequence[str]]], found: Found) -> Iterator[Evidence]:
    """Yield what there is of these families in these metrics."""
    for family, metric in ((family, metric) for family, metrics in tested for metric in metrics):
        compared = found.get(_compared(metric), {}).get(family, ())
        shown = tuple(replace(s, row=data.same(s.row, metric), base=data.same(s.base, metric)) for s in compared)
        alone = () if shown else _alone(data, family, metric)
        if shown or alone:
            yield Evidence(family, metric, shown, alone)


def _compared(metric: str) -> str:
    """Return the metric by which results are compared: the time, from which rates follow, or a metric of its own."""
    formula = METRICS[metric].formula if metric in METRICS else None
    return "time" if formula and formula.depends_only_on("time") else metric


def _alone(data: ReportData, family: Family, metric: str) -> tuple[Row, ...]:
    """Return the best row of each side, at the largest size that any of them finished."""
    found = (data.best_of_each(case_id, metric) for case_id in reversed(data.cases(family).values()))
    return tuple(next(filter(None, found), ()))


def _of_others(data: ReportData, evidence: Evidence) -> Evidence:
    """Return the part that is of other devices than CPUs and those with CUDA."""
    others = {c for c in data.contenders if type_of(c.device) not in ("cpu", "cuda")}
    speedups = tuple(s for s in evidence.speedups if s.contender in others)
    return replace(evidence, speedups=speedups, alone=tuple(r for r in evidence.alone if data.contender(r) in others))


def _end_to_end(data: ReportData) -> list[Evidence]:
    """Return the work of GPUs that includes the transfer of its data, against the same work on data that is there."""
    found = []
    for family in (f for f in data.families if f.scope == Scope.END_TO_END):
        resident = data.families.get(replace(family, scope=Scope.RESIDENT), {})
        for gpu in data.gpus:
            sizes = [(resident[size], case_id) for size, case_id in data.cases(family).items() if size in resident]
            both = [(data.fastest(gpu, there), data.fastest(gpu, moved)) for there, moved in sizes]
            known = [(family, gpu, there[0], moved[0]) for there, moved in both if there and moved]
            found += known[-1:]
    keys = [data.rankings[moved.entry.row.case_id].key for *_, moved in found]
    pairs = [
        Pair(key, gpu.label, RESIDENT, there, moved) for key, (_, gpu, there, moved) in zip(keys, found, strict=True)
    ]
    return [
        Evidence(family, "time", (s,))
        for (family, gpu, _, _), c in zip(found, data.judged(pairs), strict=True)
        if (s := Speedup.of(family, gpu, RESIDENT, c))
    ]
