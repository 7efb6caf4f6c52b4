"""The two private names of CuPy that CupyBackend needs."""

from cupy._core import _routines_linalg as _routines_linalg
from cupy._core._routines_linalg import set_compute_type as set_compute_type
