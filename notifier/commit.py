"""Writing what the fold has made of a job: one atomic step per job, one round trip per batch.

Owns the commit script and what it is told. Promises: a commit is applied whole or not at all, and
only onto the version it was made from. The script compares versions and knows no status.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from hiredis import pack_command
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from jobcast.change import Change, Record, State
from jobcast.job import Job, milliseconds
from notifier.connection import database, failure, translated
from notifier.keys import LEASES, OWNERS, OwnerKeys, channel, lease, member
from notifier.leases import mark_at

SCRIPT: Final = Path(__file__).with_name("commit.lua").read_text()
FEED_BODY_MAX: Final = 16_384
FEED_LENGTH: Final = 50_000
OWED_MAX: Final = 16
TOMBSTONE_MS: Final = 24 * 3_600_000
SAME: Final = b"="
AT_ONCE: Final = 200
"""Commits in one transaction: Redis does nothing else meanwhile, about 50 µs each."""

MULTI: Final = pack_command(("MULTI",))
EXEC: Final = pack_command(("EXEC",))

encode = msgspec.json.Encoder().encode


class Owed(Struct):
    """A notification that a commit owes: to be told until the broker has confirmed it.

    `reference` names the event that caused it; `body` is None while the snapshot is still the
    current one. `settled`: this notifier has had it confirmed, or has given it up.
    """

    reference: str
    event: str
    command: bool
    cursor: str
    traceparent: str | None
    body: bytes | None = None
    settled: bool = False

    @property
    def head(self) -> str:
        """What stands before the body in Redis, less the cursor that the script knows first."""
        return f"{self.reference} {self.event} {int(self.command)} {self.traceparent or '-'}"


def parse_owed(value: bytes) -> Owed:
    head, _, body = value.partition(b"\n")
    cursor, reference, event, command, traceparent = head.decode().split(" ")
    trace = None if traceparent == "-" else traceparent
    return Owed(reference, event, command == "1", cursor, trace, body or None)


class Step(Struct, frozen=True):
    """One change within a commit, with the representation after it where others will see it."""

    change: Change
    reference: str
    traceparent: str | None
    snapshot: bytes | None


class Plan(Struct):
    """Everything that one commit of one job writes.

    `expected` is the version it was folded from, None for no job; `moves` are the owed versions
    that take the snapshot being replaced as their body, `drops` those that are settled.
    """

    owner: str
    job_id: str
    expected: int | None
    state: State
    steps: list[Step]
    before: Job | None = None
    snapshot: bytes = b""
    drops: Sequence[int] = ()
    moves: Sequence[int] = ()
    references: Sequence[str] = ()
    join_group: bool = False

    @property
    def records(self) -> list[Record]:
        return [step.change.record for step in self.steps if step.change.record is not None]

    @property
    def deleted(self) -> bool:
        return bool(self.steps) and self.steps[-1].change.event == "deleted"


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
                await connection.send_packed_command(_packed("ZADD", LEASES, *scores))
            for portion in portions:
                packed = [_packed("EVALSHA", self._digest, 9, *call) for call in portion]
                await connection.send_packed_command(b"".join([MULTI, *packed, EXEC]))
            if over:
                await connection.send_packed_command(_packed("ZREM", LEASES, *over))
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


def _packed(*parts: Any) -> bytes:
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
