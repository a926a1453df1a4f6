"""From AMQP to SSE and back by the cursor, while changes go on: nothing missed, nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast import Client, oldest_cursor
from jobcast.events import Event, Queued, Started, Succeeded
from tests.integration.place import Place
from tests.integration.rabbit import channel_to, report
from tests.logins import Login

ATTEMPTS: Final = 12
AHEAD: Final = 7
"""So many changes executors may be ahead of the reader: there are always some on their way."""
STRETCH: Final = 5
"""So many news are read at one door before the reader goes to the other."""


@pytest.fixture
async def place(stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login) -> AsyncIterator[Place]:
    place = Place(rabbitmq, stack, subscriber)
    yield place
    async with channel_to(rabbitmq.url) as channel:
        await channel.queue_delete(place.queue)


class Reader:
    """What a client remembers of its jobs, whatever the door: versions, and its last cursors."""

    def __init__(self) -> None:
        self.versions: dict[str, list[int]] = {}
        self.cursors: dict[str, str] = {}
        self.room = asyncio.Semaphore(AHEAD)

    def hear(self, job: str, version: int, cursor: str | None) -> bool:
        """Whether it is news."""
        assert cursor
        known = self.versions.setdefault(job, [])
        if known and version <= known[-1]:
            return False
        known.append(version)
        self.cursors[job] = cursor
        self.room.release()
        return True


def life(place: Place, job: str) -> list[Event]:
    """Twice as many changes of status as there are attempts, and the end."""
    common: dict[str, Any] = {
        "source": "/tests",
        "owner": place.login.name,
        "job_id": job,
    }
    events: list[Event] = []
    for attempt in range(1, ATTEMPTS + 1):
        for kind in (Queued, Started):
            name = f"{job}-{attempt}-{kind.type}"
            events.append(kind(id=name, attempt=attempt, **common))
    return [*events, Succeeded(id=f"{job}-end", attempt=ATTEMPTS, **common)]


async def execute(place: Place, reader: Reader, jobs: Sequence[str]) -> None:
    """Turn and turn about, and never far ahead."""
    for events in zip(*(life(place, job) for job in jobs), strict=True):
        for event in events:
            await reader.room.acquire()
            await report(place.node.url, event)


async def over_amqp(client: Client, reader: Reader, count: int) -> None:
    news = 0
    async with client.subscribe("ends") as notifications:
        async for one in notifications:
            news += reader.hear(one.job.id, one.version, one.cursor)
            if news == count:
                return


async def over_sse(client: Client, reader: Reader, jobs: Sequence[str], count: int) -> None:
    """One job's own stream, or that of all."""
    news = 0
    async with AsyncExitStack() as stack:
        cursor = oldest_cursor(reader.cursors[job] for job in jobs)
        one = len(jobs) == 1
        changes = client.watch(jobs[0], cursor=cursor) if one else client.watch_all(cursor=cursor)
        async for change in await stack.enter_async_context(aclosing(changes)):
            assert change.event != "snapshot"  # the cursor was known: nothing comes anew
            news += reader.hear(change.job.id, change.job.version, change.cursor)
            if news == count:
                return


@pytest.mark.parametrize("jobs", [["one"], ["one", "two", "three"]], ids=len)
async def test_a_client_goes_from_door_to_door_and_hears_everything_once(
    place: Place, jobs: list[str]
) -> None:
    await place.subscribe()
    reader, total = Reader(), (2 * ATTEMPTS + 1) * len(jobs)
    async with asyncio.timeout(50), place.client() as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(execute(place, reader, jobs))
        doors = 0
        while left := total - sum(map(len, reader.versions.values())):
            count = min(STRETCH, left)
            if doors % 2:
                await over_sse(client, reader, jobs, count)
            else:
                await over_amqp(client, reader, count)
            doors += 1
    assert reader.versions == {job: list(range(1, 2 * ATTEMPTS + 2)) for job in jobs}
    assert doors >= total // STRETCH
