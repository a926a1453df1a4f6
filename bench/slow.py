"""A server that answers slowly: a TCP proxy before it, which holds back every answer for a while.

Requests pass at once. Answers are held back one after the other on each connection, as by a server
that is busy; nothing is lost or reordered.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from deploy.process import LOOPBACK

CHUNK: Final = 65_536


class SlowLink:
    """Before a local port; `delay_s` may be changed at any time."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._passing: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay_s = 0.0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, requests = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {
            asyncio.create_task(self._pass(reader, requests, slowly=False)),
            asyncio.create_task(self._pass(answers, writer, slowly=True)),
        }
        self._passing |= both
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._passing -= both
        writer.transport.abort()
        requests.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                if slowly and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()

    def cut(self) -> None:
        for task in self._passing:
            task.cancel()


@asynccontextmanager
async def slow_link(target: int) -> AsyncIterator[SlowLink]:
    """For the block; at first without any delay."""
    link = SlowLink(target)
    server = await asyncio.start_server(link.accept, LOOPBACK, 0, backlog=1024)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.cut()
