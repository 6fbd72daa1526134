"""Memory of this process, as Linux tells it."""

import ctypes
import os
from pathlib import Path


def resident(process: int | str | None = "self") -> float:
    """Memory of a process, by its number, in MiB; Linux only."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_resident() -> float:
    """Largest memory of this process in MiB since :func:`forget_peak`; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def forget_peak() -> float:
    """Return freed memory to the system, begin a new peak, and return :func:`resident`."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident()
