"""Taking messages in batches: whatever has arrived, never waiting to fill one.

Owns one consumer on one channel. Promises: messages come in the queue's order; what is not settled
comes again, to whoever holds the queue next. Never cancels its consumer while it holds messages:
it is given up by closing its channel.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from broker.errors import BrokerUnavailable
from broker.link import ANSWER_TIMEOUT_S, FOREIGN, opened
from jobcast.message import Incoming

PREFETCH: Final = 200


class Batches:
    """`await take()` a batch, work on it, `await settle(batch)`; one batch at a time."""

    def __init__(self, channel: aiormq.abc.AbstractChannel) -> None:
        self._channel = channel
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
        batch, self._arrived = self._arrived, []
        return batch

    async def settle(self, batch: Sequence[Incoming]) -> None:
        """Acknowledge the batch, as one."""
        try:
            await self._channel.basic_ack(batch[-1].tag, multiple=True, wait=False)
        except FOREIGN as error:
            raise BrokerUnavailable("the channel closed before the batch was settled") from error

    def _on_message(self, delivery: Basic.Deliver, header: ContentHeader, body: bytes) -> None:
        properties = header.properties
        incoming = Incoming(
            body=body,
            content_type=properties.content_type,
            headers=properties.headers or {},
            correlation_id=properties.correlation_id,
            user_id=properties.user_id,
            reply_to=properties.reply_to,
            tag=delivery.delivery_tag or 0,
        )
        self._arrived.append(incoming)
        self._wake.set()

    def _on_cancel(self, _: Basic.Cancel) -> None:
        self._canceled = True
        self._wake.set()


OnMessage = Callable[[Basic.Deliver, ContentHeader, bytes], None]


class _Frames:
    """Stands before a channel's queue of frames and puts deliveries together as they arrive.

    aiormq passes each of their frames through that queue and makes a task for each message, which
    costs as much as the rest of taking it. All other frames go the channel's own way.
    """

    def __init__(self, others: "asyncio.Queue[Any]", on_message: OnMessage) -> None:
        self._on_message = on_message
        self._delivery: Basic.Deliver | None = None
        self._header: ContentHeader | None = None
        self._body: list[bytes] = []
        self._missing = 0
        self._others = others
        self.get = others.get
        self.task_done = others.task_done

    async def put(self, item: tuple[int, object]) -> None:
        frame = item[1]
        if isinstance(frame, Basic.Deliver):
            self._delivery = frame
        elif self._delivery is None:
            await self._others.put(item)
        elif isinstance(frame, ContentHeader):
            self._header, self._missing = frame, frame.body_size
            self._hand_on()
        elif isinstance(frame, ContentBody):
            self._body.append(frame.value)
            self._missing -= len(frame.value)
            self._hand_on()
        else:  # the channel is being closed in the middle of a message
            self._delivery = None
            await self._others.put(item)

    def _hand_on(self) -> None:
        if self._missing <= 0 and self._delivery is not None and self._header is not None:
            delivery, header, body = self._delivery, self._header, b"".join(self._body)
            self._delivery, self._header, self._body = None, None, []
            self._on_message(delivery, header, body)


@asynccontextmanager
async def consuming(
    connection: aiormq.abc.AbstractConnection, queue: str, prefetch: int = PREFETCH
) -> AsyncIterator[Batches]:
    """Consume `queue` for the block."""
    async with opened(connection, confirms=False) as channel:
        batches = Batches(channel)
        channel.on_consumer_cancel_callbacks.add(batches._on_cancel)
        concrete = cast("aiormq.Channel", channel)
        concrete.frames = cast("Any", _Frames(concrete.frames, batches._on_message))
        await channel.basic_qos(prefetch_count=prefetch)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await channel.basic_consume(queue, _elsewhere)
        except TimeoutError as error:  # one that is being recovered may never answer
            raise BrokerUnavailable(f"queue {queue} does not answer") from error
        yield batches


async def _elsewhere(_: DeliveredMessage) -> None:
    raise AssertionError("deliveries are taken from the frames")


async def waiting(channel: aiormq.abc.AbstractChannel, queues: Sequence[str]) -> int:
    """How many messages stand in these queues and have been given to nobody yet."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            counts = [await channel.queue_declare(queue, passive=True) for queue in queues]
    except FOREIGN as error:
        raise BrokerUnavailable("no answer to how many messages wait") from error
    return sum(count.message_count or 0 for count in counts)
