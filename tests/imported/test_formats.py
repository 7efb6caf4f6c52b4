"""A file is recognised by what is in it, and any other is refused by name; nothing raises anything else."""

import gzip
import json

import pytest

from bench_core.errors import BenchError, TableError
from bench_core.imported import formats, tables
from bench_core.results.foreign import TOOLS, tool_of
from tests.support import ROOT
from tests.support.other_programs import BABELSTREAM, JSON, OUTPUTS
from tests.support.properties import given, settings, st

KINDS = [
    ((ROOT / "results").rglob("results.csv"), "the results.csv of a run, which is not imported"),
    ((ROOT / "results").rglob("samples.csv"), "the samples.csv of a run, which is not imported"),
    ((ROOT / "results").rglob("run.json"), "the run.json of a run, which is not imported"),
]


def saved(folder, text):
    path = folder / "given"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_program_has_a_reader():
    assert set(formats.READERS) == set(TOOLS) == {tool for tool, _ in OUTPUTS.values()}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_each_form_is_recognised_as_it_is_and_behind_what_a_job_has_printed(tmp_path, kind):
    tool, text = OUTPUTS[kind]
    assert formats.read(saved(tmp_path, text)).contents.tool == tool
    assert formats.read(saved(tmp_path, gzip.compress(text.encode()))).contents.tool == tool
    if not text.startswith(("{", "Benchmark,")):
        assert tool_of("module: loaded\n\n" + text) == tool


@pytest.mark.parametrize("tool", JSON)
def test_json_with_its_fields_in_another_order_and_json_that_was_cut_off_are_recognised(tmp_path, tool):
    document = JSON[tool]()
    assert tool_of(json.dumps(document, sort_keys=True)) == tool
    assert tool_of(json.dumps(dict(reversed(document.items())))) == tool
    cut = json.dumps(document)[: len(json.dumps(document)) // 2]
    with pytest.raises(TableError, match=r"cut off|not JSON"):
        formats.read(saved(tmp_path, cut))


def test_as_overrides_what_a_file_looks_like(tmp_path):
    with pytest.raises(TableError, match="machine_info: is missing"):
        formats.read(saved(tmp_path, OUTPUTS["google-benchmark JSON"][1]), "pytest-benchmark")


@pytest.mark.parametrize(("paths", "said"), KINDS, ids=[said for _, said in KINDS])
def test_a_file_of_ours_is_said_to_be_one(paths, said):
    with pytest.raises(TableError) as raised:
        formats.read(next(paths))
    assert f": {said}; the formats are those of {', '.join(TOOLS)} " in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "of no format that is imported; the formats are those of pytest-benchmark"),
        ('{"results": []}', "JSON, not a table, which is not imported; the formats are"),
        ("<html>", "an HTML page, not a table, which is not imported"),
            ("name,stddev,iqr,outliers\n", "the CSV of pytest-benchmark, which is not imported"),
        ("  \n", "the file is empty"),
        (b"PAR1xx", "a Parquet file"),
        (b"\x00\x01\x02\x03" * 300, "a binary file of an unknown kind"),
    ],
)  # fmt: skip
def test_any_other_file_is_refused_by_name_in_one_line(tmp_path, text, said):
    path = saved(tmp_path, text)
    with pytest.raises(TableError) as raised:
        formats.read(path)
    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        formats.read(tmp_path / "nothing")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("value"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def _places(value, path=()):
    """Return the path of every value in a document but the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, item in items for found in [(*path, name), *_places(item, (*path, name))]]


def _read_or_refused(path, text, tool):
    """Read a text as any user would, and require rows, or one line."""
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    refused = ""
    try:
        made = tables.made(formats.read(path, tool), tables.Options("m"))
    except BenchError as error:
        refused = str(error)
    else:
        assert all(row.is_unchecked and row.value != 0 for row in made.rows)
        json.dumps(made.about, allow_nan=False)
    assert refused == "" or refused.isprintable()  # on one line


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_document_with_any_value_anywhere_is_read_or_refused(tmp_path_factory, data):
    tool = data.draw(st.sampled_from(sorted(JSON)))
    document = JSON[tool]()
    *outer, last = data.draw(st.sampled_from(_places(document)))
    node = document
    for name in outer:
        node = node[name]
    node[last] = data.draw(_JSON)
    _read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", json.dumps(document), tool)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_text_with_any_damage_is_read_or_refused(tmp_path_factory, data):
    tool, text = data.draw(st.sampled_from([OUTPUTS[kind] for kind in sorted(OUTPUTS)]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)) | st.just(len(text)))
    put = data.draw(st.text(max_size=8) | st.sampled_from(["\n", " 1e999 ", ",-1,", "\u202e", "0", "nan"]))
    _read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", text[:start] + put + text[end:], tool)


def test_a_second_run_in_the_file_is_refused(tmp_path):
    document = JSON["pytest-benchmark"]()
    document["benchmarks"] *= 2
    for text in (json.dumps(document), BABELSTREAM * 2):
        with pytest.raises(TableError, match="of one run at a time"):
            tables.made(formats.read(saved(tmp_path, text)), tables.Options("m"))
