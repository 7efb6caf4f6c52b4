# First contact with a GPU, from a checkout's root, 9 minutes at most: driver facts, bare timings, 3 runs; files in $OUT
OUT=${OUT:-first_contact}; mkdir -p $OUT; D=$(mktemp -d); export CI=1 PYTEST_ADDOPTS="-p no:cacheprovider -q --tb=line --benchmark-columns=median,rounds"
L() { t=$((530-SECONDS)); [ $t -lt $1 ] || t=$1; [ $t -gt 0 ] && timeout -k 5 $t "${@:2}"; }
R() { n=$1 s=$SECONDS; L $2 python3 -m pytest benchmarks --benchmark-only --bench-backends=cupy,torch:cuda --bench-keep-journal --bench-output=$D/$n "${@:3}" >$OUT/$n.log 2>&1; echo "== $n rc=$? $((SECONDS-s))s"; sed -n '/= bench-core =/,$p' $OUT/$n.log | grep -vE '^(SKIPPED|=)' | cut -c1-140 | tail -55; tar czf $OUT/r.tgz -C $D .; }
{ L 9 nvidia-smi -q; lscpu; L 40 python3 -m bench_core doctor; } >$OUT/env.log 2>&1; sed -n '/^Adv/,$p' $OUT/env.log
L 60 python3 - <<'P'
import time
from bench_core.machine import nvml
from bench_core.backends.registry import load
def ms(f, n=30):
    f(); t = time.perf_counter()
    for _ in range(n): f()
    return (time.perf_counter() - t) / n * 1e3
b = load("cupy")("cuda:0"); u = b.device_uuid
print("ms: energy", ms(lambda: nvml.energy(u)), "state", ms(lambda: nvml.state(u)))
import torch
b = load("torch")("cuda:0"); M = torch.cuda.memory_allocated
a = torch.randn(8192, 8192, device="cuda")
for d in (torch.bfloat16, torch.float32):
    q = a.to(d); c = q.clone(); m = M(); torch.mm(q, q, out=c)
    print(d, "workspace", M() - m, [b.device_time(lambda: torch.mm(q, q, out=c), 5) for _ in range(3)])
x = torch.randn(8, 12, 1024, 64, device="cuda")
print("sdpa f32", b.device_time(lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True), 20), nvml.state(u))
P
R smoke 110 --bench-preset=smoke
R part 150 --bench-preset=standard --bench-budget=.1 -k "(-cudagraph and not autocast and not tf32) or (compile and layernorm) or (test_matmul and 8192) or (4096 and fast) or (gpt_decode and torch and bfloat16)"
R quick 200 --bench-preset=quick --bench-budget=.1
