"""The watch over silent jobs: finds the overdue ones and says so, as an event like any other.

Owns `jobcast:leases`, a hint of when to look at which job. Promises: a job is looked at again
before it is called lost; the verdict names the version and the time it was last heard of, and the
fold drops it if either has moved. Never changes a job itself. Any number of notifiers may watch.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis

from jobcast.events import Lost
from jobcast.message import Message
from jobcast.names import LIFECYCLE
from jobcast.wire import STRUCTURED, encode_event
from notifier.connection import translated
from notifier.keys import HEARING, LEASES, leased_job
from notifier.leases import limit_ms, overdue_at
from notifier.store import Held, Store

CLAIM_MS: Final = 30_000
CLAIMED_MAX: Final = 200
AGAIN_MS: Final = 1_000
"""After a look, the next is at most a lease and this away; where the watcher was deaf, this."""
HEARING_MS: Final = 2_000
"""Shorter than any outage of RabbitMQ."""
SOURCE: Final = "/jobcast"

CLAIM: Final = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[3], member) end
return due
"""


class Looked(Struct, frozen=True):
    """What a look at the overdue jobs has shown."""

    lost: list[Lost]
    later: dict[str, int]
    over: list[str]


class Watch:
    """`orphan_s` is the limit of jobs without a lease."""

    def __init__(self, redis: Redis, store: Store, *, orphan_s: int) -> None:
        self._redis = redis
        self._store = store
        self._orphan_ms = orphan_s * 1000

    async def anybody(self) -> bool:
        """Whether there is a job that has not ended. Raises `StoreUnavailable`."""
        with translated():
            return bool(await self._redis.zcard(LEASES))

    async def hears(self, since: int) -> None:
        """Say that the service has heard everything since then, up to now. Raises
        `StoreUnavailable`."""
        with translated():
            await self._redis.set(HEARING, since, px=HEARING_MS)

    async def heard_since(self) -> int | None:
        """What some notifier said of itself just now. Raises `StoreUnavailable`."""
        with translated():
            since = await self._redis.get(HEARING)
        return None if since is None else int(since)

    async def look(self, now: int, hearing_since: int) -> list[Lost]:
        """Claim the jobs that are due for a look; the verdicts on those that are overdue.

        A claimed job is due again after 30 s at most, so a verdict that is not told is made again;
        and after a lease and a second, so one that was void does not hide a death soon after it.
        Raises `StoreUnavailable`.
        """
        with translated():
            call: Any = self._redis.eval(CLAIM, 1, LEASES, now, CLAIMED_MAX, now + CLAIM_MS)
            due: list[bytes] = await call
        if not due:
            return []
        members = [member.decode() for member in due]
        held = await self._store.hold([leased_job(member) for member in members])
        looked = judged(members, held, self._orphan_ms, now, hearing_since)
        with translated():
            if looked.later:
                await self._redis.zadd(LEASES, looked.later)
            if looked.over:
                await self._redis.zrem(LEASES, *looked.over)
        return looked.lost


def judged(
    members: Sequence[str], held: Sequence[Held], orphan_ms: int, now: int, hearing_since: int
) -> Looked:
    """Which of the jobs are overdue at `now`, which are not yet, and which have ended."""
    looked = Looked([], {}, [])
    for member, one in zip(members, held, strict=True):
        state = one.state
        if state is None:
            looked.over.append(member)
            continue
        at = overdue_at(state.job, state.heard_at, orphan_ms, hearing_since)
        limit = limit_ms(state.job, orphan_ms)
        if at is None or limit is None:
            looked.over.append(member)
            continue
        # Whoever is heard of after this look, and then dies, is overdue a lease later.
        again = now + limit + AGAIN_MS
        if at > now:
            # Excused by our own deafness alone: another notifier may have heard all the time.
            excused = state.heard_at + limit <= now
            looked.later[member] = now + AGAIN_MS if excused else min(at, again)
        else:
            looked.later[member] = min(now + CLAIM_MS, again)
            job = state.job
            named = f"lost/{job.owner}/{job.id}/{job.version}/{state.heard_at}"
            looked.lost.append(
                Lost(
                    id=named,
                    source=SOURCE,
                    owner=job.owner,
                    job_id=job.id,
                    version=job.version,
                    heard_at=state.heard_at,
                )
            )
    return looked


def verdict(lost: Lost, user: str) -> Message:
    """The verdict on its way through the one door, behind everything the job has said before."""
    return Message(
        exchange=LIFECYCLE,
        routing_key="lost",
        body=encode_event(lost),
        message_id=lost.id,
        content_type=STRUCTURED,
        correlation_id=lost.job_id,
        type=lost.type,
        user_id=user,
        mandatory=True,
    )
