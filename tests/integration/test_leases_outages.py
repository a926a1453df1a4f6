"""Who could not be heard is not silent: no wrong verdict after an outage, a backlog, a pause; and
the watch over real deaths is as good afterwards as before. Notifiers in processes of their own."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from msgspec.structs import replace

from broker.consumer import consuming
from broker.link import connected
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Heartbeat, Started
from jobcast.reporter import Reporter
from notifier.__main__ import BACKLOG_MAX, DEAF_MS, SETTLE_S
from tests.eventually import eventually
from tests.integration.lab import incoming
from tests.integration.mortal import living
from tests.integration.rabbit import channel_to, lifecycle
from tests.integration.ward import LEASE_S, STATE, Ward, after, opened_ward

ENDURING_S = 3.0
"""A lease that a busy machine does not exceed by itself."""

pytestmark = pytest.mark.timeout(120)  # they stop and start a broker beside other tests


@pytest.fixture
async def ward(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, owner: str
) -> AsyncIterator[Ward]:
    async with opened_ward(spare_rabbitmq.url, redis_server.url, owner) as ward:
        yield ward


async def test_rabbitmq_away_for_three_leases_costs_no_job_its_life(
    ward: Ward, spare_rabbitmq: RabbitMQNode
) -> None:
    async def version_after(version: int) -> None:
        async def heard() -> bool:
            return (await ward.lab.job("moving")).version > version

        await eventually(heard, 30)

    async def statuses() -> set[str]:
        return {(await ward.lab.job(job_id)).status.value for job_id in ("quiet", "moving")}

    with living(ward.settings), living(ward.settings):
        await ward.hearing(2)
        async with (
            Reporter(ward.url, owner=ward.lab.owner) as reporter,
            reporter.job("quiet", lease_s=ENDURING_S),
            reporter.job("moving", lease_s=ENDURING_S) as moving,
        ):
            await version_after(0)
            await eventually(lambda: ward.lab.job("quiet"))
            began = time.monotonic()
            await asyncio.to_thread(spare_rabbitmq.stop)
            await moving.progress(50)
            await eventually(lambda: time.monotonic() > began + 3 * ENDURING_S)
            await asyncio.to_thread(spare_rabbitmq.start)
            await version_after(1)
            await after(3 * ENDURING_S)
            assert await statuses() == {"running"}
            assert (await ward.lab.job("moving")).percent == 50
        await ward.passed()
        assert await statuses() == {"succeeded"}
        assert await ward.told("failed") == []


async def test_what_has_waited_in_the_queue_is_no_sign_of_life(ward: Ward) -> None:
    await ward.report(ward.lab.say(Started, lease_s=LEASE_S))
    with living(ward.settings):
        await ward.hearing()
        await eventually(ward.lab.job)
        await after(SETTLE_S + 3 * LEASE_S)  # it is watched, and has a minute
        assert (await ward.lab.job()).status == "running"
    assert await ward.told("failed") == []


async def test_what_comes_first_after_an_outage_is_no_sign_of_life(
    ward: Ward, spare_rabbitmq: RabbitMQNode
) -> None:
    """It may be from before: the notifier is back sooner than the executors."""
    with living(ward.settings), living(ward.settings):
        await ward.hearing(2)
        await asyncio.to_thread(spare_rabbitmq.restart)
        await ward.passed()
        await ward.report(ward.lab.say(Started, lease_s=LEASE_S))
        await eventually(ward.lab.job)
        await after(3 * LEASE_S)
        assert (await ward.lab.job()).status == "running"
    assert await ward.told("failed") == []


async def test_a_backlog_holds_verdicts_back_and_starts_the_leases_again(ward: Ward) -> None:
    lab = ward.lab

    async def judged(*jobs: str) -> bool:
        return await ward.verdicts() == list(jobs)

    # Somebody else has the queue and takes nothing from it: the notifier watches, and stands by.
    async with connected(ward.url, "test") as connection, consuming(connection, STATE, 1):
        with living(ward.settings):
            await ward.hearing()
            await lab.tell(lab.say(Started, "before", lease_s=LEASE_S))
            await eventually(lambda: judged("before"))
            beat = lifecycle(incoming(lab.say(Heartbeat, "nobody")), "beat")
            behind = replace(beat, exchange="", routing_key=STATE, mandatory=False)
            await ward.publish(*[behind] * (BACKLOG_MAX + 10))
            await lab.tell(lab.say(Started, "behind", lease_s=LEASE_S))
            await after(3 * LEASE_S)
            assert await judged("before")
            async with channel_to(ward.url) as channel:
                await channel.queue_purge(STATE)
            await after(LEASE_S)  # the last look at the backlog is over
            await lab.tell(lab.say(Started, "since", lease_s=LEASE_S))
            await eventually(lambda: judged("before", "since"))


def stopped(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)


def resumed(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("leases", [3, 3 + DEAF_MS / 1000 / LEASE_S])
async def test_a_notifier_that_was_paused_gives_no_wrong_verdict(ward: Ward, leases: float) -> None:
    with living(ward.settings) as process:
        await ward.hearing()
        async with ward.executor():
            await eventually(ward.lab.job)
            stopped(process.pid)
            await after(leases * LEASE_S)
            resumed(process.pid)
            await after(3 * LEASE_S)
            assert (await ward.lab.job()).status == "running"
        assert await ward.told("failed") == []


async def test_what_a_paused_notifier_holds_is_not_taken_for_silence_by_another(ward: Ward) -> None:
    async with void_verdict(ward):
        assert (await ward.lab.job()).status == "running"
        assert await ward.told("failed") == []


async def test_after_a_void_verdict_a_death_is_seen_within_the_lease_and_two_seconds(
    ward: Ward,
) -> None:
    async with void_verdict(ward) as executor:
        await executor.aclose()
        died = time.monotonic()
        await ward.lost()
        assert time.monotonic() - died < LEASE_S + 2


@asynccontextmanager
async def void_verdict(ward: Ward) -> AsyncIterator[AsyncExitStack]:
    """Two notifiers, and an executor that one of them took for dead while the other was paused and
    held what it had said. Closing the answer is its real death."""
    async with AsyncExitStack() as executor:
        with living(ward.settings) as process:
            await ward.hearing()
            with living(ward.settings):
                await ward.hearing(2)
                await executor.enter_async_context(ward.executor())
                await eventually(ward.lab.job)
                stopped(process.pid)
                await eventually(ward.verdicts)
                resumed(process.pid)
                await ward.passed()
                yield executor


async def test_after_a_restart_a_death_is_seen_within_the_lease_and_two_seconds(ward: Ward) -> None:
    async with AsyncExitStack() as executor:
        with living(ward.settings):
            await ward.hearing()
            await executor.enter_async_context(ward.executor())
            await eventually(ward.lab.job)
        await after(2 * LEASE_S)
        with living(ward.settings):
            await ward.hearing()
            await after(SETTLE_S + LEASE_S)  # it is heard of again, and watched
            await executor.aclose()
            died = time.monotonic()
            await ward.lost()
            assert time.monotonic() - died < LEASE_S + 2
