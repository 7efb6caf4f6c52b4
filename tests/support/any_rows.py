"""Rows with anything in them that a cell may hold, for tests of whatever writes and reads tables."""

from operator import attrgetter
from typing import get_args

from bench_core.records import SCHEMA_VERSION, Row, Status
from bench_core.results.schema import IDENTITY, KINDS, WORDS, converter
from bench_core.results.strict_csv import cell
from bench_core.units import Unit
from tests.support.properties import st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.none() | st.integers(-(2**63), 2**63 - 1)
SCALARS = {str: TEXT, float: NUMBER, int: COUNT, bool: st.none() | st.booleans()}
NEEDED = ("run_id", "machine", "case_id", "workload", "backend", "device", "metric")


def as_written(text, name="workload"):
    """A text as a column of any table holds it: on one line, without control characters."""
    return converter(name)(cell(text))


def _column(name, texts):
    return texts.map(lambda text: as_written(text, name))


@st.composite
def any_rows(draw):
    """Rows of different results with anything in them that a cell may hold."""
    fields = {name: SCALARS[kind] for name, kind in KINDS.items()}
    fields |= dict.fromkeys(NEEDED, TEXT.map(as_written).filter(bool))
    fields["schema_version"] = st.just(SCHEMA_VERSION)
    fields["workload_version"] = st.integers(1, 9)
    fields |= {name: st.sampled_from([str(word) for word in words]) for name, words in WORDS.items()}
    fields["unit"] = st.sampled_from(get_args(Unit))
    row = st.builds(Row, **{name: _column(name, s) if KINDS[name] is str else s for name, s in fields.items()})
    row = row.filter(lambda row: row.status != Status.OK or row.value is not None)
    return draw(st.lists(row, max_size=4, unique_by=attrgetter(*IDENTITY)))
