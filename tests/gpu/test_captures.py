"""The claim about captured forms, on the real workloads over the stand-in for CUDA graphs."""

import pytest

from bench_core.errors import WrongAnswer
from tests.gpu import claims

pytest.importorskip("torch")
from benchmarks.nn.modules.running import CAPTURED
from tests.support import cuda_graphs
from tests.support.cuda_graphs import CPU, captures_on_a_cpu  # noqa: F401 - a fixture
from tests.support.nn import one_thread  # noqa: F401 - a fixture

FORMS = [form for form in claims.prepared_forms() if form.implementation in CAPTURED]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_captured_form_is_right_before_and_after_it_ran(form):
    claims.replays(CPU, form)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_form_whose_graph_stops_computing_is_found(form, monkeypatch):
    replay, replayed = cuda_graphs.Graph.replay, []

    def stopped(graph):
        replayed.append(graph)
        if replayed.count(graph) <= 2:
            replay(graph)

    monkeypatch.setattr(cuda_graphs.Graph, "replay", stopped)
    with pytest.raises(WrongAnswer):
        claims.replays(CPU, form)
