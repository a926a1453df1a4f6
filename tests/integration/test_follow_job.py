"""The stream of one job: to its end, and not beyond."""

import msgspec
import pytest

from deploy.redis import RedisNode
from jobcast.events import (
    CancelRequested,
    Commented,
    Deleted,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from notifier.connection import connect
from notifier.follow import JobGone, JobNotFound, NothingLeft, follow_job
from notifier.reader import Reader, opened_reader
from notifier.stream import Items
from tests.eventually import eventually
from tests.integration.lab import Lab, reading, resume_of, versions_rise


def job(
    reader: Reader, lab: Lab, cursor: str | None = None, *, of: str = "j", max_age_s: float = 30
) -> Items:
    return follow_job(reader, lab.owner, of, cursor=cursor, max_age_s=max_age_s)


async def test_a_job_is_followed_from_its_snapshot_to_its_end(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Queued))
    async with reading(job(reader, lab)) as told:
        await told.until("stream", "snapshot")
        await lab.tell(lab.say(Started), lab.say(Started, "other"))
        await told.has(lambda told: told.words[-1] == "started")
        await lab.tell(lab.say(Progressed, percent=5), lab.say(Progressed, "other", percent=6))
        await told.has(lambda told: told.words[-1] == "progressed")
        await lab.tell(lab.say(CancelRequested), lab.say(Commented, comment="why"))
        await lab.tell(lab.say(Succeeded), lab.say(Recorded, target="t", code=0))
        await told.over()
    assert told.words == [
        *("stream", "snapshot", "started", "progressed", "cancel-pending", "commented"),
        "succeeded",
    ]
    assert {item.job.id for item in told.items[1:]} == {"j"}
    assert versions_rise(told.items)


async def test_a_job_that_has_ended_is_told_and_closed(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started), lab.say(Succeeded))
    async with reading(job(reader, lab)) as told:
        await told.over(2)
    assert told.words == ["stream", "snapshot"]
    assert resume_of(told.items[0]) == "fresh"
    assert told.items[1].cursor is not None
    with pytest.raises(NothingLeft):
        await anext(job(reader, lab, told.items[1].cursor))


async def test_a_cursor_before_the_end_brings_the_end(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    cursor = (await lab.entries())[-1].cursor
    await lab.tell(lab.say(Succeeded), lab.say(Recorded, target="t", code=0))
    async with reading(job(reader, lab, cursor)) as told:
        await told.over(2)
    assert told.words == ["stream", "succeeded"]
    assert resume_of(told.items[0]) == "resumed"


async def test_a_cursor_past_the_end_leaves_nothing(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started), lab.say(Succeeded))
    await lab.tell(lab.say(Started, "other"), lab.say(Recorded, target="t", code=0))
    for entry in (await lab.entries())[-2:]:
        with pytest.raises(NothingLeft):
            await anext(job(reader, lab, entry.cursor))


async def test_an_unknown_cursor_opens_again(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started), lab.say(Started, "done"), lab.say(Succeeded, "done"))
    async with reading(job(reader, lab, "1-1")) as told:
        await told.until("stream", "snapshot")
        assert resume_of(told.items[0]) == "reset"
    async with reading(job(reader, lab, "1-1", of="done")) as told:
        await told.over(2)
        assert told.words == ["stream", "snapshot"]


async def test_a_job_that_appears_later_begins_with_its_snapshot(lab: Lab, reader: Reader) -> None:
    async with reading(job(reader, lab)) as told:
        await told.until("stream")
        await lab.tell(lab.say(Started, "other"))
        await lab.tell(lab.say(Queued))
        await told.until("stream", "snapshot")
        assert told.items[-1].cursor == (await lab.entries())[-1].cursor
        await lab.tell(lab.say(Started), lab.say(Succeeded))
        await told.over()
    assert told.words == ["stream", "snapshot", "started", "succeeded"]


async def test_a_job_that_appears_ended_is_one_snapshot(lab: Lab, reader: Reader) -> None:
    async with reading(job(reader, lab)) as told:
        await told.until("stream")
        await lab.tell(lab.say(Started), lab.say(Succeeded))
        await told.over()
    assert told.words == ["stream", "snapshot"]
    assert told.items[-1].job.ended


async def test_a_quiet_stream_of_an_unknown_job_is_given_no_cursor_to_come_back_with(
    redis_server: RedisNode, lab: Lab
) -> None:
    async with (
        opened_reader(redis_server.url, heartbeat_s=0.5) as reader,
        reading(job(reader, lab)) as told,
    ):
        await told.until("stream")
        await lab.tell(lab.say(Started, "other"))
        await told.has(lambda told: [item.event for item in told.items].count(None) > 1)
        assert {item.cursor for item in told.items} == {None}
        await lab.tell(lab.say(Started))
        await told.until("stream", "snapshot")


async def test_an_unknown_job_with_a_cursor_is_not_found(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    cursor = (await lab.entries())[-1].cursor
    with pytest.raises(JobNotFound):
        await anext(job(reader, lab, cursor, of="nobody"))
    with pytest.raises(JobNotFound):
        await anext(follow_job(reader, lab.owner + "-x", "j", cursor=cursor, max_age_s=1))


@pytest.mark.parametrize("cursor", [None, "1-1"])
async def test_a_deleted_job_is_gone(lab: Lab, reader: Reader, cursor: str | None) -> None:
    await lab.tell(lab.say(Started), lab.say(Succeeded), lab.say(Deleted))
    with pytest.raises(JobGone) as gone:
        await anext(job(reader, lab, cursor))
    assert gone.value.deleted


async def test_an_expired_job_is_gone(lab: Lab, reader: Reader) -> None:
    short = Lab(lab.redis, lab.owner, retention_s=1)
    await short.tell(short.say(Succeeded))
    await eventually(short.gone)
    with pytest.raises(JobGone) as gone:
        await anext(job(reader, lab))
    assert not gone.value.deleted


async def test_a_resumed_stream_ends_with_the_deletion(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    async with reading(job(reader, lab)) as told:
        await told.until("stream", "snapshot")
        await lab.tell(lab.say(Succeeded))
        await lab.tell(lab.say(Deleted))
        await told.over()
    assert told.words == ["stream", "snapshot", "succeeded"]


async def test_a_long_result_is_told_whole(lab: Lab, reader: Reader) -> None:
    result = msgspec.Raw(msgspec.json.encode("é" * 60_000))
    await lab.tell(lab.say(Started))
    async with reading(job(reader, lab)) as told:
        await told.until("stream", "snapshot")
        await lab.tell(lab.say(Succeeded, result=result))
        await told.over()
    assert told.items[-1].job.result == result
    assert told.items[-1].job.version == told.items[-1].version == 2


async def test_the_progress_since_the_cursor_is_told_once_after_a_resume(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    cursor = (await lab.entries())[-1].cursor
    await lab.tell(lab.say(Progressed, percent=10), lab.say(Started, "other"))
    await lab.tell(lab.say(Progressed, percent=20))
    async with reading(job(reader, lab, cursor)) as told:
        await told.until("stream", "progressed")
        assert told.items[-1].job.percent == 20
        await lab.tell(lab.say(Progressed, percent=30))
        await told.until("stream", "progressed", "progressed")


async def test_the_hub_leaves_the_channel_with_the_last_listener_of_an_owner(
    redis_server: RedisNode, lab: Lab, reader: Reader
) -> None:
    redis = connect(redis_server.url, name="jobcast-test")
    pattern = f"jobcast:0:{{{lab.owner}}}"

    async def subscribed() -> bool:
        return pattern.encode() in await redis.pubsub_channels(pattern)

    await lab.tell(lab.say(Started))
    async with reading(job(reader, lab)) as first:
        await first.until("stream", "snapshot")
        async with reading(job(reader, lab)) as second:
            await second.until("stream", "snapshot")
        assert await subscribed()
        await lab.tell(lab.say(Progressed, percent=1))
        await first.until("stream", "snapshot", "progressed")

    async def left() -> bool:
        return not await subscribed()

    await eventually(left)
    async with reading(job(reader, lab)) as third:
        await third.until("stream", "snapshot")
        await lab.tell(lab.say(Succeeded))
        await third.over()
    await redis.aclose()
