"""Right answers on a GPU: captured, compiled and searched forms, every claimed format, and the smoke preset."""

import pytest

from benchmarks import bench_matmul
from tests.gpu import claims

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("library", "form"), [pytest.param(form.library, form, id=str(form)) for form in claims.prepared_forms()]
)
def test_a_prepared_form_is_right_before_and_after_it_ran(backend, form):
    claims.replays(backend, form)


@pytest.mark.parametrize("kind", bench_matmul.FORMATS, ids="-".join)
def test_a_format_is_claimed_where_its_products_are_right(backend, kind):
    if reason := claims.format_is_claimed_rightly(backend, kind):
        pytest.skip(reason)


@pytest.mark.parametrize("dtype", dict.fromkeys(dtype for dtype, _ in bench_matmul.FORMATS))
def test_an_array_is_overwritten_where_it_lies(backend, dtype):
    """The second look at every answer begins with it."""
    if reason := backend.why_unsupported(dtype, "ieee"):
        pytest.skip(reason)
    assert claims.overwrites(backend, dtype)


@pytest.mark.parametrize("library", ["torch"])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_claimed_from_capability_8_9_on(backend, dtype):
    capable = backend.xp.cuda.get_device_capability() >= (8, 9)
    assert (backend.why_unsupported(dtype, "ieee") is None) == capable


@pytest.mark.parametrize("library", ["torch+cupy"])
def test_the_smoke_preset_is_right_or_says_why_not(library, tmp_path):
    assert not claims.troubles(tmp_path, "benchmarks", "--bench-backends=cupy,torch:cuda")
