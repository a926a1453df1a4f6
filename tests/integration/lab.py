"""A state service in this process, on a real Redis: what happens to jobs, and reading what follows.

`Lab.tell` does with a batch what `python -m notifier` does between taking and acknowledging it;
`Lab.restart` forgets all that the process knew, as a crash does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import count, pairwise
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from broker.errors import BrokerUnavailable
from deploy.guard import SERVICE
from jobcast.events import Event
from jobcast.job import Job
from jobcast.message import Incoming, Message, Outcome
from jobcast.names import COMMANDS, EVENTS
from jobcast.wire import BATCH, STRUCTURED, encode_batch, encode_event
from notifier.commit import Committer
from notifier.feed import Entry, Feed, position
from notifier.folding import LiveJobs
from notifier.keys import OwnerKeys
from notifier.letters import Rules
from notifier.listener import Item
from notifier.service import StateService
from notifier.store import Gone, Snapshot, Store
from notifier.stream import Items
from tests.eventually import eventually

E = TypeVar("E", bound=Event)
ORPHAN_S = 604_800
_numbers = count(1)


def incoming(*events: Event, user_id: str = SERVICE) -> Incoming:
    """The message that an executor, or the API, sends about one job."""
    if len(events) == 1:
        body, content_type = encode_event(events[0]), STRUCTURED
    else:
        body, content_type = encode_batch(events), BATCH
    return Incoming(
        body=body,
        content_type=content_type,
        correlation_id=events[0].job_id,
        user_id=user_id,
    )


class Told:
    """A publisher that keeps what it is told. `broken`: the connection is lost before anything is
    sent; `refused`: how often each message is still to be nacked."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.broken = False
        self.refused = 0

    async def publish(self, messages: Sequence[Message], *, timeout_s: float) -> list[Outcome]:
        if self.broken:
            raise BrokerUnavailable("broken on purpose")
        self.messages += messages
        if self.refused:
            self.refused -= 1
            return [Outcome.NACKED] * len(messages)
        return [Outcome.CONFIRMED] * len(messages)

    @property
    def notifications(self) -> list[Message]:
        return [message for message in self.messages if message.exchange == EVENTS]

    @property
    def commands(self) -> list[Message]:
        return [message for message in self.messages if message.exchange == COMMANDS]

    @property
    def ids(self) -> list[str]:
        """What was notified, as `<job id>/<version>`."""
        return [message.message_id.partition("/")[2] for message in self.notifications]


class Lab:
    """One owner's jobs, and the process that keeps them."""

    def __init__(self, redis: Redis, owner: str, *, retention_s: int = 14_400) -> None:
        self.redis = redis
        self.owner = owner
        self.keys = OwnerKeys(owner)
        self.store = Store(redis)
        self.feed = Feed(redis, self.store)
        self.ahead_ms = 0
        self.retention_s = retention_s
        self.rules = Rules(retention_s=retention_s, user=SERVICE)
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is remembered, and nothing was published by it."""
        self.told = Told()
        self.live = LiveJobs(1_000)
        committer = Committer(self.redis, retention_s=self.retention_s, orphan_s=ORPHAN_S)
        self.service = StateService(self.store, committer, self.rules, self.now)

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def say(self, kind: type[E], job_id: str = "j", **fields: Any) -> E:
        """An event with an id of its own."""
        number = next(_numbers)
        named = {"id": f"e{number}", "source": "/tests", "owner": self.owner, "job_id": job_id}
        return kind(**(named | fields))

    async def tell(self, *events: Event) -> None:
        """One batch: every event in a message of its own."""
        await self.process(*map(incoming, events))

    async def process(self, *batch: Incoming) -> None:
        await self.service.process(batch, self.live, self.told)

    async def job(self, job_id: str = "j") -> Job:
        found = await self.store.read(self.owner, job_id)
        assert isinstance(found, Snapshot), found
        return msgspec.json.decode(found.body, type=Job)

    async def gone(self, job_id: str = "j") -> Gone | None:
        found = await self.store.read(self.owner, job_id)
        return found if isinstance(found, Gone) else None

    async def entries(self, cursor: str = "0-0") -> list[Entry]:
        """The feed after the cursor."""
        entries: list[Entry] = []
        more = True
        while more:
            portion = await self.feed.after(self.owner, cursor)
            entries, more = entries + portion.entries, portion.more
            cursor = entries[-1].cursor if more else cursor
        return entries

    async def words(self) -> list[str]:
        return [entry.event for entry in await self.entries()]

    async def cut_links(self) -> None:
        """Closes every hub's connection."""
        await self.redis.client_kill_filter(_type="pubsub")

    async def own_keys(self) -> dict[str, int]:
        """Every key of the owner with its TTL in ms, -1 for none."""
        names = [name async for name in self.redis.scan_iter(f"{self.keys.prefix}*")]
        return {name.decode(): int(await self.redis.pttl(name)) for name in names}

    async def members(self, index: str) -> list[str]:
        """The job ids of an index, in its order."""
        found: Any = await self.redis.zrange(self.keys.prefix + index, 0, -1)
        return [member.decode().partition(":")[2] for member in found]


class Reading:
    """A stream that is read as it comes; see `reading`."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.ended = False
        self.error: Exception | None = None

    async def read(self, stream: Items) -> None:
        try:
            async with aclosing(stream):
                async for items in stream:
                    self.items += items
        except Exception as error:  # noqa: BLE001,RUF100 - the test looks at it
            self.error = error
        self.ended = True

    @property
    def words(self) -> list[str]:
        return [item.event for item in self.items if item.event is not None]

    @property
    def changes(self) -> list[str]:
        """The cursors of the status changes, comments, records and deletions."""
        return [item.cursor or "" for item in self.items if _is_change(item)]

    async def until(self, *words: str, timeout_s: float = 10) -> None:
        """Waits for exactly these events."""
        await eventually(lambda: self.words == list(words) or None, timeout_s)

    async def has(self, condition: Callable[["Reading"], object], timeout_s: float = 10) -> None:
        await eventually(lambda: condition(self), timeout_s)

    async def over(self, timeout_s: float = 10) -> None:
        await eventually(lambda: self.ended, timeout_s)


def _is_change(item: Item) -> bool:
    return item.event not in {None, "stream", "snapshot", "live", "progressed"}


@asynccontextmanager
async def reading(stream: Items) -> AsyncIterator[Reading]:
    """Reads the stream in the background for the block."""
    told = Reading()
    task = asyncio.create_task(told.read(stream))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def resume_of(item: Item) -> str:
    """What a stream says first."""
    assert item.event == "stream"
    said: dict[str, str] = msgspec.json.decode(item.body)
    return said["resume"]


def in_order(cursors: Sequence[str]) -> bool:
    places = [position(cursor) for cursor in cursors]
    return all(before < after for before, after in pairwise(places))


def versions_rise(items: Sequence[Item]) -> bool:
    """Within one stream no version of a job is told twice, and none after a newer one."""
    last: dict[str, int] = {}
    for item in items:
        if not item.body or item.event in {"stream", "live"}:
            continue
        job = item.job
        if job.version <= last.get(job.id, 0):
            return False
        last[job.id] = job.version
    return True
