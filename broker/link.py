"""One AMQP connection, and the loop that keeps having one.

Owns connecting, noticing that a connection is dead, and waiting between tries. Promises: whatever
AMQP or the network raises inside comes out as `BrokerUnavailable`. Never reconnects behind the
back of its user: what was on the old connection (channels, unsettled messages) is gone, and the
user starts over on the new one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import uniform
from typing import Final, cast

import aiormq
from aiormq.exceptions import AMQPError
from yarl import URL

from broker.deliveries import Connection
from broker.errors import BrokerUnavailable
from jobcast.cancellation import heeded, is_to_end
from jobcast.tolerance import tolerate_bad_properties

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 5
"""aiormq takes three times this and a bit of silence for a dead link: about 20 s."""
CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 3.0
DELAY_MIN_S: Final = 0.25
DELAY_MAX_S: Final = 3.0

# RuntimeError: aiormq raises it for a channel on a connection that has just closed;
# StopAsyncIteration: when the peer hangs up between two frames of the greeting.
FOREIGN: Final = (
    AMQPError,
    ConnectionError,
    OSError,
    TimeoutError,
    RuntimeError,
    StopAsyncIteration,
)


def delay_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: full jitter under a doubling bound."""
    return uniform(0, min(DELAY_MAX_S, DELAY_MIN_S * 2 ** min(failures, 10)))  # noqa: S311 - no secret


def user_of(url: str) -> str:
    """The login that a URL connects as."""
    return URL(url).user or "guest"


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Connection]:
    """A connection for the block. When it breaks, the block is cancelled and
    `BrokerUnavailable` is raised."""
    tolerate_bad_properties()
    target = URL(url)
    target = target.update_query({"heartbeat": str(HEARTBEAT_S), "name": name} | dict(target.query))
    connection = Connection(target)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.connect()
    except FOREIGN as error:
        raise BrokerUnavailable(f"cannot connect to RabbitMQ: {_said(error)}") from error
    try:
        async with _guarded(connection.closing):
            yield connection
    finally:
        with heeded(), suppress(*FOREIGN):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.close()


@asynccontextmanager
async def opened(
    connection: aiormq.abc.AbstractConnection, *, confirms: bool
) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel for the block. When it is closed from the other side, the block is cancelled and
    `BrokerUnavailable` is raised."""
    try:
        # No frame buffer: what may be under way is bounded by the prefetch, and a small buffer
        # makes reader and channel change turns every few frames.
        with heeded():
            channel = await connection.channel(
                publisher_confirms=confirms, frame_buffer_size=0, timeout=CONNECT_TIMEOUT_S
            )
    except FOREIGN as error:
        raise BrokerUnavailable(f"cannot open a channel: {_said(error)}") from error
    try:
        async with _guarded(channel.closing):
            yield channel
    finally:
        with heeded(), suppress(*FOREIGN):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await channel.close()


@asynccontextmanager
async def _guarded(closing: asyncio.Future[None]) -> AsyncIterator[None]:
    """Cancel the block when `closing` is done, and say why instead of the cancellation."""
    task = cast("asyncio.Task[object]", asyncio.current_task())
    before = task.cancelling()  # a TaskGroup of Python 3.11 may have left one behind
    inside = True
    broken: list[str] = []

    def cancel(future: asyncio.Future[None]) -> None:
        if not inside:
            return  # it was called for already when the block was left
        error = None if future.cancelled() else future.exception()
        broken.append(_said(error) if error else "closed")
        task.cancel()

    closing.add_done_callback(cancel)
    try:
        yield
    except asyncio.CancelledError:
        if not broken or task.cancelling() - before > 1:
            raise  # somebody else wants this task to end as well
        raise BrokerUnavailable(f"the connection to RabbitMQ broke: {broken[0]}") from None
    except FOREIGN as error:
        raise BrokerUnavailable(f"RabbitMQ: {_said(error)}") from error
    finally:
        inside = False
        closing.remove_done_callback(cancel)
        if broken:
            task.uncancel()


def _said(error: BaseException | None) -> str:
    """One line, without the URL (it holds a password)."""
    return f"{type(error).__name__} {error}".strip().replace("\n", " ")[:300]


async def keep(name: str, body: Callable[[], Awaitable[None]]) -> None:
    """Run `body` again whenever it ends with `BrokerUnavailable`; it returns to end for good.

    A task group in it must be waited for in its own body, see `ended_by_a_child`.
    """
    failures = 0
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            return await body()
        except BrokerUnavailable as error:
            if is_to_end():
                raise asyncio.CancelledError from error
            failures = 0 if loop.time() - began > DELAY_MAX_S else failures + 1
            delay = delay_after(failures)
            log.warning("%s: %s; next try in %.1f s", name, error, delay)
        await asyncio.sleep(delay)
