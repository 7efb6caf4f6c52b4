"""What a process finds changed where the environment asks for it: its clock, its memory limit, its host's name.

A rank may end here, or never get further.

It has to be there before bench_core is: a timer takes its clock when its module is imported.
"""

import os
import platform
import signal
import socket
import sys
import time

if name := os.environ.get("FAULT_HOST"):
    socket.gethostname = platform.node = lambda: name
if "bench_core.timing.worker_child" in sys.orig_argv:
    if os.environ.get("FAULT_SITE") == "clock":
        real = time.perf_counter

        def perf_counter():
            return real() - perf_counter.back

        perf_counter.back = 0.0
        time.perf_counter = perf_counter
    if os.environ.get("FAULT_SITE") == "memory":
        from bench_core.machine import allotment

        allotment.memory_limit = lambda: 1 << 30
if (how := os.environ.get("FAULT_RANK")) and os.environ.get("RANK") == "1":
    os.write(2, b"here it ends\n")
    if how == "starting_kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "starting_exit":
        os._exit(3)
    time.sleep(3600)
