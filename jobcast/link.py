"""One AMQP connection of the SDK, with one channel that publishes to `job.lifecycle`.

Owns the connection while the block is open. Promises that `publish` returns only when the broker
has confirmed, and that everything else is `LinkLost` or `Unaccepted`. Never reconnects and never
declares: whoever holds it opens another one, and the service declares.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, DeliveryError

from jobcast.cancellation import is_to_end
from jobcast.errors import JobcastError
from jobcast.names import LIFECYCLE
from jobcast.tolerance import tolerate_bad_properties

CONNECT_S: Final = 10.0
CONFIRM_S: Final = 30.0
CLOSE_S: Final = 5.0
HEARTBEAT_S: Final = 5
"""aiormq takes three and a bit of these of silence for a dead link; its own 60 would be minutes."""


class LinkLost(JobcastError):
    """The connection or its channel is gone; what was not confirmed may or may not have arrived."""


class Unaccepted(JobcastError):
    """The broker returned or refused this message; the link is in order."""


class Link:
    """Holds its channel and exchange strongly: aio-pika itself keeps them weakly in places."""

    def __init__(self, channel: AbstractChannel, exchange: AbstractExchange) -> None:
        self._exchange = exchange
        self._channel = channel

    async def publish(self, message: aio_pika.Message, routing_key: str) -> None:
        """Raises Unaccepted, LinkLost. The message needs a `message_id` of its own."""
        with _translated():
            await self._exchange.publish(message, routing_key, mandatory=True, timeout=CONFIRM_S)

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
        yield Link(channel, exchange)
    finally:
        with suppress(LinkLost), _translated():
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
