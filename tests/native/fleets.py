"""How many slow nodes are found and how many healthy ones accused, by simulation: the figures of diagnosis/judge.py.

    python -m tests.native.fleets [--fleets 100] [--seed 0]

Fleets of real runs (tests/support/real_runs.csv) and of simulated ones, three runs a node as a rule; then how wide the
error of a prediction must be made for numbers that may have been clipped (outliers.py). A quarter of an hour.
"""

import argparse

import numpy as np

from bench_core.diagnosis.outliers import places
from bench_core.stats import Estimate
from tests.support.simulated_fleet import POOLS, pool_of, real_pool, simulate, total

NODES = 20
LEVELS = (0.01, 0.003, 0.001)
SIZES = (5, 8, 12, 16, 20, 30, 50, 100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", type=int, default=100, help="fleets of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn, real = np.random.default_rng(options.seed), real_pool()
    print(f"{NODES} nodes of three real runs, some 5 % slow: share of them found / of healthy nodes called anything")
    for family in ("", *dict.fromkeys(real.families)):
        shares = [outcome(real, drawn, options.fleets, slow=slow, family=family) for slow in (1, 2, 3, 4)]
        print(f"    {family or 'all work':12}", *shares, sep="  ", flush=True)
    print_apart(real, drawn, options.fleets)
    print_sizes(real, drawn, options.fleets)
    print_false(drawn, 4 * options.fleets)
    print("by how much p-values of normal numbers need a wider error at", *LEVELS)
    for size in SIZES:
        print(f"    {size:4} numbers:", *(f"{factor:.2f}" for factor in needed(size, drawn, 400 * options.fleets)))


def print_apart(real, drawn, fleets):
    print("the same, if healthy nodes differ from each other (standard deviation); 1 and 4 slow")
    for spread in (0.005, 0.01, 0.02):
        for family in ("", "memory"):
            shares = [outcome(real, drawn, fleets, slow=slow, family=family, spread=spread) for slow in (1, 4)]
            print(f"    {spread:.1%}, {family or 'all work':12}", *shares, sep="  ", flush=True)


def print_sizes(real, drawn, fleets):
    print("the same, all work, with other numbers of nodes (a fifth slow) and of runs")
    for nodes in (5, 8, 12, 50):
        for runs in (3, 5):
            found = outcome(real, drawn, fleets, slow=max(1, nodes // 5), nodes=nodes, runs=runs)
            print(f"    {nodes:3} nodes, {runs} runs: {found}", flush=True)


def print_false(drawn, fleets):
    print("simulated runs, none slow: healthy nodes called anything")
    for name, make in POOLS.items():
        pool = pool_of(make)
        for spread, apart in ((0.0, "normal"), (0.01, "normal"), (0.01, "t3"), (0.01, "exponential")):
            _, false = total(simulate(pool, drawn, spread=spread, apart=apart) for _ in range(fleets))
            print(f"    {name:10} nodes apart by {spread:.0%} ({apart}): {false:.4f}", flush=True)


def outcome(pool, drawn, fleets, **options):
    found, false = total(simulate(pool, drawn, **options) for _ in range(fleets))
    return f"{found:.3f} / {false:.4f}"


def needed(size, drawn, numbers):
    """Return the factors of outliers.py that are needed beside those that it has: 1.00 or less, if those are enough."""
    far = []
    for _ in range(numbers // size):
        values = drawn.standard_normal(size)
        far += [(abs(p.mean), p.error, p.dof) if p else (0.0, 1.0, 3) for p in places(values)]
    for level in LEVELS:
        ratios = [mean / Estimate(0.0, error, dof).interval(1 - level)[1] for mean, error, dof in far]
        yield float(np.quantile(ratios, 1 - level))


if __name__ == "__main__":
    main()
