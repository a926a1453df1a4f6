"""What a process that answers readers holds: the store, the feed and the hub, on one Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct, field

from notifier.connection import connect
from notifier.everyone import Everyone
from notifier.feed import Feed
from notifier.hub import HEARTBEAT_S, Hub, opened_hub
from notifier.records import Records
from notifier.store import Store

AT_ONCE: Final = 8
"""Each list may hold 200 jobs, 50 MiB, or 8 MiB of records. More at once would not be faster."""


class Reader(Struct, frozen=True):
    """All that streams, long polls and plain reads need. `turns`: whoever reads a list waits for
    one, first come, first served."""

    store: Store
    feed: Feed
    hub: Hub
    records: Records
    everyone: Everyone
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


@asynccontextmanager
async def opened_reader(
    url: str, *, connections_max: int = 50, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[Reader]:
    """A reader for the block; it connects when it is used, and again by itself.

    `heartbeat_s`: how long a stream may be quiet, and how long Redis may.
    """
    redis = connect(url, name="jobcast-reader", connections_max=connections_max)
    store = Store(redis)
    feed = Feed(redis, store)
    try:
        async with opened_hub(url, feed, heartbeat_s) as hub:
            yield Reader(store, feed, hub, Records(redis), Everyone(redis))
    finally:
        await redis.aclose()
