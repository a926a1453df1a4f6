"""Taking messages in batches: whatever has arrived, never waiting to fill one.

Owns one consumer on one channel. Promises: messages come in the queue's order; what is not settled
comes again, to whoever holds the queue next. Never cancels its consumer while it holds messages:
it is given up by closing its channel.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from broker.deliveries import Connection, Deliveries
from broker.errors import BrokerUnavailable
from broker.link import ANSWER_TIMEOUT_S, FOREIGN, opened
from jobcast.message import Incoming

PREFETCH: Final = 10_000
"""Fewer do not fill the time that a batch takes: then one publisher is faster than this reader."""
BATCH_BYTES: Final = 8_388_608


class Batches:
    """`await take()` a batch, work on it, `await settle(batch)`; one batch at a time."""

    def __init__(self, channel: aiormq.abc.AbstractChannel, deliveries: Deliveries) -> None:
        self._channel = channel
        self._deliveries = deliveries
        self.taker = deliveries.to(channel.number, self._take)
        self._arrived: list[Incoming] = []
        self._wake = asyncio.Event()
        self._canceled = False
        self._stopped = False

    def stop(self) -> None:
        """Take no more; what has arrived and is not in hand goes back with the channel."""
        self._stopped = True
        self._wake.set()

    async def take(self) -> Sequence[Incoming]:
        """At least one message, or none after `stop`. `BrokerUnavailable` when the broker has
        canceled the consumer."""
        while not self._arrived and not self._stopped:
            if self._canceled:
                raise BrokerUnavailable("the broker canceled the consumer")
            self._wake.clear()
            await self._wake.wait()
        if self._stopped:
            return ()
        cut = _fitting(self._arrived)
        batch, self._arrived = self._arrived[:cut], self._arrived[cut:]
        return batch

    async def settle(self, batch: Sequence[Incoming]) -> None:
        """Acknowledge the batch, as one."""
        try:
            await self._channel.basic_ack(batch[-1].tag, multiple=True, wait=False)
        except FOREIGN as error:
            raise BrokerUnavailable("the channel closed before the batch was settled") from error
        self._deliveries.settled(self.taker, sum(message.size for message in batch))

    def _take(self, message: Incoming) -> None:
        self._arrived.append(message)
        self._wake.set()

    def _on_cancel(self, _: Basic.Cancel) -> None:
        self._canceled = True
        self._wake.set()


def _fitting(arrived: Sequence[Incoming]) -> int:
    """How many from the first on are a batch: at least one, and no more than `BATCH_BYTES`."""
    size = 0
    for count, message in enumerate(arrived):
        size += message.size
        if size > BATCH_BYTES and count:
            return count
    return len(arrived)


@asynccontextmanager
async def consuming(
    connection: Connection, queue: str, prefetch: int = PREFETCH
) -> AsyncIterator[Batches]:
    """Consume `queue` for the block."""
    deliveries = connection.deliveries
    async with AsyncExitStack() as closed, AsyncExitStack() as open_:
        with deliveries.asking():
            channel = await open_.enter_async_context(opened(connection, confirms=False))
            batches = Batches(channel, deliveries)
            # To the end of the channel: aiormq would not know what to do with them.
            closed.callback(deliveries.end, channel.number, batches.taker)
            open_.callback(deliveries.drop, batches.taker)
            channel.on_consumer_cancel_callbacks.add(batches._on_cancel)
            await channel.basic_qos(prefetch_count=prefetch)
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await channel.basic_consume(queue, _elsewhere)
            except TimeoutError as error:  # one that is being recovered may never answer
                raise BrokerUnavailable(f"queue {queue} does not answer") from error
        yield batches


async def _elsewhere(_: DeliveredMessage) -> None:
    raise AssertionError("deliveries are taken before aiormq sees them")


async def waiting(channel: aiormq.abc.AbstractChannel, queues: Sequence[str]) -> int:
    """How many messages stand in these queues and have been given to nobody yet."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            counts = [await channel.queue_declare(queue, passive=True) for queue in queues]
    except FOREIGN as error:
        raise BrokerUnavailable("no answer to how many messages wait") from error
    return sum(count.message_count or 0 for count in counts)
