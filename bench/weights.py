"""What processes weigh while something happens to them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import rss_bytes
from bench.results import Row

SAMPLE_S: Final = 0.1
MB: Final = 1_048_576


class Weight(msgspec.Struct):
    """Resident memory of one process in bytes: before, the most that was seen, and after."""

    pid: int
    before: int
    peak: int
    after: int = 0

    def row(self) -> Row:
        figures = {"before_mb": self.before, "peak_mb": self.peak, "after_mb": self.after}
        return {name: round(value / MB, 1) for name, value in figures.items()}


@asynccontextmanager
async def weighing(pids: Mapping[str, int]) -> AsyncIterator[dict[str, Weight]]:
    """Weighs the processes again and again during the block, and once more at its end."""
    weights = {
        name: Weight(pid, before, before)
        for name, pid in pids.items()
        for before in [rss_bytes(pid)]
    }
    task = asyncio.create_task(_sample(list(weights.values())))
    try:
        yield weights
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for weight in weights.values():
            weight.after = rss_bytes(weight.pid)


async def _sample(weights: list[Weight]) -> None:
    while True:
        for weight in weights:
            weight.peak = max(weight.peak, rss_bytes(weight.pid))
        await asyncio.sleep(SAMPLE_S)


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open. Linux; elsewhere 0."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0
