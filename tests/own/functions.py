"""Functions that a worker process can import, for tests of what is done with any function."""

import numpy as np

ANSWERS = {}


def double(x):
    return 2 * x


def scaled(x, factor, xp):
    return xp.multiply(x, factor)


def both(a, b):
    return {"sum": a + b, "product": a * b}


def normalised(x):
    return x / np.linalg.norm(x)


def cached(x):
    """Answer as on the first call."""
    return ANSWERS.setdefault(x.size, 2 * x)


def in_place(x):
    x *= 2
    return x + 0


def every_second(x):
    return x[::2]


def nothing(x):
    """Return no answer."""


def broken(x):
    raise ArithmeticError("it\nbroke")
