"""An ambiguous share is refused, and so are options that contradict each other."""

import pytest

from bench_core.compare import CompareOptions
from bench_core.compare.options import share
from bench_core.errors import UsageError


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), (" 5 %", 0.05), ("0.05", 0.05), ("150%", 1.5), ("0", 0.0)])
def test_a_share_is_a_percentage_or_less_than_one(text, value):
    assert share("--threshold", text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "--threshold: '10': write 10% or 0.1"),
        ("1", "--threshold: '1': write 1% or 0.01"),
        ("2.5", "--threshold: '2.5': write 2.5% or 0.025"),
        ("nan", "--threshold: 'nan' is not a share such as 5% or 0.05"),
    ],
)
def test_a_share_that_could_mean_two_things_is_refused(text, said):
    """A threshold of 10, read as 1000 %, would silently disable the gate."""
    with pytest.raises(UsageError) as caught:
        share("--threshold", text)
    assert str(caught.value) == said


def test_a_threshold_that_no_claim_could_breach_is_refused():
    """No slowdown below --min-effect is called slower, so the gate would not fail."""
    with pytest.raises(UsageError, match=r"--threshold 2% is below --min-effect 5%: .* lower --min-effect as well"):
        CompareOptions(fail_on=("regression",), threshold=0.02)
    assert CompareOptions(fail_on=("regression",), threshold=0.02, min_effect=0.02)
    assert CompareOptions(fail_on=("missing",), threshold=0.02)
