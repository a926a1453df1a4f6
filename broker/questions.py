"""Questions from the queue `jobcast.query`, and the answers to where they ask for them.

Owns a connection of its own, so that the state service does not wait for it. Promises: a question
is acknowledged when its answer has been handed to RabbitMQ, and comes to another notifier if that
does not happen; never more than `PREFETCH` in hand, nor more than `PER_S` a second. Never waits for
an answer to arrive: RabbitMQ drops one for which nobody waits any more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiormq
from msgspec.structs import replace
from pamqp.commands import Basic

from broker.consumer import Batches, consuming
from broker.direct import DirectReplies
from broker.link import ANSWER_TIMEOUT_S, connected, keep, opened
from broker.topology import QUERIES, declare, query_topology
from jobcast.message import Incoming, Reply
from jobcast.names import DIRECT

log = logging.getLogger(__name__)

PREFETCH: Final = 20
PER_S: Final = 250
"""An answer costs 0.3 ms of the process: at most a twelfth of it is kept from the state service."""

UNWRITABLE: Final = (TypeError, ValueError, OverflowError)
"""What pamqp raises for a property that it cannot write."""

Answer = Callable[[Sequence[Incoming]], Awaitable[Sequence[Reply]]]
"""The answers to some questions; a question may have none."""


class Questions:
    """`run` takes questions for ever; after `stop` it ends when those in hand are answered."""

    def __init__(self, url: str, answer: Answer) -> None:
        self._url = url
        self._answer = answer
        self._direct = DirectReplies(url)
        self._batches: Batches | None = None
        self._stopping = False

    async def run(self) -> None:
        """Raises `TopologyMismatch`."""
        await keep("queries", self._serve)

    def stop(self) -> bool:
        """Take no more; False if there is nothing to finish."""
        self._stopping = True
        if self._batches is not None:
            self._batches.stop()
        return self._batches is not None

    async def _serve(self) -> None:
        if self._stopping:
            return
        async with (
            connected(self._url, "jobcast queries") as connection,
            opened(connection, confirms=False) as channel,
        ):
            await declare(channel, query_topology())
            async with consuming(connection, QUERIES, PREFETCH) as batches:
                self._batches = batches
                try:
                    await self._serve_from(batches, channel)
                finally:
                    self._batches = None

    async def _serve_from(self, batches: Batches, channel: aiormq.abc.AbstractChannel) -> None:
        while not self._stopping and (batch := await batches.take()):
            for reply in await self._answer([await self._vetted(message) for message in batch]):
                try:
                    await _send(channel, reply)
                except (
                    UNWRITABLE
                ) as error:  # else the question would end one notifier after another
                    log.warning("an answer cannot be sent: %s", error)
            await batches.settle(batch)
            await asyncio.sleep(len(batch) / PER_S)

    async def _vetted(self, message: Incoming) -> Incoming:
        """The message, without a `reply_to` that would harm us."""
        to, user = message.reply_to, message.user_id
        if to is None or not to.startswith(DIRECT):
            return message
        if user and await self._direct.reach(to, user):
            return message
        return replace(message, reply_to=None)


async def _send(channel: aiormq.abc.AbstractChannel, reply: Reply) -> None:
    properties = Basic.Properties(
        content_type="application/json",
        correlation_id=reply.correlation_id,
        delivery_mode=1,
        message_type=reply.type,
        app_id="jobcast",
    )
    await channel.basic_publish(
        reply.body, routing_key=reply.to, properties=properties, timeout=ANSWER_TIMEOUT_S
    )
