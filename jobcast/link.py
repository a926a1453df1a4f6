"""One AMQP connection of the SDK: a channel that publishes to `job.lifecycle`, one that listens.

Owns the connection while the block is open. Promises that `publish` returns only when the broker
has confirmed, and that everything else is `LinkLost` or `Unaccepted`. Never reconnects, and
declares nothing but its own queue of commands: whoever holds it opens another one, and the service
declares.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.abc import DeliveredMessage

from jobcast.cancellation import heeded, is_to_end
from jobcast.errors import JobcastError
from jobcast.names import COMMANDS, LIFECYCLE, commands_queue
from jobcast.tolerance import tolerate_bad_properties

CONNECT_S: Final = 10.0
CONFIRM_S: Final = 30.0
LISTEN_S: Final = 5.0
"""To have a queue of commands, or one more binding: events wait for it."""
CLOSE_S: Final = 5.0
HEARTBEAT_S: Final = 5
"""aiormq takes three and a bit of these of silence for a dead link; its own 60 would be minutes."""


class LinkLost(JobcastError):
    """The connection or its channel is gone; what was not confirmed may or may not have arrived."""


class Unaccepted(JobcastError):
    """The broker returned or refused this message; the link is in order."""


class Ear:
    """A queue of commands with its consumer, on a channel of its own (held strongly, see Link)."""

    def __init__(self, channel: AbstractChannel, raw: RawChannel, lost: Callable[[], None]) -> None:
        self._channel = channel
        self._raw = raw
        self._queue = ""
        self._why: str | None = None
        self._lost = lost
        raw.on_consumer_cancel_callbacks.add(lambda _: self._lose("the queue is gone"))
        raw.closing.add_done_callback(lambda _: self._lose("the channel was closed"))

    async def open(self, queue: str, heard: Callable[[bytes], None]) -> None:
        async def take(message: DeliveredMessage) -> None:
            heard(message.body)

        # Exclusive, and of a new name each time: a connection that the broker has not found dead
        # yet still holds the old one. Deleted with its consumer too: this channel may go first.
        declared = await self._raw.queue_declare(queue, exclusive=True, auto_delete=True)
        self._queue = declared.queue or queue
        await self._raw.basic_consume(self._queue, take, no_ack=True)

    async def bind(self, key: str) -> None:
        """Returns when the broker has done it; raises LinkLost."""
        with _translated():
            await self._raw.queue_bind(self._queue, COMMANDS, key, timeout=LISTEN_S)

    def check(self) -> None:
        """Raises LinkLost once nothing can arrive any more."""
        if self._why is not None:
            raise LinkLost(self._why)

    def _lose(self, why: str) -> None:
        self._why = self._why or why
        self._lost()


class Link:
    """Holds its channel and exchange strongly: aio-pika itself keeps them weakly in places."""

    def __init__(
        self, connection: AbstractConnection, channel: AbstractChannel, exchange: AbstractExchange
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._channel = channel

    async def publish(self, message: aio_pika.Message, routing_key: str) -> None:
        """Raises Unaccepted, LinkLost. The message needs a `message_id` of its own."""
        with _translated():
            await self._exchange.publish(message, routing_key, mandatory=True, timeout=CONFIRM_S)

    @asynccontextmanager
    async def listening(
        self, user: str, heard: Callable[[bytes], None], lost: Callable[[], None]
    ) -> AsyncIterator[Ear]:
        """Calls `heard` with the body of each command, and `lost` when nothing can arrive any more.

        Raises LinkLost, also where the broker refuses; the link itself may be in order.
        """
        with _translated():
            async with asyncio.timeout(LISTEN_S):
                channel = await self._connection.channel(publisher_confirms=False)
        try:
            with _translated():
                async with asyncio.timeout(LISTEN_S):
                    ear = Ear(channel, await channel.get_underlay_channel(), lost)
                    await ear.open(commands_queue(user, uuid4().hex), heard)
            yield ear
        except LinkLost:
            with heeded(), suppress(LinkLost), _translated():
                async with asyncio.timeout(CLOSE_S):
                    await channel.close()
            raise

    async def lost(self) -> None:
        """Waits until the link is gone and raises LinkLost."""
        with _translated():
            await self._channel.closed()
        raise LinkLost("the channel was closed")


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """Raises LinkLost if there is no connection within 10 s."""
    tolerate_bad_properties()
    with _translated():
        async with asyncio.timeout(CONNECT_S):
            connection = await aio_pika.connect(_with_heartbeat(url))
    try:
        with _translated():
            async with asyncio.timeout(CONNECT_S):
                channel = await connection.channel(on_return_raises=True)
                exchange = await channel.get_exchange(LIFECYCLE, ensure=False)
        yield Link(connection, channel, exchange)
    finally:
        with heeded(), suppress(LinkLost), _translated():
            async with asyncio.timeout(CLOSE_S):
                await connection.close()


def _with_heartbeat(url: str) -> str:
    if "heartbeat=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}heartbeat={HEARTBEAT_S}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq ends the futures of a connection that it gives up with CancelledError, which looks
        # like a cancellation of ours. It is one only if somebody asked for it.
        if is_to_end():
            raise
        raise LinkLost("the connection was given up") from error
    except DeliveryError as error:
        raise Unaccepted(str(error)) from error
    except (*CONNECTION_EXCEPTIONS, StopAsyncIteration) as error:
        # StopAsyncIteration: aiormq, when the peer hangs up between two frames of the greeting.
        raise LinkLost(str(error) or type(error).__name__) from error
    except Exception as error:
        # A connection that the broker ends without a word rejects aiormq's futures with a bare
        # Exception (FutureStore.reject_all).
        if type(error) is not Exception:
            raise
        raise LinkLost("the connection was closed") from error
