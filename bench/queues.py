"""The broker's side of a measurement: filling a queue, watching it, a consumer that only acks."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Final

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel

from broker.consumer import PREFETCH
from broker.link import connected, opened
from broker.publisher import publishing
from broker.topology import STATE_ARGUMENTS, declare, topology
from jobcast.message import Message, Outcome
from jobcast.names import EVENTS

BARE: Final = "bench.bare"
HEARD: Final = "bench.heard"
ACK_EVERY: Final = 50
PUBLISH_AT_ONCE: Final = 500


async def prepare(url: str, partitions: int = 1) -> None:
    """Declares what the notifier will find again, and the bare consumer's queue, alike."""
    async with connected(url, "bench") as connection, opened(connection, confirms=False) as channel:
        await declare(channel, topology(partitions))
        await channel.queue_declare(BARE, durable=True, arguments=dict(STATE_ARGUMENTS))


async def fill(url: str, messages: Iterable[Message]) -> int:
    """Publishes all, confirmed; answers how many."""
    count = 0
    rest = iter(messages)
    async with connected(url, "bench") as connection, publishing(connection) as publisher:
        while some := list(islice(rest, PUBLISH_AT_ONCE)):
            outcomes = await publisher.publish(some, timeout_s=60)
            if set(outcomes) != {Outcome.CONFIRMED}:
                raise RuntimeError("RabbitMQ did not take the load")
            count += len(some)
    return count


async def depth(channel: AbstractChannel, queue: str) -> int:
    """Messages that are ready, those in the hands of a consumer not counted."""
    declared = await channel.queue_declare(queue, passive=True)
    return declared.message_count or 0


async def drain(url: str, count: int) -> float:
    """Seconds from the first delivery to the last ack of a bare aio-pika consumer.

    It acks `ACK_EVERY` messages at once and does nothing else.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[float] = loop.create_future()
    seen, began = 0, 0.0

    async def on_message(message: AbstractIncomingMessage) -> None:
        nonlocal seen, began
        if seen == 0:
            began = loop.time()
        seen += 1
        if seen % ACK_EVERY == 0 or seen == count:
            await message.ack(multiple=True)
        if seen == count:
            done.set_result(loop.time() - began)

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(BARE)
        await queue.consume(on_message)
        return await done


async def bind_subscriber(url: str) -> None:
    """A durable subscription to every notification, as a client would make it."""
    async with connected(url, "bench") as connection, opened(connection, confirms=False) as channel:
        await channel.queue_declare(HEARD, durable=True, arguments={"x-queue-type": "quorum"})
        await channel.queue_bind(HEARD, EVENTS, "#")


async def heard(url: str, quiet_s: float = 1.0) -> list[str]:
    """The `message_id` of everything that the subscription holds; takes it away."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(HEARD)
        arrived: asyncio.Queue[str] = asyncio.Queue()
        consumer = await queue.consume(
            lambda message: arrived.put(message.message_id or ""), no_ack=True
        )
        ids = []
        while True:
            try:
                ids.append(await asyncio.wait_for(arrived.get(), quiet_s))
            except TimeoutError:
                break
        await queue.cancel(consumer)
        await queue.delete(if_unused=False, if_empty=False)
        return ids
