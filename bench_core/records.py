"""The frozen records that all modules share.

Work         what is computed, independent of who computes it; its hash is the join key across hardware
Case         a Work on one backend, implementation, device and thread count: one line of the plan
Target       a backend on a device, for which a plan is expanded; Machine: what a plan for it may depend on
Costs        what the work costs by formula: FLOPs, bytes, samples, tokens
Series       raw seconds of one clock
Measurement  the outcome of a Case: a status with its reason, and the Series if there are any
Fact         one property of the machine with its source, or the reason why it is unknown
Run          the properties that all rows of a run share
Row          one line of results.csv: one metric of one Case; its fields are the schema
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from itertools import repeat
from typing import Any, Self

from bench_core.stats import CONFIDENCE
from bench_core.text import harmless, one_line

Param = int | float | str | bool
Identity = tuple[str, str, str, str, int | None]  # case_id, backend, implementation, device, threads
SCHEMA_VERSION = 1
NEVER_QUIET = "never_quiet"  # the flag of a time of which disturbed blocks count, because hardly any were calm
LAUNCH_BOUND = "launch_bound"  # the flag of a time in which the device waited for the host
# Flags of arrays that are read wholly or partly from a cache (FITS: of the level that follows), or that may be, because
# no size of a cache is known, or because a cold stream was as fast as a hot one (results/coldness.py).
FITS, NEAR_CACHE, CACHE_UNKNOWN, COLD_AS_HOT = "fits_", "near_cache", "cache_unknown", "cold_as_hot"
# Flags of "ieee" work whose float32 products were all (SPLIT) or partly computed as three TF32 products each, as
# accurate as float32 (NVIDIA CUTLASS, example 27, "3xTF32"). SPLIT names that precision too (machine/datasheets.py).
SPLIT, PARTLY_SPLIT = "3xtf32", "partly_3xtf32"
UNCHECKED_TIMING = "unchecked_timing"  # the flag of a case whose timed callable could not be checked
UNCHECKED = "unchecked"  # the flag of a case of which no right answer is known
IMPORTED = "imported"  # the flag of a row that another program has measured; it has UNCHECKED too
# The flag of a row whose processes were repeated until it was precise enough: its interval is that of sequential.py.
SEQUENTIAL = "sequential"
SAME_INPUTS = "same_inputs"  # the flag of a case that was checked again, but with the inputs of the timed calls
# What takes time from blocks (watch.py). The words are also flags of results of which such blocks count. THROTTLED is
# also the flag of a GPU whose clock was limited at an end, DRIFT only that of a CPU whose clock changed meanwhile.
OTHER_WORK, STEAL = "context_switches", "steal"
THROTTLED, SLOW_CLOCK, SHARED_GPU = "throttled", "slow_clock", "shared_gpu"
DRIFT = "drift"
_LONGEST_REASON = 1000  # characters; compilers answer with megabytes, and CSV readers refuse large cells
_SEVERAL = re.compile(r"[^:]+:x([2-9]|[1-9][0-9]{1,4})")  # the address of several devices
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:/-]*")


class Status(StrEnum):
    """The outcome of a planned case. The counts of all statuses add up to the plan."""

    OK = "ok"
    SKIPPED = "skipped"  # the library or the device is not available, or the memory is too small
    UNSUPPORTED = "unsupported"  # the backend is available but cannot do this work
    OOM = "oom"
    TIMEOUT = "timeout"
    ERROR = "error"  # the kernel raised
    CRASHED = "crashed"  # the process died
    INVALID = "invalid"  # the answer is wrong or the number impossible
    INTERRUPTED = "interrupted"  # not finished when the run ended


NOT_TRIED = frozenset({Status.SKIPPED, Status.UNSUPPORTED})  # nothing ran, and nothing went wrong

_LEAST, _MOST = 1e-100, 1e100  # of a quantity in base units

_WORST_FIRST = (
    *(Status.CRASHED, Status.TIMEOUT, Status.OOM, Status.ERROR, Status.INVALID, Status.INTERRUPTED),
    *(Status.UNSUPPORTED, Status.SKIPPED, Status.OK),
)


def severity(status: str) -> int:
    """Return the rank of a status, 0 for the worst: of several statuses, the worst one is reported."""
    return _WORST_FIRST.index(Status(status))


class Clock(StrEnum):
    """Two clocks with separate metrics, never mixed (`wall` synchronises; `device` reads device events)."""

    WALL = "wall"
    DEVICE = "device"


class Part(StrEnum):
    """A part of the time of a case or a run. "Measuring" is warm-up and timed blocks."""

    STARTING = "starting"  # processes: of pytest, of probes, of workers, and what they import
    INPUTS = "inputs"  # random arrays on the host
    CHECKS = "checks"  # references, and the comparison of answers with them
    BUILD = "build"  # upload, compilation, the first call
    WARM_UP = "warm_up"
    TIMED = "timed"
    AROUND = "around_blocks"  # collection of garbage, calls timed singly, the choice of the number of calls
    ENERGY = "energy"  # calls between two readings of an energy counter
    SECOND_LOOK = "second_look"  # calls of the timed callable on other inputs
    WAITING = "waiting"  # for a machine that is quiet
    LOST = "lost"  # cases whose process hung or died: it left no account
    OTHER = "other"  # whatever else a run does: pytest, journal, tables


MEASURING = (Part.WARM_UP, Part.TIMED)


class Scope(StrEnum):
    """What is timed: the work on data that is already on the device, or the transfer of the data as well."""

    RESIDENT = "resident"
    END_TO_END = "end_to_end"


class Cache(StrEnum):
    """`hot`: all calls use the same buffers; `cold`: they rotate through buffers of 3 x the last-level cache."""

    HOT = "hot"
    COLD = "cold"


class Preset(StrEnum):
    """How much is measured, from seconds to hours. `headline` consists of the most important works of `standard`."""

    SMOKE = "smoke"
    HEADLINE = "headline"
    QUICK = "quick"
    STANDARD = "standard"
    FULL = "full"


class Ceiling(StrEnum):
    """The limit of the machine that a workload measures, which bounds all other work on it."""

    ARITHMETIC = "arithmetic"  # products, by format
    MEMORY = "memory"
    HOST_TO_DEVICE = "host_to_device"
    DEVICE_TO_HOST = "device_to_host"
    LAUNCH = "launch"


class Limit(StrEnum):
    """The limit of a device that bounds work in the roofline model. The flags `bound_...` contain these values."""

    COMPUTE = "compute"
    BANDWIDTH = "bandwidth"
    LATENCY = "latency"


class Traffic(StrEnum):
    """The memory or link through which the bytes of `Costs.bytes` are transferred."""

    MEMORY = "memory"  # main memory, unless a flag says that a cache holds the arrays
    CACHES = "caches"  # main memory or a cache: a call has several kernels, and a cache may hold the data between them
    LINK = "link"  # the link between the host and a device


class Claim(StrEnum):
    """A claim about why generative AI needs GPUs that a workload tests; analysis/claims.py has the words of each."""

    ARITHMETIC = "arithmetic"
    BANDWIDTH = "bandwidth"
    MOVING_DATA = "moving_data"
    TRAINING = "training"
    TOKENS = "tokens"
    IMAGES = "images"
    NETWORKS = "networks"
    SCALING = "scaling"  # to several devices


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties of a workload that determine how its rows are judged and shown: `Workload.traits`, saved in run.json.

    order: the position in reports of the file in which the workload is, the lowest first.
    headline: the metric to show first; "" for the first of `metrics.RATES` that has a row. If no row has the named
        metric (perhaps the name is misspelt), the time is shown.
    measures: the limit of the device that the fastest rows of the workload measure, which bounds all other rows of the
        run; None for most workloads. COMPUTE is measured by `flop_rate`, BANDWIDTH by `bandwidth`, LATENCY by `time`.
        Rows that are cold, or whose flags say that a cache may hold their arrays, do not measure BANDWIDTH.
    traffic: the memory or link through which its bytes are transferred.
    sold_as: what its tokens or samples are to a person who pays for them ("tokens generated"); "" if nobody buys them.
        `bench-core cost` begins with the works that have it.
    claims: what the report answers by its rows. Workloads that answer any claim come before all others in reports.
    short_for: what its name is short for ("host to device"); "" if the name says it.
    """

    order: int = 2
    headline: str = ""
    measures: Limit | None = None
    traffic: Traffic = Traffic.CACHES
    sold_as: str = ""
    claims: tuple[Claim, ...] = ()
    short_for: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether the workload measures bandwidth: FLOPs are few, and sizes are levels of the memory hierarchy."""
        return self.headline == "bandwidth" and self.traffic is Traffic.MEMORY


def type_of(device: str) -> str:
    """Return the type in a device address: "cuda" of "cuda", "cuda:1" and "cuda:x8"."""
    return device.partition(":")[0]


def count_of_devices(device: str) -> int:
    """Return the number of devices in an address, each with a process (a rank) of its own: 8 in "cuda:x8", else 1.

    Raises ValueError for a device that begins with x, as that of several devices does, but has no such number.
    """
    which = device.partition(":")[2]
    if found := _SEVERAL.fullmatch(device):
        return int(found[1])
    if which in {"x0", "x1"}:
        raise ValueError(f"{device}: several devices are two or more")
    if which.strip().lower().startswith("x"):
        raise ValueError(f"{device}: several devices are x and their number, 2 to 99999, as in {type_of(device)}:x2")
    return 1


def is_several(device: str) -> bool:
    """Whether an address is one of several devices ("cuda:x8"); any text is allowed."""
    return _SEVERAL.fullmatch(device) is not None


def identifier(text: str) -> str:
    """Return `text` if it is allowed in an identifier column.

    Raises ValueError for text that a shell, a spreadsheet or a file system could interpret as more than a name.
    """
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError(f"{text!r} is not an identifier (letters, digits and _ . + : / - only)")
    return text


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed. Two rows with equal `Work` did the same arithmetic on the same data.

    `size` is for people ("1024", "64x4096x4096"); `params` contains everything else that distinguishes this
    work from similar ones. `precision` is the requested arithmetic ("ieee", "tf32", ...), which the check
    verifies.
    """

    suite: str
    workload: str
    size: str
    dtype: str
    params: tuple[tuple[str, Param], ...] = ()
    precision: str = "ieee"
    version: int = 1
    scope: Scope = Scope.RESIDENT
    cache: Cache = Cache.HOT

    def __post_init__(self) -> None:
        pairs = self.params.items() if isinstance(self.params, Mapping) else self.params
        object.__setattr__(self, "params", tuple(sorted(pairs)))
        for text in (self.suite, self.workload, self.size, self.dtype, self.precision, *dict(self.params)):
            identifier(text)

    def __getitem__(self, name: str) -> Any:
        """Return the parameter `name`; raises KeyError."""
        return dict(self.params)[name]

    @property
    def ranks(self) -> int:
        """The number of processes that compute together, each on a device of its own."""
        return int(dict(self.params).get("ranks", 1))

    @property
    def case_id(self) -> str:
        """The join key: a hash of the work alone, the same in every process and on every machine."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)} | {"params": dict(self.params)}
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return "c_" + hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def params_text(self) -> str:
        """The parameters as they are written in the table: `k=1024;m=1024;n=1024`."""
        return ";".join(f"{name}={value}" for name, value in self.params)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the plan: a work, done by a backend on a device.

    `device` is an address ("cpu", "cuda:0") or, of several devices, their type and number ("cuda:x8"). `threads` is
    None for all cores, or if no host threads compute.
    """

    work: Work
    backend: str
    device: str
    implementation: str = "default"
    threads: int | None = None

    @property
    def device_type(self) -> str:
        return type_of(self.device)

    @property
    def ranks(self) -> int:
        """The number of processes of its target; the work may need fewer (`Work.ranks`)."""
        return count_of_devices(self.device)

    @property
    def label(self) -> str:
        """The readable id, used as the pytest id; default values are left out."""
        work = self.work
        parts = [self.backend, self.device]
        parts += [self.implementation] * (self.implementation != "default")
        parts += [work.dtype] + [work.precision] * (work.precision != "ieee") + [work.size]
        parts += [work.scope] * (work.scope is not Scope.RESIDENT) + [work.cache] * (work.cache is not Cache.HOT)
        parts += [f"{self.threads}t"] * (self.threads is not None)
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Target:
    """A backend on a device, present or not, for which a plan is expanded."""

    backend: str
    dialect: str
    device: str

    @property
    def device_type(self) -> str:
        return type_of(self.device)

    @property
    def ranks(self) -> int:
        return count_of_devices(self.device)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan for one device may depend on.

    last_level_cache: the device's, in bytes. cores: those of the host that one process may use. device_type: "cpu",
    "cuda", ...; "" if unknown. ranks: the number of devices, each with a process of its own.
    """

    last_level_cache: int
    cores: int
    device_type: str = ""
    ranks: int = 1


@dataclass(frozen=True, slots=True)
class Costs:
    """What one call costs, by formula; None if it does not apply.

    flops: floating-point operations (a multiply-add counts two).
    bytes: memory traffic as STREAM counts it: every array once per read and once per write.
    least_bytes: the minimum traffic: every array is transferred once, and nothing else.
    amounts: other work of one call, by the name of the quantity ("samples", "tokens").
    """

    flops: float | None = None
    bytes: float | None = None
    least_bytes: float | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)

    @property
    def needed_flops(self) -> float | None:
        """The FLOPs that the result needs: causal attention counts only the pairs of tokens that its mask keeps."""
        return self.amounts.get("causal_flops", self.flops)


@dataclass(frozen=True, slots=True)
class Series:
    """Raw seconds per call by one clock: one entry per block, each the mean of `inner_loops` calls.

    noisy: the indices of blocks that do not count, because something disturbed them while they ran.
    lost: seconds of these blocks, by cause ("steal"), in seconds of the series' clock.
    disturbance: the share of their time that the blocks which count have lost; 0 unless hardly any block was calm.
    claimed_s: seconds of host time that the whole series took (warm-up, blocks, calls timed singly, garbage
    collection), according to the process that measured it; 0 if unknown.
    """

    metric: str
    clock: Clock
    seconds: tuple[float, ...]
    inner_loops: int = 1
    noisy: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    claimed_s: float = 0.0
    lost: Mapping[str, float] = field(default_factory=dict)
    disturbance: float = 0.0

    @property
    def calm(self) -> tuple[float, ...]:
        """The seconds of the blocks that count. There is one at least if there is any block."""
        noisy = frozenset(self.noisy)
        return tuple(seconds for i, seconds in enumerate(self.seconds) if i not in noisy) or self.seconds

    @property
    def timed_s(self) -> float:
        """The seconds of all blocks."""
        return math.fsum(self.seconds) * self.inner_loops


@dataclass(frozen=True, slots=True)
class Measurement:
    """The outcome of a case.

    values: quantities observed once, by metric name in that metric's base unit.
    library: what did the arithmetic, as it reports itself ("OpenBLAS 0.3.31 SkylakeX").
    placement: where the arrays lie, as in the column ("first_touch=2;huge_pages=0.98").
    threads: how many host threads computed; None where the device is no CPU.
    rel_error: ||C - R|| / ||R|| against the float64 reference, once a check has run.
    planned_as: the case_id under which the case is in the plan, if its work was not known then; "" otherwise.
    spent: wall seconds by part. elapsed_s: those of the whole case, without the start of its process.
    other_s: seconds of the blocks of another try that does not count, 0 if there was none.
    traceback: that of an exception, for the person who runs it; no file holds it.
    """

    case: Case
    status: Status
    reason_code: str = ""
    reason: str = ""
    costs: Costs = field(default_factory=Costs)
    series: tuple[Series, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    rel_error: float | None = None
    backend_version: str = ""
    device_name: str = ""
    library: str = ""
    placement: str = ""
    threads: int | None = None
    env_id: str = ""
    process: int = 0
    planned_as: str = ""
    spent: Mapping[Part, float] = field(default_factory=dict)
    elapsed_s: float = 0.0
    other_s: float = 0.0
    traceback: str = ""

    @property
    def threads_used(self) -> int | None:
        """The number of host threads that computed or, if nothing ran, were requested."""
        return self.case.threads if self.threads is None else self.threads

    @property
    def measuring_phase_s(self) -> float:
        """The wall seconds of the phase in which the blocks are timed, with what is done around them."""
        return self.measuring_s + self.spent.get(Part.AROUND, 0.0)

    @property
    def measuring_s(self) -> float:
        """The wall seconds of warm-up and timed blocks."""
        return sum(self.spent.get(part, 0.0) for part in MEASURING)

    @property
    def identity(self) -> Identity:
        """The key of this case among all cases of its run; its rows have the same key."""
        case = self.case
        return case.work.case_id, case.backend, case.implementation, case.device, self.threads_used

    @classmethod
    def missing(cls, case: Case, status: Status, code: str, reason: str, **known: Any) -> Self:
        """Return the record of a case that has no value, with its reason on one line of 1,000 characters at most.

        Control and formatting characters of the reason are escaped: a kernel's error may hold any.
        """
        line = harmless(one_line(reason))
        if len(line) > _LONGEST_REASON:
            line = f"{line[: _LONGEST_REASON // 2]} ... {line[-_LONGEST_REASON // 3 :]}"
        return cls(case, status, code, line, **known)


@dataclass(frozen=True, slots=True)
class Fact:
    """One property of the machine: a JSON value and its source, or the reason why there is no value."""

    value: Any = None
    source: str = ""
    reason: str = ""


Facts = dict[str, Fact]


@dataclass(frozen=True, slots=True)
class Run:
    """The properties that all rows of a run share. `started_at` is UTC, ISO 8601."""

    run_id: str
    started_at: str
    machine: str
    git_commit: str = ""
    git_dirty: bool | None = None


def is_unchecked(flags: str) -> bool:
    """Whether the flags of a row say that no right answer was known (see `Row.is_unchecked`)."""
    return UNCHECKED in flags.split(";")


def is_quantity(number: float | None) -> bool:
    """Whether a number can be a measured quantity, which has a logarithm, and whose quotients do not overflow."""
    return number is not None and _LEAST <= number <= _MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of results.csv. The fields, in this order, are its columns; results/README.md explains each.

    `value` is the median in base units; None (an empty cell) if there is no value.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str
    started_at: str
    machine: str
    case_id: str
    suite: str
    workload: str
    workload_version: int
    size: str
    dtype: str
    precision: str
    params: str
    backend: str
    implementation: str
    device_type: str
    device: str
    threads: int | None
    metric: str
    unit: str
    better: str
    clock: str
    scope: str
    cache: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float | None = None
    n: int | None = None
    processes: int | None = None
    inner_loops: int | None = None
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p10: float | None = None
    p25: float | None = None
    p75: float | None = None
    p90: float | None = None
    max: float | None = None
    flops: float | None = None
    bytes: float | None = None
    flags: str = ""
    status: str
    reason_code: str = ""
    reason: str = ""
    rel_error: float | None = None
    backend_version: str = ""
    env_id: str = ""
    git_commit: str = ""
    git_dirty: bool | None = None
    device_name: str = ""
    library: str = ""
    least_bytes: float | None = None
    placement: str = ""

    @classmethod
    def of_columns(cls, columns: dict[str, list[Any]], size: int) -> list[Self]:
        """Return the rows of a table. columns: all fields by name, each of this size; they are removed.

        The rows are those that `Row(**fields)` makes one by one. This takes a fifth of the time, because the fields are
        set column by column, and less memory, because each column goes before the next is set.
        """
        rows = list(map(cls.__new__, repeat(cls, size)))
        for name in (f.name for f in fields(cls)):
            values = columns.pop(name)
            if len(values) != size:
                raise ValueError(f"{len(values)} values of {name} for {size} rows")
            # The descriptor of the slot, because a frozen record refuses setattr.
            deque(map(cls.__dict__[name].__set__, rows, values), maxlen=0)
        return rows

    @property
    def identity(self) -> Identity:
        """The key of this row's case among all cases of its run."""
        return self.case_id, self.backend, self.implementation, self.device, self.threads

    @property
    def has_value(self) -> bool:
        """Whether there is a valid value: one that can be a quantity (`is_quantity`)."""
        return self.status == Status.OK and is_quantity(self.value)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of its interval; None if it has none, or one of less than the usual confidence (of few blocks)."""
        if self.ci_low is None or self.ci_high is None:
            return None
        is_less = self.ci_level is not None and self.ci_level < CONFIDENCE
        return None if is_less else (self.ci_low, self.ci_high)

    @property
    def absence(self) -> str:
        """Why there is no valid value, from status and reason; "" if there is one."""
        if self.has_value:
            return ""
        if self.status == Status.OK:
            if self.value is None:
                return "no value"
            return f"the value {self.value:g} is {'not positive' if self.value <= 0 else 'beyond any quantity'}"
        return ": ".join(word for word in (self.status, self.reason or self.reason_code) if word)

    @property
    def is_launch_bound(self) -> bool:
        """Whether the host limits the time, by either clock: it does not show what the device can do."""
        return LAUNCH_BOUND in self.flags.split(";")

    @property
    def is_unchecked(self) -> bool:
        """Whether nothing has checked the answer: a wrong one may be fast.

        Such a row is no ceiling of a machine, not the best where another has been checked, and no answer to a claim.
        """
        return is_unchecked(self.flags)

    @property
    def is_imported(self) -> bool:
        """Whether another program has measured it: it supports no claim of a comparison either."""
        return IMPORTED in self.flags.split(";")

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters by name."""
        return {name: value for name, _, value in (pair.partition("=") for pair in self.params.split(";") if pair)}

    @property
    def is_across_ranks(self) -> bool:
        """Whether it is of a target of several devices, also if the work needs only one of them."""
        return is_several(self.device)

    @property
    def ranks(self) -> int:
        """The number of processes that computed it together, each on a device of its own (`Work.ranks`)."""
        number = self.parameters.get("ranks", "") if self.is_across_ranks else ""
        return max(1, int(number)) if number.isdecimal() else 1

    @property
    def who(self) -> str:
        """The backend and, unless it is the default, the implementation: "torch", "numpy tuned"."""
        return self.backend if self.implementation == "default" else f"{self.backend} {self.implementation}"


def to_json(record: Any) -> Any:
    """Return a record as plain JSON values (`params` and other pairs become objects)."""
    if isinstance(record, (Work, Case, Costs, Series, Measurement, Fact, Run, Traits)):
        plain = {f.name: to_json(getattr(record, f.name)) for f in fields(record)}
        if isinstance(record, Work):
            plain["params"] = dict(record.params)
        return plain
    if isinstance(record, StrEnum):
        return record.value
    if isinstance(record, Mapping):
        return {key: to_json(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [to_json(item) for item in record]
    return record


def case_from_json(plain: Mapping[str, Any]) -> Case:
    """Rebuild a Case from `to_json`; raises KeyError, TypeError or ValueError on anything else."""
    work = dict(plain["work"])
    work |= {"params": tuple(work["params"].items()), "scope": Scope(work["scope"]), "cache": Cache(work["cache"])}
    return Case(**{**plain, "work": Work(**work)})


def measurement_from_json(plain: Mapping[str, Any]) -> Measurement:
    """Rebuild a Measurement from `to_json`; raises KeyError, TypeError or ValueError on anything else."""
    former = {Part.TIMED: "timed_s", Part.SECOND_LOOK: "recheck_s"}  # names of two parts in earlier versions
    spent = {part: plain[name] for part, name in former.items() if name in plain}
    spent |= {Part(name): seconds for name, seconds in plain.get("spent", {}).items()}
    if not all(map(_is_time, spent.values())):
        raise ValueError("spent: not every part is a valid time")
    if not _is_time(plain.get("other_s", 0.0)):
        raise ValueError("other_s is not a valid time")
    return Measurement(
        **{
            **{name: value for name, value in plain.items() if name not in former.values()},
            "spent": spent,
            "case": case_from_json(plain["case"]),
            "status": Status(plain["status"]),
            "costs": Costs(**plain["costs"]),
            "series": tuple(_series_from_json(s) for s in plain["series"]),
            "flags": tuple(plain["flags"]),
        }
    )


def _is_time(plain: Any) -> bool:
    return isinstance(plain, (int, float)) and 0 <= plain < math.inf


def _series_from_json(plain: Mapping[str, Any]) -> Series:
    tuples = {name: tuple(plain[name]) for name in ("seconds", "noisy", "flags")}
    if not all(_is_time(seconds) for seconds in tuples["seconds"]):
        raise ValueError("a sample is not a valid time")
    if not isinstance(plain.get("inner_loops", 1), int) or not _is_time(plain.get("claimed_s", 0.0)):
        raise ValueError("a series has an invalid inner_loops, or an invalid time claimed_s")
    if not all(map(_is_time, (*plain.get("lost", {}).values(), plain.get("disturbance", 0.0)))):
        raise ValueError("a series has lost an invalid time, or has an invalid disturbance")
    if "lost" not in plain:  # an earlier version, which marked blocks by their own time: they count
        tuples["noisy"] = ()
    return Series(**{**plain, **tuples, "clock": Clock(plain["clock"])})


def count_statuses(measurements: Iterable[Measurement]) -> dict[Status, int]:
    """Return the number of measurements with each status, in the order of `Status`, without zeros."""
    statuses = [m.status for m in measurements]
    return {status: statuses.count(status) for status in Status if status in statuses}
