"""Waiting for one job: what wakes it, what does not, and what it costs."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec

from deploy.redis import RedisNode
from jobcast.events import Deleted, Progressed, Queued, Started, Succeeded
from jobcast.job import Job
from notifier.connection import connect
from notifier.follow import follow_feed
from notifier.reader import Reader, opened_reader
from notifier.store import Gone, Snapshot
from notifier.wait import PROGRESS_AFTER_S, wait_job
from tests.eventually import eventually
from tests.integration.lab import Lab, reading

Waiting = asyncio.Task[Snapshot | Gone | None]


async def waiting(
    reader: Reader, lab: Lab, *, seen: int | None = None, timeout_s: float = 20
) -> Waiting:
    """A wait for the job `j` that has its answer already, or hangs at the hub."""
    known: Callable[[int], bool] | None = None if seen is None else lambda version: version == seen
    before = hanging(reader, lab)
    task = asyncio.create_task(wait_job(reader, lab.owner, "j", seen=known, timeout_s=timeout_s))
    await eventually(lambda: task.done() or hanging(reader, lab) > before)
    return task


def hanging(reader: Reader, lab: Lab) -> int:
    """How many wait for the owner's jobs."""
    known = reader.hub._owners.get(lab.owner)
    return (
        0 if known is None else sum(listener._waiter is not None for listener in known.listeners())
    )


async def answer(task: Waiting, within_s: float = 1) -> Job:
    found = await asyncio.wait_for(task, within_s)
    assert isinstance(found, Snapshot)
    return msgspec.json.decode(found.body, type=Job)


async def test_the_end_wakes_whoever_waits(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Queued))
    tasks = [await waiting(reader, lab) for _ in range(3)]
    await lab.tell(lab.say(Started))
    await lab.tell(lab.say(Progressed, percent=5))
    await lab.tell(lab.say(Succeeded))
    for task in tasks:
        job = await answer(task)
        assert (job.status, job.version) == ("succeeded", 4)


async def test_a_job_that_has_ended_is_not_waited_for(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Succeeded))
    assert (await answer(await waiting(reader, lab))).ended
    assert (await answer(await waiting(reader, lab, seen=1))).ended


async def test_a_version_that_was_not_seen_is_an_answer_at_once(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Queued), lab.say(Started))
    assert (await answer(await waiting(reader, lab, seen=1))).version == 2


async def test_a_change_of_status_is_an_answer_to_one_who_names_the_version_it_has_seen(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Queued))
    knowing = await waiting(reader, lab, seen=1)
    patient = await waiting(reader, lab)
    await lab.tell(lab.say(Started))
    assert (await answer(knowing, PROGRESS_AFTER_S / 2)).status == "running"
    await lab.tell(lab.say(Succeeded))
    assert (await answer(patient)).status == "succeeded"


async def test_progress_alone_is_no_answer_in_the_first_second(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    began = time.monotonic()
    task = await waiting(reader, lab, seen=1)
    await lab.tell(lab.say(Progressed, percent=5))
    await lab.tell(lab.say(Progressed, percent=6))
    job = await answer(task, 3)
    assert time.monotonic() - began >= PROGRESS_AFTER_S
    assert job.percent == 6


async def test_progress_then_the_end_is_answered_with_the_end_at_once(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    task = await waiting(reader, lab, seen=1)
    await lab.tell(lab.say(Progressed, percent=5))
    await lab.tell(lab.say(Succeeded))
    assert (await answer(task, PROGRESS_AFTER_S / 2)).ended


async def test_at_the_time_out_the_answer_is_the_job_as_it_is(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    task = await waiting(reader, lab, timeout_s=0.5)
    await lab.tell(lab.say(Progressed, percent=5))
    assert (await answer(task)).percent == 5


async def test_an_unknown_job_is_waited_for(lab: Lab, reader: Reader) -> None:
    task = await waiting(reader, lab)
    hasty = await waiting(reader, lab, seen=0)
    nobody = await waiting(reader, lab, timeout_s=0.2)
    assert await asyncio.wait_for(nobody, 2) is None
    await lab.tell(lab.say(Started))
    assert (await answer(hasty, PROGRESS_AFTER_S / 2)).version == 1
    await lab.tell(lab.say(Succeeded))
    assert (await answer(task)).ended


async def test_a_job_that_is_gone_is_an_answer_at_once(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started), lab.say(Succeeded))
    await lab.tell(lab.say(Deleted))
    assert await asyncio.wait_for(await waiting(reader, lab), 1) == Gone(deleted=True)


async def test_a_drain_answers_with_the_job_as_it_is(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    task = await waiting(reader, lab)
    reader.hub.drain()
    assert (await answer(task)).status == "running"


async def test_an_end_during_a_cut_link_is_found(lab: Lab, reader: Reader) -> None:
    await lab.tell(lab.say(Started))
    task = await waiting(reader, lab)
    await lab.cut_links()
    await lab.tell(lab.say(Succeeded))
    assert (await answer(task, 5)).ended


async def test_an_end_that_nobody_has_published_is_found_within_a_heartbeat(
    redis_server: RedisNode, lab: Lab
) -> None:
    await lab.tell(lab.say(Started))
    async with opened_reader(redis_server.url, heartbeat_s=0.6) as reader:
        task = await waiting(reader, lab)
        job = msgspec.structs.replace(await lab.job(), version=2, status="succeeded")
        last = (await lab.entries())[-1].cursor
        fields: Any = {"prev": last, "event": "succeeded", "job": "j", "version": 2}
        await lab.redis.xadd(lab.keys.feed, {**fields, "body": msgspec.json.encode(job)})
        assert (await answer(task, 2)).ended


async def test_who_waits_and_who_listens_costs_redis_nothing(
    redis_server: RedisNode, owner: str, lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started))
    redis = connect(redis_server.url, name="jobcast-test")

    async def calls() -> dict[str, int]:
        stats: Any = await redis.info("commandstats")
        return {name: said["calls"] for name, said in stats.items() if name != "cmdstat_info"}

    tasks = [await waiting(reader, lab, timeout_s=3) for _ in range(20)]
    stream = follow_feed(reader, owner, cursor=None, wanted=None, max_age_s=60)
    async with reading(stream) as told:
        await told.until("stream", "snapshot", "live")
        before = await calls()
        done, _ = await asyncio.wait(tasks, timeout=2)
        after = await calls()
    assert not done
    grown = {name: after[name] - before.get(name, 0) for name in after}
    # All but the first are of notifiers beside us, that look for silent jobs and write figures.
    words = ("ping", "eval", "zrangebyscore", "set", "zadd", "zremrangebyscore", "expire")
    quiet = {f"cmdstat_{word}" for word in words}
    assert {name for name, more in grown.items() if more} <= quiet
    for task in tasks:
        task.cancel()
    await redis.aclose()
