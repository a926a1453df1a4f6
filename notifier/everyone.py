"""All owners' jobs as one list, newest first: for admins (docs/protocol.md § 7).

The order is (creation, owner, id), and a page's token names the last place that was told: what
comes later stands before it, what goes leaves no gap, so nothing is repeated or skipped.

Costs per request: one short command per owner, `AT_ONCE` of them in a pipeline, for the newest job
of each; of these heads only as many are kept as jobs may be asked for. Then each round reads at
most as many members as a page has places, twice as deep where the last round was not deep enough.
Never writes.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from heapq import nlargest
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from jobcast.names import is_id, is_owner
from notifier.connection import translated
from notifier.keys import CREATED_DIGITS, OWNERS, OwnerKeys, job_of
from notifier.store import BadPage, Page, Snapshot

AT_ONCE: Final = 200
"""Owners: they hold up the other requests of the process for about 10 ms."""
SCANNED: Final = 1_000


class Place(NamedTuple):
    """Where a job stands in the list: `created` in milliseconds, 13 digits."""

    created: str
    owner: str
    job_id: str

    @property
    def token(self) -> str:
        """Neither name can hold a slash."""
        return f"{self.created}:{self.owner}/{self.job_id}"


def place_of(token: str) -> Place:
    """Raises BadPage for a token that no page has given."""
    created, _, name = token.partition(":")
    owner, _, job_id = name.partition("/")
    digits = created.isascii() and created.isdigit() and len(created) == CREATED_DIGITS
    if not digits or not is_owner(owner) or not is_id(job_id):
        raise BadPage
    return Place(created, owner, job_id)


class Run:
    """One owner's jobs after a place, newest first, as far as they have been read."""

    __slots__ = ("more", "owner", "places", "start")

    def __init__(self, owner: str, after: Place | None) -> None:
        self.owner = owner
        self.places: list[Place] = []
        self.more = True
        self.start = "+" if after is None else _start(owner, after)

    def read(self, members: Sequence[bytes], asked: int) -> None:
        for member in members:
            name = member.decode()
            self.places.append(Place(name[:CREATED_DIGITS], self.owner, job_of(name)))
            self.start = f"({name}"
        self.more = len(members) == asked


def _start(owner: str, after: Place) -> str:
    """The bound in the owner's index (`<created>:<id>`) below which all comes after the place."""
    if owner == after.owner:
        return f"({after.created}:{after.job_id}"
    # A semicolon follows a colon: all of the same millisecond come after it, or none.
    return f"({after.created};" if owner < after.owner else f"({after.created}:"


class Everyone:
    """Reads. `redis` must not decode responses. Raises `StoreUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def pages(
        self, index: str, after: str | None, sizes: Sequence[int]
    ) -> AsyncGenerator[Page, None]:
        """Pages of at most so many jobs; fewer are in one where some have just expired.

        `index` as in `Store.page`; `after` is a page's `next`. Raises BadPage for one that no page
        has given.
        """
        place = None if after is None else place_of(after)
        runs = await self._heads(index, place, sum(sizes))
        for size in sizes:
            places = await self._next(runs, index, size)
            last = len(places) < size
            jobs = await self.snapshots([(place.owner, place.job_id) for place in places])
            yield Page(jobs, None if last else places[-1].token)
            if last:
                return

    async def _heads(self, index: str, after: Place | None, count: int) -> list[Run]:
        """Those owners whose newest jobs are the newest of all. No other can have one of the first
        `count` jobs: there are so many heads before it."""
        names: set[str] = set()
        with translated():
            async for name, _ in self._redis.zscan_iter(OWNERS, count=SCANNED):
                names.add(name.decode())
        runs = [Run(owner, after) for owner in names]
        kept: list[Run] = []
        for some in _portions(runs):
            await self._read(some, index, 1)
            kept = nlargest(count, (*kept, *(run for run in some if run.places)), key=_head)
        return kept

    async def _next(self, runs: list[Run], index: str, size: int) -> list[Place]:
        """Takes the next places out of the runs."""
        depth = 1
        while True:
            places = nlargest(size, (place for run in runs for place in run.places))
            full = len(places) == size
            # Where the last that was read of an owner belongs, what has not been read may as well.
            thin = [
                run
                for run in runs
                if run.more and (not full or not run.places or run.places[-1] > places[-1])
            ]
            if not thin:
                break
            for some in _portions(thin):
                await self._read(some, index, depth)
            depth = min(2 * depth, size)
        taken = set(places)
        for run in runs:
            run.places = [place for place in run.places if place not in taken]
        return places

    async def _read(self, runs: Sequence[Run], index: str, count: int) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for run in runs:
            key = OwnerKeys(run.owner).prefix + index
            pipeline.zrange(key, run.start, "-", desc=True, bylex=True, offset=0, num=count)
        with translated():
            answers: list[list[bytes]] = await pipeline.execute()
        for run, members in zip(runs, answers, strict=True):
            run.read(members, count)

    async def snapshots(self, names: Sequence[tuple[str, str]]) -> list[Snapshot]:
        """The jobs of (owner, id) pairs, in one round trip, without those that are gone."""
        if not names:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for owner, job_id in names:
            pipeline.hmget(OwnerKeys(owner).job(job_id), "version", "snapshot")
        with translated():
            found: list[Any] = await pipeline.execute()
        return [Snapshot(int(version), body) for version, body in found if version is not None]


def _head(run: Run) -> Place:
    return run.places[0]


def _portions(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    return (runs[at : at + AT_ONCE] for at in range(0, len(runs), AT_ONCE))
