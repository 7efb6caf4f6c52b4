"""Small outputs of other benchmark programs, written by hand in the form that their writers have.

pytest-benchmark: `pytest_benchmark_generate_json` in its plugin.py, `as_dict` in stats.py (5.3). Google Benchmark:
src/json_reporter.cc and docs/user_guide.md. nvbench: nvbench/json_printer.cu, csv_printer.cu and the tags in
detail/measure_cold.cu. BabelStream: src/main.cpp (5.0, and 3.3 in its folder results). nvbandwidth: output.cpp,
inline_common.h and json_output.cpp (0.8), its README.md.
"""

import json

HOST = "planted-node-7"
H100 = "NVIDIA H100 80GB HBM3"


def _round(name, data, **more):
    ordered = sorted(data)
    middle = ordered[len(data) // 2]
    stats = {"min": ordered[0], "max": ordered[-1], "mean": sum(data) / len(data), "stddev": 0.25, "rounds": len(data)}
    stats |= {"median": middle, "iqr": 0.5, "q1": ordered[0], "q3": ordered[-1], "outliers": "1;0", "ops": 1.0}
    stats |= {"data": data, "iterations": 3}
    plain = {"group": None, "name": name, "fullname": f"tests/test_sums.py::{name}", "params": None, "param": None}
    return {**plain, "extra_info": {}, "options": {"timer": "perf_counter"}, "stats": stats, **more}


def pytest_benchmark():
    """Return the document that `--benchmark-json` writes."""
    cpu = {"brand_raw": "AMD EPYC 7763 64-Core Processor", "count": 128, "arch": "X86_64", "hz_actual": [2450000000, 0]}
    machine = {"node": HOST, "processor": "x86_64", "machine": "x86_64", "system": "Linux", "release": "6.1.0"}
    python = {"python_implementation": "CPython", "python_version": "3.11.8", "cpu": cpu}
    commit = {"id": "5b78858eb718649a31fb93d8dc96ca2cee41a4cd", "time": "2026-01-01T00:00:00+00:00", "dirty": True}
    params = {"params": {"n": 1000, "kind": "a;b=c"}, "param": "1000-x", "group": "sums"}
    return {
        "machine_info": machine | python,
        "commit_info": commit,
        "benchmarks": [_round("test_sum", [4.0, 2.0, 3.0]), _round("test_sum[1000-x]", [0.5], **params)],
        "datetime": "2026-11-27T12:00:00+00:00",
        "version": "5.3.1",
    }


def _repetition(name, index, real, **more):
    plain = {"name": name, "run_name": name, "run_type": "iteration", "repetitions": 3, "repetition_index": index}
    return {**plain, "threads": 2, "iterations": 100, "real_time": real, "cpu_time": 9.0, "time_unit": "us", **more}


def _aggregate(name, kind, real, **more):
    plain = {"name": f"{name}_{kind}", "run_name": name, "run_type": "aggregate", "repetitions": 5, "threads": 1}
    unit = "percentage" if kind == "cv" else "time"
    about = {"aggregate_name": kind, "aggregate_unit": unit, "iterations": 5}
    return {**plain, **about, "real_time": real, "cpu_time": 1.0, "time_unit": "ms", **more}


def google_benchmark():
    """Return the document of `--benchmark_format=json`."""
    cache = {"type": "Unified", "level": 3, "size": 33554432, "num_sharing": 8}
    context = {"date": "2026-03-17T18:40:25+01:00", "host_name": HOST, "executable": f"/home/{HOST}/bench"}
    context |= {"num_cpus": 40, "mhz_per_cpu": 2801, "cpu_scaling_enabled": False, "caches": [cache], "load_avg": [1.0]}
    context |= {"library_version": "v1.9.0", "library_build_type": "release", "json_schema_version": 1}
    copied = "BM_Copy<double>/8/16/real_time/threads:2"
    repeated = [
        _repetition(copied, i, real, bytes_per_second=real * 1e9, items_per_second=real * 10, hits=float(i))
        for i, real in enumerate((2.0, 4.0, 3.0))
    ]
    sorted_ = [_aggregate("Sort/n:64", kind, real) for kind, real in (("mean", 2.0), ("median", 1.5), ("stddev", 0.5))]
    failed = {**_repetition("BM_Broken/1", 0, 0.0), "error_occurred": True, "error_message": "no device"}
    return {
        "context": context,
        "benchmarks": [
            *repeated,
            *sorted_,
            _aggregate("Sort/n:64", "cv", 0.25),
            _aggregate("Sort", "BigO", 7.0),
            failed,
            {"name": "BM_Old", "iterations": 7, "real_time": 42, "cpu_time": 24, "time_unit": "ns"},
        ],
    }


def _summary(tag, value, kind="float64"):
    data = [{"name": "value", "type": kind, "value": str(value)}]
    return {"tag": f"nv/{tag}", "name": "a name", "description": "words", "hint": "duration", "data": data}


def nvbench():
    """Return the document of `--json`, in which numbers are texts."""
    axes = [{"name": "Elements", "type": "int64", "value": "1024"}]
    axes += [{"name": "T{ct}", "type": "string", "value": "F32"}]
    times = {"cpu/mean": 3e-4, "cpu/stdev/absolute": 1e-5, "gpu/mean": 2e-4, "gpu/median": 1.9e-4, "gpu/min": 1e-4}
    times |= {"gpu/max": 4e-4, "gpu/q1": 1.5e-4, "gpu/q3": 2.5e-4, "gpu/stdev/absolute": 2e-5}
    summaries = [_summary("cold/sample_size", 500, "int64"), *(_summary(f"cold/time/{k}", v) for k, v in times.items())]
    summaries += [_summary("cold/bw/global/bytes_per_second", 2e12), _summary("cold/bw/item_rate", "inf")]
    summaries += [_summary("cold/sm_clock_rate/mean", 1.7e9), _summary("batch/sample_size", 900, "int64")]
    summaries += [_summary("batch/time/gpu/mean", 1e-4)]
    done = {"name": "Device=0", "device": 0, "axis_values": axes, "summaries": summaries, "is_skipped": False}
    other = [{**axes[0], "value": "2048"}, axes[1]]
    skipped = {**done, "axis_values": other, "summaries": None, "is_skipped": True, "skip_reason": "too large"}
    version = {"major": 0, "minor": 1, "patch": 0, "string": "0.1.0", "git_sha": "0" * 40}
    return {
        "meta": {"argv": ["./bench", "--json"], "version": {"json": {"string": "1.0.0"}, "nvbench": version}},
        "devices": [{"id": 0, "name": H100, "global_memory_size": 85520809984, "ecc_state": True}],
        "benchmarks": [{"name": "copy kernel", "index": 0, "devices": [0], "axes": None, "states": [done, skipped]}],
    }


NVBENCH_CSV = f"""\
Benchmark,Device,Device Name,Elements (pow2),Elements,T{{ct}},Skipped,Samples,CPU Time (sec),Noise,GPU Time (sec),\
Noise,Elem/s (elem/sec),GlobalMem BW (bytes/sec),BWUtil,Samples,Batch GPU (sec)
copy kernel,0,{H100},2^10,1024,F32,No,500,3e-4,0.1,2e-4,0.25,5e9,2e12,0.6,900,1e-4
copy kernel,0,{H100},2^11,2048,F32,Yes,,,,,,,,,,
"""

BABELSTREAM = f"""\
BabelStream
Version: 5.0
Implementation: CUDA
Running  Classic kernels 100 times in  Classic order\x20
Number of elements: 33554432
Precision: double
Array size: 268.4 MB
Total size: 805.3 MB
CUDA Driver: 12040
CUDA Device 0: "{H100}" 132 SMs(9,0) Memory: 2619 MHz x 5120-bit = 3352.3 GB/s PEAK, ECC is ON
Memory Allocation: DEFAULT
Function    MB/s        Min (sec)   Max         Average\x20\x20\x20\x20\x20
Copy        2925043.113 0.00018     0.00021     0.00019\x20\x20\x20\x20\x20
Triad       3014656.222 0.00027     0.00030     0.00028\x20\x20\x20\x20\x20
"""
BABELSTREAM_OLD = """\
BabelStream
Version: 3.3
Implementation: OpenCL
Running kernels 100 times
Precision: float
Array size: 134.2 MB (=0.1 GB)
Total size: 402.7 MB (=0.4 GB)
Using OpenCL device Intel(R) Xeon(R) CPU E5-2697
Driver: 390.30
Function    MBytes/sec  Min (sec)   Max         Average     \x20
Copy        43358.615   0.00624     0.00631     0.00625     \x20
"""
BABELSTREAM_CSV = """\
Using CUDA device Tesla V100
Driver: 12040
phase,n_elements,sizeof,max_mbytes_per_sec,runtime
Init,1024,8,1.5,0.5
function,num_times,n_elements,sizeof,max_mbytes_per_sec,min_runtime,max_runtime,avg_runtime
Copy,100,1024,8,16384,1e-06,4e-06,2e-06
"""

NVBANDWIDTH = f"""\
nvbandwidth Version: v0.8
Built from Git version: v0.8

CUDA Runtime Version: 12040
CUDA Driver Version: 12040
Driver Version: 550.54.15

{HOST}
Device 0: {H100} (00000000:18:00)
Device 1: {H100} (00000000:2a:00)

Running host_to_device_memcpy_ce.
memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0     55.26     55.25

SUM host_to_device_memcpy_ce 110.51

Running device_to_device_memcpy_read_ce.
memcpy CE GPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0       N/A    395.02
 1      0.00       N/A

Running host_device_latency_sm.
memory latency SM CPU(row) <-> GPU(column) (ns)
           0         1
 0    680.00    695.00

Running multinode_bisect.
Error: out of memory
"""


def nvbandwidth():
    """Return the document of `-j`, in which the numbers of a matrix are texts."""
    passed = {
        "name": "host_to_device_memcpy_ce",
        "status": "Passed",
        "bandwidth_description": "memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)",
        "bandwidth_matrix": [["55.26", "N/A"]],
        "sum": 55.26,
    }
    waived = {"name": "device_to_device_latency_sm", "status": "Waived"}
    return {
        "nvbandwidth": {
            "CUDA Runtime Version": 12040,
            "Driver Version": "550.54.15",
            "GPU Device list": [f"0: {H100} (00000000:18:00): ({HOST})", f"1: {H100} (00000000:2a:00): ({HOST})"],
            "git_version": "v0.8",
            "testcases": [passed, waived],
            "version": "v0.8",
        }
    }


JSON = {
    "pytest-benchmark": pytest_benchmark,
    "google-benchmark": google_benchmark,
    "nvbench": nvbench,
    "nvbandwidth": nvbandwidth,
}
# Every form of every format, by a name for people, with the program.
OUTPUTS = {
    **{f"{tool} JSON": (tool, json.dumps(made(), indent=1)) for tool, made in JSON.items()},
    "nvbench CSV": ("nvbench", NVBENCH_CSV),
    "BabelStream text": ("babelstream", BABELSTREAM),
    "BabelStream 3.3": ("babelstream", BABELSTREAM_OLD),
    "BabelStream CSV": ("babelstream", BABELSTREAM_CSV),
    "nvbandwidth text": ("nvbandwidth", NVBANDWIDTH),
}
