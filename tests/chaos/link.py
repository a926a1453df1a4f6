"""A TCP proxy that stands for a network: one link between a client and a server on this machine.

Owns its listening socket and the connections through it. Promises: untouched, it passes bytes in
order and ends as they are. What it can be told to do to them is what networks do.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final, Self

from deploy.process import LOOPBACK, free_port

CHUNK: Final = 65_536


class _Pair:
    """One connection through the link: what a client has opened, and what we have opened for it."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.lost = False  # half-open: nothing passes any more, and nobody is told
        self.shut: set[asyncio.StreamWriter] = set()
        self.over = asyncio.Event()

    def abort(self) -> None:
        """As a router that answers with RST."""
        self.over.set()
        for writer in self.writers:
            with suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )
            writer.transport.abort()

    def half_close(self, side: int) -> None:
        """Tell one side that the other will say no more; the other knows nothing of it."""
        writer = self.writers[side]
        if writer not in self.shut and not writer.is_closing():
            self.shut.add(writer)
            with suppress(OSError):
                writer.write_eof()


class Link:
    """`async with Link("name", port) as link:` passes connections to `link.port` on to `port`."""

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.port = free_port()
        self.delay_s = 0.0
        self.refusing = False
        self._target = target
        self._losing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[_Pair] = set()
        self._passing: set[asyncio.Future[tuple[None, None]]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.heal()
        self.cut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            pair.abort()
        self._pairs.clear()

    def half_close(self, side: int) -> None:
        for pair in list(self._pairs):
            if not pair.lost:
                pair.half_close(side)

    def stall(self) -> None:
        """Pass nothing on until `heal`; nothing is dropped."""
        self._flowing.clear()

    def lose(self) -> None:
        """A black hole: what is open is half-open for good, also what is opened until `heal`."""
        self._losing = True
        for pair in self._pairs:
            pair.lost = True

    def heal(self) -> None:
        """New connections, and those that are not lost, work again."""
        self.delay_s, self.refusing, self._losing = 0.0, False, False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            onward = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair((writer, onward[1]))
        pair.lost = self._losing
        self._pairs.add(pair)
        passing = asyncio.gather(
            self._pump(pair, reader, onward[1]), self._pump(pair, onward[0], writer)
        )
        self._passing.add(passing)
        try:
            await passing
        except (OSError, RuntimeError):
            pair.abort()
        finally:
            self._passing.discard(passing)
            self._pairs.discard(pair)
            for side in pair.writers:
                side.close()

    async def _pump(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            data = await reader.read(CHUNK)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flowing.wait()
            if pair.lost:
                await pair.over.wait()
                return
            if not data:
                pair.half_close(pair.writers.index(writer))
                return
            if writer not in pair.shut:
                writer.write(data)
                await writer.drain()
