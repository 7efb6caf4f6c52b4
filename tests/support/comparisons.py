"""Two machines with known medians, and the one comparison that is made of them."""

from bench_core.compare import CompareOptions, compare
from tests.support.tables import processes, reading

FIVE = (1.00, 1.01, 0.99, 1.02, 0.98)
DRIFT = (1.0, 1.3, 0.8, 1.6, 1.1)  # what a machine does to five runs, one after the other


def only(readings, **options):
    """The one comparison of these tables."""
    (comparison,) = compare(readings, CompareOptions(**options)).comparisons
    return comparison


def two(a, b, **known):
    """Machine a and machine b, each with these medians of its processes."""
    return [reading(processes(a, **known), "a"), reading(processes(b, **known), "b")]


def mixed():
    """A machine with two CPU rows and two GPU rows, and one with a CPU row."""
    a = [
        *processes([4 * t for t in FIVE]),
        *processes([3 * t for t in FIVE], backend="torch"),
        *processes([1 * t for t in FIVE], backend="torch", device="cuda:0"),
        *processes([2 * t for t in FIVE], backend="cupy", device="cuda:0"),
    ]
    return [reading(a, "a"), reading(processes([2.5 * t for t in FIVE]), "b")]
