"""Reading the feed and the indexes as they lie in Redis."""

import asyncio

import msgspec
import pytest

from deploy.redis import RedisNode
from jobcast.events import Queued, Recorded, Started, Succeeded
from notifier.connection import StoreUnavailable, UnsafePolicy, connect
from notifier.feed import START, Feed
from notifier.store import Store
from tests.integration.lab import Lab


async def test_an_empty_feed_stands_at_its_start_and_is_resumed_from_there(lab: Lab) -> None:
    assert await lab.feed.tail(lab.owner) == START
    assert await lab.feed.resumes(lab.owner, START)
    await lab.tell(lab.say(Started))
    assert await lab.feed.resumes(lab.owner, START)


async def test_only_a_cursor_after_which_nothing_is_missing_is_resumed(lab: Lab) -> None:
    await lab.tell(*(lab.say(Started, f"j{number}") for number in range(4)))
    cursors = [entry.cursor for entry in await lab.entries()]
    ms, _, number = cursors[0].partition("-")
    assert [await lab.feed.resumes(lab.owner, cursor) for cursor in cursors] == [True] * 4
    for unknown in (f"{ms}-{int(number) + 100}", f"{int(ms) - 1}-0", f"0{cursors[0]}", "*", ""):
        assert not await lab.feed.resumes(lab.owner, unknown)
    await lab.redis.xdel(lab.keys.feed, cursors[1])
    assert not await lab.feed.resumes(lab.owner, cursors[0])
    assert not await lab.feed.resumes(lab.owner + "-other", cursors[3])


async def test_the_last_cursor_is_resumed_whatever_is_written_meanwhile(lab: Lab) -> None:
    await lab.tell(lab.say(Started))

    async def write() -> None:
        for number in range(300):
            await lab.tell(lab.say(Recorded, target="t", code=number))

    writing = asyncio.create_task(write())
    while not writing.done():
        cursor = await lab.feed.tail(lab.owner)
        answers = await asyncio.gather(*(lab.feed.resumes(lab.owner, cursor) for _ in range(10)))
        assert all(answers)


async def test_pages_of_jobs_go_on_where_the_last_one_ended_although_jobs_come_and_go(
    lab: Lab,
) -> None:
    await lab.tell(*(lab.say(Queued, f"j{number}") for number in range(7)))
    first = await lab.store.page(lab.owner, limit=3)
    await lab.tell(lab.say(Queued, "newer"))
    await lab.redis.zrem(lab.keys.jobs, first.next or "")
    second = await lab.store.page(lab.owner, limit=3, after=first.next)
    last = await lab.store.page(lab.owner, limit=3, after=second.next)
    found = [snapshot.body for page in (first, second, last) for snapshot in page.jobs]
    assert (len(found), len(set(found)), last.next) == (7, 7, None)
    with pytest.raises(ValueError, match="page"):
        await lab.store.page(lab.owner, after="no page")


async def test_a_slice_holds_what_is_asked_for_and_never_more(lab: Lab) -> None:
    for number in range(5):
        await lab.tell(lab.say(Queued, f"j{number}"))
        lab.ahead_ms += 1
    for oldest_first in (False, True):
        wanted = [f"j{number}" for number in range(5)][:: 1 if oldest_first else -1]
        for offset in range(7):
            for limit in range(7):
                found, total = await lab.store.slice(
                    lab.owner, "jobs", offset=offset, limit=limit, oldest_first=oldest_first
                )
                names = [msgspec.json.decode(one.body)["id"] for one in found]
                assert (names, total) == (wanted[offset:][:limit], 5), (offset, limit)


async def test_the_live_jobs_and_the_tail_are_read_at_one_moment(lab: Lab) -> None:
    await lab.tell(lab.say(Started, "a"), lab.say(Started, "b"), lab.say(Succeeded, "b"))
    page, tail = await lab.store.page_with_tail(lab.owner, after=None, limit=10)
    assert [snapshot.version for snapshot in page.jobs] == [1]
    assert tail == await lab.feed.tail(lab.owner)


async def test_what_redis_fails_with_is_one_error() -> None:
    redis = connect("redis://127.0.0.1:1/0", name="jobcast-test")
    store = Store(redis)
    with pytest.raises(StoreUnavailable):
        await store.read("alice", "j")
    with pytest.raises(StoreUnavailable):
        await Feed(redis, store).tail("alice")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await redis.aclose()


async def test_a_redis_that_may_evict_is_refused(redis_server: RedisNode, lab: Lab) -> None:
    await lab.store.check_policy()
    await lab.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(UnsafePolicy, match="allkeys-lru"):
            await lab.store.check_policy()
    finally:
        await lab.redis.config_set("maxmemory-policy", "noeviction")
