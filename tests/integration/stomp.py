"""STOMP over a socket, as a browser's library would speak it."""

import asyncio
import ssl
from contextlib import suppress

from deploy.process import LOOPBACK


class Stomp:
    """A client over a socket; `frames` are answered one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls, port: int, user: str, password: str, tls: ssl.SSLContext | None = None
    ) -> "Stomp":
        client = cls(*await asyncio.open_connection(LOOPBACK, port, ssl=tls))
        login = ("accept-version:1.2", "host:/", f"login:{user}", f"passcode:{password}")
        client.say("CONNECT", *login)
        answer = await client.hear()
        if not answer.startswith("CONNECTED"):
            await client.close()
            raise PermissionError(answer)
        return client

    def say(self, command: str, *headers: str, body: str = "") -> None:
        frame = "\n".join([command, *headers, "", body])
        self._writer.write(frame.encode() + b"\0")

    async def hear(self, timeout_s: float = 5) -> str:
        """The next frame, or an empty text once the other side has hung up."""
        try:
            async with asyncio.timeout(timeout_s):
                return (await self._reader.readuntil(b"\0")).decode().strip("\n\0")
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""

    async def ask(self, command: str, *headers: str) -> str:
        """What is said to it: a RECEIPT if it was done, else an ERROR."""
        self.say(command, "receipt:r", *headers)
        return (await self.hear()).partition("\n")[0]

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
