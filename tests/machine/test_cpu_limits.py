"""The bounds of CPUs: exact numbers for machines of which a test plants the kernel's files, and for their facts."""

import pytest

from bench_core.machine import allotment, cpu_limits, host
from bench_core.machine.cpu_limits import Bound, CpuLimits, limits_of
from bench_core.records import Fact

UNKNOWN = "6.5 GHz, the bound for an unknown clock,"
DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8")
AVX2 = {"sse2", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512_vnni"}
SAPPHIRE_RAPIDS = AVX512 | {"avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"}
NEOVERSE_N1 = {"fp", "asimd", "fphp", "asimdhp", "asimddp"}
NEOVERSE_V1 = NEOVERSE_N1 | {"sve", "i8mm", "bf16", "svebf16", "svei8mm"}


@pytest.fixture
def kernel(plant, monkeypatch):
    """Return a function that plants a machine and reads its limits: cores, each of `threads` hardware threads."""

    def limits(flags, cores=2, threads=1, affinity=None, driver="", kilohertz=0, key="flags", **files):
        for cpu in range(cores * threads):
            folder = f"sys/devices/system/cpu/cpu{cpu}"
            siblings = ",".join(str(cpu % cores + n * cores) for n in range(threads))
            plant(f"{folder}/topology/thread_siblings_list", f"{siblings}\n")
            if kilohertz:
                plant(f"{folder}/cpufreq/cpuinfo_max_freq", f"{kilohertz}\n")
                plant(f"{folder}/cpufreq/scaling_driver", f"{driver}\n")
        plant("proc/cpuinfo", f"{key}\t: {' '.join(sorted(flags))}\n" if flags else "")
        for path, text in files.items():
            plant(path.replace("__", "/"), text)
        allowed = affinity or set(range(cores * threads))
        monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: allowed, raising=False)
        return cpu_limits.read()

    return limits


def per_cycle(limits, **known):
    """Return the operations per cycle and core of every dtype, rounded."""
    clocked = limits.cores * (limits.frequency or cpu_limits.FASTEST_CLOCK)
    return [round(limits.peak_flops(dtype, **known).rate / clocked, 1) for dtype in DTYPES]


# ---------------------------------------------------------------- x86


def test_a_desktop_with_avx2_and_a_known_clock(kernel):
    """Eight cores of two threads each."""
    limits = kernel(AVX2, cores=8, threads=2, driver="amd-pstate-epp", kilohertz=5_050_000)
    assert (limits.cores, limits.frequency) == (8, 5.05e9)
    assert limits.peak_flops("float32") == Bound(
        8 * 5.05e9 * 48, "8 cores x 5.05 GHz x 48 operations per cycle with AVX2"
    )
    assert limits.peak_flops("float64").rate == 8 * 5.05e9 * 24
    assert limits.peak_transfer() == Bound(
        8 * 5.05e9 * 160, "8 cores x 5.05 GHz x 160 bytes loaded and stored per cycle"
    )
    assert per_cycle(limits) == [24, 48, 48, 48, 48, 48, 192]  # 16 and 8 bits are computed in float32


def test_a_virtual_machine_with_avx512_and_an_unknown_clock(kernel):
    limits = kernel(AVX512 | {"hypervisor"})
    assert limits.peak_flops("float32") == Bound(
        2 * 6.5e9 * 96, f"2 cores x {UNKNOWN} x 96 operations per cycle with AVX-512"
    )
    assert limits.peak_transfer() == Bound(
        2 * 6.5e9 * 192, f"2 cores x {UNKNOWN} x 192 bytes loaded and stored per cycle"
    )
    assert per_cycle(limits) == [48, 96, 96, 96, 96, 96, 384]


def test_dot_products_of_16_bit_numbers_do_twice_as_many(kernel):
    assert per_cycle(kernel(AVX512 | {"avx512_bf16"})) == [48, 96, 192, 192, 192, 192, 384]


def test_sapphire_rapids_multiplies_narrow_formats_with_amx(kernel):
    limits = kernel(SAPPHIRE_RAPIDS, cores=56, threads=2, driver="intel_pstate", kilohertz=3_800_000)
    assert limits.peak_flops("bfloat16") == Bound(
        56 * 3.8e9 * 1024, "56 cores x 3.8 GHz x 1024 operations per cycle with AMX"
    )
    # A float32 product may be three bfloat16 products. The kernel does not list the 8-bit floats of later models.
    assert per_cycle(limits) == [48, round(1024 / 3, 1), 1024, 1024, 2048, 2048, 2048]
    assert per_cycle(limits, precision="autocast_bfloat16") == [1024] * len(DTYPES)
    assert limits.peak_flops("float32", "tf32").rate == 56 * 3.8e9 * 1024


def test_a_cpu_older_than_avx2(kernel):
    limits = kernel({"sse2", "avx"})
    assert per_cycle(limits) == [8, 16, 16, 16, 16, 16, 64]
    assert limits.peak_transfer().rate == 2 * 6.5e9 * 128


def test_without_boost_acpi_cpufreq_tells_the_clock_and_with_it_the_clock_is_unknown(kernel):
    known = {"driver": "acpi-cpufreq", "kilohertz": 2_600_000}
    boost = "sys__devices__system__cpu__cpufreq__boost"
    assert kernel(AVX2, **known, **{boost: "1"}).peak_flops("float32").rate == 2 * 6.5e9 * 48
    assert kernel(AVX2, **known, **{boost: "0"}).peak_flops("float32").rate == 2 * 2.6e9 * 48


# ---------------------------------------------------------------- cores


def test_threads_of_one_core_count_once_and_on_a_virtual_machine_as_a_core_each(kernel):
    assert kernel(AVX2, cores=4, threads=2).cores == 4
    assert kernel(AVX2, cores=4, threads=2, affinity={0, 4, 1}).cores == 2


@pytest.mark.parametrize(("flags", "key"), [(AVX2 | {"hypervisor"}, "flags"), (NEOVERSE_N1, "Features")])
def test_where_a_cpu_may_be_virtual_each_of_its_threads_may_be_a_core(kernel, flags, key):
    assert kernel(flags, cores=4, threads=2, key=key).cores == 8


def test_a_quota_takes_no_core_away(kernel):
    limits = kernel(AVX2, cores=4, **{"sys__fs__cgroup__cpu.max": "100000 100000"})
    assert (allotment.usable_cores(), limits.cores) == (1, 4)


def test_a_number_of_threads_limits_the_cores(kernel):
    limits = kernel(AVX2, cores=4)
    assert limits.peak_flops("float32", threads=1) == Bound(
        6.5e9 * 48, f"1 core x {UNKNOWN} x 48 operations per cycle with AVX2"
    )
    assert limits.peak_transfer(threads=1).rate == 6.5e9 * 160
    assert limits.peak_flops("float32", threads=64) == limits.peak_flops("float32")


# ---------------------------------------------------------------- Arm


def test_neon_has_up_to_six_pipes(kernel):
    limits = kernel(NEOVERSE_N1, cores=64, key="Features")
    assert limits.peak_flops("float32") == Bound(
        64 * 6.5e9 * 48, f"64 cores x {UNKNOWN} x 48 operations per cycle with NEON"
    )
    assert per_cycle(limits) == [24, 48, 96, 96, 96, 96, 192]
    assert limits.peak_transfer().rate == 64 * 6.5e9 * 96


def test_neoverse_v1_has_sve_of_256_bits_and_matrix_instructions(kernel):
    length = {"proc__sys__abi__sve_default_vector_length": "32\n"}
    limits = kernel(NEOVERSE_V1, cores=64, key="Features", **length)
    assert limits.peak_flops("float32").why.endswith(
        "operations per cycle with SVE of 256 bits, three 16-bit products each"
    )
    assert per_cycle(limits) == [32, round(256 / 3, 1), 256, 256, 256, 256, 512]
    assert limits.peak_transfer().rate == 64 * 6.5e9 * 192


@pytest.mark.parametrize(("length", "float64", "bytes_"), [(16, 24, 96), (32, 32, 192), (64, 64, 384), (None, 64, 384)])
def test_sve_counts_by_its_length_or_as_512_bits_if_that_is_unknown(length, float64, bytes_):
    limits = limits_of({"asimd", "sve"}, cores=1, vector_length=length)
    assert per_cycle(limits)[0] == float64
    assert limits.bytes_per_cycle == bytes_


def test_float32_and_float64_matrix_products_of_sve_do_twice_as_many():
    plain, matrix = (limits_of(NEOVERSE_V1 | more, cores=1, vector_length=32) for more in (set(), {"svef64mm"}))
    assert per_cycle(matrix)[0] == 2 * per_cycle(plain)[0]
    matrix = limits_of({"asimd", "sve", "svef32mm"}, cores=1, vector_length=32)
    assert per_cycle(matrix)[1] == 128


# ---------------------------------------------------------------- no limit


@pytest.mark.parametrize(
    ("flags", "key", "why"),
    [
        (set(), "flags", "the system does not list the instructions of its CPU"),  # macOS, Windows
        (NEOVERSE_V1 | {"sme"}, "Features", "the CPU has SME, whose speed depends on the model"),
        ({"vsx"}, "Features", "neither an x86 nor a 64-bit Arm CPU"),
    ],
)
def test_a_cpu_whose_instructions_are_unknown_has_no_limit_and_says_why(kernel, flags, key, why):
    limits = kernel(flags, key=key)
    assert [limits.peak_flops(dtype) for dtype in DTYPES] == [None] * len(DTYPES)
    assert limits.peak_transfer() is None
    assert cpu_limits.fact(limits) == Fact(reason=f"no limit: {why}")


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "int64", "my_own"])
def test_a_format_that_is_unknown_has_no_limit(dtype):
    assert limits_of(SAPPHIRE_RAPIDS, cores=2).peak_flops(dtype) is None


@pytest.mark.parametrize("flags", [AVX2, AVX512, SAPPHIRE_RAPIDS, NEOVERSE_N1, NEOVERSE_V1])
def test_narrower_formats_are_never_slower(flags):
    counts = per_cycle(limits_of(flags, cores=1))
    assert counts[0] <= counts[1] <= counts[2] <= counts[4]


# ---------------------------------------------------------------- memory


def test_memory_limits_only_the_bytes_that_the_caches_cannot_hold():
    limits = CpuLimits(memory_bandwidth=100e9, caches=50_000_000)
    assert limits.peak_memory(200e6).rate == pytest.approx(100e9 * 200 / 150)
    assert limits.peak_memory(200e6).why == "memory of 100 GB/s and caches of 50.0 MB"
    assert limits.peak_memory(50e6) is None
    assert CpuLimits(caches=1).peak_memory(200e6) is None
    assert CpuLimits(memory_bandwidth=100e9).peak_memory(200e6) is None


def test_the_limits_of_this_computer_are_one_fact():
    limits = CpuLimits(2, None, {"float32": (96.0, "AVX-512")}, 192.0)
    assert cpu_limits.fact(limits).value == (
        f"1.25 TFLOP/s = 2 cores x {UNKNOWN} x 96 operations per cycle with AVX-512; "
        f"2.50 TB/s = 2 cores x {UNKNOWN} x 192 bytes loaded and stored per cycle"
    )
    assert cpu_limits.fact(cpu_limits.read()) is not None
