"""What a parent reads on the channel is an answer about its own case or nothing."""

import io
import queue

import pytest

from bench_core.records import Case, Measurement, Status, Work, to_json
from bench_core.timing import worker
from bench_core.timing.worker_protocol import MARK, MalformedAnswer, read_measurement_answer
from tests.support.fakes import FakeClock


def case(size):
    return Case(Work("tests", "double", size, "float64"), "numpy", "cpu")


def pumped(text):
    """Return the answers that a child's output holds, up to its end."""
    arrivals = queue.SimpleQueue()
    worker._pump(io.StringIO(text), arrivals)
    answers = []
    while (arrival := arrivals.get()) is not None:
        answers.append(arrival.answer)
    return answers


def test_lines_without_a_whole_answer_are_passed_over():
    lines = ["hello\n", f"{MARK}{{half\n", f'{MARK}{{"phase": "check"}}\n', f'{MARK}{{"measure']
    assert pumped("".join(lines)) == [{"phase": "check"}]


def test_an_answer_about_another_case_is_malformed():
    """A late answer must never become the next case's number."""
    good = {"measurement": to_json(Measurement(case("good"), Status.OK))}
    assert read_measurement_answer(good, case("good"), "in check").status is Status.OK
    with pytest.raises(MalformedAnswer, match="invalid answer in check"):
        read_measurement_answer(good, case("wrong"), "in check")


@pytest.mark.parametrize("text", ["5", "[]", '{"x": NaN}', "{half", "[" * 100_000])
def test_an_answer_that_is_no_json_object_is_passed_over_and_so_is_noise_before_an_answer(text):
    assert pumped(f'{MARK}{text}\nnoise{MARK}{{"phase": "check"}}\n') == [{"phase": "check"}]


def test_an_answer_is_stamped_when_it_arrives_not_when_it_is_taken_out(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(worker, "monotonic", clock)

    def lines():
        for second in (3.0, 2.0):
            clock.pass_(second)
            yield f'{MARK}{{"phase": "check"}}\n'

    arrivals = queue.SimpleQueue()
    worker._pump(lines(), arrivals)
    clock.pass_(60.0)
    assert [arrivals.get().at, arrivals.get().at] == [3.0, 5.0]
