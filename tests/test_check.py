"""Every check can fail: it lets the right answer pass and finds each planted wrong one."""

import math

import numpy as np
import pytest

from bench_core import check
from bench_core.errors import CaseError, WrongAnswer

pytestmark = pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")  # no part is dropped on the way

RNG = np.random.Generator(np.random.PCG64(7))
A, B = RNG.standard_normal((60, 50)), RNG.standard_normal((50, 40))
C = A @ B
Z = RNG.standard_normal((40, 50)) + 1j * RNG.standard_normal((40, 50))


def product_error(a, b, c):
    """Return the error of a product by its sketch: Freivalds' check."""
    return check.sketch_error(check.product_sketch(a, b), c)


@pytest.mark.parametrize("error", [0.5, 1.0])
def test_an_error_within_the_bounds_passes(error):
    check.Tolerance(1.0, low=0.5).require(error)


@pytest.mark.parametrize(
    ("error", "code"), [(1.1, "wrong_answer"), (math.nan, "wrong_answer"), (0.4, "wrong_precision")]
)
def test_an_error_outside_the_bounds_is_a_wrong_answer(error, code):
    with pytest.raises(WrongAnswer) as caught:
        check.Tolerance(1.0, low=0.5).require(error)
    assert caught.value.code == code


@pytest.mark.parametrize(("dtype", "precision"), [("float128", "ieee"), ("complex64", "tf32")])
def test_a_format_without_a_tolerance_names_what_to_override(dtype, precision):
    said = rf"for {dtype} with precision {precision}: override Workload\.tolerance"
    with pytest.raises(CaseError, match=said) as caught:
        check.tolerance(dtype, precision)
    assert caught.value.code == "no_tolerance"


@pytest.mark.parametrize(("dtype", "narrower"), [("complex64", "float16"), ("complex128", "float32")])
def test_a_complex_product_is_within_its_tolerance_and_one_of_a_narrower_format_is_not(dtype, narrower):
    a, b = Z, A[:50] + 1j * A[10:]
    rounded = a.astype(dtype) @ b.astype(dtype)
    check.tolerance(dtype).require(check.relative_error(rounded, a @ b))
    coarse = (a.real.astype(narrower) + 1j * a.imag.astype(narrower)) @ b
    with pytest.raises(WrongAnswer):
        check.tolerance(dtype).require(check.relative_error(coarse, a @ b))


def test_relative_error_is_the_ratio_of_norms():
    assert check.relative_error(np.array([3.0, 4.5]), np.array([3.0, 4.0])) == pytest.approx(0.1)


def test_relative_error_of_a_zero_reference_is_the_norm():
    assert check.relative_error(np.array([3.0, 4.0]), np.zeros(2)) == 5.0


@pytest.mark.parametrize("where", [0, check.BLOCK, 2 * check.BLOCK + 4])
def test_relative_error_sums_over_all_blocks(where):
    reference = np.ones(2 * check.BLOCK + 5)
    answer = reference.copy()
    answer[where] += 3.0
    assert check.relative_error(answer, reference) == pytest.approx(3.0 / math.sqrt(reference.size))


def test_largest_error_sees_a_lone_element_that_the_norm_hides():
    answer = C.copy()
    answer[3, 4] += 0.1 * np.sqrt(np.mean(C**2))
    assert check.largest_error(answer, C) == pytest.approx(0.1)
    assert check.relative_error(answer, C) == pytest.approx(0.1 / np.sqrt(C.size))


@pytest.mark.parametrize("function", [check.relative_error, check.largest_error])
def test_another_shape_is_a_wrong_answer(function):
    with pytest.raises(WrongAnswer) as caught:
        function(C.T, C)
    assert caught.value.code == "wrong_shape"


def test_freivalds_passes_a_right_product():
    assert product_error(A, B, C) < 1e-14


def test_freivalds_estimates_spread_errors_closely():
    noise = RNG.standard_normal(C.shape) * 1e-3
    assert product_error(A, B, C + noise) == pytest.approx(check.relative_error(C + noise, C), rel=0.3)


def test_freivalds_finds_an_error_of_rank_one():
    planted = C.copy()
    planted[5, 6] += 1e-3 * np.linalg.norm(C)
    assert product_error(A, B, planted) > 1e-3 / 3


@pytest.mark.parametrize("planted", [A @ B[::-1], (A @ B)[::-1], A[:, ::-1] @ B, np.zeros_like(C)])
def test_freivalds_finds_operands_in_the_wrong_order(planted):
    assert product_error(A, B, planted) > 0.3


def test_freivalds_is_exact_on_integers():
    a, b = (RNG.integers(-127, 128, (200, 200), np.int8) for _ in range(2))
    c = a.astype(np.int32) @ b.astype(np.int32)
    assert product_error(a, b, c) == 0.0
    c[100, 7] += 1
    assert product_error(a, b, c) > 0.0


def test_freivalds_wants_the_right_shape():
    with pytest.raises(WrongAnswer):
        product_error(A, B, C.T)


def test_a_product_taken_a_few_rows_at_a_time_is_that_of_float64():
    np.testing.assert_allclose(
        check.times(A.astype(np.float32), B, rows=7), A.astype(np.float32).astype(np.float64) @ B
    )


PERIOD = RNG.standard_normal(101)


def test_periodic_error_passes_the_period_repeated_and_cut_short():
    assert check.periodic_error(np.resize(PERIOD, 350), PERIOD) == 0.0


@pytest.mark.parametrize("where", [0, 200, 349])
def test_periodic_error_finds_a_lone_element(where):
    answer = np.resize(PERIOD, 350)
    answer[where] += 1e-3
    assert check.periodic_error(answer, PERIOD) == pytest.approx(1e-3 / np.sqrt(np.mean(PERIOD**2)))


def test_periodic_error_finds_an_element_that_was_never_written():
    answer = np.resize(PERIOD, 350)
    answer[17] = np.nan
    assert not check.periodic_error(answer, PERIOD) <= 1.0


class CountedSlices(np.ndarray):
    """An array that counts how often it is sliced."""

    slices = 0

    def __getitem__(self, key):
        type(self).slices += isinstance(key, slice)
        return super().__getitem__(key)


def test_periodic_error_takes_a_block_at_a_time_however_short_the_period():
    answer = np.ones(2 * check.BLOCK + 5).view(CountedSlices)
    assert check.periodic_error(answer, np.ones(1)) == 0.0
    assert CountedSlices.slices == 3


def test_periodic_error_finds_a_nan_in_any_block():
    for where in (0, check.BLOCK + 1, 2 * check.BLOCK + 4):
        answer = np.ones(2 * check.BLOCK + 5)
        answer[where] = np.nan
        assert not check.periodic_error(answer, np.ones(1)) <= 1.0


def test_reduction_error_passes_the_sum_and_finds_a_missing_term():
    total = np.resize(PERIOD, 350).sum()
    assert check.reduction_error(np.asarray(total), PERIOD, 350) < 1e-15
    assert check.reduction_error(np.asarray(total - PERIOD[3]), PERIOD, 350) > 1e-4


@pytest.mark.parametrize(
    ("terms", "total", "magnitude"),
    [(5, 2 * (3 - 1) + 3, 2 * (3 + 1) + 3), (1, 3, 3), (4, 2 * (3 - 1), 2 * (3 + 1))],
)
def test_reduction_error_counts_the_period_that_is_cut_short_in_sum_and_scale(terms, total, magnitude):
    """The terms are 3, -1, 3, -1, 3."""
    period = np.array([3.0, -1.0])
    assert check.reduction_error(np.asarray(float(total)), period, terms) == 0.0
    assert check.reduction_error(np.asarray(total + 1.0), period, terms) == 1 / magnitude


def test_not_finite_is_a_wrong_answer_that_counts_the_elements():
    with pytest.raises(WrongAnswer, match="2 of 3 elements of 'out'"):
        check.require_finite("out", np.array([np.nan, np.inf, 1.0]))
    check.require_finite("out", np.zeros(3))


# ---------------------------------------------------------------- complex numbers


@pytest.mark.parametrize("function", [check.relative_error, check.largest_error])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_complex_answer_that_is_right_passes(function, dtype):
    assert function(Z.astype(dtype), Z) <= np.finfo(dtype).eps


def test_errors_of_complex_numbers_are_magnitudes():
    reference = np.array([3.0 + 4.0j, 0.0])
    assert check.relative_error(reference + np.array([0.3j, 0.4]), reference) == pytest.approx(0.1)
    assert check.largest_error(reference + np.array([0.3 + 0.4j, 0.0]), reference) == pytest.approx(0.1 * math.sqrt(2))
    assert check.squares(reference + 1j, reference) == pytest.approx((2.0, 25.0))


@pytest.mark.parametrize("function", [check.relative_error, check.largest_error])
@pytest.mark.parametrize("wrong", [Z.real, Z.conj(), 1j * Z, Z.real + 0j], ids=["real", "conjugate", "turned", "cut"])
def test_a_complex_answer_with_a_wrong_or_missing_part_is_found(function, wrong):
    assert function(wrong, Z) > 0.5
    assert function(Z, Z.real) > 0.5


def test_a_complex_answer_of_many_blocks_is_compared_to_its_end():
    reference = np.full(2 * check.BLOCK + 5, 1j)
    answer = reference.copy()
    answer[-1] = 0
    assert check.squares(answer, reference) == pytest.approx((1.0, len(reference)))


@pytest.mark.parametrize("bad", [complex(math.nan, 0), complex(0, math.nan), complex(0, math.inf)])
def test_either_part_that_is_not_finite_is_a_wrong_answer(bad):
    with pytest.raises(WrongAnswer, match="1 of 3 elements of 'out'"):
        check.require_finite("out", np.array([1j, bad, 0], np.complex64))
    check.require_finite("out", np.full(3, 1e38 + 1e38j, np.complex64))


def test_freivalds_judges_complex_products():
    product = Z @ A[:50]
    assert product_error(Z, A[:50], product) < 1e-14
    planted = product.copy()
    planted[5, 6] += 1e-3j * np.linalg.norm(product)
    assert product_error(Z, A[:50], planted) > 1e-3 / 3
    assert product_error(Z, A[:50], product.real) > 0.3


def test_periods_and_sums_of_complex_numbers_are_compared():
    period = Z[0]
    assert check.periodic_error(np.resize(period, 350), period) == 0.0
    assert check.periodic_error(np.resize(period.conj(), 350), period) > 0.5
    total = np.resize(period, 350).sum()
    assert check.reduction_error(total, period, 350) < 1e-15
    assert check.reduction_error(total - 1j * period[3], period, 350) > 1e-4


def test_another_dtype_is_a_wrong_answer():
    with pytest.raises(WrongAnswer, match="float32 instead of float64"):
        check.require_dtype("out", np.zeros(1, np.float32), "float64")
