"""A worker finds the modules of the user where its parent has found them, and Python's own where they are."""

import pickle
import sys

from bench_core.timing import sources
from bench_core.timing.sources import Imports, PickledSource


def test_the_path_of_the_parent_comes_last_and_hides_no_library_but_its_own_modules_are_found_first(
    monkeypatch, tmp_path
):
    """`helper` is installed too, and the parent has imported the user's; so it has to be in the worker."""
    for folder, text in (("own", "whose = 'a library of this process'"), ("parents", "whose = 'the user'")):
        (tmp_path / folder).mkdir()
        for name in ("helper_of_both", "library_of_both"):
            (tmp_path / folder / f"{name}.py").write_text(text, encoding="utf-8")
    own, parents = str(tmp_path / "own"), str(tmp_path / "parents")
    monkeypatch.setattr(sys, "path", [own])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sources.Own, "where", {})
    (tmp_path / "file").write_bytes(pickle.dumps("workload"))
    sent = PickledSource(str(tmp_path / "file"), Imports((parents, own), (("helper_of_both", parents),)))
    assert sent.workload() == "workload"
    assert sys.path == [own, parents]
    for name, whose in (("helper_of_both", "the user"), ("library_of_both", "a library of this process")):
        monkeypatch.delitem(sys.modules, name, raising=False)
        assert __import__(name).whose == whose
        assert sources.loaded_from([parents]) == {"helper_of_both": parents}
        assert sources.loaded_from([own]) == ({} if name == "helper_of_both" else {name: own})
