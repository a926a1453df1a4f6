"""What stands in Redis through a job's life, and for how long."""

from typing import Any

import msgspec
import pytest

from jobcast.events import (
    Commented,
    Deleted,
    Event,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.job import milliseconds
from notifier.commit import TOMBSTONE_MS
from notifier.plan import FEED_BODY_MAX
from notifier.store import Gone
from tests.eventually import eventually
from tests.integration.lab import ORPHAN_S, Lab

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def job_keys(lab: Lab) -> list[str]:
    return [lab.keys.job("j"), lab.keys.records("j"), lab.keys.refs("j")]


async def test_before_the_end_no_key_of_the_job_expires(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, group="g"), lab.say(Started))
    await lab.tell(lab.say(Recorded, target="t", code=0), lab.say(Commented, comment="c"))
    await lab.tell(lab.say(Progressed, percent=5))
    keys = await lab.own_keys()
    assert [keys[key] for key in job_keys(lab)] == [-1, -1, -1]
    assert lab.keys.gone("j") not in keys


async def test_after_the_end_every_key_of_the_job_lives_four_hours_and_its_tombstone_a_day_more(
    lab: Lab,
) -> None:
    await lab.tell(lab.say(Started), lab.say(Recorded, target="t", code=0))
    await lab.tell(lab.say(Succeeded))
    keys = await lab.own_keys()
    for key in job_keys(lab):
        assert keys[key] == pytest.approx(4 * HOUR_MS, abs=1_000)
    assert keys[lab.keys.gone("j")] == pytest.approx(4 * HOUR_MS + DAY_MS, abs=1_000)
    job = await lab.job()
    assert milliseconds(job.expires_at or "") - milliseconds(job.ended_at or "") == 4 * HOUR_MS


async def test_records_and_comments_after_the_end_do_not_move_the_expiry(lab: Lab) -> None:
    await lab.tell(lab.say(Succeeded))
    before = await lab.job()
    await lab.tell(lab.say(Recorded, target="t", code=0), lab.say(Commented, comment="c"))
    after, keys = await lab.job(), await lab.own_keys()
    assert (after.version, after.expires_at) == (3, before.expires_at)
    for key in job_keys(lab):
        assert keys[key] == pytest.approx(4 * HOUR_MS, abs=1_000)


async def test_the_owners_keys_live_on_after_the_last_commit_and_never_for_ever(
    lab: Lab,
) -> None:
    await lab.tell(lab.say(Queued, group="g"), lab.say(Queued, "k"))
    await lab.tell(lab.say(Succeeded))  # makes a key when the others have just been renewed
    keys = await lab.own_keys()
    whole = ORPHAN_S * 1000 + 4 * HOUR_MS + DAY_MS
    for key in (lab.keys.feed, lab.keys.jobs, lab.keys.live, lab.keys.ends, lab.keys.group("g")):
        assert keys[key] == pytest.approx(whole, abs=5_000), key


async def test_an_expired_job_is_gone_and_nothing_late_brings_it_back(lab: Lab) -> None:
    short = Lab(lab.redis, lab.owner, retention_s=1)
    await short.tell(short.say(Started), short.say(Recorded, target="t", code=0))
    await short.tell(short.say(Succeeded))
    assert await eventually(short.gone) == Gone(deleted=False)
    before = await short.own_keys()
    late: list[Event] = [
        short.say(Started, attempt=2),
        short.say(Succeeded),
        short.say(Recorded, target="t", code=1),
        short.say(Commented, comment="c"),
        short.say(Deleted),
    ]
    for event in late:
        await short.tell(event)  # as this process remembers the job
    short.restart()
    await short.tell(*late)
    assert short.told.messages == []
    assert await short.words() == ["started", "recorded", "succeeded"]
    assert (await short.own_keys()).keys() == before.keys()


async def test_a_deleted_job_leaves_a_tombstone_for_a_day(lab: Lab) -> None:
    await lab.tell(lab.say(Started, group="g"), lab.say(Recorded, target="t", code=0))
    await lab.tell(lab.say(Succeeded))
    await lab.tell(lab.say(Deleted))
    assert await lab.gone() == Gone(deleted=True)
    keys = await lab.own_keys()
    assert set(keys) == {lab.keys.feed, lab.keys.gone("j")}
    assert keys[lab.keys.gone("j")] == pytest.approx(TOMBSTONE_MS, abs=1_000)
    await lab.tell(lab.say(Started), lab.say(Deleted), lab.say(Recorded, target="t", code=0))
    assert await lab.words() == ["started", "recorded", "succeeded", "deleted"]


async def test_a_job_that_has_not_ended_cannot_be_deleted(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Deleted))
    assert (await lab.job()).version == 1


async def test_the_indexes_hold_what_they_should_through_a_life(lab: Lab) -> None:
    await lab.tell(lab.say(Queued, "a", group="g"), lab.say(Queued, "b"))
    await lab.tell(lab.say(Started, "b", group="g"), lab.say(Queued, "c"))
    assert await lab.members("jobs") == await lab.members("live")
    assert set(await lab.members("jobs")) == {"a", "b", "c"}
    assert set(await lab.members("group:g")) == {"a", "b"}
    await lab.tell(lab.say(Succeeded, "a"), lab.say(Succeeded, "born-ended"))
    assert set(await lab.members("live")) == {"b", "c"}
    assert set(await lab.members("jobs")) == {"a", "b", "c", "born-ended"}
    ends: Any = await lab.redis.zrange(lab.keys.ends, 0, -1, withscores=True)
    expires = milliseconds((await lab.job("a")).expires_at or "")
    assert next(end for end in ends if b":a " in end[0])[1] == expires
    await lab.tell(lab.say(Deleted, "a"))
    assert set(await lab.members("jobs")) == {"b", "c", "born-ended"}
    assert await lab.members("group:g") == ["b"]
    assert await lab.redis.zcard(lab.keys.ends) == 1


async def test_each_commit_takes_at_most_twenty_expired_jobs_out_of_the_indexes(lab: Lab) -> None:
    short = Lab(lab.redis, lab.owner, retention_s=1)
    jobs = [f"j{number}" for number in range(45)]
    await short.tell(*(short.say(Succeeded, job) for job in jobs))
    await short.tell(*(short.say(Commented, job, comment="c") for job in jobs[:3]))

    async def all_gone() -> bool:
        found = [await short.gone(job) for job in jobs]
        return None not in found

    await eventually(all_gone)
    left = []
    for number in range(4):
        await short.tell(short.say(Queued, f"new{number}", group="g"))
        left.append(len(await short.members("jobs")))
    assert left == [26, 7, 3, 4]
    assert await lab.redis.zcard(lab.keys.ends) == 0


async def test_an_entry_over_16_kib_refers_to_the_snapshot(lab: Lab) -> None:
    def result(size: int) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode("x" * size))

    await lab.tell(lab.say(Succeeded, "small", result=result(FEED_BODY_MAX - 1_000)))
    await lab.tell(lab.say(Succeeded, "large", result=result(FEED_BODY_MAX)))
    stored: Any = await lab.redis.xrange(lab.keys.feed)
    assert [b"body" in fields for _, fields in stored] == [True, False]
    small, large = await lab.entries()
    assert msgspec.json.decode(small.body)["result"] == "x" * (FEED_BODY_MAX - 1_000)
    assert msgspec.json.decode(large.body)["result"] == "x" * FEED_BODY_MAX


async def test_the_feed_is_trimmed_by_age_and_keeps_its_last_entry(lab: Lab) -> None:
    await lab.tell(*(lab.say(Queued, f"j{number}") for number in range(450)))
    lab.ahead_ms = 5 * HOUR_MS
    lab.restart()  # its first commit renews, and trims what is older than the retention
    await lab.tell(lab.say(Queued, "late"))
    entries = await lab.entries()
    assert entries[-1].job_id == "late"
    assert len(entries) < 200
    assert await lab.feed.resumes(lab.owner, entries[-1].cursor)
    assert await lab.feed.resumes(lab.owner, entries[-1].prev)
    assert not await lab.feed.resumes(lab.owner, "0-0")


async def test_what_makes_no_entry_trims_nothing(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    lab.ahead_ms = 5 * HOUR_MS
    lab.restart()
    await lab.tell(lab.say(Progressed, percent=5))
    assert await lab.words() == ["started"]


async def test_updated_at_never_goes_back(lab: Lab) -> None:
    await lab.tell(lab.say(Started))
    before = await lab.job()
    lab.ahead_ms = -10_000
    await lab.tell(lab.say(Progressed, percent=5))
    assert (await lab.job()).updated_at == before.updated_at
