"""Find the devices that a backend offers on this machine, in a separate process.

Importing an array library takes seconds, starts threads and may crash, so the process that plans and reports
imports none. `python -m bench_core.plan.discovery NAME` prints one line of JSON; `probe` runs it and survives any
failure of the library.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench_core import child_process, records
from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import BenchError, Unavailable
from bench_core.files import write_atomically
from bench_core.machine.privacy import scrub
from bench_core.records import Fact, Facts
from bench_core.text import harmless, one_line

TIMEOUT_S = 120.0  # a cold import of a GPU library from a network disk takes most of a minute
_LONGEST_S = 2 * TIMEOUT_S  # a probe ends itself after this time


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a backend can compute on: its address, its model, the library that computes, its facts."""

    device: str
    name: str = ""
    library: str = ""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of probing a backend: its version and devices or, if `reason_code` is set, why it cannot be used.

    broken: devices that are present but cannot run a kernel, with their reasons.
    """

    backend: str
    version: str = ""
    devices: tuple[Device, ...] = ()
    reason_code: str = ""
    reason: str = ""
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def available(self) -> bool:
        return not self.reason_code


def probe(name: str, timeout: float = TIMEOUT_S, environ: Mapping[str, str] | None = None) -> Probe:
    """Probe backend `name` in a child process. Raises neither if its library fails nor if no process can be started.

    timeout: seconds. environ: the complete environment of the child; default: that of this process.
    """
    command = child_process.command("bench_core.plan.discovery", name, parent=os.getpid())
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        started = subprocess.Popen(command, env=environ, **pipes, **child_process.apart())
    except OSError as error:  # there is no memory, process or file to be had
        reason = _masked(f"the process that imports {name} could not be started: {error}")
        return Probe(name, reason_code="not_started", reason=reason)
    with started as child:
        try:
            said, errors = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return Probe(name, reason_code="timeout", reason=f"{name} did not answer within {timeout:g} s")
        finally:  # an interrupt too
            child_process.kill(child)
    for line in reversed(said.decode(errors="replace").splitlines()):
        if (found := _parse(line)) and found.backend == name:
            return found
    return Probe(name, reason_code="crashed", reason=_death(name, child.returncode, errors))


def probe_all(entries: Iterable[str], kept: Path | None = None) -> dict[str, Probe]:
    """Probe every backend in the entries `backend[:device]`, each in its own process; raises UsageError if unknown.

    They run one after another: a GPU in exclusive mode refuses a second process.

    kept: a file with the probes of an earlier session of this series, which are not made again. Those that are made are
    added to it.
    """
    names = list(dict.fromkeys(entry.partition(":")[0] for entry in entries))
    for name in names:
        registry.require(name)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    known = {found.backend: found for found in map(_parse, lines) if found}
    probes = {name: known.get(name) or probe(name) for name in names}
    if kept and not probes.keys() <= known.keys():
        every = (json.dumps(probe_to_json(found)) for found in (known | probes).values())
        write_atomically(kept, "\n".join(every) + "\n")
    return probes


def discover(name: str) -> Probe:
    """Probe backend `name`, importing its library into this process."""
    try:
        backend = registry.load(name)
        addresses = backend.devices()
    except Unavailable as error:
        return Probe(name, reason_code=error.code, reason=_masked(error))
    except BenchError as error:
        return Probe(name, reason_code="unknown_backend", reason=_masked(error))
    except Exception as error:  # noqa: BLE001 - a broken driver may raise anything; its message is the reason
        return Probe(name, reason_code="error", reason=f"{type(error).__name__}: {_masked(error)}")
    version, devices, broken = "", [], {}
    for address in addresses:  # finish one before selecting the next: CUDA computes on the device selected last
        try:
            here = backend(address)
            _require_kernel(here)
            devices.append(Device(address, here.device_name, here.library, here.facts()))
            version = here.version
        except Exception as error:  # noqa: BLE001 - a broken compiler or a full GPU may raise anything
            broken[address] = _masked(f"{address} cannot run a kernel: {type(error).__name__}: {error}")
    if broken and not devices:
        return Probe(name, reason_code="kernel_failed", reason=_masked("; ".join(broken.values())), broken=broken)
    return Probe(name, version, tuple(devices), broken=broken)


def _require_kernel(backend: Backend) -> None:
    """Run a minimal kernel; raises what the kernel raises, and ArithmeticError if its answer is wrong.

    A library may list a device for which it cannot compile (CuPy without a CUDA toolkit) or has no kernels
    (PyTorch on an old GPU). Found here, this is one reason; found later, it would be an error in every case.
    """
    one = backend.from_host(np.ones(1, np.float32))
    answer = float(backend.to_host(one + one)[0])
    if answer != 2.0:
        raise ArithmeticError(f"it computes 1 + 1 = {answer:g}")


def probe_to_json(found: Probe) -> dict[str, Any]:
    """Return a probe as plain JSON values."""
    broken = dict(found.broken)
    if not found.available:
        return {
            "backend": found.backend,
            "reason_code": found.reason_code,
            "reason": found.reason,
            "broken": broken,
        }
    devices = [
        {"device": d.device, "name": d.name, "library": d.library, "facts": records.to_json(d.facts)}
        for d in found.devices
    ]
    return {"backend": found.backend, "version": found.version, "devices": devices, "broken": broken}


def _parse(line: str) -> Probe | None:
    """Return the probe in a line of output; None if the line is something else."""
    try:
        plain = json.loads(line)
        devices = tuple(
            Device(d["device"], d["name"], d["library"], {key: Fact(**fact) for key, fact in d["facts"].items()})
            for d in plain.pop("devices", ())
        )
        return Probe(devices=devices, **plain)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _death(name: str, code: int, stderr: bytes) -> str:
    last = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    return _masked(f"the process that imports {name} {child_process.ending(code)}" + (f": {last}" if last else ""))


def _masked(text: object) -> str:
    return harmless(scrub(one_line(text)))[:500]


def main(arguments: Sequence[str]) -> None:
    """Print the probe of backend `arguments[0]` to standard output, and nothing else."""
    faulthandler.dump_traceback_later(_LONGEST_S, exit=True)  # if the process that waits is gone, on other systems
    # Libraries print on file descriptor 1, some of them from C: redirect that to standard error.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer.write("\n" + json.dumps(probe_to_json(discover(arguments[0]))) + "\n")
    answer.flush()
    # Some GPU libraries crash while they unload. The answer is written, so skip the unloading.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
