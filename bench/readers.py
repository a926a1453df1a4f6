"""The load generator of `bench streams`, a process of its own: `python -m bench.readers HOST PORT`.

Opens event streams on bare sockets and counts frames without parsing them: every frame of the load
holds one `MARK`. Speaks JSON lines: a command on standard input, an answer on standard output.
Times are those of the machine's monotonic clock, in seconds.
"""

import asyncio
import sys
import time
from typing import Any, Final, cast

import msgspec
import uvloop

from bench.machine import open_files

MARK: Final = b"|"
AT_ONCE: Final = 50
OPEN_TIMEOUT_S: Final = 60.0
FILES: Final = 65_536


class Command(msgspec.Struct):
    """`open`: so many more streams of these paths, open when `ready` has come. `expect`: from now
    on `goal` frames on each stream; answered twice, at once and when all have them."""

    do: str
    paths: list[str] = []
    count: int = 0
    ready: str = ""
    token: str = ""
    goal: int = 0
    timeout_s: float = 60.0


class Crowd:
    """All open streams."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.streams: list[Stream] = []
        self.goal = sys.maxsize
        self.first = 0.0
        self.reached: list[float] = []
        self.done = asyncio.Event()
        self.lost = 0

    async def open(self, command: Command) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for start in range(0, command.count, AT_ONCE):
            some = []
            for number in range(start, min(start + AT_ONCE, command.count)):
                path = command.paths[number % len(command.paths)]
                stream = Stream(self, _request(path, command.token), command.ready.encode())
                await loop.create_connection(lambda s=stream: s, self._host, self._port)  # type: ignore[misc]
                some.append(stream)
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.gather(*(stream.opened for stream in some))
            self.streams += some
        return {"open": len(self.streams), "seconds": loop.time() - began}

    def expect(self, goal: int) -> dict[str, Any]:
        self.goal, self.first, self.reached = goal, 0.0, []
        self.done.clear()
        for stream in self.streams:
            stream.seen = 0
        return {"expecting": goal}

    async def report(self, timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                await self.done.wait()
        except TimeoutError:
            pass
        return {
            "frames": sum(stream.seen for stream in self.streams),
            "lost": self.lost,
            "first": self.first,
            "reached": self.reached,
        }

    def has_goal(self, at: float) -> None:
        self.reached.append(at)
        if len(self.reached) == len(self.streams):
            self.done.set()


class Stream(asyncio.Protocol):
    """One connection; it counts and forgets."""

    __slots__ = ("_crowd", "_head", "_ready", "_request", "opened", "seen")

    def __init__(self, crowd: Crowd, request: bytes, ready: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._ready = ready
        self._head = b""
        self.opened = asyncio.get_running_loop().create_future()
        self.seen = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write, and are not asyncio's.
        cast("asyncio.WriteTransport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._head += data
            if self._ready in self._head:
                self.opened.set_result(None)
                self._head = b""
            return
        count = data.count(MARK)
        if not count:
            return
        crowd, before = self._crowd, self.seen
        self.seen += count
        now = time.monotonic()
        crowd.first = crowd.first or now
        if before < crowd.goal <= self.seen:
            crowd.has_goal(now)

    def connection_lost(self, error: Exception | None) -> None:
        self._crowd.lost += 1
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self._head[:300].decode(errors="replace")))


def _request(path: str, token: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


def _say(answer: dict[str, Any]) -> None:
    print(msgspec.json.encode(answer).decode(), flush=True)


async def main(host: str, port: int) -> None:
    """Serves commands until standard input ends."""
    crowd = Crowd(host, port)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command = msgspec.json.decode(line, type=Command)
        if command.do == "open":
            _say(await crowd.open(command))
        else:
            _say(crowd.expect(command.goal))
            _say(await crowd.report(command.timeout_s))


if __name__ == "__main__":
    open_files(FILES)
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
