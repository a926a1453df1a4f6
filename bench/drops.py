"""Clients that connect and go away, in every way that there is."""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from bench.listening import request
from deploy.process import LOOPBACK

RESET: Final = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER, on, 0 s: closing sends RST."""

TIMEOUT_S: Final = 30.0
CHUNK: Final = 65_536
FEW_EVENTS: Final = 3
POLL_S: Final = 0.2


class Place(msgspec.Struct, frozen=True):
    """What a client asks for: the port, an owner's token, and the path of a stream or long poll."""

    port: int
    token: str
    path: str

    @property
    def asked(self) -> bytes:
        return request(self.path, self.token)


class Refused(Exception):
    """The answer was not what a client of this kind waits for; holds its first bytes."""


Drop = Callable[[socket.socket, bytes], Awaitable[None]]


async def _until(one: socket.socket, mark: bytes, times: int = 1) -> None:
    """Reads until the mark has come so often."""
    loop = asyncio.get_running_loop()
    seen, head, rest = 0, b"", b""
    async with asyncio.timeout(TIMEOUT_S):
        while seen < times:
            data = await loop.sock_recv(one, CHUNK)
            if not data:
                raise Refused(head.decode(errors="replace"))
            head = (head or data)[:300]
            rest += data
            seen += rest.count(mark)
            rest = rest[-len(mark) + 1 :]


async def _opened(one: socket.socket, asked: bytes) -> None:
    """Goes once the stream is open, with FIN."""
    await _send(one, asked)
    await _until(one, b"event: ")


async def _opened_reset(one: socket.socket, asked: bytes) -> None:
    await _opened(one, asked)
    _reset(one)


async def _in_the_opening(one: socket.socket, asked: bytes) -> None:
    """Goes without waiting for any answer."""
    await _send(one, asked)


async def _in_the_opening_reset(one: socket.socket, asked: bytes) -> None:
    await _send(one, asked)
    await asyncio.sleep(random.uniform(0, 0.01))
    _reset(one)


async def _in_the_request(one: socket.socket, asked: bytes) -> None:
    await _send(one, asked[: random.randrange(1, len(asked))])


async def _half_closed(one: socket.socket, asked: bytes) -> None:
    """Says that it will say no more, and reads until the server has closed as well."""
    await _opened(one, asked)
    one.shutdown(socket.SHUT_WR)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TIMEOUT_S):
        while await loop.sock_recv(one, CHUNK):
            pass


async def _after_events(one: socket.socket, asked: bytes) -> None:
    await _send(one, asked)
    await _until(one, b"event: recorded", FEW_EVENTS)


async def _after_events_reset(one: socket.socket, asked: bytes) -> None:
    await _after_events(one, asked)
    _reset(one)


async def _abandoned(one: socket.socket, asked: bytes) -> None:
    """A long poll that its client does not wait for."""
    await _send(one, asked)
    await asyncio.sleep(random.uniform(0, POLL_S))


async def _abandoned_reset(one: socket.socket, asked: bytes) -> None:
    await _abandoned(one, asked)
    _reset(one)


async def _send(one: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(one, data)


def _reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


STREAM_DROPS: Final[Mapping[str, Drop]] = {
    "opened, FIN": _opened,
    "opened, RST": _opened_reset,
    "in the opening, FIN": _in_the_opening,
    "in the opening, RST": _in_the_opening_reset,
    "in the request": _in_the_request,
    "half closed": _half_closed,
    "after events, FIN": _after_events,
    "after events, RST": _after_events_reset,
}
POLL_DROPS: Final[Mapping[str, Drop]] = {
    "long poll, FIN": _abandoned,
    "long poll, RST": _abandoned_reset,
}


async def connect_and_drop(place: Place, drop: Drop) -> None:
    """One connection, to its end."""
    loop = asyncio.get_running_loop()
    with socket.socket() as one:
        one.setblocking(False)
        await loop.sock_connect(one, (LOOPBACK, place.port))
        await drop(one, place.asked)


class Turns:
    """So many connections, each of the next kind, some at a time; counts what went wrong."""

    def __init__(self, places: list[Place], drops: Mapping[str, Drop]) -> None:
        self._places = places
        self._drops = list(drops.items())
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    async def take(self, count: int, at_once: int) -> None:
        """So many more."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self._one(number)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def _one(self, number: int) -> None:
        kind, drop = self._drops[number % len(self._drops)]
        place = self._places[number // len(self._drops) % len(self._places)]
        try:
            await connect_and_drop(place, drop)
            self.done[kind] += 1
        except (OSError, TimeoutError, Refused) as error:
            self.wrong[f"{kind}: {type(error).__name__} {error}"[:120]] += 1
