"""Somebody whom a load does not concern: how long are this owner's ends under way meanwhile?

Every probe is a job that has ended at once, in one message; its delay counts from the broker's
confirm to the event on the owner's feed, and to the notification in the owner's queue.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bench import load
from bench.listening import Told, listen, request
from bench.results import Row
from broker.link import connected
from broker.publisher import Publisher, publishing
from jobcast.events import Succeeded
from jobcast.message import Outcome
from jobcast.names import EVENTS

OWNER: Final = "bystander"
EVERY_S: Final = 0.1
ARRIVAL_S: Final = 180.0
CONFIRM_S: Final = 60.0


class Bystander:
    """Sends probes and notes when they arrive; times are monotonic, in seconds."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._confirmed: dict[str, float] = {}
        self._by_sse: dict[str, float] = {}
        self._by_amqp: dict[str, float] = {}
        self._waited: list[float] = []

    def on_sse(self, told: Told) -> None:
        if told.event == "succeeded":
            self._by_sse.setdefault(told.job_id, told.at)

    async def on_amqp(self, message: AbstractIncomingMessage) -> None:
        self._by_amqp.setdefault(message.correlation_id or "", time.monotonic())

    async def probe(self, stopped: asyncio.Event) -> Row:
        """Probes until told to stop, at least one; then waits for all that it has sent."""
        for kept in (self._confirmed, self._by_sse, self._by_amqp):
            kept.clear()
        self._waited.clear()
        while not self._confirmed or not stopped.is_set():
            await self._send()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), EVERY_S)
        deadline = time.monotonic() + ARRIVAL_S
        while self._lost():
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(EVERY_S)
        return self._row()

    async def _send(self) -> None:
        event = Succeeded(id=str(uuid4()), source=load.SOURCE, owner=OWNER, job_id=str(uuid4()))
        began = time.monotonic()
        outcomes = await self._publisher.publish([load.single(event)], timeout_s=CONFIRM_S)
        if outcomes == [Outcome.CONFIRMED]:
            self._confirmed[event.job_id] = time.monotonic()
            self._waited.append(self._confirmed[event.job_id] - began)

    def _lost(self) -> int:
        both = self._by_sse.keys() & self._by_amqp.keys()
        return len(self._confirmed.keys() - both)

    def _row(self) -> Row:
        def delays(arrived: dict[str, float]) -> list[float]:
            # Some arrive before the confirm does.
            return [
                max(0.0, at - self._confirmed[job])
                for job, at in arrived.items()
                if job in self._confirmed
            ]

        sse, amqp = delays(self._by_sse), delays(self._by_amqp)
        return {
            "probes": len(self._confirmed),
            "probes_lost": self._lost(),
            "confirm_p99_ms": ms(self._waited, 99),
            **{f"sse_p{percent}_ms": ms(sse, percent) for percent in (50, 99)},
            **{f"amqp_p{percent}_ms": ms(amqp, percent) for percent in (50, 99)},
        }


def ms(seconds: Sequence[float], percent: int) -> float:
    """The percentile in milliseconds, of however few values; 0 of none."""
    if not seconds:
        return 0.0
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000, 1)


@asynccontextmanager
async def standing_by(amqp_url: str, port: int, token: str) -> AsyncIterator[Bystander]:
    """A bystander with its feed open on that replica and its queue bound, for the block."""
    async with (
        connected(amqp_url, "bench bystander") as connection,
        publishing(connection) as publisher,
        await aio_pika.connect(amqp_url) as hearing,
    ):
        one = Bystander(publisher)
        channel = await hearing.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENTS, f"{OWNER}.#")
        await queue.consume(one.on_amqp, no_ack=True)
        stream = await listen(port, request("/v1/events", token), one.on_sse)
        try:
            yield one
        finally:
            stream.close()
