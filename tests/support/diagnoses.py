"""Diagnoses of imaginary fleets, in which it is known which nodes differ and by how much.

Nothing here was measured, and nothing made from it may be shown as a result.
"""

from __future__ import annotations

import math
import random

from bench_core.diagnosis.result import Diagnosis, Finding, Fleet, Group, NodeReport, Standing

SPREAD, LEAST = 0.004, 0.02
CALLED = math.log1p(LEAST)
SUITES = ("memory", "matmul", "attention", "transformer layers", "launch", "training")


def groups_of(families, works):
    """Return everything, the families, and `works` pieces of work of each of them."""
    names = [f"{SUITES[i % len(SUITES)]} on {'cuda' if i >= len(SUITES) else 'cpu'}" for i in range(families)]
    if families > 2 * len(SUITES):
        names = [f"{name} {i}" for i, name in enumerate(names)]
    return (
        Group("all", "all work", "all", "", families * works, SPREAD),
        *(Group(name, name, "family", name, works, SPREAD) for name in names),
        *(
            Group(
                f"{name} {i}", f"{name.split()[0]}_{i} float32 {512 * 2 ** (i % 6)} torch", "work", name, 1, 2 * SPREAD
            )
            for name in names
            for i in range(works)
        ),
    )


def finding(group, ratio, processes=3, few=False):
    """Return what is said of a node whose time is `ratio` of that of the fleet."""
    distance = abs(math.log(ratio)) / CALLED
    standing = Standing.ALIKE if distance < 1 else Standing.SLOW if ratio > 1 else Standing.FAST
    if few:
        standing, distance = Standing.FEW, 0.0
    return Finding(group, ratio, ratio * math.exp(-0.009), ratio * math.exp(0.009), processes, standing, distance)


def report(node, findings, causes=(), runs=3):
    """Return the report of a node: the worst of its findings decides."""
    worst = [s for s in Standing if any(f.standing is s for f in findings)]
    return NodeReport(node, worst[0], runs, tuple(findings), tuple(causes), max(f.distance for f in findings))


def fleet(nodes=20, families=6, works=10, off=(), few=(), causes=(), name="Imaginary GPU, 16 cores of Imaginary CPU"):
    """Return a fleet of nodes node-01, node-02, ... of which some differ.

    off: tuples of a node's number, what it is off in ("" for all) and the ratio of its time to that of the others.
    few: the numbers of those with one run. causes: what is said of each node that is off.
    """
    rng = random.Random(f"{nodes} {families} {works}")
    groups = groups_of(families, works)
    reports = []
    for number in range(1, nodes + 1):
        found = []
        for group in groups:
            factor = math.exp(min(max(rng.gauss(0, group.spread / 1.2), -0.9 * CALLED), 0.9 * CALLED))
            for who, where, ratio in off:
                if who == number and where in {"", group.family}:
                    factor *= ratio
            found.append(finding(group, factor, few=number in few))
        reports.append(report(f"node-{number:02}", found, causes if any(number == o[0] for o in off) else ()))
    ranked = sorted(reports, key=lambda node: -node.distance)
    return Fleet(name, tuple(ranked), groups, 0.01, 0.95, LEAST)


def diagnosis(*fleets, notes=()):
    """Return the diagnosis of these fleets; without any, that of twenty nodes of which two are slow."""
    return Diagnosis(fleets or (two_slow(),), notes)


def two_slow():
    """Return 20 nodes by 60 works: one slow in everything, one in memory, one fast in a family, one with few runs."""
    return fleet(
        off=((7, "", 1.061), (12, "memory on cpu", 1.093), (16, "launch on cpu", 0.93)),
        few={3},
        causes=("gpu.pcie: generation 3 of 5; 4 everywhere else.", "cpu.governor: powersave; performance elsewhere."),
    )
