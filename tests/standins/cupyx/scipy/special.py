"""cupyx.scipy.special: the functions that activations need."""

from __future__ import annotations

from functools import partial

import scipy.special
from cupy import _array

erf = partial(_array.launch, scipy.special.erf)
expit = partial(_array.launch, scipy.special.expit)
logsumexp = partial(_array.launch, scipy.special.logsumexp)
