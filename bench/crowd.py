"""The driver's end of the load generator: starts it and speaks with it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from bench.readers import Command
from deploy.process import LOOPBACK
from deploy.stack import python_environment

LINE_MAX: Final = 2**24

T = TypeVar("T")


class Report(msgspec.Struct):
    """How a load has arrived: when the first frame did, and when each stream had all of its own."""

    frames: int
    lost: int
    first: float
    reached: list[float]


class Generator:
    """Streams opened by another process."""

    def __init__(self, commands: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        self._commands = commands
        self._answers = answers
        self.open_streams = 0

    async def open(self, count: int, paths: Sequence[str], ready: str, token: str) -> float:
        """Opens so many more; answers how long that took, in seconds."""
        command = Command("open", paths=list(paths), count=count, ready=ready, token=token)
        await self._tell(command)
        answer = await self._hear(dict[str, float])
        self.open_streams = int(answer["open"])
        return answer["seconds"]

    async def expect(self, goal: int, timeout_s: float) -> None:
        """Counts from now on; `report` then says how it went."""
        await self._tell(Command("expect", goal=goal, timeout_s=timeout_s))
        await self._hear(dict[str, int])

    async def report(self) -> Report:
        return await self._hear(Report)

    async def _tell(self, command: Command) -> None:
        self._commands.write(msgspec.json.encode(command) + b"\n")
        await self._commands.drain()

    async def _hear(self, kind: type[T]) -> T:
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        return msgspec.json.decode(line, type=kind)


@asynccontextmanager
async def generator(port: int) -> AsyncIterator[Generator]:
    """The process, for the block; leaving it closes the streams."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.readers",
        LOOPBACK,
        str(port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=python_environment(),
        limit=LINE_MAX,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes to the load generator")
        yield Generator(process.stdin, process.stdout)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
