"""What the machine is, and what a process takes of it. Linux; elsewhere the figures are 0."""

import os
import platform
import resource
import time
from pathlib import Path
from statistics import median
from typing import Final

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
FSYNCS: Final = 50


def cpu_s(*pids: int) -> float:
    """The processor time that the processes have used so far."""
    return sum(map(_cpu_s, pids))


def _cpu_s(pid: int) -> float:
    try:
        # The clock of another process, to the nanosecond: see clock_getcpuclockid(3).
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def rss_bytes(pid: int) -> int:
    """The resident memory of a process; sockets in the kernel are not in it."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def open_files(wanted: int) -> int:
    """Raises the limit of open files towards what is wanted; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(soft, limit)


def fsync_ms(folder: Path) -> float:
    """What it takes to bring 1 KB to the disk that the servers write to."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(FSYNCS):
            began = time.perf_counter()
            file.write(b"x" * 1024)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1000


def describe(folder: Path) -> str:
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"fsync {fsync_ms(folder):.2f} ms, load before {load:.1f}"
    )
