"""CuPy's tuned forms: what the plain forms give, and in no more time. Their ratios are printed."""

import numpy as np
import pytest

from bench_core.records import Preset
from benchmarks.nn.tuned import Tuned
from benchmarks.nn.tuned import cupy as forms
from tests.gpu import claims
from tests.support import tuned

pytestmark = pytest.mark.gpu
CUPY = pytest.mark.parametrize("library", ["cupy"])
OPERATIONS = tuned.operations(np.random.default_rng(5), 1056, 65) | tuned.fixed_operations(np.random.default_rng(6))


@CUPY
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_form_gives_what_the_plain_form_gives(backend, name, dtype):
    tuned.require_equal(Tuned(backend.xp, forms.FORMS, 1), *OPERATIONS[name], dtype)


@CUPY
@pytest.mark.parametrize("workload", tuned.workloads("cupy"), ids=lambda workload: workload.name)
def test_a_tuned_form_takes_no_longer_than_the_plain_form(backend, workload, held):
    # A layer of quick's size is shorter than the launches of either form.
    preset = Preset.QUICK if hasattr(workload, "presets") else Preset.STANDARD
    work = next(iter(workload.works(preset, claims.MACHINE)))
    held(claims.tuned_beside_plain(backend, workload, work))
