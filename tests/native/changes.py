"""How many change points are found and how many are false, by simulation: the figures of bench_core/history/changes.py.

    python -m tests.native.changes [--series 1000] [--seed 0]

Prints false alarms of steady series by length and distribution of the noise, what is found of planted steps, how often
the range of a step has its true place, what becomes of drifts, how often `new_regression` alarms in a steady series
that is looked at after every run, and how soon it sees a step; the same of `new_regressions` and folders of 30 series.
Half an hour on two cores, ten minutes with `--series 300`.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat

import numpy as np

from bench_core.history.changes import ALPHA, NEW_ALPHA
from tests.support.planted_steps import (
    NOISES,
    SPREADS,
    Drift,
    Planted,
    found_in,
    looks_at_folders,
    looks_that_alarm,
    ranges_of,
    runs_until_seen,
    steady,
    step,
)

LENGTHS = (12, 20, 60, 200)
FEWER = {200: 4}  # longer series take longer: so many times fewer
LOOKS = 60
PLANTED = {
    "5 % at 2 %, 40 + 20": step(0.05, 0.02),
    "10 % at 5 %, 40 + 20": step(0.1, 0.05),
    "3 % at 2 %, 40 + 20": step(0.03, 0.02),
    "5 % at 2 %, 100 + 100": step(0.05, 0.02, 100, 100),
    "3 % at 2 %, 100 + 100": step(0.03, 0.02, 100, 100),
    "10 % at 2 %, 10 + 10": step(0.1, 0.02, 10, 10),
    "20 % at 2 %, 6 + 6": step(0.2, 0.02, 6, 6),
    "10 % at 2 %, last 3 of 60": step(0.1, 0.02, 57, 3),
    "10 % at 2 %, last 4 of 60": step(0.1, 0.02, 56, 4),
    "5 % at 2 %, last 5 of 60": step(0.05, 0.02, 55, 5),
    "10 % at 2 %, last 5 of 60": step(0.1, 0.02, 55, 5),
    "two of 5 % at 2 %, up, up": Planted(((20, 1.0), (20, 1.05), (20, 1.1))),
    "two of 5 % at 2 %, up, down": Planted(((20, 1.0), (20, 1.05), (20, 1.0))),
    "5 % at 2 % for 8 of 60": Planted(((30, 1.0), (8, 1.05), (22, 1.0))),
}
NOISY = ("normal", "Student t, 3 d.f.", "log-normal", "5 % slow by 10 s", "10 % slow by 10 s")
ASKED = {"5 % at 2 %, 40 + 20": step(0.05, 0.02), "10 % at 5 %, 40 + 20": step(0.1, 0.05)}
RANGES = {
    "5 % at 2 %, 40 + 20": step(0.05, 0.02),
    "10 % at 2 %, 40 + 20": step(0.1, 0.02),
    "10 % at 5 %, 40 + 20": step(0.1, 0.05),
    "10 % at 2 %, last 5 of 60": step(0.1, 0.02, 55, 5),
    "3 % at 2 %, 100 + 100": step(0.03, 0.02, 100, 100),
}
COUNT = 30  # series of a folder
FOLDERS = [(noise, shared) for noise in NOISY[:4] for shared in (0.0, 0.8)]
DRIFTS = {
    "5 % at 2 %, 60 runs": Drift(((30, 1.0), (30, 1.05))),
    "20 % at 2 %, 60 runs": Drift(((30, 1.0), (30, 1.2))),
    "20 % at 2 %, 200 runs": Drift(((100, 1.0), (100, 1.2))),
}


def show(title, head, rows):
    print(f"\n{title}\n")
    print(" | ".join(head))
    for row in rows:
        print(" | ".join(row), flush=True)


def soonest(by, after, repeats, seed):
    """Return the share of steps of `by` at 2 % after 40 runs that a look sees when `after` runs have followed them."""
    return looks_that_alarm(step(by, 0.02, 40, after), repeats, 1, seed).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n, seed = options.series, options.seed
    with ProcessPoolExecutor(2) as pool:
        kinds = [steady(length, noise) for noise in NOISES for length in LENGTHS]
        found = pool.map(partial(found_in, seed=seed), kinds, [n // FEWER.get(kind.n, 1) for kind in kinds])
        cells = iter([f"{one.false:.3f} ({one.alarmed:.3f})" for one in found])
        rows = [[noise, *(next(cells) for _ in LENGTHS)] for noise in NOISES]
        show(f"False in a steady series (series with any), alpha {ALPHA}", ["noise", *map(str, LENGTHS)], rows)

        kinds = [Planted(kind.levels, kind.scale, noise) for kind in PLANTED.values() for noise in NOISY]
        found = pool.map(partial(found_in, seed=seed), kinds, [n // FEWER.get(kind.n, 1) for kind in kinds])
        cells = iter([f"{one.found:.3f} ({one.false:.2f})" for one in found])
        rows = [[name, *(next(cells) for _ in NOISY)] for name in PLANTED]
        show("Found within 2 runs (others in a series)", ["planted", *NOISY], rows)

        kinds = [Planted(kind.levels, kind.scale / SPREADS[noise], noise) for kind in ASKED.values() for noise in NOISY]
        found = pool.map(partial(found_in, seed=seed), kinds, repeat(n))
        cells = iter([f"{one.found:.3f} ({one.false:.2f}, {1 - one.counts[0] / n:.3f})" for one in found])
        rows = [[name, *(next(cells) for _ in NOISY)] for name in ASKED]
        head = ["planted at a standard deviation", *NOISY]
        show("Found within 2 runs (others in a series, series with any step)", head, rows)

        kinds = [Planted(kind.levels, kind.scale, noise) for kind in RANGES.values() for noise in NOISY]
        found = pool.map(partial(ranges_of, seed=seed), kinds, [n // FEWER.get(kind.n, 1) for kind in kinds])
        cells = iter([f"{hit.mean():.3f} ({np.median(width):.0f})" for hit, width in (one.T for one in found)])
        rows = [[name, *(next(cells) for _ in NOISY)] for name in RANGES]
        show("The true place is in the range of the step (median width in runs)", ["planted", *NOISY], rows)

        kinds = list(DRIFTS.values())
        found = pool.map(partial(found_in, seed=seed), kinds, [n // FEWER.get(kind.n, 1) for kind in kinds])
        shares = [[f"{count / sum(one.counts):.2f}" for count in one.counts] for one in found]
        rows = [[name, *cells] for name, cells in zip(DRIFTS, shares, strict=True)]
        show("Drifts: share with so many steps", ["drift", "0", "1", "2", "..."], rows)

        kinds = [steady(length, noise) for length in (LOOKS, 2 * LOOKS) for noise in ("normal", "10 % slow by 10 s")]
        looked = pool.map(partial(looks_that_alarm, repeats=n // 2, looks=LOOKS, seed=seed), kinds)
        rows = [
            [f"{kind.noise}, looks {kind.n - LOOKS + 1} to {kind.n}", f"{a.mean():.5f}", f"{a.any(axis=1).mean():.4f}"]
            for kind, a in zip(kinds, looked, strict=True)
        ]
        head = ["series", "a look", f"any of {LOOKS} looks"]
        show(f"new_regression in a steady series, alpha {NEW_ALPHA}", head, rows)

        after = (3, 4, 5, 7, 10)
        rows = [[f"{by:.0%}", *(f"{soonest(by, k, n // 2, seed):.2f}" for k in after)] for by in (0.05, 0.1, 0.2)]
        show("new_regression sees a step at 2 % noise after 40 runs", ["step", *(f"{k} runs" for k in after)], rows)

        looked = [
            pool.submit(looks_at_folders, n // 5, LOOKS, count=COUNT, noise=noise, shared=shared, seed=seed)
            for noise, shared in FOLDERS
        ]
        seen = [
            pool.submit(runs_until_seen, by, 0.02, n, alpha=NEW_ALPHA / COUNT, seed=seed) for by in (0.05, 0.1, 0.2)
        ]
        rows = [
            [f"{noise}, {shared:.0%} shared", f"{a.mean():.4f}", f"{a.any(axis=1).mean():.3f}"]
            for (noise, shared), a in zip(FOLDERS, (one.result() for one in looked), strict=True)
        ]
        head = [f"{COUNT} steady series", "looks that alarm", f"folders with any in {LOOKS} looks"]
        show(f"new_regressions, alpha {NEW_ALPHA}, runs 21 to 80", head, rows)
        rows = [
            [f"{by:.0%}", *(f"{np.quantile(one.result(), q, method='higher'):.0f}" for q in (0.5, 0.9))]
            for by, one in zip((0.05, 0.1, 0.2), seen, strict=True)
        ]
        head = [f"a step of one of {COUNT}", "median", "90 %"]
        show("new_regressions: runs until a step at 2 % noise after 40 runs is seen", head, rows)


if __name__ == "__main__":
    main()
