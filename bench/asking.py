"""The load generator of `bench auth` and `bench list`: requests on bare sockets that stay open.

Each connection asks, waits for the whole answer and asks again. Every answer's status is checked;
its body is not parsed, only kept for who wants the last one.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Final, cast

import msgspec

from bench.results import Failed
from deploy.process import LOOPBACK

END: Final = b"\r\n\r\n"
LENGTH: Final = b"\r\ncontent-length: "
ANSWER_S: Final = 30.0


class Answers(msgspec.Struct):
    """What came in a time: how many, in how many seconds, each after how many seconds."""

    count: int
    seconds: float
    delays: list[float]


def request(path: str, *lines: str) -> bytes:
    """A GET; `lines` are further headers."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {LOOPBACK}", *lines, "", ""]).encode()


class Asker(asyncio.Protocol):
    """One connection. `body` is that of the last answer."""

    def __init__(self, status: int) -> None:
        self._wanted = b"HTTP/1.1 %d" % status
        self.transport: asyncio.WriteTransport | None = None
        self._data = b""
        self._whole = 0  # bytes of the answer, 0 until its head has come
        self._requests: Iterator[bytes] = iter(())
        self._asked = self._until = 0.0
        self._done: asyncio.Future[None] | None = None
        self.delays: list[float] = []
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write, and are not asyncio's.
        self.transport = cast("asyncio.WriteTransport", transport)
        self._data, self._whole = b"", 0

    async def ask(self, requests: Iterator[bytes], seconds: float) -> None:
        """Asks until the time is over or there is nothing left to ask. Raises Failed."""
        self._requests, self.delays = requests, []
        self._until = time.perf_counter() + seconds
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        async with asyncio.timeout(seconds + ANSWER_S):
            await self._done

    def _next(self) -> None:
        now = time.perf_counter()
        one = next(self._requests, None) if now < self._until else None
        if one is not None and self.transport is not None:
            self._asked = now
            self.transport.write(one)
        elif self._done is not None and not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._whole:
            end = self._data.find(END)
            if end < 0:
                return
            if not self._data.startswith(self._wanted):
                self._fail(self._data[:300].decode("latin-1"))
                return
            self._whole = end + len(END) + _length(self._data[: end + 2])
        if len(self._data) < self._whole:
            return
        self.delays.append(time.perf_counter() - self._asked)
        self.body = self._data[self._data.find(END) + len(END) :]
        self._data, self._whole = b"", 0
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._fail(f"the connection was closed: {error}")

    def _fail(self, why: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(Failed(why))


def _length(head: bytes) -> int:
    at = head.find(LENGTH) + len(LENGTH)
    return int(head[at : head.find(b"\r\n", at)])


class Askers:
    """Some connections to one server, used again and again."""

    def __init__(self, port: int, connections: int, status: int) -> None:
        self._port = port
        self._askers = [Asker(status) for _ in range(connections)]

    async def ask(self, requests: list[bytes], seconds: float, *, once: bool = False) -> Answers:
        """The requests in turn, from the beginning again unless `once`. Raises Failed."""
        await self._connected()
        shared = iter(requests) if once else cycle(requests)
        began = time.perf_counter()
        await asyncio.gather(*(asker.ask(shared, seconds) for asker in self._askers))
        taken = time.perf_counter() - began
        delays = [delay for asker in self._askers for delay in asker.delays]
        return Answers(len(delays), taken, delays)

    async def answer(self, one: bytes) -> bytes:
        """The body of one answer. Raises Failed."""
        await self._connected()
        await self._askers[0].ask(iter([one]), ANSWER_S)
        return self._askers[0].body

    async def _connected(self) -> None:
        """The server closes what has been idle for a minute."""
        loop = asyncio.get_running_loop()
        for asker in self._askers:
            if asker.transport is None:
                await loop.create_connection(partial(_same, asker), LOOPBACK, self._port)

    def close(self) -> None:
        for asker in self._askers:
            if asker.transport is not None:
                asker.transport.abort()


def _same(asker: Asker) -> Asker:
    return asker


@contextmanager
def asking(port: int, connections: int, status: int = 200) -> Iterator[Askers]:
    """Connections for the block; any answer but of this status is a failure."""
    askers = Askers(port, connections, status)
    try:
        yield askers
    finally:
        askers.close()
