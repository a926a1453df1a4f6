"""Leases and the orphan limit on a real RabbitMQ and Redis: who is given the lost verdict, when,
how often, and who is not. The notifiers are real, in processes of their own."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.guard import SERVICE
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import (
    Canceled,
    CancelRequested,
    Event,
    Failed,
    Heartbeat,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.job import milliseconds
from notifier.watch import verdict
from tests.integration.lab import Lab
from tests.integration.mortal import living
from tests.integration.ward import LEASE_S, Ward, after, opened_ward


@pytest.fixture
async def ward(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, owner: str
) -> AsyncIterator[Ward]:
    async with opened_ward(spare_rabbitmq.url, redis_server.url, owner) as ward:
        yield ward


async def test_two_notifiers_that_watch_at_once_give_every_silent_job_one_verdict(
    ward: Ward,
) -> None:
    jobs = [f"j{number}" for number in range(30)]
    with living(ward.settings), living(ward.settings):
        await ward.hearing(2)
        await ward.report(*(ward.lab.say(Started, j, lease_s=LEASE_S) for j in jobs))
        for job in jobs:
            assert (await ward.lost(job)).version == 2
        await ward.passed()
        assert sorted(await ward.verdicts()) == sorted(jobs)
        assert await ward.told("failed") == sorted(f"{job}/2" for job in jobs)
    assert await ward.dead() == 0


async def test_a_second_verdict_on_the_same_silence_is_void(ward: Ward) -> None:
    await ward.lab.tell(ward.lab.say(Started, lease_s=LEASE_S))
    twice = await ward.judged(2)
    assert [one.id for one in twice] == [twice[0].id] * 2
    messages = [verdict(one, SERVICE) for one in twice]
    for message in messages:
        await ward.publish(message)
    with living(ward.settings):
        job = await ward.lost()
        await ward.publish(*messages[:1])
        await ward.passed()
        assert await ward.lab.job() == job
        assert await ward.told("failed") == ["j/2"]
        words = [entry.event for entry in await ward.lab.entries() if entry.job_id == "j"]
        assert words == ["started", "failed"]
    assert await ward.dead() == 0


async def test_a_real_end_that_comes_after_the_verdict_changes_nothing(ward: Ward) -> None:
    with living(ward.settings):
        await ward.hearing()
        await ward.report(ward.lab.say(Started, lease_s=LEASE_S))
        job = await ward.lost()
        late: list[Event] = [
            ward.lab.say(Heartbeat),
            ward.lab.say(Progressed, percent=99),
            ward.lab.say(Succeeded),
            ward.lab.say(Failed, attempt=2),
            ward.lab.say(Started, attempt=3),
            ward.lab.say(Canceled),
        ]
        await ward.report(*late)
        await ward.passed()
        assert await ward.lab.job() == job
        assert await ward.told("failed") == ["j/2"]
        assert [entry.version for entry in await ward.lab.entries() if entry.job_id == "j"] == [
            1,
            2,
        ]
    assert await ward.dead() == 0


@pytest.mark.parametrize(
    "said",
    [
        lambda lab: lab.say(Heartbeat),
        lambda lab: lab.say(Progressed, percent=5),
        lambda lab: lab.say(Recorded, target="t", code=1),
        lambda lab: lab.say(Started, attempt=2),
        lambda lab: lab.say(Heartbeat, attempt=2),
        lambda lab: lab.say(CancelRequested),
    ],
    ids=["heartbeat", "progress", "record", "new attempt", "its heartbeat", "cancel request"],
)
async def test_whatever_is_heard_between_the_verdict_and_its_fold_cancels_it(
    ward: Ward, said: Callable[[Lab], Event]
) -> None:
    await ward.lab.tell(ward.lab.say(Started, lease_s=LEASE_S))
    [one] = await ward.judged()
    await ward.report(said(ward.lab))
    await ward.publish(verdict(one, SERVICE))
    with living(ward.settings):
        await ward.passed()
        assert not (await ward.lab.job()).ended
        assert await ward.told("failed") == []
    assert await ward.dead() == 0


async def test_who_has_no_lease_or_only_waits_is_given_the_orphan_limit(ward: Ward) -> None:
    lab = ward.lab
    orphan_s = 2
    with living(replace(ward.settings, orphan_s=orphan_s)):
        await ward.hearing()
        await ward.report(
            lab.say(Queued, "waiting", lease_s=0.5),
            lab.say(Started, "running"),
            lab.say(Started, "pending"),
            lab.say(CancelRequested, "pending"),
            lab.say(Started, "done"),
            lab.say(Succeeded, "done"),
            lab.say(Started, "heard"),
            lab.say(Queued, "queued"),
        )
        kinds: tuple[tuple[type[Event], dict[str, Any]], ...] = (
            (Heartbeat, {}),
            (Progressed, {"percent": 5}),
            (Recorded, {"target": "t", "code": 1}),
        )
        for kind, fields in kinds:
            await after(orphan_s / 2)
            await ward.report(lab.say(kind, "heard", **fields), lab.say(Heartbeat, "queued"))
        heard_at = lab.now()
        assert not (await lab.job("heard")).ended
        assert not (await lab.job("queued")).ended
        for job_id in ("waiting", "running", "pending"):
            job = await ward.lost(job_id)
            took_ms = milliseconds(job.ended_at or "") - milliseconds(job.created_at)
            assert orphan_s * 1000 <= took_ms < orphan_s * 1000 + 2000, job_id
        for job_id in ("heard", "queued"):
            took_ms = milliseconds((await ward.lost(job_id)).ended_at or "") - heard_at
            assert orphan_s * 1000 - 500 <= took_ms < orphan_s * 1000 + 2000, job_id
        assert (await lab.job("done")).status == "succeeded"
        failed = ["heard/4", "pending/3", "queued/2", "running/2", "waiting/2"]
        await ward.passed()
        assert await ward.told("failed") == failed
