"""Writing what the fold has made of a job: one atomic step per job, one round trip per batch.

Owns the commit script and what it is told. Promises: a commit is applied whole or not at all, and
only onto the version it was made from. The script compares versions and knows no status.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from jobcast.job import milliseconds
from notifier.connection import database, failure, translated
from notifier.keys import LEASES, OWNERS, OwnerKeys, channel, lease, member
from notifier.leases import mark_at
from notifier.plan import FEED_BODY_MAX, Owed, Plan, Step

SCRIPT: Final = Path(__file__).with_name("commit.lua").read_text()
FEED_LENGTH: Final = 50_000
TOMBSTONE_MS: Final = 24 * 3_600_000
SAME: Final = b"="
AT_ONCE: Final = 200
"""Commits in one transaction: Redis does nothing else meanwhile, about 50 µs each."""

MULTI: Final = pack_command(("MULTI",))
EXEC: Final = pack_command(("EXEC",))

encode = msgspec.json.Encoder().encode


class Committer:
    """Sends plans to Redis. `retention_s` and `orphan_s` bound how long an owner's keys live."""

    def __init__(self, redis: Redis, *, retention_s: int, orphan_s: int) -> None:
        self._redis = redis
        self._pool: Any = redis.connection_pool  # its methods are not typed
        self._retention_ms = retention_s * 1000
        self._orphan_ms = orphan_s * 1000
        self._keys_ttl_ms = (orphan_s + retention_s) * 1000 + TOMBSTONE_MS
        self._db = database(redis)
        self._digest = ""

    async def commit(
        self, plans: Sequence[Plan], now: int, renew: frozenset[str]
    ) -> list[list[str] | None]:
        """Per plan the cursors of its feed entries, or None if the version has moved.

        `renew` names the owners whose keys get a new TTL. Raises `StoreUnavailable`: then some of
        the plans may have been applied.
        """
        if renew:
            await self._seen_active(renew, now)
        calls = [self._arguments(plan, now, plan.owner in renew) for plan in plans]
        answers = await self._send(calls, *self._watched(plans))
        return [
            None if answer == 0 else [cursor.decode() for cursor in answer] for answer in answers
        ]

    async def _seen_active(self, owners: frozenset[str], now: int) -> None:
        with translated():
            await self._redis.zadd(OWNERS, dict.fromkeys(owners, now))
            await self._redis.zremrangebyscore(OWNERS, "-inf", now - self._keys_ttl_ms)

    def _watched(self, plans: Sequence[Plan]) -> tuple[dict[str, int], list[str]]:
        """When the watch must look at which job, and the jobs that it need not look at again."""
        marks, over = {}, []
        for plan in plans:
            job = plan.state.job
            at = mark_at(plan.before, job, plan.state.heard_at, self._orphan_ms)
            if at is not None:
                marks[lease(job.owner, job.id)] = at
            elif job.ended:
                over.append(lease(job.owner, job.id))
        return marks, over

    async def _send(
        self, calls: Sequence[list[Any]], marks: dict[str, int], over: Sequence[str]
    ) -> list[Any]:
        """One round trip. The marks come before the commits that need them: one too many is
        harmless, one too few would let a job run for ever."""
        with translated():
            if not self._digest:
                self._digest = str(await self._redis.script_load(SCRIPT))
            answers = await self._pipeline(calls, marks, over)
            lost = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if lost:  # Redis was restarted: these were not run
                self._digest = str(await self._redis.script_load(SCRIPT))
                again = await self._pipeline([calls[at] for at in lost], {}, ())
                for at, answer in zip(lost, again, strict=True):
                    answers[at] = answer
        for answer in answers:
            if isinstance(answer, RedisError):
                raise failure(answer) from answer
        return answers

    async def _pipeline(
        self, calls: Sequence[list[Any]], marks: dict[str, int], over: Sequence[str]
    ) -> list[Any]:
        """The answers to the calls, errors among them.

        In MULTI because Redis reads 16 KB at a time and brings to disk what each reading has
        changed: so it does that once for `AT_ONCE` commits instead of every few. Not by redis-py's
        pipeline, whose packing and reading take longer than the fold.
        """
        portions = [calls[at : at + AT_ONCE] for at in range(0, len(calls), AT_ONCE)]
        connection = await self._pool.get_connection()
        try:
            if marks:
                scores = [part for name, score in marks.items() for part in (score, name)]
                await connection.send_packed_command(pack("ZADD", LEASES, *scores))
            for portion in portions:
                packed = [pack("EVALSHA", self._digest, 9, *call) for call in portion]
                await connection.send_packed_command(b"".join([MULTI, *packed, EXEC]))
            if over:
                await connection.send_packed_command(pack("ZREM", LEASES, *over))
            return await _answers(connection, portions, marks=bool(marks), over=bool(over))
        except BaseException:
            await connection.disconnect(nowait=True)  # there may be more to read
            raise
        finally:
            await self._pool.release(connection)

    def _arguments(self, plan: Plan, now: int, renew: bool) -> list[Any]:
        keys = OwnerKeys(plan.owner)
        state, job = plan.state, plan.state.job
        group = job.group or ""
        indexed = member(milliseconds(job.created_at), job.id)
        entries = [
            argument
            for step in plan.steps
            if step.change.in_feed
            for argument in self._entry(step, plan)
        ]
        records = [encode(record) for record in plan.records]
        odd_groups = plan.odd_groups
        return [
            *(keys.job(job.id), keys.gone(job.id), keys.feed, keys.jobs, keys.live, keys.ends),
            *(keys.records(job.id), keys.refs(job.id), keys.group(group)),
            "" if plan.expected is None else plan.expected,
            job.version,
            plan.snapshot,
            encode(state.memory),
            state.heard_at,
            self._flags(plan, renew),
            now,
            milliseconds(job.expires_at) if job.expires_at else 0,
            indexed,
            group,
            keys.prefix,
            "PUBLISH",
            channel(self._db, plan.owner),
            FEED_LENGTH,
            now - self._retention_ms,
            self._keys_ttl_ms,
            TOMBSTONE_MS,
            "progressed" if plan.steps and not plan.steps[-1].change.in_feed else "",
            *(len(records), *records),
            *(len(plan.references), *plan.references),
            *(len(odd_groups), *odd_groups),
            len(entries) // 5,
            *entries,
            *(len(plan.drops), *plan.drops),
            *(len(plan.moves), *plan.moves),
        ]

    @staticmethod
    def _entry(step: Step, plan: Plan) -> list[Any]:
        """Event, version, owed head, owed body, feed body: see commit.lua."""
        change = step.change
        version = change.state.job.version
        current = version == plan.state.job.version
        body = plan.snapshot if current else step.snapshot or b""
        in_feed: bytes = SAME if current else body
        if len(body) > FEED_BODY_MAX and change.event != "deleted":
            in_feed = b""  # look it up; a deleted job cannot be
        if not change.status:
            return [change.event, version, "", "", in_feed]
        owed = Owed(step.reference, change.event, change.command, "", step.traceparent)
        return [change.event, version, owed.head, b"" if current else body, in_feed]

    @staticmethod
    def _flags(plan: Plan, renew: bool) -> str:
        if not plan.steps:
            return "t"
        ended = plan.state.job.ended and any(step.change.status for step in plan.steps)
        said = {
            "n": plan.expected is None,
            "e": ended,
            "d": plan.deleted,
            "g": plan.join_group,
            "r": renew,
        }
        return "".join(flag for flag, on in said.items() if on)


def pack(*parts: Any) -> bytes:
    command: Any = parts  # hiredis declares a tuple of one
    packed: bytes = pack_command(command)
    return packed


async def _answers(
    connection: AbstractConnection, portions: Sequence[Sequence[Any]], *, marks: bool, over: bool
) -> list[Any]:
    answers: list[Any] = []
    if marks:
        await connection.read_response()
    for portion in portions:
        for _ in (MULTI, *portion):
            await connection.read_response()  # it is queued
        answers += await connection.read_response()
    if over:
        await connection.read_response()
    return answers
