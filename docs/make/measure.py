"""Time and memory of a call, and calls in processes of their own, so that nothing else counts."""

import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

from benchmarks.memory import forget_peak, peak_resident, resident


def alone(
    function: Callable[..., Any],
    *arguments: Any,
    mib: float = math.inf,
    seconds: float = math.inf,
) -> Any:
    """The result of a function in a new process on one thread.

    Args:
        function: of a module, so that the process can import it.
        arguments: of the function.
        mib: memory of the process at which it is stopped.
        seconds: time after which it is stopped, with imports.

    Returns:
        What the function returns; `{"stopped": seconds, "MiB": memory}` where it was stopped.

    Raises:
        RuntimeError: if the function fails; the process writes the error.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments))
    with patch.dict(os.environ, OMP_NUM_THREADS="1"):
        process.start()
    theirs.close()
    started = time.perf_counter()
    try:
        while not ours.poll(0.02):
            spent, memory = time.perf_counter() - started, resident(process.pid)
            if memory > mib or spent > seconds:
                return {"stopped": round(spent), "MiB": round(memory)}
        return ours.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__}{arguments} has failed") from None
    finally:
        process.kill()
        process.join()


def _send(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


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
