"""The JSON of Google Benchmark (`--benchmark_format=json`, `--benchmark_out=FILE`).

`real_time` is the time. Repetitions of one benchmark are its samples; where a file has only their aggregates, the
median and the others are its columns. `bytes_per_second` and `items_per_second` are rates. Other counters are measured
values for which there is no metric: run.json keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_core import stats
from bench_core.errors import TableError
from bench_core.imported.entries import Entry, Imported, Masked, Quantity, are_times, moment, size_of
from bench_core.imported.fields import Node, checked_number
from bench_core.records import Fact, Facts, Status

TOOL = "google-benchmark"
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATES = {"bytes_per_second": "bandwidth", "items_per_second": "sample_rate"}
_AGGREGATES = {"mean": "mean", "median": "value", "stddev": "std", "min": "min", "max": "max"}
# The parts of a name that say how long it was measured; not what is measured.
_EFFORT = re.compile(r"(min_time|min_warmup_time|iterations|repeats):.*")
_TIMERS = ("process_time", "real_time", "manual_time")
_ARGUMENT = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_ .-]*):(-?[0-9][A-Za-z0-9.+-]*)")
# The fields that are no counters of the user.
_FIELDS = {
    *("name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions", "repetition_index"),
    *("threads", "aggregate_name", "aggregate_unit", "error_occurred", "error_message", "skipped", "skip_message"),
    *("iterations", "real_time", "cpu_time", "time_unit", "cpu_coefficient", "real_coefficient", "big_o", "rms"),
    *("allocs_per_iter", "max_bytes_used", "total_allocated_bytes", "net_heap_growth", "label"),
}


def read(path: Path, text: str) -> Imported:
    """Return the contents of a file. Raises TableError for a field that is missing or wrong."""
    root = Node.of_text(path, text)
    context = root["context"]
    mask = Masked.of([context.fields.get("host_name")])
    runs: dict[tuple[str, int], list[Node]] = {}
    for node in root["benchmarks"]:
        if node.optional("aggregate_name").text_or_empty in {"BigO", "RMS"}:  # a fit over sizes
            continue
        name = node.optional("run_name").text_or_empty or _without_aggregate(node)
        runs.setdefault((name, node.optional("threads").count if node.has("threads") else 0), []).append(node)
    if not runs:
        raise TableError(path, "benchmarks: is empty: no benchmark of the run has a result")
    left_out = {name: counters for (name, _), nodes in runs.items() if (counters := _counters(nodes))}
    return Imported(
        TOOL,
        mask.text(context.optional("library_version").text_or_empty),
        tuple(_entry(name, threads, nodes, mask) for (name, threads), nodes in runs.items()),
        moment(context.optional("date").value),
        facts=_facts(context),
        left_out={
            mask.name(name): {mask.name(of): number for of, number in found.items()} for name, found in left_out.items()
        },
    )


def _without_aggregate(node: Node) -> str:
    """Return the name of what was run, in files from before there was a field for it: an aggregate adds its own."""
    name, aggregate = node["name"].text, node.optional("aggregate_name").text_or_empty
    return name.removesuffix(f"_{aggregate}") if aggregate else name


def _entry(name: str, threads: int, nodes: Sequence[Node], mask: Masked) -> Entry:
    workload, params, size = _parsed(name, mask)
    about: dict[str, Any] = {"said": name, "workload": workload, "params": params, "threads": threads or None}
    about["size"] = size
    single = [node for node in nodes if node.optional("run_type").value != "aggregate" and not _aggregate(node)]
    for node in single:
        if node.optional("error_occurred").value is True:
            why = mask.text(node.optional("error_message").text_or_empty or "the benchmark reported an error")
            return Entry(**about, status=Status.ERROR, reason_code="error_occurred", reason=why)
    done = [node for node in single if node.optional("skipped").value is not True]
    if single and not done:
        why = mask.text(single[0].optional("skip_message").text_or_empty or "the benchmark was skipped")
        return Entry(**about, status=Status.SKIPPED, reason_code="skipped", reason=why)
    if done:
        times = tuple(_seconds(node) for node in done)
        loops = {node["iterations"].count for node in done}
        quantities = [Quantity("time", samples=times, inner_loops=loops.pop() if len(loops) == 1 else None)]
        is_time = are_times(times)
        for field, metric in _RATES.items():
            rates = [node[field].number for node in done if node.has(field)]
            if rates and are_times(rates):
                quantities.append(Quantity(metric, columns=_summary(rates)))
    else:
        quantities = _of_aggregates(nodes)
        is_time = are_times([quantities[0].columns.get("value") or 0.0])
    if not is_time:
        why = "not every repetition took a time above 0 s"
        return Entry(**about, status=Status.INVALID, reason_code="no_time", reason=why)
    return Entry(**about, quantities=tuple(quantities))


def _summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the statistical columns of a quantity that each repetition has told."""
    return Quantity("", samples=tuple(values)).statistics if len(values) > 1 else {"value": values[0], "n": 1}


def _aggregate(node: Node) -> str:
    """Return the name of the aggregate that an entry is, "" if it is none; old files tell it by the name alone."""
    found = node.optional("aggregate_name").text_or_empty
    if found or node.has("run_type"):
        return found
    ended = re.search(r"_(mean|median|stddev|cv)$", node["name"].text)
    return ended[1] if ended else ""


def _of_aggregates(nodes: Sequence[Node]) -> list[Quantity]:
    """Return what a file with aggregates alone tells: the median, or else the mean."""
    times: dict[str, Any] = {}
    rates: dict[str, dict[str, Any]] = {}
    count = None
    for node in nodes:
        column = _AGGREGATES.get(_aggregate(node))
        if column is None or node.optional("aggregate_unit").value == "percentage":
            continue
        times[column] = _seconds(node)
        count = node["repetitions"].count if node.has("repetitions") else count
        for field, metric in _RATES.items():
            if node.has(field):
                rates.setdefault(metric, {})[column] = node[field].number
    every = [("time", times), *rates.items()]
    for _, columns in every:
        columns.setdefault("value", columns.get("mean"))
        columns["n"] = count or None
        if not count or count < 2:
            columns.pop("std", None)
    return [Quantity(metric, columns=columns) for metric, columns in every if metric == "time" or columns["value"]]


def _seconds(node: Node) -> float:
    unit = node.optional("time_unit").text_or_empty or "ns"
    if unit not in _SECONDS:
        raise node.optional("time_unit").refuse(f"{unit!r} is none of {', '.join(_SECONDS)}")
    return node["real_time"].number * _SECONDS[unit]


def _parsed(name: str, mask: Masked) -> tuple[str, Mapping[str, str], str]:
    """Return the workload, the parameters and the size in a name.

    A name is that of the function, its arguments, how long it is measured, the timer and the number of threads, with a
    slash between them (benchmark_name.cc); the field `threads` tells that number again.
    """
    words = name.split("/")
    kept: list[str] = []
    timers: list[str] = []
    for word in words[1:]:
        if word in _TIMERS:
            timers.append(word)
        elif not _EFFORT.fullmatch(word) and not re.fullmatch(r"threads:\d+", word):
            kept.append(word)
    end = len(kept)
    while end and (_ARGUMENT.fullmatch(kept[end - 1]) or _NAMED.fullmatch(kept[end - 1])):
        end -= 1
    params: dict[str, str] = {}
    positional: list[str] = []
    for place, word in enumerate(kept[end:]):
        named = _NAMED.fullmatch(word)
        positional += [] if named else [word]
        params[mask.name(named[1]) if named else f"arg{place}"] = named[2] if named else word
    params |= {"timer": "+".join(timers)} if timers else {}
    is_all = positional and len(positional) == len(kept) - end and all(word.isdecimal() for word in positional)
    return mask.name("/".join([words[0], *kept[:end]])), params, "x".join(positional) if is_all else size_of(params)


def _counters(nodes: Sequence[Node]) -> dict[str, float]:
    """Return the median over repetitions of each counter of the user that is a number; what is none is no fact."""
    single = [node for node in nodes if not _aggregate(node) and node.optional("run_type").value != "aggregate"]
    found: dict[str, list[float]] = {}
    for node in single:
        for name, value in node.fields.items():
            if name in _FIELDS or name in _RATES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            try:
                found.setdefault(name, []).append(checked_number(value, node))
            except TableError:
                continue  # NaN and infinities are written where nothing was counted
    return {name: stats.quantile(sorted(values), 0.5) for name, values in found.items() if values}


def _facts(context: Node) -> Facts:
    facts: Facts = {}
    if context.has("num_cpus") and (threads := context["num_cpus"].count):
        facts["cpu.threads"] = Fact(threads, f"{TOOL}: context.num_cpus")
    if context.has("mhz_per_cpu") and (frequency := context["mhz_per_cpu"].number) > 0:
        facts["cpu.frequency"] = Fact(frequency * 1e6, f"{TOOL}: context.mhz_per_cpu")
    caches: dict[str, int] = {}
    for cache in context.optional("caches"):
        if cache.optional("type").text_or_empty in {"Data", "Unified"} and cache["size"].count:
            caches.setdefault(f"L{cache['level'].count}", cache["size"].count)
    if caches:
        facts["cpu.caches"] = Fact(caches, f"{TOOL}: context.caches")
    scaling = context.optional("cpu_scaling_enabled").value
    if isinstance(scaling, bool):
        facts["cpu.frequency_scaling"] = Fact(scaling, f"{TOOL}: context.cpu_scaling_enabled")
    return facts
