"""The cases of the benchmarks by preset, for tests of what a preset holds."""

import importlib

from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Target
from tests.support import ROOT

CPU = [Target("numpy", "array", "cpu"), Target("torch", "torch", "cpu")]
GPU = [Target("cupy", "array", "cuda:0"), Target("torch", "torch", "cuda:0")]
MACHINE = Machine(last_level_cache=50 << 20, cores=16)
FILES = sorted((ROOT / "benchmarks").glob("bench_*.py"))


def workloads(files=FILES):
    modules = [importlib.import_module(f"benchmarks.{path.stem}") for path in files]
    tests = [value for module in modules for name, value in vars(module).items() if name.startswith("test_")]
    return [mark.args[0] for test in tests for mark in test.pytestmark if mark.name == "workload"]


WORKLOADS = workloads()
MODELS = {workload.name: workload for workload in WORKLOADS if workload.suite == "model"}


def cases(preset, targets, machine=MACHINE):
    return [case for workload in WORKLOADS for case in expand(workload, preset, targets, lambda _: machine)]


HEADLINE = cases(Preset.HEADLINE, CPU + GPU)
