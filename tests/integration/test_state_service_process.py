"""`python -m notifier` as a stranger starts it: what it survives, and how it ends."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from broker.topology import state_queues
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Event, Progressed, Started, Succeeded
from jobcast.message import Incoming, Message, Outcome
from jobcast.names import DEAD, EVENTS
from jobcast.wire import BATCH, encode_batch
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.integration.rabbit import (
    bodies,
    channel_to,
    depth,
    lifecycle,
    notifier,
    publish,
    report,
    serving,
)


async def stored(lab: Lab, count: int, index: str = "jobs") -> None:
    async def all_of_them() -> bool:
        return await count_of(lab.redis, lab.keys.prefix + index) == count

    await eventually(all_of_them, 20)


async def count_of(redis: Redis, key: str) -> int:
    found: Any = await redis.zcard(key)
    return int(found)


def starts(lab: Lab, numbers: Sequence[int]) -> list[Event]:
    return [lab.say(Started, f"j{number}") for number in numbers]


async def subscribed(url: str, queue: str, **arguments: Any) -> None:
    """A subscriber's queue on all notifications."""
    async with channel_to(url) as channel:
        await channel.queue_declare(queue, durable=True, arguments=arguments)
        await channel.queue_bind(queue, EVENTS, "#")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBCAST_RETENTION_S", "soon"),
        ("JOBCAST_PARTITIONS", "0"),
        ("JOBCAST_AMQP_URL", "http://127.0.0.1"),
        ("JOBCAST_REDIS_URL", "not a url"),
        ("JOBCAST_AMQP_PROGRESS", "perhaps"),
        ("JOBCAST_CLOUDSTACK_EXCHANGE", "job.events"),
        ("JOBCAST_CLOUDSTACK_EXCHANGE", "amq.topic"),
        ("JOBCAST_CLOUDSTACK_EXCHANGE", "cloud stack"),
    ],
)
async def test_a_bad_setting_is_one_line_and_exit_code_2(name: str, value: str) -> None:
    settings = {"amqp_url": "amqp://127.0.0.1:1/", "redis_url": "redis://127.0.0.1:1/0"}
    async with notifier(**settings, **{name: value}) as process:
        assert await process.exit_code() == 2
    assert len(process.lines) == 1
    assert name in process.lines[0]


async def test_sigterm_finishes_the_batch_in_hand_and_loses_nothing(
    spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, own: Lab
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, spare_redis.url) as process:
        await serving(url)
        await subscribed(url, f"{own.owner}-sub")
        await report(url, *starts(own, range(5)))
        await stored(own, 5)
        spare_redis.pause()
        await report(url, *starts(own, range(5, 300)))
        process.terminate()
        spare_redis.resume()
        assert await process.exit_code(8) == 0
        assert not any("Traceback" in line for line in process.lines)
        in_hand = await count_of(own.redis, own.keys.jobs)
        assert await depth(url, "jobcast.state.0") == 300 - in_hand
    async with notifier(url, spare_redis.url):
        await stored(own, 300)
        assert await eventually_told(url, f"{own.owner}-sub", 300) == 300


async def eventually_told(url: str, queue: str, count: int) -> int:
    async def told() -> int | None:
        found = await depth(url, queue)
        return found if found >= count else None

    return await eventually(told, 20, every_s=0.1)


async def test_sigterm_ends_a_service_that_waits_for_its_broker() -> None:
    async with notifier("amqp://127.0.0.1:1/", "redis://127.0.0.1:1/0") as process:
        await eventually(lambda: any("next try" in line for line in process.lines))
        process.terminate()
        assert await process.exit_code(3) == 0


async def test_a_broker_that_lost_its_queue_and_then_was_killed_is_served_again(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url) as process:
        await serving(url)
        async with channel_to(url) as channel:
            await channel.queue_delete("jobcast.state.0")
        await serving(url)
        # RabbitMQ 3.10 never finds a quorum queue again that was a second old when it was killed.
        born = time.monotonic()
        await eventually(lambda: time.monotonic() > born + 2)
        await report(url, *starts(lab, range(20)))
        await stored(lab, 20)
        spare_rabbitmq.kill()
        spare_rabbitmq.start()
        await serving(url)
        await report(url, *(lab.say(Succeeded, f"j{number}") for number in range(20)))
        await stored(lab, 0, "live")
        assert process.alive
        process.terminate()
        assert await process.exit_code() == 0


async def test_while_redis_is_away_nothing_is_acknowledged(
    spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, own: Lab
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, spare_redis.url) as process:
        await serving(url)
        await report(url, *starts(own, range(5)))
        await stored(own, 5)
        spare_redis.kill()
        await report(url, *starts(own, range(5, 25)))
        await eventually(lambda: any("the batch waits" in line for line in process.lines))
        process.kill()
        await process.exit_code()
        await eventually_told(url, "jobcast.state.0", 20)  # those stored before may come too
    async with notifier(url, spare_redis.url) as process:
        await eventually(lambda: any("Redis" in line for line in process.lines))
        spare_redis.start()
        await stored(own, 25)

        async def settled() -> bool:
            return await depth(url, "jobcast.state.0") == 0

        await eventually(settled)
        assert process.alive


async def test_a_second_notifier_takes_over_when_the_first_is_killed(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url) as first, notifier(url, redis_server.url) as second:
        await serving(url)
        await report(url, *starts(lab, range(100)))
        (first if lab.owner[-1] < "8" else second).kill()
        await report(url, *starts(lab, range(100, 200)))
        await stored(lab, 200)
        words = await lab.words()
        assert words == ["started"] * 200


async def test_four_partitions_keep_every_job_right_however_its_events_were_sent(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url, queues = spare_rabbitmq.url, state_queues(4)
    jobs = [f"j{number}" for number in range(40)]

    def mixed(events: Sequence[Event], correlation_id: str | None) -> Message:
        message = Incoming(
            body=encode_batch(events), content_type=BATCH, correlation_id=correlation_id
        )
        return lifecycle(message, f"{events[0].id}-mixed")

    async with notifier(url, redis_server.url, JOBCAST_PARTITIONS="4"):
        await serving(url, queues)
        await subscribed(url, f"{lab.owner}-sub")
        begun = [lab.say(Started, job) for job in jobs]
        moved = [lab.say(Progressed, job, percent=40) for job in jobs]
        ended = [lab.say(Succeeded, job) for job in jobs]
        messages = [
            mixed(begun, None),
            mixed(begun, jobs[0]),
            mixed([*moved, *ended[:20]], "somebody-else"),
        ]
        assert await publish(url, *messages) == [Outcome.CONFIRMED] * 3
        await stored(lab, 40)
        await report(url, *ended[20:])

        async def all_ended() -> bool:
            return await count_of(lab.redis, lab.keys.live) == 0

        await eventually(all_ended, 20)
        assert {(await lab.job(job)).status.value for job in jobs} == {"succeeded"}
        words = await lab.words()
        assert (words.count("succeeded"), len(set(words) - {"started", "succeeded"})) == (40, 0)
        await eventually_told(url, f"{lab.owner}-sub", len(words))
        for queue in queues:
            assert await depth(url, queue) == 0
        assert await depth(url, DEAD) == 0


async def test_a_subscriber_that_refuses_everything_holds_up_nobody(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url, full, good = spare_rabbitmq.url, f"{lab.owner}-full", f"{lab.owner}-good"
    async with notifier(url, redis_server.url) as process:
        await serving(url)
        await subscribed(url, full, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        await subscribed(url, good)
        await report(url, *starts(lab, range(20)))
        await report(url, *(lab.say(Succeeded, f"j{number}") for number in range(20)))
        await stored(lab, 0, "live")
        await eventually_told(url, good, 40)
        await eventually(lambda: sum("gave up" in line for line in process.lines) >= 39)

        async def settled() -> bool:
            return await depth(url, "jobcast.state.0") == 0

        await eventually(settled)
        assert len(await bodies(url, full)) == 1
        assert process.alive
