"""Both replicas and both notifiers are restarted, one after the other, twice, under load: clients
that know one address notice nothing but that they have to reconnect.

Everything goes through a balancer of the test's own, TCP and round robin, which knows nothing of
`/readyz`: where a replica refuses, it takes the other.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deploy.stack import Replica, Service
from tests.chaos.book import Book
from tests.chaos.ledger import FAILING, judge
from tests.chaos.life import Lives
from tests.chaos.polls import final_answers
from tests.chaos.record import JobKey, Record
from tests.chaos.streams import Doors
from tests.chaos.truth import stored_changes
from tests.chaos.world import World, opened_world
from tests.chaos.writers import SdkWriter
from tests.e2e.balancer import balancing
from tests.e2e.crowd import Crowd
from tests.eventually import eventually
from tests.servers import need_servers

PER_S = 200.0
JOBS_AT_ONCE = 90
STOP_S = 10.0
UNANSWERED_MAX = 10
LATE_S = 5.0  # on a busy machine; forgotten clients would wait for ever
"""For the way there and back, on a busy machine."""


@pytest.fixture(autouse=True)
def _servers() -> None:
    need_servers()


async def restart(service: Service) -> None:
    """SIGTERM, a tidy end in time, and ready again."""
    began = time.monotonic()
    await asyncio.to_thread(service.stop, STOP_S)
    assert time.monotonic() - began < STOP_S, service.name
    assert service._running.exit_code == 0, service.name
    await asyncio.to_thread(service.start)


async def roll(world: World) -> None:
    """Replicas, then notifiers, one after the other; twice."""
    for _ in range(2):
        for name in ("api-a", "api-b", "notifier-a", "notifier-b"):
            await restart(world.services[name])


@asynccontextmanager
async def writing(url: str, book: Book, owners: list[str]) -> AsyncIterator[SdkWriter]:
    """Executors report steadily; leaving the block lets them finish."""
    lives = Lives(f"rolling {time.time_ns()}", owners)
    writer = SdkWriter(url, book, lives, jobs=JOBS_AT_ONCE, per_s=PER_S)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
        writer.stop()
        await asyncio.wait_for(task, 20)
    finally:
        writer.abandon()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ended(book: Book) -> set[JobKey]:
    return {key for key, one in book.expected().items() if one.final is not None}


async def recorded(world: World, book: Book, crowd: Crowd, doors: Doors) -> Record:
    expected = dict(book.expected())
    finals = await final_answers(doors, expected)
    owners = list(doors.tokens)
    return Record(
        expected=expected,
        stored=await stored_changes(world.redis.url, owners, finals),
        deliveries={one.owner: one.deliveries for one in crowd.subscribers},
        feeds=[one.record for one in crowd.feeds],
        streams=[one.record for one in crowd.streams],
        polls=[one.record for one in crowd.polls],
        finals=finals,
    )


def noticed(crowd: Crowd) -> list[str]:
    """What clients have seen beyond reconnecting: other statuses, torn streams, openings that come
    again, waits beyond what they were asked for."""
    found: list[str] = []
    for browser in crowd.browsers:
        connections = browser.record.connections
        for place, one in enumerate(connections):
            good = one.status == 200 or (one.status == 204 and browser.record.job_id)
            if one.status and not good:
                found.append(f"a stream was answered {one.status}")
            if one.status == 200 and one.ended_by not in {"server", ""}:
                found.append(f"a stream was torn: {one.ended_by} after {one.frames[-1:]}")
            if place and one.answer and one.cursor and one.answer != "resumed":
                found.append(f"a stream with a cursor was answered {one.answer}")
        for gap in browser.gaps:
            if gap.took_s > gap.asked_s + LATE_S:
                found.append(f"a stream was away for {gap}")
    for poller in crowd.polls:
        # Of a job not yet known: that it is unknown, or, by a replica that goes, to ask again.
        unknown = [status for status in poller.refused if status not in {404, 503}]
        found += [f"a long poll was answered {status}" for status in unknown]
    return found


def unanswered(crowd: Crowd) -> int:
    """Connections that were closed before a word was said: a replica had taken them and not yet
    read the request when its SIGTERM came."""
    streams = [one for browser in crowd.browsers for one in browser.record.connections]
    return sum(not one.status for one in streams) + sum(len(one.broken) for one in crowd.polls)


@pytest.mark.timeout(120)
async def test_a_rolling_restart_under_load_is_nothing_but_a_reconnect(tmp_path: Path) -> None:
    book = Book()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with opened_world(tmp_path, 1) as world, httpx.AsyncClient(limits=limits) as http:
        replicas = [world.services[name] for name in ("api-a", "api-b")]
        ports = [int(one.url.rpartition(":")[2]) for one in replicas if isinstance(one, Replica)]
        tokens = {login.name: login.token for login in world.owners}
        async with balancing(ports) as balancer:
            doors = Doors(http, [balancer.url], tokens)
            crowd = Crowd(world.amqp_url("subscriber-amqp"), book, doors)
            listening = asyncio.create_task(crowd.run())
            try:
                await crowd.opened(15)
                async with writing(world.amqp_url("sdk-amqp"), book, list(tokens)):
                    await roll(world)
                told = ended(book)
                await eventually(lambda: not list(crowd.missing(told)), 15, every_s=0.1)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            record = await recorded(world, book, crowd, doors)
    ledger = judge(record)
    examples = [example for row in ledger.rows for example in row.examples]
    assert ledger.ok, examples
    assert {getattr(row, what) for row in ledger.rows for what in FAILING} == {0}
    assert noticed(crowd) == []
    assert balancer.unserved == 0
    assert unanswered(crowd) <= UNANSWERED_MAX
    assert ledger.confirmed > 500
    assert sum(len(browser.gaps) for browser in crowd.browsers) >= len(crowd.feeds) * 2
