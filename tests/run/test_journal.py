"""A journal keeps whole lines: one that was torn when the run was killed is left out, any other fault is named."""

import json
from dataclasses import replace

import pytest

from bench_core.errors import TableError
from bench_core.records import Case, Fact, Measurement, Run, Status, Work
from bench_core.results import schema
from bench_core.run import journal

RUN = Run("r1", "2001-01-01T00:00:00+00:00", "m")
CASES = tuple(Case(Work("tests", "double", size, "float64"), "numpy", "cpu") for size in "abc")
HEAD = journal.Head(RUN, CASES, {"preset": "quick"}, "some hardware")


def done(case, reason="why"):
    return Measurement.missing(case, Status.ERROR, "code", reason)


@pytest.fixture
def path(tmp_path):
    """The journal of a run that was killed: its head, an environment and two records."""
    kept = journal.Journal(tmp_path, HEAD)
    kept.append_environment("e_1", {"numpy": Fact("2", "test")})
    for case in CASES[:2]:
        kept.append(done(case))
    kept.close()
    return tmp_path / schema.JOURNAL


def test_what_was_appended_is_read(path):
    found = journal.read(path)
    assert found.head == HEAD
    assert found.measurements == (done(CASES[0]), done(CASES[1]))
    assert found.environments == {"e_1": {"numpy": Fact("2", "test")}}


def test_records_are_found_by_the_case_of_the_plan_though_it_has_turned_out_to_be_another(path):
    other = replace(CASES[2], work=replace(CASES[2].work, size="1000"))
    again = journal.Journal.reopened(path.parent)
    again.append(replace(done(other), planned_as=CASES[2].work.case_id))
    again.close()
    assert {planned: m.case for planned, m in journal.read(path).by_planned().items()} == {
        CASES[0]: CASES[0],
        CASES[1]: CASES[1],
        CASES[2]: other,
    }


def test_a_line_that_was_torn_anywhere_is_left_out_by_whoever_reads(path):
    """Even one that lacks nothing but its end: whether the disk had all of it is not known."""
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert journal.read(path).measurements == (done(CASES[0]),)
    path.write_bytes(whole)
    assert len(journal.read(path).measurements) == 2


@pytest.mark.parametrize("torn", ["", '{"case":{"work":{"sui', "x" * 10_000])
def test_a_torn_line_is_cut_off_before_the_next_record_and_nothing_else_is(path, torn):
    whole = path.read_text()
    path.write_text(whole + torn)
    again = journal.Journal.reopened(path.parent)
    again.append(done(CASES[2]))
    again.close()
    assert journal.read(path).measurements == tuple(map(done, CASES))
    assert path.read_text() == whole + path.read_text().splitlines(keepends=True)[-1]
    assert path.read_text().endswith("}\n")


def test_a_line_that_is_damaged_in_the_middle_is_named_by_its_number(path):
    lines = path.read_text().split("\n")
    lines[2] = lines[2][:30]
    path.write_text("\n".join(lines))
    with pytest.raises(TableError, match=r"journal\.jsonl:3: not a journal line"):
        journal.read(path)


@pytest.mark.parametrize("change", [lambda text: "", lambda text: text.partition("\n")[0]])
def test_a_journal_without_a_whole_head_is_named(path, change):
    path.write_text(change(path.read_text()))
    with pytest.raises(TableError, match=r"journal\.jsonl:1: the journal has no head"):
        journal.read(path)


def test_a_journal_whose_first_line_is_no_head_is_named(path):
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(TableError, match=r"journal\.jsonl:1: the journal has no head"):
        journal.read(path)


def test_the_last_of_several_records_of_a_case_counts_in_the_place_of_the_first(path):
    again = journal.Journal.reopened(path.parent)
    again.append(done(CASES[0], "a second time"))
    again.close()
    assert journal.read(path).measurements == (done(CASES[0], "a second time"), done(CASES[1]))


def test_a_whole_journal_as_text_is_what_would_have_been_appended(path):
    found = journal.read(path)
    assert journal.text(found.head, found.measurements, found.environments) == path.read_text()
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_journal_is_never_begun_over_another(path):
    before = path.read_text()
    with pytest.raises(FileExistsError):
        journal.Journal(path.parent, HEAD)
    assert path.read_text() == before


def test_two_processes_never_write_one_journal(path):
    """Closing gives it back."""
    mine = journal.Journal.reopened(path.parent)
    with pytest.raises(BlockingIOError, match="another process is writing this run"):
        journal.Journal.reopened(path.parent)
    mine.close()
    journal.Journal.reopened(path.parent).close()


def test_a_journal_that_was_removed_meanwhile_is_not_written_to_in_silence(path):
    mine = journal.Journal.reopened(path.parent)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="it was removed during the run"):
        mine.append(done(CASES[2]))
    mine.close()
