"""The hub when its link to Redis fails, lies still, or says nothing of what has changed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from deploy.redis import RedisNode
from jobcast.events import Progressed, Queued, Recorded, Started, Succeeded
from jobcast.job import Job
from notifier.connection import StoreUnavailable, connect
from notifier.follow import follow_feed
from notifier.keys import channel
from notifier.reader import Reader, opened_reader
from notifier.stream import Items
from tests.eventually import eventually
from tests.integration.lab import Lab, reading, versions_rise

HEARTBEAT_S = 1.0


@pytest.fixture
async def quick(redis_server: RedisNode) -> AsyncIterator[Reader]:
    """A reader with short heartbeats."""
    async with opened_reader(redis_server.url, heartbeat_s=HEARTBEAT_S) as reader:
        yield reader


def feed(reader: Reader, lab: Lab, cursor: str | None = None) -> Items:
    return follow_feed(reader, lab.owner, cursor=cursor, wanted=None, max_age_s=60)


async def test_nothing_is_lost_and_nothing_twice_while_the_link_is_cut_again_and_again(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "snapshot", "live")
        for number in range(200):
            await lab.tell(lab.say(Recorded, target="t", code=number))
            if number % 20 == 10:
                await lab.cut_links()
        await lab.tell(lab.say(Succeeded))
        await told.has(lambda told: told.words[-1] == "succeeded")
        assert told.changes == [entry.cursor for entry in (await lab.entries())[1:]]
        assert versions_rise(told.items)


async def test_a_stream_that_opens_while_the_link_is_cut_waits_for_it(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(reader, lab)) as first:
        await first.until("stream", "snapshot", "live")
        await lab.cut_links()
        async with reading(feed(reader, lab)) as second:
            await lab.tell(lab.say(Succeeded))
            await first.has(lambda told: told.words[-1] == "succeeded")
            await second.has(lambda told: "live" in told.words)
            assert second.error is None


async def test_a_change_that_nobody_has_published_is_found_within_a_heartbeat(
    lab: Lab, quick: Reader
) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(quick, lab)) as told:
        await told.until("stream", "snapshot", "live")
        last = (await lab.entries())[-1]
        fields = {"prev": last.cursor, "event": "recorded", "job": "j", "version": 2}
        job = msgspec.structs.replace(await lab.job(), version=2)
        await lab.redis.xadd(lab.keys.feed, {**fields, "body": msgspec.json.encode(job)})  # type: ignore[dict-item] # all strings
        await told.until("stream", "snapshot", "live", "recorded", timeout_s=3 * HEARTBEAT_S)
        assert told.words == ["stream", "snapshot", "live", "recorded"]


async def test_a_quiet_stream_beats_and_says_where_its_feed_stands(lab: Lab, quick: Reader) -> None:
    def nothing(_: Job) -> bool:
        return False

    stream = follow_feed(quick, lab.owner, cursor=None, wanted=nothing, max_age_s=60)
    async with reading(stream) as told:
        await told.until("stream", "live")

        async def busy() -> bool:  # a feed that moves all the time, and nothing of it is wanted
            await lab.tell(lab.say(Queued, f"j{len(await lab.entries())}"))
            return sum(item.event is None for item in told.items) >= 3

        await eventually(busy, 8 * HEARTBEAT_S, every_s=0.2)
        beats = [item for item in told.items if item.event is None]
        cursors = [entry.cursor for entry in await lab.entries()]
        assert all(beat.cursor in cursors for beat in beats)


async def test_a_quiet_stream_of_a_quiet_feed_beats_without_a_cursor(
    lab: Lab, quick: Reader
) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(quick, lab)) as told:
        await told.has(lambda told: sum(item.event is None for item in told.items) >= 2)
        assert {item.cursor for item in told.items if item.event is None} == {None}


async def test_what_others_say_on_the_channel_does_no_harm(lab: Lab, quick: Reader) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(quick, lab)) as told:
        await told.until("stream", "snapshot", "live")
        await lab.redis.publish(channel(0, lab.owner), b"\xff nonsense")
        await lab.tell(lab.say(Succeeded))
        await told.until("stream", "snapshot", "live", "succeeded")
        assert told.words == ["stream", "snapshot", "live", "succeeded"]


async def test_streams_outlast_a_redis_that_stands_still(tmp_path: Path, owner: str) -> None:
    with RedisNode(tmp_path) as node:
        async with opened_reader(node.url, heartbeat_s=HEARTBEAT_S) as reader:
            redis = connect(node.url, name="jobcast-test")
            lab = Lab(redis, owner)
            await lab.tell(lab.say(Started))
            async with reading(feed(reader, lab)) as told:
                await told.until("stream", "snapshot", "live")
                node.pause()
                writing = asyncio.create_task(lab.tell(lab.say(Recorded, target="t", code=0)))
                await eventually(lambda: not reader.hub.ready, 20)
                node.resume()
                await writing
                await lab.tell(lab.say(Succeeded))
                await told.until("stream", "snapshot", "live", "recorded", "succeeded")
            await redis.aclose()


async def test_streams_outlast_a_redis_that_was_killed(tmp_path: Path, owner: str) -> None:
    with RedisNode(tmp_path) as node:
        async with opened_reader(node.url, heartbeat_s=HEARTBEAT_S) as reader:
            redis = connect(node.url, name="jobcast-test")
            lab = Lab(redis, owner)
            await lab.tell(lab.say(Started))
            async with reading(feed(reader, lab)) as told:
                await told.until("stream", "snapshot", "live")
                node.kill()
                await eventually(lambda: not reader.hub.ready)
                writing = asyncio.create_task(lab.tell(lab.say(Recorded, target="t", code=0)))
                with pytest.raises(StoreUnavailable):
                    await reader.store.read(owner, "j")
                node.start()
                await writing
                await lab.tell(lab.say(Succeeded))
                await told.until("stream", "snapshot", "live", "recorded", "succeeded")
            await redis.aclose()


async def test_a_feed_that_has_lost_its_last_entries_goes_on_from_what_is_left(
    lab: Lab, quick: Reader
) -> None:
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Recorded, target="t", code=1))
    async with reading(feed(quick, lab)) as told:
        await told.until("stream", "snapshot", "live")
        last = (await lab.entries())[-1].cursor
        await lab.redis.xdel(lab.keys.feed, last)  # as after a failover
        await lab.tell(lab.say(Recorded, target="t", code=2), lab.say(Progressed, percent=1))
        await told.until("stream", "snapshot", "live", "recorded", "progressed")
    async with reading(feed(quick, lab, last)) as again:
        await again.has(lambda told: "live" in told.words)
        assert again.words[1] == "snapshot"


async def test_a_hub_ends_at_once_at_whatever_moment_it_is_asked_to(
    redis_server: RedisNode, owner: str
) -> None:
    chance, before = Random(1), asyncio.all_tasks()
    for _ in range(40):
        async with asyncio.timeout(3), opened_reader(redis_server.url, heartbeat_s=0.03) as reader:
            with reader.hub.listen(owner) as listener:
                await listener.ready()
                # While it pings, and looks after a silent owner, all the time.
                await asyncio.sleep(chance.uniform(0, 0.05))
        assert asyncio.all_tasks() == before
