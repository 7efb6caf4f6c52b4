"""Whatever stands in the files of a run, they are read, compared and reported, or refused in one line."""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench_core import render
from bench_core.compare import compare, read
from bench_core.errors import BenchError
from bench_core.files import digest
from bench_core.results.schema import NOISE, RESULTS, RUN, SAMPLES
from tests.support.hostile import CELL_TEXTS, PAGE_TEXTS
from tests.support.properties import given, settings, st
from tests.support.tables import absent, measured, on_host, processes, work, write

NUMBERS = ("", "0", "-1", "1e308", "-1e308", "1e-320", "1e999", "nan", "1" + "0" * 400, "2.0", "1.23E+05", "9" * 19)
WORDS = ("1,5", "[]", "{}", "null", "true", "[" * 40 + "]" * 40, "ok", "time", "wall", "cpu", "\U0001f680")
CELLS = st.sampled_from([*NUMBERS, *WORDS, *CELL_TEXTS, *PAGE_TEXTS]) | st.text(max_size=9)
BYTES = st.sampled_from([b"", b"\0", b"\xff", b"\r\n", b",", b'"', b"\x1f\x8b", b"\xfe\xff"]) | st.binary(max_size=9)
NOISE_OF = {"spreads": [{"backend": "numpy", "device_type": "cpu", "kind": "products", "spread": 0.05}]}
CELL = re.compile(r"(?<=[,\n])[^,\n]*")
VALUE = re.compile(r'(?<=: )("[^"]*"|[^\s,{}\[\]]+)')


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run of each of two machines, one of which failed in a case, and the noise of one."""
    folder = tmp_path_factory.mktemp("runs")
    about = on_host(cpu__model="X", memory__total=25e9, cpu__cores=2)
    write(folder, [*processes([1.0, 1.1]), absent(work("32"))], "a", about)
    write(folder, [*processes([2.0, 2.1]), measured([0.5, 0.6], work("32"))], "b", about)
    (folder / "a" / NOISE).write_text(json.dumps(NOISE_OF, indent=1))
    return folder


PLACES = st.lists(st.tuples(st.integers(0, 999), st.none() | CELLS, BYTES, st.integers(0, 40)), min_size=1, max_size=3)


def changed(raw, places, pattern):
    """Change a file in some places, each in thousandths of its length: a whole cell or value, or any bytes."""
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
    """Return the texts of a comparison and its notes, or the error."""
    try:
        readings = read([str(folder)])
        result = compare(readings)
    except BenchError as error:
        return [str(error)]
    written = render.text(result, 80), render.markdown(result), render.as_json(result), render.as_csv(result)
    assert all(written)
    return [note for reading in readings for note in reading.notes]


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([RESULTS, SAMPLES, RUN, NOISE]), places=PLACES, hashed=st.booleans())
def test_a_changed_file_is_read_or_refused_in_one_line(runs, name, places, hashed):
    with TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(runs, Path(temporary, "runs")))
        run = folder / "a" / "run-a"
        path = folder / "a" / NOISE if name == NOISE else run / name
        path.write_bytes(changed(path.read_bytes(), places, CELL if name in {RESULTS, SAMPLES} else VALUE))
        if hashed and name in {RESULTS, SAMPLES}:
            with_right_hashes(run)
        assert not any("\n" in line for line in everything_said_of(folder))
