"""What was acknowledged is on disk: Redis is killed at any moment of a load, and has it all.

A private Redis that may be killed; notifiers in processes of their own. What RabbitMQ still has
when they are dead was not acknowledged; all else was.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from broker.topology import declare, topology
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Event, Recorded, Started, Succeeded
from jobcast.names import DEAD, EVENTS
from jobcast.notification import decode_notification
from jobcast.wire import STRUCTURED, decode
from notifier.connection import connect
from notifier.settings import Settings
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.integration.mortal import living
from tests.integration.rabbit import bodies, channel_to, depth, report

STATE: Final = "jobcast.state.0"
KILLS: Final = 8
LIFE: Final = ("started", "recorded", "succeeded")
"""What is reported of every job."""


class Load:
    """Jobs that are reported as fast as the broker confirms, until it is to stop."""

    def __init__(self, url: str, lab: Lab) -> None:
        self._url = url
        self._lab = lab
        self._names = (f"j{number}" for number in count())
        self.said: dict[str, tuple[str, str]] = {}
        """Every confirmed event: its job, and its word in the feed."""

    async def _tell(self) -> None:
        jobs = [next(self._names) for _ in range(5)]
        kinds: tuple[type[Event], ...] = (Started, Recorded, Succeeded)
        for word, kind in zip(LIFE, kinds, strict=True):
            fields = {"target": "t", "code": 1} if kind is Recorded else {}
            events = [self._lab.say(kind, job, **fields) for job in jobs]
            await report(self._url, *events)
            self.said |= {event.id: (event.job_id, word) for event in events}

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For the block, and until what was begun is confirmed."""
        over = asyncio.Event()

        async def flow() -> None:
            while not over.is_set():
                await self._tell()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flow())
            try:
                yield
            finally:
                over.set()

    @property
    def jobs(self) -> set[str]:
        return {job_id for job_id, _ in self.said.values()}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RedisNode]:
    with RedisNode(tmp_path / "redis") as node:
        yield node


@pytest.fixture
async def lab(node: RedisNode, spare_rabbitmq: RabbitMQNode, owner: str) -> AsyncIterator[Lab]:
    """The owner's jobs on that Redis, everything declared, and a subscriber named as the owner."""
    async with channel_to(spare_rabbitmq.url) as channel:
        await declare(channel, topology(1))
        await channel.queue_declare(owner, durable=True)
        await channel.queue_bind(owner, EVENTS, "#")
    redis = connect(node.url, name="jobcast-test")
    yield Lab(redis, owner)
    await redis.aclose()
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_delete(owner)


async def after(seconds: float) -> None:
    until = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() > until, seconds + 10, every_s=0.001)


async def revived(node: RedisNode, lab: Lab) -> None:
    """Starts Redis again; our own connections were to the dead one."""
    await asyncio.to_thread(node.start)
    await lab.redis.connection_pool.disconnect()


async def abandoned(url: str) -> None:
    """Waits until nobody consumes: what was not acknowledged is ready again."""

    async def alone() -> bool:
        async with channel_to(url) as channel:
            return not (await channel.queue_declare(STATE, passive=True)).consumer_count

    await eventually(alone, 20)


async def unsettled(url: str) -> set[str]:
    """The ids of the events that RabbitMQ still has."""
    found = [decode(body, STRUCTURED, {}, trusted=True) for body in await bodies(url, STATE)]
    return {event.id for events in found for event in events if isinstance(event, Event)}


async def stored(lab: Lab) -> dict[str, list[str]]:
    """What the feed says of every job, in the order of its versions; each of them is there once,
    and the state is not behind it.

    It may be another order than that of the events: `unsettled` takes more than the prefetch, and
    what is given back by it and then by a dying notifier is turned round by RabbitMQ.
    """
    words: dict[str, list[str]] = defaultdict(list)
    entries = await lab.entries()
    assert [after.prev for after in entries[1:]] == [before.cursor for before in entries[:-1]]
    for entry in entries:
        words[entry.job_id].append(entry.event)
        assert entry.version == len(words[entry.job_id])
    for job_id, found in words.items():
        job = await lab.job(job_id)
        assert (job.version, job.ended) == (len(found), "succeeded" in found)
        assert await lab.redis.llen(lab.keys.records(job_id)) == found.count("recorded")
    return words


async def complete(url: str, lab: Lab, load: Load) -> None:
    """Waits until everything is done, and checks that it is all there: state, feed, told."""

    async def over() -> bool:
        words = await stored(lab)
        ended = [job_id for job_id, found in words.items() if set(LIFE[1:]) <= set(found)]
        return set(ended) == load.jobs

    await eventually(over, 30)
    changes = {
        f"{job_id}/{version}"
        for job_id, found in (await stored(lab)).items()
        for version, word in enumerate(found, start=1)
        if word != "recorded"
    }
    heard: set[str] = set()

    async def told() -> bool:
        async with channel_to(url) as channel:
            while (found := await channel.basic_get(lab.owner, no_ack=True)).body:
                heard.add(decode_notification(found.body).message_id.partition("/")[2])
        return heard == changes and not await depth(url, STATE)

    await eventually(told)
    assert await depth(url, DEAD) == 0


async def test_what_was_acknowledged_is_there_after_redis_and_the_notifier_were_killed(
    spare_rabbitmq: RabbitMQNode, node: RedisNode, lab: Lab
) -> None:
    url, moments = spare_rabbitmq.url, random.Random(4)
    settings, load = Settings(url, node.url), Load(url, lab)
    acknowledged = cut_short = 0
    for _ in range(KILLS):
        with living(settings) as process:
            async with load.flowing():
                await eventually(lambda: lab.members("live"), 20)
                await after(moments.uniform(0, 0.3))
                node.kill()
                process.kill()
        await abandoned(url)
        left = await unsettled(url)
        await revived(node, lab)
        found = await stored(lab)
        for event_id in load.said.keys() - left:
            job_id, word = load.said[event_id]
            # A start that comes after the end is late, and changes nothing.
            assert {word, "succeeded"} & set(found[job_id]), (job_id, word)
            assert word == "started" or word in found[job_id], (job_id, word)
        acknowledged = len(load.said.keys() - left)
        cut_short += bool(left)
    assert acknowledged > KILLS
    assert cut_short > 1
    with living(settings):
        await complete(url, lab, load)


async def test_a_notifier_goes_on_through_any_number_of_deaths_of_redis(
    spare_rabbitmq: RabbitMQNode, node: RedisNode, lab: Lab
) -> None:
    url, moments = spare_rabbitmq.url, random.Random(5)
    load = Load(url, lab)
    with living(Settings(url, node.url)):
        async with load.flowing():
            for _ in range(KILLS):
                await eventually(lambda: lab.members("live"), 20)
                await after(moments.uniform(0, 0.3))
                node.kill()
                await revived(node, lab)
        await complete(url, lab, load)
