"""Readers of event streams on bare sockets: one that reads well, and one that never reads."""

import asyncio
import re
import socket
import time
from collections.abc import Callable
from typing import Final, cast

from deploy.process import LOOPBACK

OPEN_TIMEOUT_S: Final = 30.0
TINY: Final = 2_048
_EVENT: Final = re.compile(rb"event: ([a-z-]+)\n")
_ID: Final = re.compile(rb'data: \{"id":"([^"]+)"')
_PERCENT: Final = re.compile(rb'"percent":([0-9.]+)')
_CURSOR: Final = re.compile(rb"\nid: ([0-9-]+)\n")

Heard = Callable[["Told"], None]


class Told:
    """One block of a stream, looked at no closer than asked. `at` is monotonic time, seconds."""

    __slots__ = ("_block", "at", "event")

    def __init__(self, event: str, block: bytes, at: float) -> None:
        self.event = event
        self.at = at
        self._block = block

    @property
    def job_id(self) -> str:
        found = _ID.search(self._block)
        return found[1].decode() if found else ""

    @property
    def percent(self) -> float | None:
        found = _PERCENT.search(self._block)
        return float(found[1]) if found else None

    @property
    def cursor(self) -> str:
        found = _CURSOR.search(self._block)
        return found[1].decode() if found else ""


class Listening(asyncio.Protocol):
    """One stream, read as it comes; the server puts whole blocks into each chunk of HTTP."""

    def __init__(self, request: bytes, heard: Heard) -> None:
        self._request = request
        self._heard = heard
        self._rest = b""
        self.opened = asyncio.get_running_loop().create_future()
        self.lost = False
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write, and are not asyncio's.
        self._transport = transport
        cast("asyncio.WriteTransport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            found = _EVENT.search(block)
            if found is None:
                continue
            event = found[1].decode()
            if event in {"live", "snapshot"} and not self.opened.done():
                self.opened.set_result(None)
            self._heard(Told(event, block, now))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self._rest[:300].decode(errors="replace")))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def request(path: str, token: str, cursor: str = "") -> bytes:
    """The bytes that ask for a stream."""
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
    last = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
    return f"{head}{last}Authorization: Bearer {token}\r\n\r\n".encode()


async def listen(port: int, asked: bytes, heard: Heard) -> Listening:
    """An open stream: its opening is over."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Listening(asked, heard), LOOPBACK, port)
    async with asyncio.timeout(OPEN_TIMEOUT_S):
        await protocol.opened
    return protocol


async def stuck(port: int, asked: bytes) -> socket.socket:
    """A reader that takes the first bytes of its stream, so that it is open, and nothing more."""
    loop = asyncio.get_running_loop()
    one = socket.socket()
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
        one.setblocking(False)
        await loop.sock_connect(one, (LOOPBACK, port))
        await loop.sock_sendall(one, asked)
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await loop.sock_recv(one, 16)
    except BaseException:
        one.close()
        raise
    return one
