"""Every product kernel is right on every library here, and every format's proof finds what is planted."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bench_core import caches
from bench_core.errors import TooSlow, Unsupported, WrongAnswer
from bench_core.plan.expansion import expand
from bench_core.records import Machine, Preset, Status, Target
from benchmarks import bench_matmul, limits, products
from tests.support import kernels as support
from tests.support import planned
from tests.support.nn import one_thread  # noqa: F401 - a fixture

MACHINE = Machine(32 << 20, 2)
WORKLOADS = [
    bench_matmul.Square(),
    bench_matmul.Data(),
    bench_matmul.Skinny(),
    bench_matmul.Batched(),
    bench_matmul.Layouts(),
    bench_matmul.OffTile(),
    bench_matmul.Layers(),
]
SQUARE = WORKLOADS[0]
SMOKE = [(workload, work) for workload in WORKLOADS for work in workload.works(Preset.SMOKE, MACHINE)]
NAMES = [f"{workload.name}-{work.size}-{work.dtype}-{work.precision}" for workload, work in SMOKE]
N = 128
GENERATOR = np.random.default_rng(7)


def square(kind, data="normal"):
    return SQUARE.product(f"{N}-{data}", kind, N, N, N, data=data)


def judged(work, host, out, workload=SQUARE):
    """Return the relative error of a product, as a kernel's is judged; raises WrongAnswer for a wrong one."""
    return workload.verify(work, workload.reference(work, host), {"out": out})


@pytest.mark.parametrize("name", ["numpy", "torch", "cupy"])
@pytest.mark.parametrize(("workload", "work"), SMOKE, ids=NAMES)
def test_every_smoke_product_is_right_or_says_why_not(name, workload, work):
    with support.backend(name) as on:
        if on.why_unsupported(work.dtype, work.precision):
            pytest.skip("known beforehand: the harness does not build it")
        narrow = work["batch"] and (work.precision == "tf32" or work.dtype in {"bfloat16", "float16"})
        if name == "cupy" and (work.dtype == "int8" or narrow):
            assert support.looked_at(workload, work, on).status is Status.UNSUPPORTED
        else:
            support.error_of(workload, work, on)


@pytest.mark.parametrize("kind", [bench_matmul.BF16, bench_matmul.FP16])
def test_cupys_own_batches_have_no_sixteen_bits_and_it_says_where_they_are(kind):
    batched = bench_matmul.Batched()
    with (
        support.backend("cupy") as on,
        pytest.raises(Unsupported, match="widens batches of float16 to float32, and has none of bfloat16; see `tuned`"),
    ):
        support.kernel(batched, batched.product("x", kind, 32, 32, 32, batch=4), on)


NARROW = (bench_matmul.BF16, bench_matmul.FP16, bench_matmul.TF32)


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("kind", [*NARROW, bench_matmul.FP32, bench_matmul.FP64], ids="-".join)
def test_batches_by_cublas_are_right_in_every_layout(kind, layout):
    """No two sides are equal: an operand in another's place, or a wrong leading dimension, shows."""
    batched = bench_matmul.Batched()
    work = batched.product("x", kind, 48, 80, 112, batch=3, layout=layout)
    with support.backend("cupy") as on:
        on.set_precision(work.precision)
        if reason := on.why_unsupported(*kind):
            pytest.skip(reason)
        error = support.error_of(batched, work, on, "tuned")
    assert (error > 1e-5) == (kind in NARROW), "not computed in the format"


@pytest.mark.parametrize(("kind", "planned"), [(kind, True) for kind in NARROW] + [(bench_matmul.FP32, False)])
def test_batches_by_cublas_are_measured_only_where_cupys_own_are_not(kind, planned):
    batched = bench_matmul.Batched()
    assert batched.selects(batched.product("x", kind, 8, 8, 8, batch=2), "tuned") is planned
    by_library = {c.backend for preset in Preset for c in cases(preset, batched) if c.implementation == "tuned"}
    assert by_library == {"cupy"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda given: [*given[:9], given[9] - 1, *given[10:]], id="leading dimension"),
        pytest.param(lambda given: [*given[:7], *given[11:15], *given[7:11], *given[15:]], id="operands"),
        pytest.param(lambda given: [*given[:10], given[10] + 8, *given[11:]], id="stride"),
        pytest.param(lambda given: [*given[:3], given[4], given[3], *given[5:]], id="m and n"),
        pytest.param(lambda given: [given[0], 1 - given[1], *given[2:]], id="transposed"),
    ],
)
def test_a_wrong_call_of_cublas_is_found(fault, monkeypatch):
    batched = bench_matmul.Batched()
    work = batched.product("x", bench_matmul.FP32, 24, 40, 56, batch=3)
    with support.backend("cupy") as on:
        cublas = on.xp.cuda.cublas
        honest = cublas.gemmStridedBatchedEx
        assert support.error_of(batched, work, on, "tuned") < 1e-6
        monkeypatch.setattr(cublas, "gemmStridedBatchedEx", lambda *given: honest(*fault(list(given))))
        assert support.looked_at(batched, work, on, "tuned").status is not Status.OK


def test_a_tf32_product_that_the_library_computed_in_float32_is_unsupported_and_not_wrong():
    """TF32 is a permission: the answer is right, and there is nothing of TF32 to measure."""
    work = SQUARE.product("128", bench_matmul.TF32, N, N, N)
    host = support.inputs(SQUARE, work)
    exact = host["a"] @ host["b"]
    with pytest.raises(Unsupported, match="computed this in float32") as raised:
        judged(work, host, exact)
    assert raised.value.code == "computed_finer"
    with pytest.raises(WrongAnswer):
        judged(work, host, exact * 1.01)


def test_float8_has_a_form_that_accumulates_fast_on_a_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    asked = []
    monkeypatch.setattr(torch, "_scaled_mm", lambda *args, out, **options: asked.append(options) or out)
    work = SQUARE.product("x", bench_matmul.E4M3, 32, 32, 32)
    with support.backend("torch") as on:
        for fast, option in ((False, None), (True, True)):
            products.torch_product(on, work, support.inputs(SQUARE, work), fast=fast).run()
            assert {options.get("use_fast_accum") for options in asked} == {option}
            asked.clear()
    targets = [Target("torch", "torch", "cuda:0"), Target("torch", "torch", "cpu")]
    planned = {(c.device, c.work.dtype) for c in expand(SQUARE, Preset.SMOKE, targets, lambda _: MACHINE)
               if c.implementation == "fast_accumulation"}  # fmt: skip
    assert planned == {("cuda:0", "float8_e4m3fn"), ("cuda:0", "float8_e5m2")}


def test_cupy_has_no_batches_in_tf32_and_says_so():
    batched = bench_matmul.Batched()
    with support.backend("cupy") as on:
        on.set_precision("tf32")
        with pytest.raises(Unsupported, match=r"no TF32.*see `tuned`"):
            support.kernel(batched, batched.product("x", bench_matmul.TF32, 32, 32, 32, batch=4), on)
        support.kernel(batched, batched.product("x", bench_matmul.TF32, 32, 32, 32), on)


@pytest.mark.parametrize("data", products.DATA)
@pytest.mark.parametrize("kind", bench_matmul.FORMATS, ids="-".join)
def test_every_format_is_proven_on_all_data(kind, data):
    with support.backend("torch") as on:
        if reason := on.why_unsupported(*kind):
            pytest.skip(reason)
        error = support.error_of(SQUARE, square(kind, data), on)
        assert error == 0 if data in {"integers", "zeros"} else error >= 0


@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_the_tuned_torch_route_is_right_in_every_layout(layout):
    with support.backend("torch") as on:
        work = SQUARE.product("96x80x64", bench_matmul.FP32, 96, 80, 64, layout=layout)
        assert support.error_of(SQUARE, work, on, "tuned") < 2e-6


def test_arrays_lie_in_memory_as_their_layout_says():
    with support.backend("numpy") as on:
        for layout in ("nn", "nt", "tn", "tt"):
            work = SQUARE.product("x", bench_matmul.FP32, 3, 4, 5, layout=layout)
            a, b = products.placed(on, work, support.inputs(SQUARE, work))
            assert (a.shape, b.shape) == ((3, 5), (5, 4))
            assert "".join("n" if array.flags.c_contiguous else "t" for array in (a, b)) == layout


# ---------------------------------------------------------------- planted errors

PROVEN = [kind for kind in bench_matmul.FORMATS if kind != bench_matmul.TF32]


def right(work, host):
    """Return the product as the format gives it: float64 arithmetic on rounded operands, rounded."""
    torch = pytest.importorskip("torch")
    formats = work.dtype, products.SECOND.get(work.dtype, work.dtype)
    a, b = (torch.from_numpy(host[n]).to(getattr(torch, f)).double() for n, f in zip("ab", formats, strict=True))
    c = (a @ b).to(getattr(torch, products.RESULTS.get(work.dtype, work.dtype)))
    return (c.float() if c.dtype is torch.bfloat16 else c).numpy()


@pytest.mark.parametrize("kind", PROVEN, ids="-".join)
def test_the_right_product_passes(kind):
    work = square(kind)
    host = support.inputs(SQUARE, work)
    bounds = SQUARE.tolerance(work)
    assert bounds.low <= judged(work, host, right(work, host)) <= bounds.high


@pytest.mark.parametrize("kind", PROVEN, ids="-".join)
@pytest.mark.parametrize("where", [(0, 0), (64, 3), (N - 1, N - 1)])
def test_one_element_off_by_ten_tolerances_is_found(kind, where):
    work = square(kind)
    host = support.inputs(SQUARE, work)
    out = right(work, host)
    step = 10 * SQUARE.tolerance(work).high * np.sqrt(np.mean(out.astype(np.float64) ** 2))
    out[where] += max(step, 1) if kind == bench_matmul.INT8 else step
    with pytest.raises(WrongAnswer):
        judged(work, host, out)


@pytest.mark.parametrize("kind", PROVEN, ids="-".join)
@pytest.mark.parametrize("swapped", ["a", "b"])
def test_a_transposed_operand_is_found(kind, swapped):
    work = square(kind)
    host = support.inputs(SQUARE, work)
    out = right(work, host | {swapped: np.ascontiguousarray(host[swapped].T)})
    with pytest.raises(WrongAnswer):
        judged(work, host, out)


@pytest.mark.parametrize("kind", PROVEN, ids="-".join)
def test_an_element_never_written_is_found(kind):
    """The second look begins with every element wrong, so that a kernel that skips the last row cannot pass."""
    with support.backend("torch") as on:
        work = square(kind)
        honest = support.kernel(SQUARE, work, on)
        kept = honest.run().clone()  # as an earlier, honest call left it

        def lazy():
            kept[:-1] = honest.run()[:-1]
            return kept

        judged(work, support.inputs(SQUARE, work), support.answer(replace(honest, run=lazy), on)["out"])
        with pytest.raises(WrongAnswer, match="wrong in the second"):
            support.before_and_after(replace(honest, run=lazy), SQUARE, work, on)


@pytest.mark.parametrize("kind", [bench_matmul.FP32, bench_matmul.INT8], ids="-".join)
def test_products_of_zeros_are_proven_on_integers_in_their_place(kind):
    """Zeros are what is timed. Nothing would tell their product from one that was never computed."""
    work = square(kind, "zeros")
    host, sample = support.inputs(SQUARE, work), support.sampled(SQUARE, work)[0]
    for name in "ab":
        assert not host[name].any()
        assert sample[name].any()
        assert (sample[name].shape, sample[name].dtype) == (host[name].shape, host[name].dtype)
    with support.backend("torch") as on:
        honest = support.kernel(SQUARE, work, on)
        assert support.before_and_after(honest, SQUARE, work, on) == 0
        zeros = honest.run().zero_()
        idle = replace(support.kernel(SQUARE, work, on), run=lambda: zeros)
        with pytest.raises(WrongAnswer):
            support.before_and_after(idle, SQUARE, work, on)


def truncated(array, bits):
    """Return a float32 array with so many bits of its mantissa rounded off."""
    half = np.uint32(1 << (bits - 1))
    whole = (array.view(np.uint32) + half) & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)
    return whole.view(np.float32)


def tf32(host):
    """Return the product as tensor cores give it: 10 bits of mantissa, sums in float32."""
    return truncated(host["a"], 13) @ truncated(host["b"], 13)


def bfloat16_products(host):
    """Return the product as a TPU gives it by default: operands of 7 bits of mantissa, sums in float32."""
    return truncated(host["a"], 16) @ truncated(host["b"], 16)


REDUCED = [(bench_matmul.TF32, tf32), (bench_matmul.BF16_PRODUCTS, bfloat16_products)]


@pytest.mark.parametrize(("kind", "product"), REDUCED)
def test_a_reduced_precision_passed_off_as_float32_is_found(kind, product):
    work = square(bench_matmul.FP32)
    host = support.inputs(SQUARE, work)
    with pytest.raises(WrongAnswer) as caught:
        judged(work, host, product(host))
    assert caught.value.rel_error > 1e-4


@pytest.mark.parametrize(("kind", "product"), REDUCED)
def test_a_reduced_precision_that_is_claimed_as_what_it_is_passes(kind, product):
    work = square(kind)
    host = support.inputs(SQUARE, work)
    bounds = SQUARE.tolerance(work)
    assert bounds.low < judged(work, host, product(host)) < bounds.high


def test_the_two_reduced_precisions_are_told_apart():
    host = support.inputs(SQUARE, square(bench_matmul.FP32))
    with pytest.raises(WrongAnswer):
        judged(square(bench_matmul.TF32), host, bfloat16_products(host))
    with pytest.raises(Unsupported):
        judged(square(bench_matmul.BF16_PRODUCTS), host, tf32(host))


@pytest.mark.parametrize(
    ("claimed", "ran"),
    [
        (bench_matmul.TF32, bench_matmul.FP32),
        (bench_matmul.BF16_PRODUCTS, bench_matmul.FP32),
        (bench_matmul.BF16, bench_matmul.FP16),
        (bench_matmul.E4M3, bench_matmul.BF16),
        (bench_matmul.E5M2, bench_matmul.E4M3),
    ],
    ids=str,
)
def test_a_finer_format_passed_off_as_a_coarser_one_is_found(claimed, ran):
    work = square(claimed)
    host = support.inputs(SQUARE, work)
    out = right(square(ran), host).astype(np.float32)
    with pytest.raises((WrongAnswer, Unsupported)) as caught:
        judged(work, host, out)
    assert caught.value.code == ("computed_finer" if claimed[1] != "ieee" else "wrong_precision")


def test_one_of_many_products_of_a_batch_is_checked_like_a_lone_one():
    batched = bench_matmul.Batched()
    work = batched.product("x", bench_matmul.FP32, 32, 32, 32, batch=6)
    host = support.inputs(batched, work)
    out = host["a"] @ host["b"]
    judged(work, host, out, batched)
    out[4, 30, 2] += 0.01
    with pytest.raises(WrongAnswer):
        judged(work, host, out, batched)


def test_large_products_are_proven_without_computing_them_again(monkeypatch):
    monkeypatch.setattr(products, "REFERENCE_FLOPS", 2 * N * N * 3)  # three rows
    work = square(bench_matmul.FP32)
    host = support.inputs(SQUARE, work)
    out = host["a"] @ host["b"]
    assert judged(work, host, out) < 2e-6
    out[:, 5] = out[:, 6]
    with pytest.raises(WrongAnswer):
        judged(work, host, out)


def test_another_dtype_is_found():
    work = square(bench_matmul.FP32)
    host = support.inputs(SQUARE, work)
    with pytest.raises(WrongAnswer) as caught:
        judged(work, host, host["a"].astype(np.float64) @ host["b"])
    assert caught.value.code == "wrong_dtype"


# ---------------------------------------------------------------- costs, routes, plans


def test_costs_count_two_flops_a_multiply_add_and_every_matrix_once():
    work = SQUARE.product("x", bench_matmul.BF16, 2, 3, 5, batch=7)
    costs = SQUARE.costs(work)
    assert costs.flops == 7 * 2 * 2 * 3 * 5
    assert costs.least_bytes == 7 * 2 * (2 * 5 + 5 * 3 + 2 * 3)
    assert costs.bytes is None


def test_a_skinny_product_counts_its_bytes_and_tells_the_cache_that_holds_its_weights(monkeypatch):
    skinny = bench_matmul.Skinny()
    (work,) = skinny.works(Preset.SMOKE, MACHINE)
    assert skinny.costs(work).bytes == skinny.costs(work).least_bytes == 4 * (128 + 128 * 128 + 128)
    assert work["layout"] == "nt"
    with support.backend("numpy") as on:
        for size, flags in ((66_559, ("near_cache",)), (66_560, ("fits_l2",)), (16_640, ())):
            monkeypatch.setattr(caches, "cache_sizes", lambda _, size=size: {2: size})
            assert support.kernel(skinny, work, on).flags == flags


def test_bfloat16_holds_products_of_integers():
    """Every integer up to 256 fits; a sum of 4096 terms is eight of its deviations below that."""
    numbers = products.operands(SQUARE.product("x", bench_matmul.BF16, 512, 512, 512, data="integers"), GENERATOR)["a"]
    assert set(np.unique(numbers)) == {-1, 0, 1}
    assert 8 * np.sqrt(4096) * np.mean(numbers**2) == pytest.approx(256, rel=0.01)


def test_eight_bit_costs_count_the_wider_result():
    assert SQUARE.costs(SQUARE.product("x", bench_matmul.INT8, 2, 3, 5)).least_bytes == 2 * 5 + 5 * 3 + 4 * 2 * 3
    assert SQUARE.costs(SQUARE.product("x", bench_matmul.E4M3, 2, 3, 5)).least_bytes == 2 * 5 + 5 * 3 + 2 * 2 * 3


def test_a_product_that_would_take_minutes_is_not_begun(monkeypatch):
    monkeypatch.setattr(limits, "LONGEST_CALL_S", 1e-6)
    monkeypatch.setattr(products, "SHORTEST_SAMPLE_S", 0.0)
    with support.backend("numpy") as on, pytest.raises(TooSlow, match="one product of float16"):
        support.kernel(SQUARE, SQUARE.product("256", bench_matmul.FP16, 256, 256, 256), on)


def test_float32_is_not_predicted_unless_it_is_large(monkeypatch):
    monkeypatch.setattr(products, "_seconds", lambda *_: pytest.fail("predicted"))
    work = SQUARE.product("256", bench_matmul.FP32, 256, 256, 256)
    with support.backend("numpy") as on:
        support.kernel(SQUARE, work, on)
        monkeypatch.setattr(products, "LARGE_FLOPS", 2 * 256**3 - 1)
        with pytest.raises(pytest.fail.Exception, match="predicted"):
            support.kernel(SQUARE, work, on)


ROUTE = """
from bench_core.backends.torch import TorchBackend
from bench_core.records import Case
from benchmarks.bench_matmul import FP32, Square
import numpy as np
square, on = Square(), TorchBackend("cpu")
work = square.product("128", FP32, 128, 128, 128)
host = square.inputs(work, np.random.default_rng(0))
print("library:", (built := square.build(on, Case(work, "torch", "cpu", "{implementation}"), host)).library)
built.run()
"""


@pytest.mark.parametrize(("implementation", "onednn"), [("default", False), ("tuned", True)])
def test_onednn_itself_says_which_route_ran(implementation, onednn):
    torch = pytest.importorskip("torch")
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    source = ROUTE.replace("{implementation}", implementation)
    child = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "ONEDNN_VERBOSE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ran = re.search(r"exec,cpu,inner_product,.*src:f32.*wei:f32.*dst:f32", child.stdout)
    assert bool(ran) is onednn
    assert ("inner_product" in child.stdout.partition("library:")[2].partition("\n")[0]) is onednn


ON_CPU = ("bfloat16", "float16", "int8", "float8_e4m3fn")


@pytest.mark.parametrize("dtype", ON_CPU)
@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 512), (1, 384, 512)])
def test_a_narrow_product_names_what_onednn_says_it_ran(dtype, m, n, k, capfd):
    """In the same process, of the whole product and not of its corner; "no oneDNN" where it says nothing."""
    torch = pytest.importorskip("torch")
    with support.backend("torch") as on:
        work = SQUARE.product("x", (dtype, "ieee"), m, n, k)
        built = support.kernel(SQUARE, work, on)
        capfd.readouterr()
        if torch.backends.mkldnn.is_available():
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                built.run()
        said = capfd.readouterr().out
    lines = [line.split(",") for line in said.splitlines() if ",exec,cpu," in line and ",reorder," not in line]
    ran = {line[6] or line[5] for line in lines}
    assert all(name in built.library for name in ran)
    assert ("no oneDNN" in built.library) is not bool(ran)


SKINNY = bench_matmul.Skinny()


@pytest.mark.parametrize("rows", [1, 8])
def test_packed_weights_are_right_and_are_packed_again_when_they_change(rows):
    """The second look overwrites B: a kernel that kept its first packing would be wrong."""
    with support.backend("torch") as on:
        if not on.xp.ops.mkldnn._is_mkldnn_bf16_supported():
            pytest.skip("oneDNN has no bfloat16 products on this CPU")
        work = SKINNY.product("x", bench_matmul.BF16, rows, 96, 64, layout="nt")
        assert support.error_of(SKINNY, work, on, "packed") < 1e-2
        built = support.kernel(SKINNY, work, on, "packed")
        assert built.library.endswith(", packed B")
        with pytest.raises(WrongAnswer, match="wrong in the second"):
            support.before_and_after(replace(built, restart=None), SKINNY, work, on)


def test_without_onednn_s_bfloat16_weights_cannot_be_packed(monkeypatch):
    with support.backend("torch") as on:
        monkeypatch.setattr(on.xp.backends.mkldnn, "is_available", lambda: False)
        work = SKINNY.product("x", bench_matmul.BF16, 1, 96, 64, layout="nt")
        with pytest.raises(Unsupported, match="no bfloat16 products"):
            support.kernel(SKINNY, work, on, "packed")


def test_packed_weights_are_measured_in_bfloat16_of_few_rows_on_a_cpu_alone():
    packed = {
        (case.work.workload, case.backend, case.device, case.work.dtype)
        for preset in Preset
        for case in planned.cases(preset, planned.CPU + planned.GPU)
        if case.implementation == "packed"
    }
    assert packed == {("matmul_skinny", "torch", "cpu", "bfloat16")}


def test_a_product_in_the_format_of_every_cpu_names_both_libraries():
    with support.backend("torch") as on:
        assert support.kernel(SQUARE, SQUARE.product("64", bench_matmul.FP32, 64, 64, 64), on).library == ""


REPORT = """onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with float16, Intel DL Boost and bfloat16 support and Intel AMX
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:bf16::blocked:ab::f0,attr,,256x256,0.01
onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx10_1_512_amx,undef,src:bf16::blocked:ab::f0,,,256x256,0.1
onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx10_1_512_amx,undef,src:bf16::blocked:ab::f0,,,256x256,0.1
"""


@pytest.mark.parametrize(
    ("report", "names"),
    [
        (REPORT, ["brg_matmul:avx10_1_512_amx"]),
        (REPORT.replace("brg_matmul:avx10_1_512_amx", "ref:any"), ["ref:any"]),
        ("onednn_verbose,exec,cpu,matmul,brgemm:avx512_core_amx,undef,,,,1x1,0.1\n", ["brgemm:avx512_core_amx"]),
        ("onednn_verbose,v1,primitive,exec,cpu,gemm_api,,undef,,,,1x1,0.1\n", ["gemm_api"]),
        ("onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,ref:any,undef,,,,1x1,0.1\n", []),
        ("", []),
    ],
)
def test_onednn_s_report_names_the_instructions_of_what_ran(report, names):
    """Older and newer forms of a line; what was only created, or only moved data, did not compute."""
    assert products.onednn_names(report) == names


def test_amx_is_named_where_it_computes_and_without_onednn_that_is_said(monkeypatch):
    reports = iter([REPORT, ""])
    monkeypatch.setattr(products, "_onednn_report", lambda torch, call: next(reports))
    with support.backend("torch") as on:
        work = SQUARE.product("64", bench_matmul.BF16, 64, 64, 64)
        version = re.search(r"oneDNN \S+", on.library)
        expected = f"{version[0] if version else 'oneDNN'} brg_matmul:avx10_1_512_amx"
        assert support.kernel(SQUARE, work, on).library == expected
        assert support.kernel(SQUARE, work, on).library == f"{on.library}, no oneDNN"


def cases(preset, workload=SQUARE):
    targets = [Target("numpy", "array", "cpu"), Target("cupy", "array", "cuda:0"), Target("torch", "torch", "cpu"),
               Target("torch", "torch", "cuda:0")]  # fmt: skip
    return list(expand(workload, preset, targets, lambda _: MACHINE))


def test_the_tuned_form_is_measured_on_the_cpu_alone():
    tuned = {(c.backend, c.device, c.work.dtype) for c in cases(Preset.QUICK) if c.implementation == "tuned"}
    assert tuned == {(b, "cpu", d) for b in ("numpy", "torch") for d in ("float32", "float64")}


def test_one_thread_is_measured_beside_all_from_standard_on():
    assert {c.threads for c in cases(Preset.QUICK)} == {None}
    assert {c.threads for c in cases(Preset.STANDARD) if c.device == "cpu"} == {1, None}
    assert {c.threads for c in cases(Preset.STANDARD) if c.device != "cpu"} == {None}


def test_quick_has_few_products_for_torch_on_a_cpu():
    """A second or two each; a second route for float64 is known not to be there."""
    on_cpu = lambda _: replace(MACHINE, device_type="cpu")  # noqa: E731
    here = expand(bench_matmul.Square(), Preset.QUICK, [Target("torch", "torch", "cpu")], on_cpu)
    assert [(c.implementation, c.work.dtype, c.work.size) for c in here] == [
        ("default", "float64", "2048"),
        ("tuned", "float64", "2048"),
        ("default", "float32", "512"),
        ("tuned", "float32", "512"),
        ("default", "float32", "2048"),
        ("tuned", "float32", "2048"),
    ]


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_labels_tell_all_cases_apart(preset, workload):
    planned = cases(preset, workload)
    assert len({c.label for c in planned}) == len(planned)


def test_full_has_every_format_shape_layout_and_kind_of_data():
    works = [work for workload in WORKLOADS for work in workload.works(Preset.FULL, MACHINE)]
    assert {(w.dtype, w.precision) for w in works} == {*bench_matmul.FORMATS, bench_matmul.BF16_PRODUCTS}
    assert {w["layout"] for w in works} == {"nn", "nt", "tn", "tt"}
    assert {w["data"] for w in works} == set(products.DATA)
    assert {1, 8, 32, 128} <= {w["m"] for w in works}


def test_quick_has_no_narrow_format_on_a_cpu():
    formats = {
        device: {
            (work.dtype, work.precision) for work in bench_matmul.Square().works(Preset.QUICK, Machine(1, 2, device))
        }
        for device in ("cpu", "cuda")
    }
    assert formats["cpu"] == {("float64", "ieee"), ("float32", "ieee")}
    assert formats["cuda"] > formats["cpu"]
