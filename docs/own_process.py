"""What is measured in a process of its own, so that nothing else counts."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.memory import forget_peak, peak_resident


def run_alone(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in a new process on one thread; return the JSON object that it prints last."""
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def measured(run: Callable[[], Any], repeats: int = 1, patience: float = 6.0) -> dict[str, float]:
    """Median seconds of a call, and its peak of memory (MiB) above what was there before.

    Args:
        run: is called.
        repeats: how often at most.
        patience: seconds after which it is not called again.
    """
    started, times, peak = time.perf_counter(), [], 0.0
    while not times or (len(times) < repeats and time.perf_counter() - started < patience):
        before, start = forget_peak(), time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        peak = max(peak, peak_resident() - before)
    return {"seconds": statistics.median(times), "MiB": peak}
