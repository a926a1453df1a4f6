"""How many messages are ready in some queues, asked of RabbitMQ when somebody wants to know.

Promises: an answer within `ASK_S`, whatever is away. Never keeps a number.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from aiormq.abc import AbstractConnection

from broker.consumer import waiting
from broker.errors import BrokerUnavailable
from broker.link import opened
from broker.outlet import Outlet

ASK_S: Final = 2.0


class Depths:
    """Asks on channels of its own, because asking for a queue that is missing costs the channel."""

    def __init__(self, outlet: Outlet, queues: Sequence[str]) -> None:
        self._outlet = outlet
        self._names = queues
        self._asking: asyncio.Task[dict[str, int]] | None = None

    async def ask(self) -> tuple[dict[str, int], bool]:
        """By queue, and whether all of them have answered; takes at most `ASK_S`."""
        # One at a time, and not awaited to its end: closing a channel that is dead takes longer.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(self._outlet.connection))
        await asyncio.wait({self._asking}, timeout=ASK_S)
        found = self._asking.result() if self._asking.done() else {}
        return found, len(found) == len(self._names)

    async def _ask(self, connection: AbstractConnection | None) -> dict[str, int]:
        found: dict[str, int] = {}
        left = list(self._names) if connection is not None else []
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                while connection is not None and left:
                    await self._ask_some(connection, left, found)
        return found

    async def _ask_some(
        self, connection: AbstractConnection, left: list[str], found: dict[str, int]
    ) -> None:
        """As many as one channel answers for: asking for a queue that is missing costs it."""
        queue = left.pop()
        with suppress(BrokerUnavailable):
            async with opened(connection, confirms=False) as channel:
                found[queue] = await waiting(channel, [queue])
                while left:
                    queue = left.pop()
                    found[queue] = await waiting(channel, [queue])
