"""`python -m bench soak`: connections that come and go leave nothing behind in an API replica.

Event streams and long polls are opened and dropped in every way that there is, some hundred at a
time, while events come in. After the first of them (what is loaded or pooled once) the replica is
left alone until it is quiet, and looked at; at the end again. Flat is: as many files as then,
beside the connections of its bounded pool to Redis; as many subscriptions; at most `GROWTH_MB` more
memory.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from redis.asyncio import Redis

from bench.drops import POLL_DROPS, STREAM_DROPS, Place, Turns
from bench.floods import Flood, flood
from bench.load import Spec, specs
from bench.machine import open_files, rss_bytes
from bench.readers import FILES
from bench.results import Failed, Row, print_table
from bench.run import measured
from bench.scene import Scene, scene
from bench.servers import Servers
from bench.weights import MB, descriptors

GROWTH_MB: Final = 5.0
POOLS_MAX: Final = 100
"""Both replicas' connections for reading, 50 each."""

OWNERS: Final = [f"soaked-{number}" for number in range(10)]
JOBS: Final = 20
RECORDS_PER_S: Final = 100.0
RECORDS_AT_ONCE: Final = 500
QUIET_TIMEOUT_S: Final = 30.0
LOOK_S: Final = 0.25
LOOKS: Final = 8


class Sizes(msgspec.Struct, frozen=True):
    """How many connections; how many of them before the first look, in one portion, at a time."""

    streams: int = 20_000
    polls: int = 5_000
    warm: int = 2_000
    portion: int = 1_000
    at_once: int = 300


class Look(msgspec.Struct, frozen=True):
    """What the replica holds at one moment; `pooled` counts those of the idle replica too."""

    rss_mb: float
    files: int
    pooled: int
    channels: int

    @property
    def other_files(self) -> int:
        return self.files - self.pooled


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, under 40 s")
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--polls", type=int, default=5_000)


def run(given: argparse.Namespace) -> int:
    sizes = Sizes(streams=given.streams, polls=given.polls)
    if given.quick:
        sizes = Sizes(streams=3_000, polls=600, warm=1_000, portion=500, at_once=100)
    open_files(FILES)
    return measured(
        name="soak",
        measure=lambda servers, rows: _measure(servers, sizes, rows),
        report=_report,
    )


async def _measure(servers: Servers, sizes: Sizes, rows: list[Row]) -> None:
    async with (
        scene(servers, "soak", OWNERS, 0) as one,
        Redis.from_url(servers.redis.url) as redis,
    ):
        jobs = [Spec(OWNERS[at % len(OWNERS)], s.job_id, s.fails) for at, s in _jobs()]
        await flood(Flood(one.amqp_url, "queued", jobs))
        await one.drained()
        soak = _Soak(one, redis, rows)
        async with _events(one, jobs):
            streams = Turns(_stream_places(one, jobs), STREAM_DROPS)
            polls = Turns(_poll_places(one, jobs), POLL_DROPS)
            await streams.take(sizes.warm, sizes.at_once)
            await polls.take(sizes.warm // 4, sizes.at_once)
            first = await soak.quiet("warm", sizes.warm)
            for count in range(sizes.portion, sizes.streams + 1, sizes.portion):
                await streams.take(sizes.portion, sizes.at_once)
                await soak.look("streams", count)
            await soak.quiet("streams, quiet", sizes.streams)
            await polls.take(sizes.polls, sizes.at_once)
            last = await soak.quiet("long polls, quiet", sizes.polls)
    for turns in (streams, polls):
        print(", ".join(f"{count} {kind}" for kind, count in sorted(turns.done.items())))
        if turns.wrong:
            raise Failed(f"{turns.wrong.total()} connections failed: {turns.wrong.most_common(3)}")
    _judge(first, last)


def _jobs() -> enumerate[Spec]:
    return enumerate(specs(JOBS, 1))


def _stream_places(one: Scene, jobs: list[Spec]) -> list[Place]:
    """By turns the feed of an owner and the stream of a job."""
    places = []
    for job in jobs:
        token = one.tokens[job.owner]
        places.append(Place(one.port, token, "/v1/events"))
        places.append(Place(one.port, token, f"/v1/jobs/{job.job_id}/events"))
    return places


def _poll_places(one: Scene, jobs: list[Spec]) -> list[Place]:
    return [
        Place(one.port, one.tokens[job.owner], f"/v1/jobs/{job.job_id}?wait=60") for job in jobs
    ]


@asynccontextmanager
async def _events(one: Scene, jobs: list[Spec]) -> AsyncIterator[None]:
    """Records of all jobs at a steady rate, for the block."""

    async def records() -> None:
        while True:
            given = Flood(one.amqp_url, "records", jobs, RECORDS_AT_ONCE, per_s=RECORDS_PER_S)
            await flood(given)

    task = asyncio.create_task(records())
    try:
        yield
        if task.done():
            raise Failed(f"the events have stopped: {task.exception()}")
    finally:
        task.cancel()
        await asyncio.wait({task})


class _Soak:
    """Looks at the first replica."""

    def __init__(self, one: Scene, redis: Redis, rows: list[Row]) -> None:
        self._pid = one.stack.replicas[0].pid
        self._redis = redis
        self._rows = rows
        self._began = time.monotonic()

    async def look(self, what: str, count: int) -> Look:
        clients = await self._redis.client_list()
        channels = await self._redis.pubsub_channels("jobcast:*")
        seen = Look(
            rss_mb=round(rss_bytes(self._pid) / MB, 1),
            files=descriptors(self._pid),
            pooled=sum(client["name"] == "jobcast-reader" for client in clients),
            channels=len(channels),
        )
        seconds = round(time.monotonic() - self._began, 1)
        self._rows.append(
            {"what": what, "connections": count, "seconds": seconds, **msgspec.structs.asdict(seen)}
        )
        return seen

    async def quiet(self, what: str, count: int) -> Look:
        """The look once nothing has been closed any more for some looks."""
        deadline = time.monotonic() + QUIET_TIMEOUT_S
        same, before = 0, -1
        while same < LOOKS:
            if time.monotonic() > deadline:
                raise Failed(f"the replica is not quiet: {descriptors(self._pid)} files")
            now = descriptors(self._pid)
            same = same + 1 if now == before else 0
            before = now
            await asyncio.sleep(LOOK_S)
        return await self.look(what, count)


def _judge(first: Look, last: Look) -> None:
    faults = []
    if last.rss_mb - first.rss_mb > GROWTH_MB:
        faults.append(f"memory has grown from {first.rss_mb} to {last.rss_mb} MB")
    if last.other_files > first.other_files:
        faults.append(f"{first.other_files} files have become {last.other_files}")
    if last.pooled > POOLS_MAX:
        faults.append(f"{last.pooled} connections to Redis are pooled")
    if last.channels > first.channels:
        faults.append(f"{first.channels} subscriptions have become {last.channels}")
    if faults:
        raise Failed("not flat: " + ", ".join(faults))
    grown = f"{last.rss_mb - first.rss_mb:+.1f} MB"
    print(f"flat: {grown}, {last.other_files - first.other_files:+d} files")


def _report(rows: list[Row]) -> None:
    columns = list(rows[0])
    print_table("soak", columns, [[str(row[name]) for name in columns] for row in rows])
