"""A stand: a service whose processes die when they are told to (mortal.py), a subscriber that hears
all of its notifications and commands, and what was heard."""

import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

import aiormq

from broker.link import connected
from broker.publisher import Publisher, publishing
from broker.topology import declare, state_queues, topology
from deploy.guard import SERVICE
from jobcast.events import Event
from jobcast.message import Incoming, Outcome
from jobcast.names import COMMANDS, DEAD, EVENTS
from jobcast.wire import BATCH, encode_batch
from notifier.settings import Settings
from tests.eventually import eventually
from tests.integration.lab import Lab, incoming
from tests.integration.mortal import spawn
from tests.integration.rabbit import channel_to, depth, lifecycle

Shape = Callable[[Sequence[Event]], list[Incoming]]


def singly(events: Sequence[Event]) -> list[Incoming]:
    return [incoming(event) for event in events]


def together(events: Sequence[Event]) -> list[Incoming]:
    """One message that speaks of several jobs, of none in particular."""
    return [Incoming(body=encode_batch(events), content_type=BATCH, user_id=SERVICE)]


class Told:
    """What a subscriber and the executors have received, in its order."""

    def __init__(self) -> None:
        self.copies: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self.firsts: dict[str, list[int]] = defaultdict(list)

    def add(self, message: aiormq.abc.DeliveredMessage) -> None:
        properties = message.header.properties
        named, exchange = properties.message_id or "", str(message.exchange)
        copies = self.copies[exchange, named]
        if not copies and exchange == EVENTS:
            _, job_id, version = named.split("/")
            self.firsts[job_id].append(int(version))
        copies.append((message.routing_key, message.body, dict(properties)))

    def versions(self, exchange: str, job_id: str) -> set[int]:
        """The versions of the job that were told there."""
        return {
            int(named.split("/")[2])
            for where, named in self.copies
            if (where, named.split("/")[1]) == (exchange, job_id)
        }

    @property
    def repeats(self) -> int:
        return sum(len(copies) - 1 for copies in self.copies.values())


class Stand:
    """A service whose processes die, and start again when asked to."""

    def __init__(self, settings: Settings, lab: Lab, shape: Shape, publisher: Publisher) -> None:
        self.lab = lab
        self.deaths = 0
        self._settings = settings
        self._shape = shape
        self._publisher = publisher
        self._process: ForkServerProcess | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        return state_queues(self._settings.partitions)

    async def say(self, *events: Event) -> None:
        messages = self._shape(events)
        named = [lifecycle(each, f"{events[0].id}-{at}") for at, each in enumerate(messages)]
        outcomes = await self._publisher.publish(named, timeout_s=10)
        assert set(outcomes) == {Outcome.CONFIRMED}

    def start(self) -> None:
        """Starts a process if none is there."""
        if self._process is None:
            self._process = spawn(self._settings)

    async def died(self) -> None:
        """Waits until the process has died by its own hand."""
        process = self._process
        assert process is not None
        await eventually(lambda: process.exitcode is not None, 20, every_s=0.005)
        assert process.exitcode == -signal.SIGKILL
        self.deaths += 1
        self._process = None

    async def stored(self, job_id: str, version: int) -> None:
        async def there() -> bool:
            return (await self.lab.job(job_id)).version >= version

        await eventually(there, 20, every_s=0.005)

    async def ended(self, jobs: Iterable[str]) -> None:
        """Waits until these jobs have ended and no other is live. They may not exist yet: what
        speaks of several is sent again first."""
        wanted = set(jobs)

        async def over() -> bool:
            ended = [(await self.lab.job(job_id)).ended for job_id in wanted]
            return all(ended) and not await self.lab.members("live")

        await eventually(over, 20, every_s=0.005)

    async def stop(self) -> None:
        """Lets the process finish what it has in hand; what it has not acknowledged is back."""
        process = self._process
        assert process is not None
        process.terminate()
        await eventually(lambda: process.exitcode is not None, 20)
        assert process.exitcode == 0
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(10)

    async def told(self) -> Told:
        """All that was received until now."""
        told = Told()
        async with channel_to(self._settings.amqp_url) as channel:
            while True:
                found = await channel.basic_get(self.lab.owner, no_ack=True)
                if not isinstance(found.delivery, aiormq.spec.Basic.GetOk):
                    return told
                told.add(found)

    async def left(self) -> dict[str, int]:
        """How many messages stand in the queues."""
        url = self._settings.amqp_url
        return {queue: await depth(url, queue) for queue in (*self.queues, DEAD)}


@asynccontextmanager
async def standing(settings: Settings, lab: Lab, shape: Shape) -> AsyncIterator[Stand]:
    """Everything declared, somebody subscribed, and no process yet."""
    async with channel_to(settings.amqp_url) as channel:
        await declare(channel, topology(settings.partitions))
        await channel.queue_declare(lab.owner, durable=True)
        for exchange in (EVENTS, COMMANDS):
            await channel.queue_bind(lab.owner, exchange, "#")
    async with (
        connected(settings.amqp_url, "test") as connection,
        publishing(connection) as publisher,
    ):
        stand = Stand(settings, lab, shape, publisher)
        try:
            yield stand
        finally:
            stand.close()
