"""Following jobs: opening, resume, reset and the live changes, as one ordered run of items.

Owns what a stream says and in which order (docs/protocol.md § 8); the API only puts it on the wire.
Promises: unless the answer is `reset`, every status change after the cursor comes exactly once. A
slow reader holds up nobody: it falls back to reading the feed.
"""

import asyncio
from typing import Final

import msgspec

from jobcast.errors import JobcastError
from notifier.listener import Item
from notifier.reader import Reader
from notifier.store import Gone, Snapshot
from notifier.stream import Items, Place, Stream, Wanted

UNKNOWN_WAIT_S: Final = 60.0


class JobNotFound(JobcastError):
    """No such job, or not this owner's."""


class JobGone(JobcastError):
    """The job was deleted (`deleted`), or has expired."""

    def __init__(self, deleted: bool) -> None:
        super().__init__("deleted" if deleted else "expired")
        self.deleted = deleted


class NothingLeft(JobcastError):
    """The job has ended and the client has seen it: it should not come again."""


def _opening(resume: str) -> Item:
    return Item("stream", msgspec.json.encode({"resume": resume}))


def _marked(items: list[Item], place: Place) -> list[Item]:
    """A heartbeat where there is nothing else, with the cursor if it has moved unseen."""
    if items:
        place.told = items[-1].cursor or place.told
        return items
    moved = place.cursor if place.cursor != place.told else None
    place.told = place.cursor
    return [Item(None, b"", moved)]


async def follow_feed(
    reader: Reader, owner: str, *, cursor: str | None, wanted: Wanted, max_age_s: float
) -> Items:
    """The owner's feed: an opening, then every change that is `wanted`.

    Ends after `max_age_s`, or when the hub drains. Raises `StoreUnavailable`.
    """
    ends = asyncio.get_running_loop().time() + max_age_s
    with reader.hub.listen(owner) as listener:
        await listener.ready()
        stream = Stream(reader, owner, listener, ends, wanted)
        resumed = bool(cursor) and await reader.feed.resumes(owner, cursor or "")
        # One loop around all: a variable of this frame, which lives as long as the stream, must
        # not be left with a page of jobs.
        changes = _feed_resumed(stream, cursor or "") if resumed else _feed(stream, bool(cursor))
        async for items in changes:
            yield items


async def _feed(stream: Stream, reset: bool) -> Items:
    yield [_opening("reset" if reset else "fresh")]
    place = Place(await stream.reader.feed.tail(stream.owner))
    async for items in stream.snapshots(place, "jobs" if reset else "live"):
        yield items
    place.told = place.cursor
    items = [Item("live", b"{}", place.cursor)]  # nor this one
    yield items
    async for items in stream.live(place):
        yield _marked(items, place)


async def _feed_resumed(stream: Stream, cursor: str) -> Items:
    place = Place(cursor, told=cursor)
    yield [_opening("resumed")]
    async for items in _both(stream.refreshed(place), stream.live(place)):
        yield _marked(items, place)


async def follow_job(
    reader: Reader, owner: str, job_id: str, *, cursor: str | None, max_age_s: float
) -> Items:
    """One job until its end. Before the first item it raises `JobGone`, `JobNotFound` (unknown,
    with a cursor), `NothingLeft` or `StoreUnavailable`."""
    ends = asyncio.get_running_loop().time() + max_age_s
    with reader.hub.listen(owner, job_id) as listener:
        await listener.ready()
        stream = Stream(reader, owner, listener, ends)
        found, tail = await reader.store.read_with_tail(owner, job_id)
        if isinstance(found, Gone):
            raise JobGone(found.deleted)
        if cursor and found is None:
            raise JobNotFound(job_id)
        resumed = bool(cursor) and await reader.feed.resumes(owner, cursor or "")
        if found is None:
            changes = _unknown(stream, tail)
        elif resumed:
            changes = _resumed(stream, found, cursor or "")
        else:
            changes = _opened(stream, found, tail, "reset" if cursor else "fresh")
        async for items in changes:
            yield items


async def _opened(stream: Stream, found: Snapshot, tail: str, resume: str) -> Items:
    yield [_opening(resume)]
    place = Place(tail, told=tail)
    yield [Item("snapshot", found.body, tail)]
    if not _ended(found):
        place.sent[stream.job_id or ""] = found.version
        async for items in _until_end(stream.live(place), place):
            yield items


def _ended(found: Snapshot) -> bool:
    """Not by an item that is sent: it is kept until the next, and would keep the decoded job."""
    return Item("snapshot", found.body).job.ended


async def _unknown(stream: Stream, tail: str) -> Items:
    """The client was faster than the first event: the job's first change is its snapshot."""
    yield [_opening("fresh")]
    ends = stream.ends
    stream.ends = min(ends, asyncio.get_running_loop().time() + UNKNOWN_WAIT_S)
    place = Place(tail, told=tail)
    appeared = False
    async for items in _until_end(stream.live(place), place):
        last = items[-1]
        if appeared:
            yield items
        elif last.event is None:
            yield [Item(None)]  # with a cursor it could not come again: the job is unknown
        else:
            appeared, stream.ends = True, ends
            yield [Item("snapshot", last.body, last.cursor, last.job_id, last.version)]


async def _resumed(stream: Stream, found: Snapshot, cursor: str) -> Items:
    place = Place(cursor, told=cursor)
    if _ended(found) and not await stream.end_after(cursor):
        raise NothingLeft
    yield [_opening("resumed")]
    async for items in _until_end(_both(stream.refreshed(place), stream.live(place)), place):
        yield items


async def _both(first: Items, then: Items) -> Items:
    async for items in first:
        yield items
    async for items in then:
        yield items


async def _until_end(changes: Items, place: Place) -> Items:
    """A job's changes up to the one after which nothing comes."""
    async for items in changes:
        last = next((at for at, item in enumerate(items) if item.last), None)
        if last is not None:
            yield items[: last + 1]
            return
        yield _marked(items, place)
