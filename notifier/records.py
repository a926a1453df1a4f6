"""Reading records: of one job, and of all jobs of a group (docs/protocol.md § 7).

Promises: `total` counts all there are, whatever part of them is asked for; the order is that of the
jobs' creation, within a job that of arrival, and stays as it is while records come. An answer holds
at most `ANSWER_MAX` records and `ANSWER_BYTES`; no call to Redis reads more than `PORTION` records
or `JOBS` jobs. Counting a group costs two short commands per job of it; the records themselves are
read only where they are asked for, or where a job has some of other groups. Never writes.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from notifier.connection import translated
from notifier.keys import OwnerKeys, job_of
from notifier.store import DELETED, Gone

ANSWER_MAX: Final = 10_000
ANSWER_BYTES: Final = 8_388_608
PORTION: Final = 500
JOBS: Final = 500


class Line(Struct):
    """Of a stored record, what is looked at."""

    group: str | None


LINE: Final = msgspec.json.Decoder(Line)


Part = tuple[str, range]
"""Records of one job, by their places in its list."""


class Window:
    """What is asked for, `limit` records from `offset` on (None: all), as it fills."""

    def __init__(self, offset: int, limit: int | None) -> None:
        self.total = 0
        self.records: list[bytes] = []
        self._skip = offset
        self._room = ANSWER_MAX if limit is None else min(limit, ANSWER_MAX)
        self._bytes = ANSWER_BYTES

    def count(self, some: int) -> range:
        """Counts so many more records; answers which of them, from 0 on, belong."""
        first = min(max(self._skip - self.total, 0), some)
        self.total += some
        taken = range(first, min(some, first + self._room))
        self._room -= len(taken)
        return taken

    @property
    def full(self) -> bool:
        return self._bytes <= 0

    def put(self, records: Sequence[bytes]) -> None:
        """Those that belong, in order. One that makes the answer too long is the last."""
        for record in records:
            if self.full:
                self._room = 0
                return
            self.records.append(record)
            self._bytes -= len(record) + 1


class Records:
    """Reads. `redis` must not decode responses. Raises `StoreUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, owner: str, job_id: str) -> int | Gone | None:
        """How many records the job has."""
        keys = OwnerKeys(owner)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hexists(keys.job(job_id), "version")
        pipeline.get(keys.gone(job_id))
        pipeline.llen(keys.records(job_id))
        with translated():
            there, gone, length = await pipeline.execute()
        if there:
            return int(length)
        return None if gone is None else Gone(gone == DELETED)

    async def of_job(self, owner: str, job_id: str, length: int, window: Window) -> None:
        """Fills the window with the job's records, of which there are `length`."""
        await self._read(OwnerKeys(owner), [(job_id, window.count(length))], window)

    async def of_group(self, owner: str, group: str, window: Window) -> None:
        """Fills the window with the records that are of the group."""
        keys = OwnerKeys(owner)
        async for jobs in self._jobs(keys, group):
            wanted: list[Part] = []
            for job_id, length, pure in await self._lengths(keys, jobs):
                if pure:
                    wanted.append((job_id, window.count(length)))
                    continue
                await self._read(keys, wanted, window)
                wanted = []
                await self._choose(keys, job_id, group, window)
            await self._read(keys, wanted, window)

    async def _jobs(self, keys: OwnerKeys, group: str) -> AsyncIterator[list[str]]:
        """The jobs that may have records of the group, in the order of their creation."""
        start = "-"
        while True:
            pipeline = self._redis.pipeline(transaction=False)
            for index in (keys.group(group), keys.record_group(group)):
                pipeline.zrange(index, start, "+", bylex=True, offset=0, num=JOBS)
            with translated():
                found = await pipeline.execute()
            # Where one index has more, nothing beyond its last may be told yet.
            ends = [some[-1] for some in found if len(some) == JOBS]
            members = sorted(
                {name for some in found for name in some if not ends or name <= min(ends)}
            )
            if members:
                yield [job_of(name.decode()) for name in members]
            if not ends:
                return
            start = f"({min(ends).decode()}"

    async def _lengths(self, keys: OwnerKeys, jobs: Sequence[str]) -> list[tuple[str, int, bool]]:
        """Of each job how many records it has, and whether all of them are of its own group."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in jobs:
            pipeline.llen(keys.records(job_id))
            pipeline.exists(keys.odd_groups(job_id))
        with translated():
            answers = await pipeline.execute()
        pairs = zip(*[iter(answers)] * 2, strict=True)
        return [
            (job_id, length, not odd) for job_id, (length, odd) in zip(jobs, pairs, strict=True)
        ]

    async def _choose(self, keys: OwnerKeys, job_id: str, group: str, window: Window) -> None:
        """Those of a job's records that are of the group."""
        first = 0
        while True:
            (records,) = await self._portion(keys, [(job_id, range(first, first + PORTION))])
            chosen = [record for record in records if LINE.decode(record).group == group]
            taken = window.count(len(chosen))
            window.put([chosen[at] for at in taken])
            first += PORTION
            if len(records) < PORTION:
                return

    async def _read(self, keys: OwnerKeys, wanted: Sequence[Part], window: Window) -> None:
        """Puts the wanted records into the window, a bounded number at a time."""
        parts = [
            (job_id, taken[at : at + PORTION])
            for job_id, taken in wanted
            for at in range(0, len(taken), PORTION)
        ]
        while parts:
            few = 1
            while few < len(parts) and sum(len(some) for _, some in parts[: few + 1]) <= PORTION:
                few += 1
            for records in await self._portion(keys, parts[:few]):
                window.put(records)
            parts = [] if window.full else parts[few:]

    async def _portion(self, keys: OwnerKeys, parts: Sequence[Part]) -> list[list[bytes]]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id, taken in parts:
            pipeline.lrange(keys.records(job_id), taken.start, taken.stop - 1)
        with translated():
            found: list[list[bytes]] = await pipeline.execute()
        return found
