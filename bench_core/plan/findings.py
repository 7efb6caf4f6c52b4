"""Gather what doctor.py examines: the facts, backends and GPUs of this machine, and its load."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench_core import child_main
from bench_core.backends import registry
from bench_core.backends.numpy import openblas_core
from bench_core.machine import cpu_limits, environment, host, nvml, processor, topology
from bench_core.plan import doctor
from bench_core.plan.discovery import probe_all
from bench_core.plan.doctor import Findings
from bench_core.records import Fact

LOOK_S = 1.0  # seconds for which the load of the machine is observed


def gather_findings() -> Findings:
    """Return the facts, backends and GPUs of this machine; takes a second to observe its load."""
    facts = environment.host_environment() | watch(LOOK_S)  # before the probes, which themselves load the machine
    facts["cpu.limit"] = cpu_limits.fact(cpu_limits.read())
    probes = list(probe_all(registry.names()).values())
    best = openblas_core(processor.flags())
    shadows = [Path(path).name for path in child_main.shadows([os.curdir])]
    try:
        return Findings(facts, probes, best, nvml.cards(), shadows=shadows, topology=topology.read())
    except nvml.NotTold as error:
        return Findings(facts, probes, best, no_cards=str(error), shadows=shadows)


def watch(seconds: float) -> dict[str, Fact]:
    """Return the load of the machine while this process sleeps for `seconds`."""
    before = host.cpu_times()
    time.sleep(seconds)
    after = host.cpu_times()
    spent = {name: after[name] - before[name] for name in after.keys() & before.keys()}
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)  # in `user` already
    if total <= 0:
        return {}
    steal = spent.get("steal", 0.0)
    resting = spent.get("idle", 0.0) + spent.get("iowait", 0.0) + steal
    return doctor.load_facts(1 - resting / total, steal / total)
