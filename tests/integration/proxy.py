"""A TCP proxy that cuts connections, or loses the answer to a chosen request: the outcome is then
unknown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """`lose(b"EVALSHA")`: the next request holding these bytes is passed on, its answer is not,
    and the connection is closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._wanted = b""
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.lost = 0

    def lose(self, wanted: bytes) -> None:
        self._wanted = wanted

    def cut(self) -> None:
        """Closes every connection that there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        losing = asyncio.Event()
        self._writers |= {writer, to_server}

        async def requests() -> None:
            while data := await reader.read(65_536):
                if self._wanted and self._wanted in data:
                    self._wanted = b""
                    losing.set()
                to_server.write(data)

        async def answers() -> None:
            while data := await from_server.read(65_536):
                if losing.is_set():
                    self.lost += 1
                    return
                writer.write(data)

        tasks = {asyncio.ensure_future(requests()), asyncio.ensure_future(answers())}
        try:
            with suppress(ConnectionError):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writers -= {writer, to_server}
            to_server.close()
            writer.close()


@asynccontextmanager
async def proxying(port: int) -> AsyncIterator[Proxy]:
    """A proxy to a local port, for the block."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
