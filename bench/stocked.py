"""Owners with many jobs, for `bench list`: made through RabbitMQ and the notifier.

Of eleven jobs one lives and ten have succeeded; they are mixed. One of 100 is of the group
`nightly`, one of 2 has the label `tier=gold`, one of 1,000 the label `rare=yes`.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import msgspec
from redis.asyncio import Redis

from bench import load, queues
from bench.servers import Servers
from jobcast.events import Event, Started, Succeeded
from jobcast.job import timestamp
from jobcast.message import Message
from notifier.keys import CREATED_DIGITS, OwnerKeys, job_of

LIVE_ONE_IN: Final = 11
JOBS_PER_MESSAGE: Final = 25
STORED_S: Final = 300.0
EXPIRED_AT_ONCE: Final = 1_000


class Stock(msgspec.Struct):
    """One owner's jobs as they lie in Redis, newest first: the index's members."""

    owner: str
    members: list[str]

    @property
    def places(self) -> dict[str, str | None]:
        """Where a page begins: after which member, None for the first."""
        middle, last = len(self.members) // 2, max(len(self.members) - 51, 0)
        return {"first": None, "middle": self.members[middle], "last": self.members[last]}

    @property
    def middle(self) -> str:
        """When the job in the middle was created."""
        return timestamp(int(self.members[len(self.members) // 2][:CREATED_DIGITS]))


async def stocked(servers: Servers, redis: Redis, counts: list[int]) -> list[Stock]:
    """Owners with so many jobs each. A notifier must be running."""
    stocks = []
    for count in counts:
        owner = f"owner-of-{count}"
        await queues.fill(servers.rabbitmq.url, _messages(owner, count))
        live = -(-count // LIVE_ONE_IN)
        await _stored(redis, owner, count, live)
        stocks.append(Stock(owner, (await _members(redis, OwnerKeys(owner).jobs))[::-1]))
    return stocks


async def expire(redis: Redis, stock: Stock, kept: int) -> None:
    """As Redis does it: all but the oldest are gone, and the indexes still name them until commits
    of the owner come by."""
    keys = OwnerKeys(stock.owner)
    gone = [keys.job(job_of(one)) for one in stock.members[:-kept]]
    for at in range(0, len(gone), EXPIRED_AT_ONCE):
        await redis.unlink(*gone[at : at + EXPIRED_AT_ONCE])


async def _members(redis: Redis, index: str) -> list[str]:
    found: Any = await redis.zrange(index, 0, -1)
    return [member.decode() for member in found]


async def _stored(redis: Redis, owner: str, jobs: int, live: int) -> None:
    keys = OwnerKeys(owner)
    async with asyncio.timeout(STORED_S):
        while (  # noqa: ASYNC110 - in another process
            await redis.zcard(keys.jobs),
            await redis.zcard(keys.live),
        ) != (jobs, live):
            await asyncio.sleep(0.1)


def _messages(owner: str, jobs: int) -> Iterator[Message]:
    for start in range(0, jobs, JOBS_PER_MESSAGE):
        numbers = range(start, min(start + JOBS_PER_MESSAGE, jobs))
        events = [event for number in numbers for event in _events(owner, number)]
        yield load.batch(events)


def _events(owner: str, number: int) -> Iterator[Event]:
    common: dict[str, Any] = {"source": load.SOURCE, "owner": owner, "job_id": str(uuid4())}
    labels = {"site": "north", "tier": "gold" if number % 2 else "iron"}
    yield Started(
        id=str(uuid4()),
        operation="backup",
        group="nightly" if number % 100 == 0 else "others",
        name="nightly backup of the file server",
        labels=labels | ({"rare": "yes"} if number % 1_000 == 0 else {}),
        message="reading the catalogue",
        **common,
    )
    if number % LIVE_ONE_IN:
        result = msgspec.Raw(b'{"files":18231,"bytes":734003200,"seconds":341}')
        yield Succeeded(id=str(uuid4()), result=result, message="done", **common)
