"""What a worker finds changed where FAULT_SITE asks for it: a clock that can be turned back, a low memory limit.

It has to be there before bench_core is: a timer takes its clock when its module is imported.
"""

import os
import sys
import time

if "bench_core.worker_child" in sys.orig_argv:
    if os.environ.get("FAULT_SITE") == "clock":
        real = time.perf_counter

        def perf_counter():
            return real() - perf_counter.back

        perf_counter.back = 0.0
        time.perf_counter = perf_counter
    if os.environ.get("FAULT_SITE") == "memory":
        from bench_core import host

        host.memory_limit = lambda: 1 << 30
