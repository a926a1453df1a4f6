"""Noticing that a client has gone, at the price of one small task and no timer.

uvicorn's `send` does nothing after a disconnect, so that a response which only sends would never
end; only `receive` tells. Promises: the block is left with `ClientGone` once the client is gone, or
with `Cut` when `cut` is called. Never cancels anything but the block.
"""

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive


class ClientGone(Exception):
    """The client has closed the connection: nobody is there to answer."""


class Cut(Exception):
    """We have ended the response ourselves."""


class Presence:
    """`async with Presence(receive):`."""

    __slots__ = ("_cut", "_inside", "_receive", "_timeout", "_watch")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        # asyncio's own way to end a block from outside; without a deadline it has no timer.
        self._timeout = asyncio.timeout(None)
        self._watch: asyncio.Task[None] | None = None
        self._cut = False
        self._inside = False

    def cut(self) -> None:
        self._cut = True
        self._leave()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._inside = True
        self._watch = asyncio.create_task(_disconnected(self._receive))
        self._watch.add_done_callback(self._leave)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = False
        if self._watch is not None:
            self._watch.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise (Cut if self._cut else ClientGone) from None

    def _leave(self, _: "asyncio.Task[None] | None" = None) -> None:
        if self._inside and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # a body that nobody has asked for
