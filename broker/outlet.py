"""A publisher that is always there: for processes that publish now and then, like the API.

Owns its connection and brings it back by itself. Promises: `publish` returns only when every
message is confirmed; else it raises within its time. Never queues messages while RabbitMQ is away.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aiormq.abc import AbstractConnection

from broker.errors import BrokerUnavailable, Refused
from broker.link import connected, keep
from broker.publisher import Publisher, publishing
from jobcast.message import Message, Outcome


class Outlet:
    """Publishes while it has a connection; see `opened_outlet`. `connection` is for asking."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._publisher: Publisher | None = None
        self.connection: AbstractConnection | None = None

    @property
    def ready(self) -> bool:
        return self._publisher is not None

    async def run(self) -> None:
        """Keep a connection, for ever."""
        await keep(self._name, self._serve)

    async def publish(self, messages: Sequence[Message], *, timeout_s: float = 5.0) -> None:
        """Publish all and wait for the confirms.

        Raises `BrokerUnavailable` (away, or no answer in time: the messages may or may not have
        arrived) or `Refused` (at least one was returned as unroutable, or nacked).
        """
        publisher = self._publisher
        if publisher is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        outcomes = set(await publisher.publish(messages, timeout_s=timeout_s))
        if outcomes & {Outcome.RETURNED, Outcome.NACKED}:
            raise Refused("RabbitMQ has no queue for the message, or refused it")
        if Outcome.UNCONFIRMED in outcomes:
            raise BrokerUnavailable("RabbitMQ did not confirm in time")

    async def _serve(self) -> None:
        try:
            async with (
                connected(self._url, self._name) as self.connection,
                publishing(self.connection) as self._publisher,
            ):
                await asyncio.Event().wait()
        finally:
            self._publisher = self.connection = None


@asynccontextmanager
async def opened_outlet(url: str, name: str = "jobcast outlet") -> AsyncIterator[Outlet]:
    """An outlet for the block; entering does not wait for the broker."""
    outlet = Outlet(url, name)
    task = asyncio.create_task(outlet.run())
    try:
        yield outlet
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
