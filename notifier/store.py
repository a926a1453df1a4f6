"""Reading jobs from Redis: for those who ask (API) and for the fold (state service).

Owns the reading of the job hash and of the indexes; commit.py writes them. Promises: what is
answered was true at one moment. Raises `StoreUnavailable`, and nothing else of Redis.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from jobcast.change import Memory, State
from jobcast.job import Job
from notifier.commit import pack
from notifier.connection import UnsafePolicy, translated
from notifier.keys import CREATED_DIGITS, OwnerKeys, job_of, tries
from notifier.plan import Owed, parse_owed

DELETED: Final = b"deleted"
SNAPSHOT: Final = ("version", "snapshot")
TRIES_TTL_S: Final = 86_400
_JOB: Final = msgspec.json.Decoder(Job)
_MEMORY: Final = msgspec.json.Decoder(Memory)


class BadPage(ValueError):
    """A page's token that this service has not given."""

    def __init__(self) -> None:
        super().__init__("page: not one that this service has given")


class Snapshot(Struct, frozen=True):
    """A stored job: `body` is its JSON representation, as it is sent, without `links`."""

    version: int
    body: bytes


class Gone(Struct, frozen=True):
    """Only the tombstone stands: the job was deleted, or has expired."""

    deleted: bool


class Page(Struct, frozen=True):
    """Some jobs, newest first; `next` continues after them, None at the end."""

    jobs: list[Snapshot]
    next: str | None


class Held(Struct):
    """A job as the fold needs it: None for no such job, `gone` if its id is used up."""

    state: State | None
    snapshot: bytes
    owed: dict[int, Owed]
    gone: bool = False


class Store:
    """Reads. `redis` must not decode responses."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._policy_checked = False

    async def ping(self) -> None:
        """Raises `StoreUnavailable` if Redis is away, or may evict what it holds."""
        with translated():
            await self._redis.ping()
        if not self._policy_checked:
            await self.check_policy()

    async def check_policy(self) -> None:
        """Raises `UnsafePolicy` unless `maxmemory-policy` is `noeviction`."""
        with translated():
            info = await self._redis.info("memory")
        policy = info.get("maxmemory_policy")
        if policy not in {"noeviction", None}:
            raise UnsafePolicy(f"Redis has maxmemory-policy {policy}; noeviction is wanted")
        self._policy_checked = True

    async def read(self, owner: str, job_id: str) -> Snapshot | Gone | None:
        """The job as it is now."""
        keys = OwnerKeys(owner)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(keys.job(job_id), "version", "snapshot")
        pipeline.get(keys.gone(job_id))
        with translated():
            (version, body), gone = await pipeline.execute()
        return _answer(version, body, gone)

    async def read_with_tail(self, owner: str, job_id: str) -> tuple[Snapshot | Gone | None, str]:
        """The job, and the feed's last cursor, of one moment."""
        keys = OwnerKeys(owner)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(keys.job(job_id), "version", "snapshot")
        pipeline.get(keys.gone(job_id))
        pipeline.xrevrange(keys.feed, count=1)
        with translated():
            (version, body), gone, newest = await pipeline.execute()
        tail = newest[0][0].decode() if newest else "0-0"
        return _answer(version, body, gone), tail

    async def read_with_reference(
        self, owner: str, job_id: str, reference: str
    ) -> tuple[Snapshot | Gone | None, bool]:
        """The job, and whether its record or comment of this reference is stored, of one moment."""
        keys = OwnerKeys(owner)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hmget(keys.job(job_id), "version", "snapshot")
        pipeline.get(keys.gone(job_id))
        pipeline.sismember(keys.refs(job_id), reference)
        with translated():
            (version, body), gone, stored = await pipeline.execute()
        return _answer(version, body, gone), bool(stored)

    async def page(
        self, owner: str, *, index: str = "jobs", after: str | None = None, limit: int = 50
    ) -> Page:
        """`index` is `jobs`, `live` or `group:<group>`; `after` is a page's `next`.

        A page holds fewer than `limit` jobs where some have just expired. Raises BadPage for an
        `after` that no page has given.
        """
        keys = OwnerKeys(owner)
        start = "+" if after is None else f"({_checked(after)}"
        with translated():
            members: list[Any] = await self._redis.zrange(
                keys.prefix + index, start, "-", desc=True, bylex=True, offset=0, num=limit
            )
            jobs = await self._snapshots(keys, [job_of(member.decode()) for member in members])
        return Page(jobs, members[-1].decode() if len(members) == limit else None)

    async def slice(
        self, owner: str, index: str, *, offset: int, limit: int, oldest_first: bool = False
    ) -> tuple[list[Snapshot], int]:
        """So many jobs by their place in the order of creation, and how many there are; among
        these some that have just expired, which are missing then. `index` as in `page`."""
        keys = OwnerKeys(owner)
        key = keys.prefix + index
        pipeline = self._redis.pipeline(transaction=True)
        first, last = (offset, offset + limit - 1) if limit > 0 else (1, 0)  # 0 to -1 is all
        pipeline.zrange(key, first, last, desc=not oldest_first)
        pipeline.zcard(key)
        with translated():
            members, count = await pipeline.execute()
            jobs = await self._snapshots(keys, [job_of(member.decode()) for member in members])
        return jobs, int(count)

    async def pages(
        self, owner: str, index: str, after: str | None, sizes: Sequence[int]
    ) -> AsyncGenerator[Page, None]:
        """`sizes`: how many jobs each page has at most, and so how many pages there are. Raises as
        `page` does."""
        for size in sizes:
            page = await self.page(owner, index=index, after=after, limit=size)
            yield page
            if (after := page.next) is None:
                return

    async def page_with_tail(
        self, owner: str, *, after: str | None, limit: int
    ) -> tuple[Page, str]:
        """A page of the live jobs and the feed's last cursor, of one moment."""
        keys = OwnerKeys(owner)
        start = "+" if after is None else f"({after}"
        with translated():
            members: list[Any] = await self._redis.zrange(
                keys.live, start, "-", desc=True, bylex=True, offset=0, num=limit
            )
            pipeline = self._redis.pipeline(transaction=True)
            for member in members:
                pipeline.hmget(keys.job(job_of(member.decode())), "version", "snapshot")
            pipeline.xrevrange(keys.feed, count=1)
            *found, newest = await pipeline.execute()
        jobs = [Snapshot(int(version), body) for version, body in found if version is not None]
        next_ = members[-1].decode() if len(members) == limit else None
        return Page(jobs, next_), newest[0][0].decode() if newest else "0-0"

    async def _snapshots(self, keys: OwnerKeys, job_ids: Sequence[str]) -> list[Snapshot]:
        """In one round trip. Not by redis-py's pipeline, which takes more than twice as long."""
        if not job_ids:
            return []
        pool: Any = self._redis.connection_pool  # its methods are not typed
        commands = [pack("HMGET", keys.job(job_id), *SNAPSHOT) for job_id in job_ids]
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(b"".join(commands))
            found = [await connection.read_response() for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # there may be more to read
            raise
        finally:
            await pool.release(connection)
        return [Snapshot(int(version), body) for version, body in found if version is not None]

    async def hold(self, wanted: Sequence[tuple[str, str]]) -> list[Held]:
        """The jobs of (owner, id) pairs for the fold, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for owner, job_id in wanted:
            keys = OwnerKeys(owner)
            pipeline.hgetall(keys.job(job_id))
            pipeline.exists(keys.gone(job_id))
        with translated():
            answers = await pipeline.execute()
        return [
            _held(fields, bool(gone)) for fields, gone in zip(*[iter(answers)] * 2, strict=True)
        ]

    async def seen(self, wanted: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Whether the record or comment of (owner, job id, reference) is stored already."""
        pipeline = self._redis.pipeline(transaction=False)
        for owner, job_id, reference in wanted:
            pipeline.sismember(OwnerKeys(owner).refs(job_id), reference)
        with translated():
            return [bool(answer) for answer in await pipeline.execute()]

    async def begun(self, fingerprint: str) -> int:
        """How often work on this event was begun and has not come to an end, with this time."""
        key = tries(fingerprint)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.incr(key)
        pipeline.expire(key, TRIES_TTL_S)
        with translated():
            count, _ = await pipeline.execute()
        return int(count)

    async def over(self, fingerprint: str) -> None:
        with translated():
            await self._redis.delete(tries(fingerprint))


def _answer(
    version: bytes | None, body: bytes | None, gone: bytes | None
) -> Snapshot | Gone | None:
    if version is not None and body is not None:
        return Snapshot(int(version), body)
    return None if gone is None else Gone(gone == DELETED)


def _held(fields: dict[bytes, bytes], gone: bool) -> Held:
    if not fields:
        return Held(None, b"", {}, gone)
    owed = {
        int(name[4:]): parse_owed(value)
        for name, value in fields.items()
        if name.startswith(b"owe:")
    }
    snapshot = fields[b"snapshot"]
    state = State(
        _JOB.decode(snapshot), _MEMORY.decode(fields[b"memory"]), int(fields[b"heard_at"])
    )
    return Held(state, snapshot, owed)


def _checked(after: str) -> str:
    created, _, job_id = after.partition(":")
    if len(created) != CREATED_DIGITS or not created.isdigit() or not job_id:
        raise BadPage
    return after
