"""Whatever stands in the files of a run, they are read, compared, priced and reported, or refused in one line."""

import csv
import io
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench_core import render
from bench_core.analysis.report_data import ReportData
from bench_core.compare import compare, read
from bench_core.compare.price import price_work
from bench_core.compare.tariff import Tariff
from bench_core.errors import BenchError, TableError
from bench_core.files import digest
from bench_core.render.cost import cost_csv, cost_json, cost_text
from bench_core.report import NEEDED
from bench_core.results.schema import KINDS, NOISE, RESULTS, RUN, SAMPLE_COLUMNS, SAMPLES
from tests.support.hostile import CELL_TEXTS, PAGE_TEXTS
from tests.support.properties import given, settings, st
from tests.support.tables import absent, measured, on_host, processes, tokens, work, write

NUMBERS = ("", "0", "-1", "1e308", "-1e308", "1e-320", "1e999", "nan", "1" + "0" * 400, "2.0", "1.23E+05", "9" * 19)
WORDS = ("1,5", "[]", "{}", "null", "true", "[" * 40 + "]" * 40, "ok", "time", "wall", "cpu", "\U0001f680")
CELLS = st.sampled_from([*NUMBERS, *WORDS, *CELL_TEXTS, *PAGE_TEXTS]) | st.text(max_size=9)
BYTES = st.sampled_from([b"", b"\0", b"\xff", b"\r\n", b",", b'"', b"\x1f\x8b", b"\xfe\xff"]) | st.binary(max_size=9)
NOISE_OF = {"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": 0.05}]}
CELL = re.compile(r"(?<=[,\n])[^,\n]*")
HAS_CHARTS = None not in map(find_spec, NEEDED)
VALUE = re.compile(r'(?<=: )("[^"]*"|[^\s,{}\[\]]+)')


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run of each of two machines, one of which failed in a case, and the noise of one."""
    folder = tmp_path_factory.mktemp("runs")
    about = on_host(cpu__model="X", memory__total=25e9, cpu__cores=2)
    write(folder, [*processes([1.0, 1.1]), *tokens([1.0]), absent(work("32"))], "a", about)
    write(folder, [*processes([2.0, 2.1]), *tokens([2.0]), measured([0.5, 0.6], work("32"))], "b", about)
    (folder / "a" / NOISE).write_text(json.dumps(NOISE_OF, indent=1))
    return folder


PLACES = st.lists(st.tuples(st.integers(0, 999), st.none() | CELLS, BYTES, st.integers(0, 40)), min_size=1, max_size=3)
COLUMNS = st.tuples(st.sampled_from([*KINDS, *SAMPLE_COLUMNS]), CELLS)
NUMBER_COLUMNS = st.tuples(st.sampled_from([name for name in KINDS if KINDS[name] is float]), st.sampled_from(NUMBERS))


def with_column(raw, column, cell):
    """Set every cell of a column of a table, if it has that column."""
    (header, *lines) = csv.reader(io.StringIO(raw.decode()))
    if column not in header:
        return raw
    place, out = header.index(column), io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *([*x[:place], cell, *x[place + 1 :]] for x in lines)])
    return out.getvalue().encode("utf-8", "surrogatepass")


def changed(raw, change, pattern):
    """Replace a file by any bytes, set a column of it, or change it in some places.

    Those are in thousandths of its length; there a whole cell or value becomes another, or any bytes.
    """
    if isinstance(change, bytes):
        return change
    if isinstance(change, tuple):
        return with_column(raw, *change) if pattern is CELL else raw
    return with_places(raw, change, pattern)


def with_places(raw, places, pattern):
    for place, cell, content, length in places:
        spans = [match.span() for match in pattern.finditer(raw.decode("latin-1"))]
        start = place * len(raw) // 1000
        end = start + length
        if cell is not None and spans:
            start, end = spans[place * len(spans) // 1000]
        new = content if cell is None else cell.encode("utf-8", "surrogatepass")
        raw = raw[:start] + new + raw[end:]
    return raw


def with_right_hashes(folder):
    """Make run.json that of the changed tables, so that they are not left aside."""
    about = json.loads((folder / RUN).read_text())
    for name, entry in about["files"].items():
        entry["sha256"] = digest((folder / name).read_bytes())
    (folder / RUN).write_text(json.dumps(about, indent=1))


def everything_said_of(folder):
    """Return the notes of a comparison, of prices and of a report, or their errors."""
    try:
        readings = read([str(folder)])
    except BenchError as error:
        return [str(error)]
    return [line for said in (comparison, price, report) for line in said(readings)]


def comparison(readings):
    """Return the notes of a comparison in every format, or the error."""
    try:
        result = compare(readings)
    except BenchError as error:
        return [str(error)]
    written = render.text(result, 80), render.markdown(result), render.as_json(result), render.as_csv(result)
    assert all(written)
    return [note for reading in readings for note in reading.notes]


def price(readings):
    """Return the prices of two runs in every format, or the error."""
    try:
        prices = price_work(readings, Tariff.parse([f"{readings[0].rows[0].machine}=1", "b=2"], "1"))
    except BenchError as error:
        return [str(error)]
    assert all((cost_text(prices, 80), cost_csv(prices), cost_json(prices, [])))
    return prices.apart


def report(readings):
    """Return what a report says besides its charts, as far as the extra `report` is installed, or the error."""
    try:
        data = ReportData(readings)
    except TableError as error:
        return [str(error)]
    if HAS_CHARTS:
        from bench_core.report import captions, page

        assert page.cards(data)
        assert page.answered(data)
        assert all(figure(data).about for figure in captions.FIGURES.values())
    return [*data.silent, *data.apart]


def spoilt(runs, temporary, name, change, hashed):
    """Return a folder with a copy of the runs, in which one file of the first is changed."""
    folder = Path(shutil.copytree(runs, Path(temporary, "runs")))
    run = folder / "a" / "run-a"
    path = folder / "a" / NOISE if name == NOISE else run / name
    path.write_bytes(changed(path.read_bytes(), change, CELL if name in {RESULTS, SAMPLES} else VALUE))
    if hashed and name in {RESULTS, SAMPLES}:
        with_right_hashes(run)
    return folder


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from([RESULTS, SAMPLES, RUN, NOISE]), change=PLACES | COLUMNS | BYTES, hashed=st.booleans())
def test_a_changed_file_is_compared_priced_and_reported_or_refused_in_one_line(runs, name, change, hashed):
    with TemporaryDirectory() as temporary:
        folder = spoilt(runs, temporary, name, change, hashed)
        assert not any("\n" in line for line in everything_said_of(folder))


@pytest.mark.skipif(not HAS_CHARTS, reason="charts need the extra `report`")
@settings(max_examples=8, deadline=None)
@given(NUMBER_COLUMNS)
def test_a_column_of_any_number_is_drawn_or_refused(runs, change):
    from bench_core.report import captions

    with TemporaryDirectory() as temporary:
        try:
            data = ReportData(read([str(spoilt(runs, temporary, RESULTS, change, hashed=True))]))
        except TableError:
            return
        specs = [panel.spec() for figure in captions.FIGURES.values() for panel in figure(data).panels]
        assert specs
