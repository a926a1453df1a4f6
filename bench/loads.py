"""The four loads of `bench overload`. Each answers its figures, or raises `Failed`."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from bench import load, queues
from bench.bystander import OWNER as BYSTANDER
from bench.floods import LAST_PERCENT, Flood, flood
from bench.listening import Told, listen, request, stuck
from bench.load import Spec
from bench.machine import rss_bytes
from bench.results import Failed, Row
from bench.scene import Scene
from bench.stored import wrong_in_notifications, wrong_in_redis
from bench.weights import MB, descriptors
from broker.link import connected, opened
from jobcast.names import EVENTS
from notifier.keys import OwnerKeys

ENDS: Final = ("succeeded", "failed", "canceled")
FULL: Final = "bench.full"
GAVE_UP: Final = "gave up notification"
REFUSING: Final = {"x-max-length": 1, "x-overflow": "reject-publish"}
"""A queue that takes one message and refuses all others."""

ARRIVAL_S: Final = 60.0
CUT_S: Final = 80.0
LOOK_S: Final = 0.1
GOOD_READERS: Final = 5
FAT_JOBS: Final = 4


class Sizes(msgspec.Struct, frozen=True):
    """How much of each load; seconds of quiet before it; whether to wait for the cut."""

    events: int = 100_000
    delay_s: float = 0.015
    stuck: int = 500
    changes: int = 3_000
    resumed: int = 100
    flood_s: float = 20.0
    paced: int = 1_000
    paced_per_s: float = 400.0
    burst: int = 5_000
    quiet_s: float = 5.0
    wait_for_cut: bool = True


class Ends:
    """What readers were told: how often each event, when the last one was, the last percent."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.last_at = 0.0
        self.percents: dict[str, float | None] = {}
        self.cursor = ""

    def hear(self, told: Told) -> None:
        self.events[told.event] += 1
        if told.event == "live":
            self.cursor = told.cursor
        elif told.event == "progressed":
            self.percents[told.job_id] = told.percent
        if told.event in ENDS:
            self.ended.add(told.job_id)
        self.last_at = told.at

    async def all_ended(self, wanted: int, timeout_s: float = ARRIVAL_S) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self.ended) < wanted:
            if time.monotonic() > deadline:
                raise Failed(f"{len(self.ended)} of {wanted} ends have arrived on a feed")
            await asyncio.sleep(LOOK_S)

    async def has_percent(self, job_id: str, wanted: float) -> None:
        """The last progress of that job that was told is this."""
        deadline = time.monotonic() + 3 * ARRIVAL_S
        while (last := self.percents.get(job_id)) != wanted:
            if time.monotonic() > deadline:
                raise Failed(f"the last progress told is {last}, not {wanted}")
            await asyncio.sleep(LOOK_S)


async def slow_redis(scene: Scene, sizes: Sizes) -> Row:
    """Many events of many owners while Redis takes its time."""
    owners = [name for name in scene.tokens if name != BYSTANDER]
    jobs = [
        Spec(owners[at % len(owners)], spec.job_id, spec.fails)
        for at, spec in enumerate(load.specs(sizes.events // load.EVENTS_PER_JOB, 1))
    ]
    await _subscribe(scene.amqp_url, queues.HEARD, owners, {"x-queue-type": "quorum"})
    heard = {owner: Ends() for owner in owners}
    streams = [
        await listen(scene.port, request("/v1/events", scene.tokens[owner]), ends.hear)
        for owner, ends in heard.items()
    ]
    scene.link.delay_s = sizes.delay_s
    try:
        published = await flood(Flood(scene.amqp_url, "lives", jobs))
        drained = await scene.drained()
        for owner, ends in heard.items():
            await ends.all_ended(sum(job.owner == owner for job in jobs))
    finally:
        scene.link.delay_s = 0.0
        for stream in streams:
            stream.close()
    async with Redis.from_url(scene.servers.redis.url) as redis:
        wrong = await wrong_in_redis(redis, jobs)
    wrong += wrong_in_notifications(await queues.heard(scene.amqp_url), jobs)
    if wrong:
        raise Failed(f"{len(wrong)} faults, such as: " + "; ".join(wrong[:3]))
    return {
        "published": published.count,
        "published_per_s": published.per_s(),
        "applied_per_s": published.per_s(drained),
        "ends": len(jobs),
        "progress_told": sum(ends.events["progressed"] for ends in heard.values()),
    }


async def stuck_readers(scene: Scene, sizes: Sizes) -> Row:
    """Readers that stop reading, while their owner's jobs change a lot and at length."""
    owner = next(name for name in scene.tokens if name != BYSTANDER)
    jobs = [Spec(owner, spec.job_id, spec.fails) for spec in load.specs(FAT_JOBS, 1)]
    await flood(Flood(scene.amqp_url, "begun", jobs))
    await scene.drained()
    asked = request("/v1/events", scene.tokens[owner])
    heard = [Ends() for _ in range(GOOD_READERS)]
    good = [await listen(scene.port, asked, ends.hear) for ends in heard]
    pid = scene.stack.replicas[0].pid
    idle = rss_bytes(pid)
    sockets = [await stuck(scene.port, one) for one in _asked(scene, jobs, sizes.stuck)]
    opened_files = descriptors(pid)
    try:
        fill = Flood(scene.amqp_url, "records", jobs, count=sizes.changes)
        published = await flood(fill)
        await flood(Flood(scene.amqp_url, "ends", jobs))
        for ends in heard:
            await ends.all_ended(len(jobs))
            if ends.events["recorded"] != sizes.changes:
                raise Failed(f"a good reader has had {ends.events['recorded']} records")
        late = max(ends.last_at for ends in heard) - published.ended_at
        stuck_rss = rss_bytes(pid)
        cut = await _cut(scene, sizes) if sizes.wait_for_cut else 0.0
    finally:
        for one in sockets:
            one.close()
        for stream in good:
            stream.close()
    figures = await _resumed(
        scene, request("/v1/events", scene.tokens[owner], heard[0].cursor), sizes
    )
    return figures | {
        "published": published.count,
        "published_per_s": published.per_s(),
        "readers_late_s": round(late, 2),
        "files": opened_files,
        "kb_per_stuck": round((stuck_rss - idle) / sizes.stuck / 1024),
        "cut_after_s": round(cut, 1),
    }


def _asked(scene: Scene, jobs: Sequence[Spec], count: int) -> list[bytes]:
    """Two of three want the feed, the others one job."""
    token = scene.tokens[jobs[0].owner]
    paths = [f"/v1/jobs/{jobs[at % len(jobs)].job_id}/events" for at in range(count)]
    return [request(path if at % 3 == 0 else "/v1/events", token) for at, path in enumerate(paths)]


async def _cut(scene: Scene, sizes: Sizes) -> float:
    """Seconds until the stuck readers' connections are gone from the replica."""
    began, pid = time.monotonic(), scene.stack.replicas[0].pid
    before = descriptors(pid)
    while before - descriptors(pid) < sizes.stuck * 0.99:
        if time.monotonic() - began > CUT_S * 2:
            raise Failed(
                f"only {before - descriptors(pid)} of {sizes.stuck} stuck readers were cut"
            )
        await asyncio.sleep(1)
    return time.monotonic() - began


async def _resumed(scene: Scene, asked: bytes, sizes: Sizes) -> dict[str, int | float]:
    """Readers that come back with an old cursor, to a long feed, and then do not read."""
    pid = scene.stack.replicas[0].pid
    await asyncio.sleep(1)
    before = peak = rss_bytes(pid)
    sockets = [await stuck(scene.port, asked) for _ in range(sizes.resumed)]
    for _ in range(30):
        await asyncio.sleep(LOOK_S)
        peak = max(peak, rss_bytes(pid))
    for one in sockets:
        one.close()
    return {
        "kb_per_resumed": round((peak - before) / sizes.resumed / 1024),
        "resumed_mb": round((peak - before) / MB),
    }


async def progress_flood(
    scene: Scene, sizes: Sizes, *, kind: str = "progress", count: int = 1
) -> Row:
    """An executor that reports the progress of its jobs, in turn, as fast as it can.

    `kind`: "progress" publishes every report, "reporter" leaves that to the SDK's `Reporter`,
    "hose" waits for nothing.
    """
    owner = next(name for name in scene.tokens if name != BYSTANDER)
    jobs = [Spec(owner, spec.job_id, spec.fails) for spec in load.specs(count, 1)]
    feed, one = Ends(), Ends()
    token = scene.tokens[owner]
    await flood(Flood(scene.amqp_url, "begun", jobs))
    await scene.drained()
    streams = [
        await listen(scene.port, request("/v1/events", token), feed.hear),
        await listen(scene.port, request(f"/v1/jobs/{jobs[-1].job_id}/events", token), one.hear),
    ]
    try:
        given = Flood(scene.amqp_url, kind, jobs, seconds=sizes.flood_s)
        published = await flood(given)
        for ends in (feed, one):
            await ends.has_percent(jobs[-1].job_id, LAST_PERCENT)
        applied_at = feed.last_at
        await flood(Flood(scene.amqp_url, "ends", jobs))
        await feed.all_ended(len(jobs))
        await one.all_ended(1)
    finally:
        for stream in streams:
            stream.close()
    return {
        "published": published.count,
        "published_per_s": published.per_s(),
        "applied_per_s": published.per_s(applied_at),
        "readers_late_s": round(applied_at - published.ended_at, 2),
        "progress_told": feed.events["progressed"],
        "ends": len(feed.ended),
    }


async def full_queue(scene: Scene, sizes: Sizes, *, full: bool = True) -> Row:
    """One owner's events at a steady rate, then at once. `full`: a subscription refuses all."""
    owner = next(name for name in scene.tokens if name != BYSTANDER)
    jobs = [Spec(owner, s.job_id, s.fails) for s in load.specs(sizes.paced + sizes.burst, 1)]
    if full:
        await _subscribe(scene.amqp_url, FULL, [owner], REFUSING)
    ends = Ends()
    stream = await listen(scene.port, request("/v1/events", scene.tokens[owner]), ends.hear)
    before = scene.logged(GAVE_UP)
    try:
        paced, rest = jobs[: sizes.paced], jobs[sizes.paced :]
        calm = Flood(scene.amqp_url, "pairs", paced, per_s=sizes.paced_per_s)
        published = await flood(calm)
        burst = await flood(Flood(scene.amqp_url, "pairs", rest))
        await scene.drained()
        await ends.all_ended(len(jobs))
        if full:  # all but the one that the queue has room for, after the last try of each
            await scene.has_logged(GAVE_UP, before + 2 * len(jobs) - 1)
    finally:
        stream.close()
    async with Redis.from_url(scene.servers.redis.url) as redis:
        if live := await redis.zcard(OwnerKeys(owner).live):
            raise Failed(f"{live} ended jobs count as live")
    return {
        "published": published.count + burst.count,
        "published_per_s": published.per_s(),
        "applied_per_s": burst.per_s(ends.last_at),
        "ends": len(ends.ended),
        "given_up": scene.logged(GAVE_UP) - before,
    }


async def _subscribe(
    url: str, queue: str, owners: Sequence[str], arguments: Mapping[str, Any]
) -> None:
    """A durable queue for all notifications of these owners."""
    async with connected(url, "bench") as connection, opened(connection, confirms=False) as channel:
        await channel.queue_declare(queue, durable=True, arguments=dict(arguments))
        for owner in owners:
            await channel.queue_bind(queue, EVENTS, f"{owner}.#")


async def remove_full(url: str) -> None:
    async with connected(url, "bench") as connection, opened(connection, confirms=False) as channel:
        await channel.queue_delete(FULL)
