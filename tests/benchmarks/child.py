"""One measurement, in a process of its own: the stages of one peer, each with its wall time, CPU time and memory.

Needs the standard library alone, as it also runs in the peers' own environments. A stage is a generator: it imports
and prepares, yields, does the work that is measured, and yields what came of it.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    peer = importlib.import_module(f"tests.benchmarks.peers.{job['peer']}")
    answer = {stage: measure(getattr(peer, stage)(job), job.get("profile", False)) for stage in job["stages"]}
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def measure(steps: Any, profile: bool = False) -> dict[str, Any]:
    """Run a stage: seconds on the wall, CPU seconds of all threads, MB at the start and at most."""
    next(steps)
    sampled: Any = nullcontext()
    if profile:
        from tests.benchmarks.sampler import Sampler

        sampled = Sampler()
    base, cpu, start = memory("VmRSS"), cpu_seconds(), time.perf_counter()
    with sampled as sampler:
        outcome = next(steps)
    wall, used, peak = time.perf_counter() - start, cpu_seconds() - cpu, memory("VmHWM")
    for _ in steps:  # what a stage does for the check alone
        pass
    found = {"wall_s": wall, "cpu_s": used, "base_mb": base, "peak_mb": peak, "outcome": outcome}
    return found | ({"profile": sampler.top(15)} if sampler else {})


def cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def memory(what: str) -> float:
    """MB now (VmRSS) or at most (VmHWM). Not `ru_maxrss`: on Linux that of a new process begins with its parent's."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


if __name__ == "__main__":
    main(sys.argv[1])
