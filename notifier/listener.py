"""A listener's place at the hub, and what it is given.

Owns the buffers. Promises: putting an item costs the same however slow the reader is; a full buffer
never grows: the reader is told to read the feed instead.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from jobcast.job import FINAL, Job
from notifier.connection import StoreUnavailable
from notifier.feed import Entry, position

SUBSCRIBE_TIMEOUT_S: Final = 5.0
BUFFER_MAX: Final = 256
LATEST_MAX: Final = 1_000
ENDS: Final = frozenset(status.value for status in FINAL) | {"deleted"}

_JOB: Final = msgspec.json.Decoder(Job)


class Item(Struct, eq=False):
    """Something for a stream. One change is one object for all: `frame` caches its encoding.

    `event` None is a heartbeat; `cursor` None means that the item has no place in the feed, `at`
    is the cursor as it is compared, `number` counts what the hub has handed out.
    """

    event: str | None
    body: bytes = b""
    cursor: str | None = None
    job_id: str = ""
    version: int = 0
    at: tuple[int, int] = (0, 0)
    number: int = 0
    frame: bytes | None = None
    decoded: Job | None = None

    @property
    def job(self) -> Job:
        if self.decoded is None:
            self.decoded = _JOB.decode(self.body)
        return self.decoded

    @property
    def progress(self) -> bool:
        return self.event == "progressed"

    @property
    def last(self) -> bool:
        """Nothing more comes of the job after it."""
        return self.event in ENDS


class Listener:
    """One stream's or wait's place at the hub: a bounded buffer, in which progress is merged."""

    __slots__ = (
        "_buffer",
        "_draining",
        "_owner",
        "_taken",
        "_waiter",
        "attached",
        "due",
        "job_id",
        "lost",
    )

    def __init__(
        self, owner: "OwnerListeners", job_id: str | None, draining: Callable[[], bool]
    ) -> None:
        self._draining = draining
        self._owner = owner
        self._buffer: dict[str, Item] = {}
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None
        self.job_id = job_id
        self.attached = False
        self.lost = False
        self.due = float("inf")

    async def ready(self) -> None:
        """The owner's channel is subscribed. Raises `StoreUnavailable`."""
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                await self._owner.subscribed.wait()
        except TimeoutError:
            raise StoreUnavailable("Redis: no subscription in time") from None

    def attach(self, cursor: str | None = None) -> bool:
        """Begin to listen, having read the feed up to `cursor`; False: there is more to read."""
        if cursor is not None and position(self._owner.last) > position(cursor):
            return False
        self._buffer.clear()
        self.attached, self.lost = True, False
        return True

    @property
    def cursor(self) -> str:
        """How far the owner's feed has been handed out."""
        return self._owner.last

    def latest(self) -> list[Item]:
        """The last progress of each job of the owner that this hub has heard, and nobody has taken
        here yet."""
        owner, taken = self._owner, self._taken
        self._taken = owner.handed
        return [item for item in owner.latest.values() if item.number > taken]

    def put(self, item: Item) -> None:
        if not self.attached:
            return
        buffer = self._buffer
        key = item.job_id if item.progress else f"\n{item.cursor}"
        if item.progress:
            buffer.pop(key, None)  # an older one that nobody has read yet
        if len(buffer) < BUFFER_MAX:
            buffer[key] = item
            self.wake()
        else:
            self.detach()

    def detach(self) -> None:
        """The reader did not keep up, or the hub has a gap: read the feed."""
        self._buffer.clear()
        self.attached, self.lost = False, True
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self, due: float) -> list[Item]:
        """What has come; empty when `due` (loop time) has passed, when `lost`, or when draining."""
        if not self._buffer and not self.lost and not self._draining():
            self.due = due
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self.due = float("inf")
        items = list(self._buffer.values())
        self._buffer.clear()
        if not self.lost:
            self._taken = self._owner.handed
        return items


class OwnerListeners:
    """What the hub keeps of an owner while somebody listens."""

    __slots__ = ("feed", "handed", "heard", "jobs", "last", "latest", "name", "subscribed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.feed: set[Listener] = set()
        self.jobs: defaultdict[str, set[Listener]] = defaultdict(set)
        self.subscribed = asyncio.Event()
        self.last = ""
        self.handed = 0
        self.heard = 0.0
        self.latest: dict[str, Item] = {}

    @property
    def idle(self) -> bool:
        return not self.feed and not self.jobs

    def listeners(self) -> Iterator[Listener]:
        yield from self.feed
        for some in self.jobs.values():
            yield from some

    def restart(self, cursor: str) -> None:
        """Entries are missing, or Redis has lost some: go on from here, everybody reads."""
        self.last = cursor
        self.latest.clear()
        for listener in self.listeners():
            listener.detach()

    def hand(self, item: Item) -> None:
        self.handed += 1
        item.number = self.handed
        if not item.progress:
            self.last = item.cursor or self.last
            self.latest.pop(item.job_id, None)  # older, and told with it
        elif item.job_id in self.latest or len(self.latest) < LATEST_MAX:
            self.latest[item.job_id] = item
        for listener in self.feed:
            listener.put(item)
        for listener in self.jobs.get(item.job_id, ()):
            listener.put(item)


def item_of(entry: Entry) -> Item:
    return Item(
        entry.event, entry.body, entry.cursor, entry.job_id, entry.version, position(entry.cursor)
    )
