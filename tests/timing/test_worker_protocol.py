"""What a parent reads on the channel is an answer about its own case or nothing."""

import io
import queue

import pytest

from bench_core.records import Case, Measurement, Status, Work, to_json
from bench_core.timing import worker
from bench_core.timing.worker_protocol import MARK, MalformedAnswer, read_measurement_answer


def case(size):
    return Case(Work("tests", "double", size, "float64"), "numpy", "cpu")


def test_lines_without_a_whole_answer_are_passed_over():
    answers = queue.SimpleQueue()
    lines = ["hello\n", f"{MARK}{{half\n", f'{MARK}{{"phase": "check"}}\n', f'{MARK}{{"measure']
    worker._pump(io.StringIO("".join(lines)), answers)
    assert [answers.get(), answers.get()] == [{"phase": "check"}, None]


def test_an_answer_about_another_case_is_malformed():
    """A late answer must never become the next case's number."""
    good = {"measurement": to_json(Measurement(case("good"), Status.OK))}
    assert read_measurement_answer(good, case("good"), "in check").status is Status.OK
    with pytest.raises(MalformedAnswer, match="in check that makes no sense"):
        read_measurement_answer(good, case("wrong"), "in check")


@pytest.mark.parametrize("text", ["5", "[]", '{"x": NaN}', "{half", "[" * 100_000])
def test_an_answer_that_is_no_json_object_is_passed_over_and_so_is_noise_before_an_answer(text):
    answers = queue.SimpleQueue()
    worker._pump(io.StringIO(f'{MARK}{text}\nnoise{MARK}{{"phase": "check"}}\n'), answers)
    assert [answers.get(), answers.get()] == [{"phase": "check"}, None]
