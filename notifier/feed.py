"""Reading an owner's feed: the stream that holds every status change in order.

A cursor is the id of an entry, opaque to clients. Promises: `resumes` says whether nothing is
missing after a cursor, and never guesses: an entry names the one before it (`prev`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis

from notifier.connection import translated
from notifier.keys import OwnerKeys
from notifier.store import Snapshot, Store

START: Final = "0-0"
PAGE: Final = 100
PORTION_BYTES: Final = 131_072
"""A reader that does not read holds what was read for it."""
_CURSOR: Final = re.compile(r"\A\d{1,15}-\d{1,10}\Z", re.ASCII)


def position(cursor: str) -> tuple[int, int]:
    """What cursors are compared by."""
    ms, _, number = cursor.partition("-")
    return int(ms), int(number)


def is_cursor(text: str) -> bool:
    return bool(_CURSOR.match(text))


class Entry(Struct, frozen=True):
    """One entry of a feed. `body` is the representation after the change, empty if it has gone."""

    cursor: str
    prev: str
    event: str
    job_id: str
    version: int
    body: bytes


class Portion(Struct, frozen=True):
    """Some entries in order, and whether there may be more after them."""

    entries: list[Entry]
    more: bool


class Feed:
    """Reads feeds. Raises `StoreUnavailable`, and nothing else of Redis."""

    def __init__(self, redis: Redis, store: Store) -> None:
        self._redis = redis
        self._store = store

    async def tail(self, owner: str) -> str:
        """The cursor of the last entry, `0-0` if there is none."""
        with translated():
            newest: Any = await self._redis.xrevrange(OwnerKeys(owner).feed, count=1)
        return newest[0][0].decode() if newest else START

    async def after(self, owner: str, cursor: str) -> Portion:
        """Entries after the cursor, as many as a bounded number of bytes holds, at least one."""
        with translated():
            found: Any = await self._redis.xrange(
                OwnerKeys(owner).feed, f"({cursor}", "+", count=PAGE
            )
        entries: list[Entry] = []
        size = 0
        for name, fields in found:
            entries.append(await self._entry(owner, name.decode(), fields))
            size += len(entries[-1].body)
            if size >= PORTION_BYTES:
                break
        return Portion(entries, len(entries) < len(found) or len(found) == PAGE)

    async def resumes(self, owner: str, cursor: str) -> bool:
        """Whether nothing is missing between the cursor and what follows it."""
        if not is_cursor(cursor):
            return False
        feed = OwnerKeys(owner).feed
        pipeline = self._redis.pipeline(transaction=True)  # or an entry may come in between
        pipeline.xrange(feed, f"({cursor}", "+", count=1)
        pipeline.xrevrange(feed, count=1)
        with translated():
            following, newest = await pipeline.execute()
        last = newest[0][0] if newest else START.encode()
        return bool(cursor.encode() == (following[0][1][b"prev"] if following else last))

    async def _entry(self, owner: str, cursor: str, fields: Mapping[bytes, bytes]) -> Entry:
        job_id = fields[b"job"].decode()
        body = fields.get(b"body")
        if body is None:
            body = await self.snapshot(owner, job_id)
        return Entry(
            cursor,
            fields[b"prev"].decode(),
            fields[b"event"].decode(),
            job_id,
            int(fields[b"version"]),
            body,
        )

    async def snapshot(self, owner: str, job_id: str) -> bytes:
        """What an entry too large for the feed refers to."""
        found = await self._store.read(owner, job_id)
        return found.body if isinstance(found, Snapshot) else b""
