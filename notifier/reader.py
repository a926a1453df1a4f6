"""What a process that answers readers holds: the store, the feed and the hub, on one Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from notifier.connection import connect
from notifier.everyone import Everyone
from notifier.feed import Feed
from notifier.hub import HEARTBEAT_S, Hub, opened_hub
from notifier.records import Records
from notifier.store import Store


class Reader(Struct, frozen=True):
    """All that streams, long polls and plain reads need."""

    store: Store
    feed: Feed
    hub: Hub
    records: Records
    everyone: Everyone


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
