"""Figures of notifiers through Redis, and `/metrics` while parts are away."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from broker.topology import declare, topology
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Replica, Stack
from jobcast.events import Progressed, Started, Succeeded
from jobcast.message import Incoming
from jobcast.names import DEAD
from notifier.commit import Committer
from notifier.connection import connect
from notifier.figures import EXPIRY_S, Figures, exporting, read
from notifier.keys import FIGURES, figures_of
from notifier.service import StateService
from tests.contract.test_http.test_metrics import Scrape, scrape
from tests.eventually import eventually
from tests.integration.lab import ORPHAN_S, Lab
from tests.integration.rabbit import (
    channel_to,
    depth,
    lifecycle,
    notifier,
    publish,
    report,
    serving,
)
from tests.logins import Logins

STATE = "jobcast.state.0"
QUEUED = "jobcast_queue_ready_messages"


@pytest.fixture
async def redis(spare_redis: RedisNode) -> AsyncIterator[Redis]:
    client = connect(spare_redis.url, name="jobcast-test")
    yield client
    await client.aclose()


@pytest.fixture
def own(redis: Redis, owner: str) -> Lab:
    """A fresh owner's jobs on that server."""
    return Lab(redis, owner)


@pytest.fixture
def replica(
    spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, logins: Logins, tmp_path: Path
) -> Iterator[Replica]:
    """An API replica on servers that may be killed."""
    layout = Layout(
        amqp_url=spare_rabbitmq.url,
        redis_url=spare_redis.url,
        users_file=logins.users_file,
        folder=tmp_path,
        notifiers=0,
    )
    with Stack(layout) as stack:
        yield stack.replicas[0]


@pytest.fixture
async def queues(spare_rabbitmq: RabbitMQNode) -> None:
    """What a notifier declares, without one."""
    async with channel_to(spare_rabbitmq.url) as channel:
        await declare(channel, topology(1))


async def test_the_figures_of_two_notifiers_are_seen_through_one_replica(
    replica: Replica, queues: None, redis: Redis, logins: Logins
) -> None:
    first, second = Figures(), Figures()
    first.taken(150)
    first.taken(3)
    first.committed(40, 0.003, 44)
    second.notified(7, 0.2)
    second.refused(2)
    second.dead_lettered("not-json")
    second.dead_lettered("something of a later release")
    async with AsyncExitStack() as stack:
        for number, one in enumerate((first, second)):
            await stack.enter_async_context(exporting(one, redis, f"n{number}", every_s=0.05))

        async def both() -> Scrape | None:
            answer = await scrape(replica.url, logins.admin)
            return answer if answer.value("jobcast_notifiers") == 2 else None

        answer = await eventually(both)
        second.lost(5)

        async def later() -> bool:
            now = await scrape(replica.url, logins.admin)
            return now.value("jobcast_lost_verdicts_total", notifier="n1") == 5

        await eventually(later)
    value = answer.value
    assert value("jobcast_batch_messages_sum", notifier="n0") == 153
    assert value("jobcast_batch_messages_bucket", notifier="n0", le="5.0") == 1
    assert value("jobcast_batch_messages_count", notifier="n1") == 0
    assert value("jobcast_commits_total") == 40
    assert value("jobcast_changes_total", notifier="n0") == 44
    assert value("jobcast_notify_seconds_sum", notifier="n1") == pytest.approx(0.2)
    assert value("jobcast_notifications_refused_total", notifier="n1") == 2
    assert value("jobcast_dead_letters_total", notifier="n1", reason="not-json") == 1
    assert value("jobcast_dead_letters_total", notifier="n1", reason="other") == 1
    assert value("jobcast_dead_letters_total", notifier="n0") == 0
    assert (value("jobcast_notifier_process_resident_memory_bytes", notifier="n0") or 0) > 1e6
    assert answer.text.count("# TYPE jobcast_commits_total ") == 1


async def test_a_dead_notifier_goes_with_the_expiry_of_what_it_wrote(redis: Redis) -> None:
    async with exporting(Figures(), redis, "dies"), exporting(Figures(), redis, "lives"):

        async def written() -> bool:
            return set(await read(redis)) == {"dies", "lives"}

        await eventually(written)
        left_ms = int(await redis.pttl(figures_of("dies")))
        assert 0 < left_ms <= EXPIRY_S * 1000
        await redis.pexpire(figures_of("dies"), 1)  # time goes by

        async def gone() -> bool:
            return set(await read(redis)) == {"lives"}

        await eventually(gone)


async def test_a_name_is_forgotten_an_hour_after_it_was_last_written(redis: Redis) -> None:
    now = time.time()
    await redis.zadd(FIGURES, {"old": now - 3_700, "crashed": now - 3_500})
    async with exporting(Figures(), redis, "lives"):
        await eventually(lambda: read(redis))
        assert set(await redis.zrange(FIGURES, 0, -1)) == {b"crashed", b"lives"}
        assert set(await read(redis)) == {"lives"}


async def test_what_was_counted_last_is_written_when_the_process_ends(redis: Redis) -> None:
    figures = Figures()
    async with exporting(figures, redis, "ends", every_s=60):
        await eventually(lambda: read(redis))
        figures.given_up(3)
    families = {family.name: family for family in (await read(redis))["ends"].families}
    assert families["jobcast_notifications_given_up"].samples[0].value == 3


async def test_figures_of_another_release_are_left_out(redis: Redis) -> None:
    await redis.set(figures_of("newer"), b'{"at":"soon"}')
    await redis.zadd(FIGURES, {"newer": time.time() + 1})
    async with exporting(Figures(), redis, "ours", every_s=0.05):

        async def one() -> bool:
            return set(await read(redis)) == {"ours"}

        await eventually(one)


async def test_exporting_outlives_redis_and_ends_without_it(
    spare_redis: RedisNode, redis: Redis
) -> None:
    async with exporting(Figures(), redis, "n", every_s=0.05):
        await eventually(lambda: read(redis))
        spare_redis.kill()
        spare_redis.start()
        await eventually(lambda: redis.delete(figures_of("n")))
        await eventually(lambda: read(redis))
        spare_redis.pause()
        began = time.monotonic()
    took = time.monotonic() - began
    spare_redis.resume()
    assert took < 3


async def test_a_commit_that_came_too_late_counts_as_a_conflict_and_not_as_a_change(
    redis: Redis, own: Lab, owner: str
) -> None:
    figures, other = Figures(), Lab(redis, owner)
    committer = Committer(redis, retention_s=own.retention_s, orphan_s=ORPHAN_S)
    own.service = StateService(own.store, committer, own.rules, own.now, figures)
    await own.tell(own.say(Started))
    await other.tell(other.say(Progressed, percent=10))
    await own.tell(own.say(Progressed, percent=20))
    assert (await own.job()).version == 3
    counted = {
        sample.name: sample.value
        for family in figures.exported().families
        for sample in family.samples
    }
    assert counted["jobcast_conflicts_total"] == 1
    assert counted["jobcast_commits_total"] == 2
    assert counted["jobcast_changes_total"] == 2


async def test_lag_is_seen_while_no_notifier_lives(
    replica: Replica, queues: None, spare_rabbitmq: RabbitMQNode, own: Lab, logins: Logins
) -> None:
    async def up() -> bool:
        answer = await scrape(replica.url, logins.admin)
        return answer.value("jobcast_up", part="rabbitmq") == 1

    await eventually(up)
    await report(spare_rabbitmq.url, *(own.say(Started, f"j{number}") for number in range(17)))
    answer = await scrape(replica.url, logins.admin)
    assert answer.value(QUEUED, queue=STATE) == 17
    assert answer.value(QUEUED, queue=DEAD) == 0
    assert answer.value("jobcast_notifiers") == 0


async def test_without_redis_all_but_the_notifiers_is_given(
    replica: Replica, queues: None, spare_redis: RedisNode, redis: Redis, logins: Logins
) -> None:
    async with exporting(Figures(), redis, "n", every_s=0.05):
        await eventually(lambda: read(redis))
        for away in (spare_redis.pause, spare_redis.resume, spare_redis.kill):
            away()
            began = time.monotonic()
            answer = await scrape(replica.url, logins.admin)
            assert time.monotonic() - began < 4
            there = away == spare_redis.resume
            assert answer.value("jobcast_up", part="redis") == int(there)
            assert answer.value("jobcast_up", part="rabbitmq") == 1
            assert answer.value("jobcast_notifiers") == (1 if there else None)
            assert (answer.value("jobcast_commits_total") is not None) == there
            assert answer.value("jobcast_streams_open") == 0
            assert answer.value(QUEUED, queue=STATE) == 0


async def test_without_rabbitmq_there_is_no_number_of_its_queues(
    replica: Replica, queues: None, spare_rabbitmq: RabbitMQNode, logins: Logins
) -> None:
    async def shown(up: int, waiting: float | None) -> bool:
        answer = await scrape(replica.url, logins.admin)
        assert answer.value("jobcast_up", part="redis") == 1
        return answer.value("jobcast_up", part="rabbitmq") == up and (
            answer.value(QUEUED, queue=STATE) == waiting
        )

    await eventually(lambda: shown(1, 0))
    spare_rabbitmq.pause()
    began = time.monotonic()
    assert await shown(0, None)
    assert time.monotonic() - began < 4
    spare_rabbitmq.resume()
    await eventually(lambda: shown(1, 0))
    spare_rabbitmq.kill()
    assert await shown(0, None)
    spare_rabbitmq.start()
    await eventually(lambda: shown(1, 0), 20)


async def test_a_missing_queue_is_said_and_the_others_are_counted(
    replica: Replica, queues: None, spare_rabbitmq: RabbitMQNode, logins: Logins
) -> None:
    async def shown(up: int, *named: str) -> bool:
        answer = await scrape(replica.url, logins.admin)
        there = answer.value("jobcast_up", part="rabbitmq") == up
        return there and answer.labels("queue") == set(named)

    await eventually(lambda: shown(1, STATE, DEAD))
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_delete(DEAD)
    assert await shown(0, STATE)
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_delete(STATE)
        await declare(channel, topology(1))
        await channel.queue_delete(STATE)
    assert await shown(0, DEAD)


async def test_what_a_notifier_does_is_what_its_figures_say(
    replica: Replica, spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, own: Lab, logins: Logins
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, spare_redis.url) as process:
        await serving(url)
        started = [own.say(Started, f"j{number}") for number in range(30)]
        await report(url, *started, *started[:5])
        await report(url, *(own.say(Succeeded, f"j{number}") for number in range(30)))
        await publish(url, lifecycle(Incoming(body=b"{"), "bad"))

        async def settled() -> bool:
            return await depth(url, DEAD) == 1 and await depth(url, STATE) == 0

        await eventually(settled)
        process.terminate()
        assert await process.exit_code() == 0
    answer = await scrape(replica.url, logins.admin)  # of what it wrote at its end
    value = answer.value
    assert value("jobcast_notifiers") == 1
    assert value("jobcast_batch_messages_sum") == 66
    assert value("jobcast_batch_seconds_count") == value("jobcast_batch_messages_count")
    assert value("jobcast_events_total") == 65
    assert value("jobcast_changes_total") == 60
    assert 30 <= (value("jobcast_commits_total") or 0) <= 65  # a repeat is heard of, too
    assert (value("jobcast_commit_seconds_count") or 0) > 0
    assert value("jobcast_notifications_total") == 60 + 30  # of the ends, a dialect's too
    assert (value("jobcast_notify_seconds_sum") or 0) > 0
    assert value("jobcast_dead_letters_total", reason="not-json") == 1
    assert value("jobcast_dead_letters_total") == 1
    for none in ("refused_total", "given_up_total"):
        assert value(f"jobcast_notifications_{none}") == 0
