"""Tables of earlier versions are read: a column that came later may be absent, and an older schema is brought up."""

from dataclasses import replace

import pandas as pd
import pytest

from bench_core import load
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
        version = "\0".join(["1"] * len(old.lines))
        return replace(old, header=header, columns=((version,), *old.columns[1:]))

    monkeypatch.setitem(legacy.MIGRATIONS, 0, rename)
    monkeypatch.setattr(reader, "ADDED_LATER", frozenset({"case_id"}))
    assert read_rows(good) == rows


def make_a_share(path, value, low, high):
    """Make the first row of a table a share."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[0, ["metric", "unit", "better", "value", "ci_low", "ci_high"]] = [
        "fraction_of_measured_peak", "1", "higher", value, low, high
    ]  # fmt: skip
    frame.to_csv(path, index=False)


def test_a_table_of_shares_above_one_is_read_with_a_warning(good):
    make_a_share(good, "1.5", "0.5", "2.0")
    with pytest.warns(UserWarning, match="1 shares above 1 by an earlier rule are cut off or left out"):
        row = read_rows(good)[0]
    assert (row.value, row.ci_low, row.ci_high) == (1.0, 0.5, 1.0)


def test_a_share_that_is_left_out_stays_so_in_a_table_that_is_written_again(good):
    """It is the only kind of row that may be ok without a value."""
    make_a_share(good, "1.5", "1.4", "2.0")
    with pytest.warns(UserWarning, match="1 shares above 1 by an earlier rule are cut off or left out"):
        rows = load(good)
    assert (rows["status"][0], rows["value"][0]) == ("ok", pd.NA)
    rows.to_csv(good, index=False)
    assert read_rows(good)[0].value is None
