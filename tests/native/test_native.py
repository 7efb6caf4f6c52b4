"""The C ruler compiles without a warning and its answers are right; the race asks it and the libraries alike."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.native import compare, factors

KERNELS = ("copy", "scale", "add", "triad")
KIB = 1 << 10


@pytest.fixture(scope="module", name="program")
def compiled(tmp_path_factory):
    if compare.compiler() is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("native")
    probe = folder / "probe.c"
    probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
    command = [compare.compiler(), "-fopenmp", "-march=native", str(probe), "-o", str(folder / "probe")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the C compiler here has no OpenMP, or does not know this CPU")
    return compare.build(folder)


@pytest.fixture(name="c", params=[1, 2], ids=["one-thread", "two-threads"])
def server(program, request):
    c = compare.Server([str(program), str(100 * KIB), str(request.param)])
    yield c
    c.close()


@pytest.mark.parametrize("name", [*KERNELS, "triad_two"])
def test_plain_stores_are_right_and_counted_as_stream_counts_them(c, name):
    amount, error, *seconds = map(float, c.ask(f"{name} 3").split())
    assert amount == (2 if name in {"copy", "scale"} else 3) * 100 * KIB
    assert error < 1e-15
    assert len(seconds) == 3
    assert min(seconds) > 0


@pytest.mark.parametrize("name", KERNELS)
def test_non_temporal_stores_are_right_where_the_cpu_has_them(c, name):
    answer = c.ask(f"{name}_nt 1")
    if answer == "none":
        pytest.skip("no non-temporal stores for this CPU")
    assert float(answer.split()[1]) < 1e-15


@pytest.mark.parametrize("name", ["fma64", "fma32"])
def test_the_multiply_adds_really_happen(c, name):
    """Every chain runs to the fixed point of x = 0.999 x + 0.001, which a loop that was left out never reaches."""
    amount, error, _ = map(float, c.ask(f"{name} 1").split())
    assert amount > 1e6
    assert error < 1e-4


def test_an_unknown_kernel_is_answered_and_the_next_one_served(c):
    assert c.ask("scan 3") == "none"
    assert c.ask("copy 0") == "none"
    assert c.ask("copy 1") != "none"


WRONG = ["pages=large", "offsets=8,8", "offsets=4,0,0", "offsets=0,0,-8", "offsets=0,0,1048576", "touch=0", "more"]


@pytest.mark.parametrize("arguments", [[], ["1024"], ["0", "1"], ["1024", "0"], *(["1024", "1", w] for w in WRONG)])
def test_wrong_arguments_are_refused(program, arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("option", ["pages=huge", "pages=small", "pages=any", "offsets=16,8,1048568", "touch=3"])
def test_arrays_that_lie_elsewhere_have_the_same_answers(program, option):
    server = compare.Server([str(program), str(100 * KIB), "2", option])
    for name in KERNELS:
        amount, error, _ = map(float, server.ask(f"{name} 1").split())
        assert amount >= 2 * 100 * KIB
        assert error < 1e-15
    server.close()


@pytest.mark.parametrize(("offsets", "lined_up"), [("0,64,128", True), ("0,64,136", False), ("16,16,16", False)])
def test_non_temporal_stores_need_arrays_at_cache_lines(program, offsets, lined_up):
    server = compare.Server([str(program), str(100 * KIB), "1", f"offsets={offsets}"])
    usual = compare.Server([str(program), str(100 * KIB), "1"])
    assert (server.ask("add_nt 1") != "none") is (lined_up and usual.ask("add_nt 1") != "none")
    server.close()
    usual.close()


@pytest.mark.parametrize("pages", ["huge", "small", "any"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_form_of_every_factor_is_right_on_numpy(pages, threads):
    """In an odd number of blocks, the last of which is shorter; every result is overwritten before it is checked."""
    streams = factors.Streams(100 * KIB, threads, pages=pages, touch=1)
    for entrant in factors.IN_NUMPY:
        for operation in entrant.operations:
            block = 12 * KIB if entrant.block else 0
            _, error = streams.call(replace(entrant, block=block).request(operation, "numpy"))
            assert error < 1e-15, entrant.name


def test_a_form_that_leaves_a_block_out_is_found(monkeypatch):
    monkeypatch.setitem(factors.FORMS, "plain", lambda operation, parts: factors.plain(operation, parts[1:]))
    _, error = factors.Streams(100 * KIB, 1).call(f"add/plain/0,0,0/{12 * KIB}")
    assert not error < 1e-15


def test_arrays_lie_where_the_offsets_say():
    arrays = factors.Streams(100 * KIB, 1).arrays("16,8,1048568")
    places = [array.ctypes.data % factors.HUGE_PAGE for array in (arrays.a, arrays.b, arrays.c)]
    assert places == [16, 8, 1048568]
    assert {array.nbytes for array in (arrays.a, arrays.b, arrays.c)} == {100 * KIB}


def test_both_sides_race_and_entrants_that_differ_in_their_calls_alone_share_a_process(program):
    with factors.processes(program, 64 * KIB, 1) as server:
        made = factors.contenders("add", server, 1)
        rates = compare.race(made, 1)
    expected = [e.name for e in (*factors.IN_C, *factors.IN_NUMPY) if "add" in e.operations and e.alone]
    assert [name for name in expected if name not in rates] in ([], ["C: non-temporal stores"])
    by_name = {contender.name: contender.server for contender in made}
    assert by_name["numpy"] is by_name["numpy: at a line"]
    assert by_name["numpy"] is not by_name["numpy: small pages"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
def test_pinned_threads_have_a_core_of_their_own_each():
    """In a process of its own, for the affinity stays."""
    script = (
        "import os, threading\n"
        "from benchmarks.threads import in_parallel\n"
        "from tests.native.factors import Streams\n"
        "cores = len(os.sched_getaffinity(0))\n"
        "Streams(65536, 2, pinned=True)\n"
        "meeting = threading.Barrier(2, timeout=20)\n"
        "seen = in_parallel(2, [lambda: (meeting.wait(), os.sched_getaffinity(0))[1]] * 2)\n"
        "assert all(len(one) == 1 for one in seen), seen\n"
        "assert len(set.union(*seen)) == min(2, cores), seen\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_library_answers_the_same_request_as_the_c_program():
    with compare.library("numpy", "tuned", 1, 256 * KIB) as numpy:
        amount, error, seconds = map(float, numpy.ask("triad 1").split())
    assert amount == 3 * 256 * KIB
    assert error < 1e-14
    assert seconds > 0


def test_a_race_gives_everyone_a_turn_in_every_round(program):
    c = compare.Server([str(program), str(64 * KIB), "1"])
    contenders = [compare.Contender("a", c, "copy 1"), compare.Contender("b", c, "triad 1")]
    rates = compare.race(contenders, 4)
    c.close()
    assert {name: len(values) for name, values in rates.items()} == {"a": 4, "b": 4}


def test_a_server_that_dies_raises_with_its_exit_status():
    server = compare.Server([sys.executable, "-c", "input()"])
    with pytest.raises(RuntimeError, match="ended with status 0"):
        server.ask("copy 1")
