"""What the store holds in the end, read past the service: the owners' feeds in Redis."""

from collections.abc import Iterable, Mapping
from typing import cast

from redis.asyncio import Redis

from notifier.keys import OwnerKeys
from tests.chaos.record import Change, JobKey, Stored, Told, told

PAGE = 2_000

Entries = list[tuple[bytes, dict[bytes, bytes]]]


async def stored_changes(
    url: str, owners: Iterable[str], finals: Mapping[JobKey, Told]
) -> dict[JobKey, list[Stored]]:
    """Every entry of these owners' feeds, by job, in the feed's order.

    `finals`: what GET says, for entries too large to hold their representation.
    """
    found: dict[JobKey, list[Stored]] = {}
    async with Redis.from_url(url) as redis:
        for owner in owners:
            after = "-"
            feed = OwnerKeys(owner).feed
            while entries := cast("Entries", await redis.xrange(feed, after, "+", count=PAGE)):
                for _, fields in entries:
                    key = owner, fields[b"job"].decode()
                    found.setdefault(key, []).append(_stored(fields, finals.get(key)))
                after = f"({entries[-1][0].decode()}"
    return found


def _stored(fields: dict[bytes, bytes], final: Told | None) -> Stored:
    version, word = int(fields[b"version"]), fields[b"event"].decode()
    body = fields.get(b"body")
    if body is None:
        return Stored(version, Change(0 if final is None else final.attempt, word), 0)
    one = told(word, body)
    return Stored(version, one.change, one.digest)
