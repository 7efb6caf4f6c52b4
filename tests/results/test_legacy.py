"""Tables of earlier versions are read: a column that came later may be absent, and an older schema is brought up."""

import pandas as pd
import pytest

from bench_core.results import legacy, reader
from bench_core.results.reader import read_rows
from bench_core.results.schema import COLUMNS
from bench_core.results.strict_csv import Csv
from tests.support.table_files import complaint, good_table, spoil  # noqa: F401 - a fixture


def test_columns_added_later_may_be_absent(good):
    table = pd.read_csv(good, dtype=str, keep_default_na=False)
    table.drop(columns=["library", "device_name", "placement"]).to_csv(good, index=False)
    assert {(row.library, row.placement) for row in read_rows(good)} == {("", "")}


def test_an_older_schema_migrates(good, monkeypatch):
    """A step per version; a version without a step is refused."""
    rows = read_rows(good)
    spoil(good, lambda t: t.replace("\n1,", "\n0,").replace("case_id", "case", 1))
    monkeypatch.setattr(reader, "COLUMNS", tuple(n for n in COLUMNS if n != "case_id"))
    assert ":2: schema version 0 is not known" in complaint(good)
    monkeypatch.setattr(reader, "COLUMNS", COLUMNS)

    def rename(old: Csv) -> Csv:
        header = tuple("case_id" if name == "case" else name for name in old.header)
        return Csv(old.path, header, [["1", *record[1:]] for record in old.records], old.lines)

    monkeypatch.setitem(legacy.MIGRATIONS, 0, rename)
    monkeypatch.setattr(reader, "ADDED_LATER", frozenset({"case_id"}))
    assert read_rows(good) == rows


def test_a_table_of_shares_above_one_is_read_with_a_warning(good):
    frame = pd.read_csv(good, dtype=str, keep_default_na=False)
    frame.loc[0, ["metric", "unit", "better", "value", "ci_low", "ci_high"]] = [
        "fraction_of_measured_peak", "1", "higher", "1.5", "0.5", "2.0"
    ]  # fmt: skip
    frame.to_csv(good, index=False)
    with pytest.warns(UserWarning, match="1 shares above 1 by an earlier rule are cut off or left out"):
        row = read_rows(good)[0]
    assert (row.value, row.ci_low, row.ci_high) == (1.0, 0.5, 1.0)
