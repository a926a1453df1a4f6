"""One stream's reading of one owner's feed: where it stands, and what it has still to say."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from sys import intern
from typing import Final

from jobcast.job import Job, Status
from notifier.feed import PORTION_BYTES, Entry, position
from notifier.listener import ENDS, Item, Listener, item_of
from notifier.reader import Reader
from notifier.store import Snapshot

SNAPSHOTS: Final = 50
SNAPSHOTS_AT_FIRST: Final = 10
SETTLE_S: Final = 30.0
"""For so long after the opening, changes may still arrive that it has told already."""
WORKING: Final = (Status.RUNNING, Status.CANCEL_PENDING)

Items = AsyncGenerator[list[Item], None]
Wanted = Callable[[Job], bool] | None


class Place:
    """Where a stream stands: its feed position, and the versions sent out of the feed's order."""

    __slots__ = ("at", "began", "cursor", "sent", "told")

    def __init__(self, cursor: str, *, told: str = "") -> None:
        self.cursor = cursor
        self.at = self.began = position(cursor)
        self.told = told
        self.sent: dict[str, int] = {}

    def take(self, items: list[Item]) -> list[Item]:
        """Those that say something that the stream has not said; moves the place on."""
        return [self._placed(item) for item in items if self._fresh(item) and item.body]

    def _fresh(self, item: Item) -> bool:
        if not item.progress:
            if item.at <= self.at or item.cursor is None:
                return False
            self.cursor, self.at = item.cursor, item.at
        elif item.at < self.began:
            return False  # the hub is behind the client, who has been told what came after this
        return item.version > self.sent.get(item.job_id, 0)

    def _placed(self, item: Item) -> Item:
        """Progress may be late; the cursors of a stream never go back."""
        if item.at >= self.at:
            return item
        return Item(item.event, item.body, self.cursor, item.job_id, item.version, self.at)

    def note(self, item: Item, heard: tuple[int, int]) -> None:
        """Remember what was read from the feed, as far as the hub, which has `heard` so much, may
        still bring older progress of the job."""
        if item.last and item.at <= heard:
            self.sent.pop(item.job_id, None)
        else:
            self.sent[item.job_id] = item.version

    def reach(self, cursor: str) -> None:
        """Everything up to the cursor has been seen, or was not for this stream."""
        if position(cursor) > self.at:
            self.cursor, self.at = cursor, position(cursor)


class Stream:
    """One stream's reading of one owner's feed, all of it or one job of it."""

    __slots__ = ("ends", "job_id", "listener", "owner", "reader", "wanted")

    def __init__(
        self, reader: Reader, owner: str, listener: Listener, ends: float, wanted: Wanted = None
    ) -> None:
        self.reader = reader
        self.owner = owner
        self.listener = listener
        self.ends = ends
        self.wanted = wanted
        self.job_id = listener.job_id

    @property
    def over(self) -> bool:
        """The stream's time has come."""
        return self.reader.hub.draining or asyncio.get_running_loop().time() >= self.ends

    def _chosen(self, items: list[Item]) -> list[Item]:
        wanted = self.wanted
        return items if wanted is None else [item for item in items if wanted(item.job)]

    async def caught_up(self, place: Place) -> Items:
        """The feed from the place to its end."""
        while True:
            portion = await self.reader.feed.after(self.owner, place.cursor)
            if items := self._read(portion.entries, place):
                yield items
            if not portion.more or self.over:
                return

    def _read(self, entries: list[Entry], place: Place) -> list[Item]:
        heard = position(self.listener.cursor)
        items = self._mine(place.take([item_of(entry) for entry in entries]))
        for item in items:
            place.note(item, heard)
        return self._chosen(items)

    def _mine(self, items: list[Item]) -> list[Item]:
        mine = self.job_id
        return items if mine is None else [item for item in items if item.job_id == mine]

    async def live(self, place: Place) -> Items:
        """Changes as they come; an empty list when it has been quiet for a heartbeat."""
        listener = self.listener
        while not self.over:
            async for items in self.caught_up(place):
                yield items
            if not listener.attach(place.cursor):
                continue
            if items := self._chosen(place.take(self._mine(listener.latest()))):
                yield items
            async for items in self._attached(place):
                yield items
            if not listener.lost:
                return

    async def _attached(self, place: Place) -> Items:
        """Until the time is over, or the listener has lost its place."""
        loop = asyncio.get_running_loop()
        settled = loop.time() + SETTLE_S
        listener, heartbeat_s = self.listener, self.reader.hub.heartbeat_s
        due = min(loop.time() + heartbeat_s, self.ends)
        while not listener.lost:
            if items := self._chosen(place.take(await listener.take(due))):
                yield items
            if self.over:
                return
            now = loop.time()
            if place.sent and now >= settled:
                place.sent.clear()
            if not items and now >= due and not listener.lost:
                place.reach(listener.cursor)
                yield []
            if items or now >= due:
                due = min(loop.time() + heartbeat_s, self.ends)

    async def snapshots(self, place: Place, index: str) -> Items:
        """The jobs of an opening, page by page, at the pace at which they are taken."""
        after, limit = None, SNAPSHOTS_AT_FIRST
        while True:
            page = await self.reader.store.page(self.owner, index=index, after=after, limit=limit)
            limit = _limit_after(page.jobs, limit)
            items = [Item("snapshot", snapshot.body) for snapshot in page.jobs]
            for item, snapshot in zip(items, page.jobs, strict=True):
                place.sent[intern(item.job.id)] = snapshot.version  # streams share it
            if items := self._chosen(items):
                yield items
            if page.next is None:
                return
            after = page.next

    async def refreshed(self, place: Place) -> Items:
        """After a resume: the feed after the place, and each running job's progress once."""
        async for items in self.caught_up(place):
            yield items
        after, limit = None, SNAPSHOTS_AT_FIRST
        while not self.over:
            jobs, after, tail = await self._running(after, limit)
            limit = _limit_after(jobs, limit)
            ended: set[str] = set()
            if position(tail) > place.at:
                # The jobs have moved past the place: no version may be told before its entry.
                async for items in self.caught_up(place):
                    ended |= {item.job_id for item in items if item.last}
                    yield items
            progress = [_progress(snapshot, place) for snapshot in jobs]
            told = [item for item in progress if item is not None and item.job_id not in ended]
            if items := self._chosen(told):
                yield items
            if after is None:
                return

    async def _running(
        self, after: str | None, limit: int
    ) -> tuple[list[Snapshot], str | None, str]:
        """Jobs that may have progressed, where they go on, and the feed's cursor then."""
        store = self.reader.store
        if self.job_id is None:
            page, tail = await store.page_with_tail(self.owner, after=after, limit=limit)
            return page.jobs, page.next, tail
        found, tail = await store.read_with_tail(self.owner, self.job_id)
        return [found] if isinstance(found, Snapshot) else [], None, tail

    async def end_after(self, cursor: str) -> bool:
        """Whether the job's end, or its deletion, stands in the feed after the cursor."""
        while True:
            portion = await self.reader.feed.after(self.owner, cursor)
            entries = portion.entries
            if any(entry.job_id == self.job_id and entry.event in ENDS for entry in entries):
                return True
            if not portion.more:
                return False
            cursor = entries[-1].cursor


def _limit_after(jobs: Sequence[Snapshot], limit: int) -> int:
    """How many jobs to read next, so that they take about as many bytes as a portion of a feed."""
    if not jobs:
        return limit
    mean = sum(len(job.body) for job in jobs) // len(jobs)
    return max(1, min(SNAPSHOTS, PORTION_BYTES // max(mean, 1)))


def _progress(snapshot: Snapshot, place: Place) -> Item | None:
    item = Item("progressed", snapshot.body, place.cursor, "", snapshot.version, place.at)
    job = item.job
    if job.status not in WORKING or snapshot.version <= place.sent.get(job.id, 0):
        return None
    item.job_id = job.id
    place.sent[job.id] = snapshot.version
    return item
