"""A balancer as plain as there is: TCP, round robin, and the next replica where one refuses."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from deploy.process import LOOPBACK

CHUNK = 65_536


class Balancer:
    """`url` is what clients know. `unserved` counts connections that no replica would take."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = deque(ports)
        self._serving: set[asyncio.Task[object]] = set()
        self.port = 0
        self.unserved = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await self._connected()
        if onward is None:
            self.unserved += 1
            writer.transport.abort()
            return
        back, there = onward
        try:
            with suppress(OSError):
                await asyncio.gather(_pump(reader, there), _pump(back, writer))
        finally:
            there.transport.abort()
            writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._ports.rotate()
        for port in tuple(self._ports):
            with suppress(OSError):
                return await asyncio.open_connection(LOOPBACK, port)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def balancing(ports: Sequence[int]) -> AsyncIterator[Balancer]:
    """A balancer in front of these local ports, for the block."""
    balancer = Balancer(ports)
    server = await asyncio.start_server(balancer.accept, LOOPBACK, 0, backlog=1024)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
        await balancer.close()
