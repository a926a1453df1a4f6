"""The stream of an owner's feed: opening, resume, reset, progress, filters, slow readers."""

from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from jobcast.events import Deleted, Progressed, Queued, Recorded, Started, Succeeded
from jobcast.job import Job, Status
from notifier.follow import follow_feed
from notifier.listener import BUFFER_MAX, Item
from notifier.reader import Reader
from notifier.stream import Items, Wanted
from tests.eventually import eventually
from tests.integration.lab import Lab, in_order, reading, resume_of, versions_rise


def feed(
    reader: Reader,
    lab: Lab,
    cursor: str | None = None,
    *,
    wanted: Wanted = None,
    max_age_s: float = 30,
) -> Items:
    return follow_feed(reader, lab.owner, cursor=cursor, wanted=wanted, max_age_s=max_age_s)


async def taken(stream: Items, count: int) -> list[Item]:
    """The first items, one way or another in at most so many pieces."""
    items: list[Item] = []
    while len(items) < count:
        items += await anext(stream)
    return items


async def test_a_fresh_stream_opens_with_the_live_jobs_and_goes_on_with_what_changes(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started, "a"), lab.say(Queued, "b"), lab.say(Succeeded, "ended"))
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "snapshot", "snapshot", "live")
        stream, first, second, live = told.items
        assert resume_of(stream) == "fresh"
        assert {first.job.id, second.job.id} == {"a", "b"}
        assert (stream.cursor, first.cursor, second.cursor) == (None, None, None)
        assert live.cursor == (await lab.entries())[-1].cursor
        await lab.tell(lab.say(Started, "b"), lab.say(Succeeded, "a"))
        await told.has(lambda told: {"started", "succeeded"} <= set(told.words))
        assert told.changes == [entry.cursor for entry in (await lab.entries())[-2:]]


async def test_the_stream_of_an_owner_without_jobs_is_live_at_once(
    lab: Lab, reader: Reader
) -> None:
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "live")
        await lab.tell(lab.say(Started))
        await told.until("stream", "live", "started")
    async with reading(feed(reader, lab, "0-0")) as again:
        await again.until("stream", "started")
        assert resume_of(again.items[0]) == "resumed"


async def test_more_live_jobs_than_fit_a_page_are_all_in_the_opening(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(*(lab.say(Queued, f"j{number}") for number in range(130)))
    async with reading(feed(reader, lab)) as told:
        await told.has(lambda told: "live" in told.words)
        assert told.words.count("snapshot") == 130
        assert versions_rise(told.items)


async def test_a_resumed_stream_tells_only_what_follows_the_cursor(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Queued))
    cursor = (await lab.entries())[-1].cursor
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Succeeded))
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream", "started", "succeeded")
        assert resume_of(told.items[0]) == "resumed"


async def test_a_resume_at_the_end_of_the_feed_tells_nothing_twice(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Queued))
    cursor = (await lab.entries())[-1].cursor
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream")
        await lab.tell(lab.say(Started))
        await told.until("stream", "started")
        assert told.words == ["stream", "started"]


async def foreign(lab: Lab) -> str:
    other = Lab(lab.redis, f"{lab.owner}-other")
    await other.tell(other.say(Started))
    return (await other.entries())[-1].cursor


@pytest.mark.parametrize("cursor", ["nonsense", "1-1", "9999999999999-0", "0-1 ", "-", "1-1\n"])
async def test_a_cursor_that_is_not_known_opens_again_with_the_ended_jobs_too(
    lab: Lab, reader: Reader, cursor: str
) -> None:
    await lab.tell(lab.say(Started, "live"), lab.say(Started, "done"), lab.say(Succeeded, "done"))
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream", "snapshot", "snapshot", "live")
        assert resume_of(told.items[0]) == "reset"
        assert {item.job.id for item in told.items if item.event == "snapshot"} == {"live", "done"}


async def test_another_owners_cursor_is_not_known(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    async with reading(feed(reader, lab, await foreign(lab))) as told:
        await told.until("stream", "snapshot", "live")
        assert resume_of(told.items[0]) == "reset"


async def test_a_cursor_that_was_trimmed_away_is_too_old(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Queued))
    first = (await lab.entries())[0].cursor
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Succeeded))
    second = (await lab.entries())[1].cursor
    await lab.redis.xtrim(lab.keys.feed, maxlen=1, approximate=False)
    async with reading(feed(reader, lab, first)) as told:
        await told.until("stream", "snapshot", "live")
        assert resume_of(told.items[0]) == "reset"
    async with reading(feed(reader, lab, second)) as told:
        await told.until("stream", "succeeded")
        assert resume_of(told.items[0]) == "resumed"


async def test_progress_carries_the_cursor_of_the_last_status_change(
    lab: Lab, reader: Reader
) -> None:
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "live")
        await lab.tell(lab.say(Started))
        await lab.tell(lab.say(Progressed, percent=10))
        await told.until("stream", "live", "started", "progressed")
        assert told.items[-1].cursor == told.items[-2].cursor
        assert told.items[-1].job.percent == 10


async def test_after_a_resume_each_running_job_is_sent_once_with_its_progress(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started, "a"), lab.say(Started, "b"), lab.say(Queued, "c"))
    cursor = (await lab.entries())[-1].cursor
    for percent in (10, 20, 30):
        await lab.tell(*(lab.say(Progressed, job, percent=percent) for job in "ab"))
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream", "progressed", "progressed")
        assert {(i.job.id, i.job.percent) for i in told.items[1:]} == {("a", 30), ("b", 30)}
        assert {item.cursor for item in told.items[1:]} == {cursor}
        await lab.tell(lab.say(Progressed, "a", percent=40))
        await told.until("stream", "progressed", "progressed", "progressed")
        assert versions_rise(told.items)


async def test_what_the_resume_itself_has_told_is_not_told_again_as_progress(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Queued))
    cursor = (await lab.entries())[-1].cursor
    await lab.tell(lab.say(Started))
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream", "started")
        await lab.tell(lab.say(Progressed, percent=5))
        await told.until("stream", "started", "progressed")
        assert told.words == ["stream", "started", "progressed"]


async def test_progress_that_nobody_has_read_yet_is_merged_into_its_latest(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    async with aclosing(feed(reader, lab)) as stream:
        await taken(stream, 3)
        await lab.tell(lab.say(Progressed, percent=1))
        assert (await anext(stream))[0].job.percent == 1
        for percent in range(2, 30):
            await lab.tell(lab.say(Progressed, percent=percent))
        async with reading(feed(reader, lab)) as other:  # has been told all: so has the first
            await other.has(lambda told: told.items[1].job.percent == 29)
        await lab.tell(lab.say(Recorded, target="t", code=0))
        items = await taken(stream, 2)
        assert [item.event for item in items] == ["progressed", "recorded"]
        assert items[0].job.percent == 29


async def test_a_slow_reader_falls_back_to_the_feed_and_loses_nothing(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started, "slow"), lab.say(Started, "busy"))
    async with aclosing(feed(reader, lab)) as stream:
        await taken(stream, 4)
        await lab.tell(lab.say(Recorded, "busy", target="t", code=0))
        items = list(await anext(stream))
        await lab.tell(lab.say(Progressed, "slow", percent=50))
        for _ in range(3):  # more than the buffer holds
            await lab.tell(
                *(
                    lab.say(Recorded, "busy", target="t", code=number)
                    for number in range(BUFFER_MAX // 2)
                )
            )
        await eventually(lambda: any(one.feed for one in reader.hub._owners.values()))
        await lab.tell(lab.say(Succeeded, "busy"))
        while items[-1].event != "succeeded" and len(items) < 1_000:
            items += await anext(stream)
        if not any(item.progress for item in items):
            items += await anext(stream)
        cursors = [item.cursor or "" for item in items if not item.progress]
        assert cursors == [entry.cursor for entry in (await lab.entries())[2:]]
        assert [i.job.percent for i in items if i.progress] == [50]
        assert versions_rise(items)


async def test_a_reader_with_more_progress_than_it_can_hold_is_told_the_latest_of_all(
    lab: Lab, reader: Reader
) -> None:
    jobs = [f"j{number}" for number in range(BUFFER_MAX + 44)]
    await lab.tell(*(lab.say(Started, job) for job in jobs))
    async with aclosing(feed(reader, lab)) as stream:
        await taken(stream, len(jobs) + 2)
        await lab.tell(*(lab.say(Progressed, job, percent=1) for job in jobs))
        first = await anext(stream)
        await lab.tell(*(lab.say(Progressed, job, percent=2) for job in jobs))
        async with reading(feed(reader, lab)) as other:
            await other.has(lambda told: "live" in told.words)
        items = [*first]
        latest = dict.fromkeys(jobs, 0.0)
        while set(latest.values()) != {2.0}:
            items += await anext(stream)
            latest |= {item.job_id: item.job.percent or 0 for item in items}
        assert versions_rise(items)


async def test_a_filter_applies_to_the_representation_after_each_change(
    lab: Lab, reader: Reader
) -> None:
    def backups(job: Job) -> bool:
        return job.operation == "backup" and job.status is not Status.QUEUED

    await lab.tell(lab.say(Started, "old", operation="backup"), lab.say(Started, "x"))
    async with reading(feed(reader, lab, wanted=backups)) as told:
        await told.until("stream", "snapshot", "live")
        await lab.tell(lab.say(Queued, "new", operation="backup"))
        await lab.tell(lab.say(Progressed, "x", percent=1), lab.say(Succeeded, "x"))
        await lab.tell(lab.say(Started, "new"))
        await lab.tell(lab.say(Progressed, "new", percent=5))
        await told.until("stream", "snapshot", "live", "started", "progressed")
        assert [item.job.id for item in told.items[-2:]] == ["new", "new"]
    cursor = told.items[-1].cursor
    await lab.tell(lab.say(Succeeded, "new"), lab.say(Started, "y"))
    async with reading(feed(reader, lab, cursor, wanted=backups)) as again:
        await again.has(lambda told: "succeeded" in told.words)
        assert {item.job.operation for item in again.items[1:]} == {"backup"}
        assert versions_rise(again.items)


async def test_a_stream_ends_at_its_age_and_is_resumed_without_a_gap(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Queued))
    async with reading(feed(reader, lab, max_age_s=0.3)) as told:
        await told.over()
        assert told.error is None
    cursor = told.items[-1].cursor
    await lab.tell(lab.say(Started))
    async with reading(feed(reader, lab, cursor)) as again:
        await again.until("stream", "started")


async def test_a_drain_ends_the_streams(lab: Lab, reader: Reader) -> None:
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "live")
        reader.hub.drain()
        await told.over(2)
        assert told.error is None


async def test_a_deletion_is_told_without_the_long_result(lab: Lab, reader: Reader) -> None:
    result = msgspec.Raw(msgspec.json.encode("x" * 100_000))
    targets = {f"target-{number:04}-{'x' * 40}": 1.0 for number in range(1_000)}
    async with reading(feed(reader, lab)) as told:
        await told.until("stream", "live")
        await lab.tell(lab.say(Progressed, targets=targets))
        await lab.tell(lab.say(Succeeded, result=result))
        await told.until("stream", "live", "started", "succeeded")
        assert told.items[-1].job.result == result
        await lab.tell(lab.say(Deleted))
        await told.until("stream", "live", "started", "succeeded", "deleted")
        assert bytes(told.items[-1].job.result) == b"null"
    cursor = told.items[-2].cursor
    async with reading(feed(reader, lab, cursor)) as again:
        await again.until("stream", "deleted")


async def test_entries_too_large_for_the_feed_are_told_whole(lab: Lab, reader: Reader) -> None:
    result = msgspec.Raw(msgspec.json.encode("x" * 200_000))
    await lab.tell(lab.say(Started))
    cursor = (await lab.entries())[-1].cursor
    await lab.tell(lab.say(Succeeded, result=result))
    stored: Any = await lab.redis.xrevrange(lab.keys.feed, count=1)
    assert b"body" not in stored[0][1]
    async with reading(feed(reader, lab, cursor)) as told:
        await told.until("stream", "succeeded")
        assert told.items[-1].job.result == result


async def test_a_change_during_the_opening_comes_after_it_and_once(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(*(lab.say(Started, f"j{number:03}") for number in range(120)))
    async with aclosing(feed(reader, lab)) as stream:
        items = list(await anext(stream))
        items += await anext(stream)  # the first page; the others are not read yet
        newest, oldest = items[1].job.id, "j000"
        await lab.tell(lab.say(Progressed, newest, percent=7), lab.say(Succeeded, oldest))
        await lab.tell(lab.say(Progressed, oldest, percent=9), lab.say(Started, "new"))
        words: list[str | None] = []
        while not {"succeeded", "started", "progressed"} <= set(words):
            items += await anext(stream)
            words = [item.event for item in items]
        assert words.index("live") < words.index("succeeded") < words.index("started")
        assert words.count("snapshot") == 119
        assert [i.job.id for i in items if i.progress] == [newest]
        assert versions_rise(items)
        assert in_order(list(dict.fromkeys(i.cursor for i in items if i.cursor)))
