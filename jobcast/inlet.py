"""One AMQP connection of the SDK that consumes one durable subscription.

Owns the connection while the block is open. Promises: the queue is declared and bound before the
block begins; messages come in the queue's order; one that is not settled comes again. Whatever AMQP
or the network raises comes out as `InletLost`. Never reconnects, never declares an exchange.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionClosed,
    ProbableAuthenticationError,
)
from msgspec import Struct
from yarl import URL

from jobcast.cancellation import heeded
from jobcast.errors import JobcastError
from jobcast.names import EVENTS
from jobcast.tolerance import tolerate_bad_properties

CONNECT_S: Final = 10.0
ANSWER_S: Final = 10.0
CLOSE_S: Final = 5.0
HEARTBEAT_S: Final = 5
PREFETCH: Final = 20
NO_ACCESS: Final = frozenset({403, 530})
"""How a connection is closed whose user may not log in, or not use the vhost."""

ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    # Without it, what a dead consumer held comes after what its successor has got.
    "x-single-active-consumer": True,
    # Unset it is 20 on current brokers, and then a notification whose handler fails is dropped.
    "x-delivery-limit": 1_000_000_000,
}


class InletLost(JobcastError):
    """The connection is gone, or cannot be had; what was not settled comes again."""


class InletRefused(InletLost):
    """RabbitMQ says that this user may not. It says so too while the API is away."""


class QueueDiffers(JobcastError):
    """There is a queue of this name with other arguments."""


class Wanted(Struct, frozen=True):
    """What is consumed, and by which keys it is bound to `job.events`."""

    url: str
    queue: str
    keys: Sequence[str]


class Inlet:
    """`next()` until it raises InletLost."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        self._lost = ""
        channel.closing.add_done_callback(self._on_closing)
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)

    async def next(self) -> DeliveredMessage:
        """Raises InletLost, at once where messages are there that can no longer be settled."""
        message = None if self._lost else await self._arrived.get()
        if self._lost or message is None:
            raise InletLost(self._lost)
        return message

    async def settle(self, message: DeliveredMessage) -> None:
        """Raises InletLost."""
        with translated():
            await self._channel.basic_ack(message.delivery_tag or 0, wait=False)

    def lose(self, why: str) -> None:
        """Wakes whoever waits for the next one."""
        self._lost = self._lost or why
        self._arrived.put_nowait(None)

    async def hear(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(message)

    def _on_closing(self, closing: "asyncio.Future[Any]") -> None:
        error = None if closing.cancelled() else closing.exception()
        self.lose(said(error) if error else "the channel was closed")

    def _on_cancel(self, _: object) -> None:
        self.lose("the queue is gone")


@asynccontextmanager
async def opened_inlet(wanted: Wanted) -> AsyncIterator[Inlet]:
    """Raises InletLost, InletRefused, QueueDiffers."""
    async with connected(wanted.url) as connection:
        with translated():
            async with asyncio.timeout(ANSWER_S):
                channel = await connection.channel(publisher_confirms=False)
                inlet = Inlet(channel)
                await _declare(channel, wanted.queue)
                for key in wanted.keys:
                    await channel.queue_bind(wanted.queue, EVENTS, key)
                await channel.basic_qos(prefetch_count=PREFETCH)
                await channel.basic_consume(wanted.queue, inlet.hear)
        try:
            yield inlet
        finally:
            # An orderly end has RabbitMQ take what was settled before it gives the rest back.
            with suppress(InletLost), translated():
                async with asyncio.timeout(CLOSE_S):
                    await channel.close()


async def delete_queue(url: str, queue: str) -> None:
    """Raises InletLost, InletRefused. There need not be such a queue."""
    async with connected(url) as connection:
        with translated():
            async with asyncio.timeout(ANSWER_S):
                channel = await connection.channel(publisher_confirms=False)
                await channel.queue_delete(queue)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    tolerate_bad_properties()
    target = URL(url)
    target = target.update_query({"heartbeat": str(HEARTBEAT_S)} | dict(target.query))
    with translated():
        async with asyncio.timeout(CONNECT_S):
            connection = await aiormq.connect(target)
    try:
        yield connection
    finally:
        with suppress(InletLost), translated():
            async with asyncio.timeout(CLOSE_S):
                await connection.close()


async def _declare(channel: AbstractChannel, queue: str) -> None:
    try:
        await channel.queue_declare(queue, durable=True, arguments=ARGUMENTS)
    except ChannelPreconditionFailed as error:
        raise QueueDiffers(f"queue {queue} is another one already: {said(error)}") from error


@contextmanager
def translated() -> Iterator[None]:
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        with heeded():
            yield
    except asyncio.CancelledError as error:
        # aiormq ends the futures of a connection that it gives up with CancelledError, which looks
        # like a cancellation of ours. It is one only if somebody asked for it.
        if task is not None and task.cancelling() > before:
            raise
        raise InletLost("the connection was given up") from error
    except (ChannelAccessRefused, AuthenticationError, ProbableAuthenticationError) as error:
        raise InletRefused(said(error)) from error
    except ConnectionClosed as error:
        refused = bool(error.args) and error.args[0] in NO_ACCESS
        raise (InletRefused if refused else InletLost)(said(error)) from error
    except (AMQPError, OSError, RuntimeError, StopAsyncIteration) as error:
        # RuntimeError: of a channel that has just closed; StopAsyncIteration: when the peer hangs
        # up between two frames of the greeting. TimeoutError is an OSError.
        raise InletLost(said(error)) from error
    except Exception as error:
        # A connection that the broker ends without a word rejects aiormq's futures with a bare one.
        if type(error) is not Exception:
            raise
        raise InletLost("the connection was closed") from error


def said(error: BaseException) -> str:
    """One line, without the URL (it holds a password)."""
    return f"{type(error).__name__} {error}".strip().replace("\n", " ")[:300]
