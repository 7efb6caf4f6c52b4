"""Series of run medians with planted steps, and how many of the steps are found."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from bench_core.history.changes import change_points, new_regression
from bench_core.history.query import SERIES
from bench_core.history.series import Point, Series, Subject, new_regressions

NEAR = 2  # a step is found if its place is known within so many runs


def _slow(rng, n, share):
    """Return normal noise; some runs are slower by 10 standard deviations."""
    return rng.standard_normal(n) + 10 * (rng.random(n) < share)


def _following(rng, n, share):
    """Return noise of standard deviation 1 in which each run has a share of the last one's deviation: AR(1)."""
    new = rng.standard_normal(n) * np.sqrt(1 - share**2)
    noise = [rng.standard_normal()]
    for value in new[1:]:
        noise.append(share * noise[-1] + value)
    return np.array(noise)


NOISES = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "Student t, 3 d.f.": lambda rng, n: rng.standard_t(3, n),
    "log-normal": lambda rng, n: np.exp(rng.standard_normal(n)),
    "5 % slow by 10 s": lambda rng, n: _slow(rng, n, 0.05),
    "10 % slow by 10 s": lambda rng, n: _slow(rng, n, 0.1),
    "30 % slow by 10 s": lambda rng, n: _slow(rng, n, 0.3),
    "AR(1), 0.3": lambda rng, n: _following(rng, n, 0.3),
}
SPREADS = {  # standard deviations
    "normal": 1.0,
    "Student t, 3 d.f.": 3**0.5,
    "log-normal": float(np.sqrt((np.e - 1) * np.e)),
    "5 % slow by 10 s": (1 + 100 * 0.05 * 0.95) ** 0.5,
    "10 % slow by 10 s": (1 + 100 * 0.1 * 0.9) ** 0.5,
}
INDEPENDENT = tuple(name for name in NOISES if not name.startswith("AR"))


@dataclass(frozen=True)
class Planted:
    """A kind of series. levels: the number of runs and the level of each, as a ratio; scale: of the noise."""

    levels: tuple[tuple[int, float], ...]
    scale: float = 0.02
    noise: str = "normal"

    @property
    def n(self):
        return sum(n for n, _ in self.levels)

    @property
    def places(self):
        return tuple(np.cumsum([n for n, _ in self.levels[:-1]]).tolist())

    def draw(self, rng):
        return self.without_noise() + self.scale * NOISES[self.noise](rng, self.n)

    def without_noise(self):
        return np.repeat([level for _, level in self.levels], [n for n, _ in self.levels])


@dataclass(frozen=True)
class Drift(Planted):
    """A straight line from the first level to the second."""

    places = ()

    def without_noise(self):
        return np.linspace(self.levels[0][1], self.levels[1][1], self.n)


def steady(n, noise="normal"):
    return Planted(((n, 1.0),), noise=noise)


def step(by, scale, before=40, after=20, noise="normal"):
    return Planted(((before, 1.0), (after, 1.0 + by)), scale, noise)


@dataclass(frozen=True)
class Found:
    """What was found in many series.

    found: the share of planted steps that were found; false: the mean number of others in a series; alarmed: the share
    of series with any of them; counts: how many series have 0, 1, 2, ... steps.
    """

    found: float
    false: float
    alarmed: float
    counts: tuple[int, ...]


def found_in(kind, repeats, seed=0, **options):
    """Return what change_points finds in series of a kind."""
    rng = np.random.default_rng(seed)
    found, false, counts = 0, [], []
    for _ in range(repeats):
        called = [change.index for change in change_points(kind.draw(rng), **options)]
        found += sum(any(abs(place - true) <= NEAR for place in called) for true in kind.places)
        false.append(sum(all(abs(place - true) > NEAR for true in kind.places) for place in called))
        counts.append(len(called))
    share = found / (repeats * len(kind.places)) if kind.places else float("nan")
    return Found(share, float(np.mean(false)), float(np.mean(np.array(false) > 0)), tuple(np.bincount(counts).tolist()))


def looks_that_alarm(kind, repeats, looks, seed=0, **options):
    """Return for each series which of its last looks, one after each run, see a new regression."""
    rng = np.random.default_rng(seed)
    series = [kind.draw(rng) for _ in range(repeats)]
    ends = range(kind.n - looks + 1, kind.n + 1)
    return np.array([[new_regression(x[:end], better="lower", **options) is not None for end in ends] for x in series])


def ranges_of(kind, repeats, seed=0):
    """Return for each series in which one step is called: whether its range has the planted one, and how wide it is."""
    rng = np.random.default_rng(seed)
    (true,) = kind.places
    called = [change_points(kind.draw(rng)) for _ in range(repeats)]
    single = [found[0] for found in called if len(found) == 1]
    return np.array([(one.earliest <= true <= one.latest, one.latest - one.earliest + 1) for one in single])


# ---------------------------------------------------------------- folders of several series


def subject(**known):
    """Return what a series is of. known: fields other than those of a time of `matmul` by numpy on a CPU."""
    usual = {"machine": "a", "suite": "matmul", "workload": "matmul", "workload_version": 1, "size": "64"}
    usual |= {"dtype": "float32", "precision": "ieee", "backend": "numpy", "implementation": "default"}
    usual |= {"device": "cpu", "threads": 2, "metric": "time", "unit": "s", "better": "lower", "clock": "wall"}
    return Subject(**(dict.fromkeys(SERIES, "") | usual | known))


def points_of(values, **known):
    """Return the points of runs r00, r01, ..., one a day. known: further fields, each a value for every run."""
    lists = {name: list(column) for name, column in known.items()}
    return [
        Point(
            f"r{i:02}",
            datetime(2001, 1, 1) + timedelta(days=i),
            float(value),
            **{name: column[i] for name, column in lists.items()},
        )
        for i, value in enumerate(values)
    ]


def folder_of(values, better="lower"):
    """Return a series without events of each row of an array."""
    return [
        Series(subject(case_id=f"c{i}", better=better), tuple(points_of(several))) for i, several in enumerate(values)
    ]


def steady_folder(rng, count, runs, noise="normal", shared=0.0):
    """Return the values of steady series. shared: the part of their variance that a run gives to all of them alike."""
    own = np.array([NOISES[noise](rng, runs) for _ in range(count)])
    return 1 + 0.02 * (np.sqrt(shared) * NOISES[noise](rng, runs) + np.sqrt(1 - shared) * own)


def looks_at_folders(folders, looks, *, count=30, runs=80, noise="normal", shared=0.0, seed=0, **options):
    """Return for each folder of steady series which of its last looks, one after each run, see any new regression."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(folders):
        every = folder_of(steady_folder(rng, count, runs, noise, shared))
        ends = range(runs - looks + 1, runs + 1)
        cut = ([Series(series.subject, series.points[:n]) for series in every] for n in ends)
        found.append([bool(new_regressions(some, **options).regressions) for some in cut])
    return np.array(found)


def runs_until_seen(by, scale, repeats, *, before=40, most=10, seed=0, **options):
    """Return for each series how many runs have followed a step when a look sees it; infinity for more than `most`."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        values = step(by, scale, before, most).draw(rng)
        seen = (n for n in range(1, most + 1) if new_regression(values[: before + n], better="lower", **options))
        found.append(next(seen, np.inf))
    return np.array(found)
