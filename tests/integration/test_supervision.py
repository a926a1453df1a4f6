"""The state service, the outlet and the hub when what they hang on goes away without a word."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from broker.consumer import PREFETCH
from deploy.process import LOOPBACK
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Event, Recorded, Started, Succeeded
from jobcast.names import EVENTS
from tests.chaos.link import Link
from tests.e2e.rig import cpu_s, memory_mib
from tests.eventually import eventually
from tests.integration.lab import Lab, incoming
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

STATE = "jobcast.state.0"
JOBS = 1_000
EVENTS_EACH = 20
GROWTH_MIB = 16
HEARTBEAT_S = 1.0


def amqp(node: RabbitMQNode, link: Link, **query: int) -> str:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{node.url_at(link.port)}?{asked}"


def refuse(link: Link) -> None:
    link.refusing = True
    link.cut()


async def count(lab: Lab, index: str) -> int:
    found: Any = await lab.redis.zcard(lab.keys.prefix + index)
    return int(found)


async def told(url: str, queue: str, number: int, within_s: float = 20) -> None:
    """Returns when a queue holds so many messages."""

    async def has() -> bool:
        return await depth(url, queue) >= number

    await eventually(has, within_s, every_s=0.1)


async def subscribed(url: str, owner: str) -> None:
    async with channel_to(url) as channel:
        await channel.queue_declare(owner, durable=True)
        await channel.queue_bind(owner, EVENTS, f"{owner}.#")


def lives(lab: Lab) -> Iterator[Event]:
    """The events of all jobs, twenty each, one round after the other."""
    for number in range(EVENTS_EACH):
        for job in range(JOBS):
            name = f"j{job}"
            if number == 0:
                yield lab.say(Started, name)
            elif number < EVENTS_EACH - 1:
                yield lab.say(Recorded, name, target="t", code=number)
            else:
                yield lab.say(Succeeded, name)


async def send(url: str, events: list[Event]) -> None:
    for start in range(0, len(events), 2_000):
        some = events[start : start + 2_000]
        await publish(url, *(lifecycle(incoming(event), event.id) for event in some))


@pytest.mark.timeout(120)
async def test_while_redis_is_away_nothing_is_acknowledged_and_memory_stays_bounded(
    spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, own: Lab
) -> None:
    url, events = spare_rabbitmq.url, list(lives(own))
    async with (
        Link("amqp", spare_rabbitmq.port) as link,
        notifier(amqp(spare_rabbitmq, link), spare_redis.url) as process,
    ):
        await serving(url)
        await report(url, own.say(Started, "first"))
        await eventually(lambda: own.job("first"))
        pid = process._process.pid
        before_mib, used_s, began = memory_mib(pid), cpu_s(pid), time.monotonic()
        spare_redis.stop()
        await send(url, events)
        assert len(events) - PREFETCH <= await depth(url, STATE)
        assert memory_mib(pid) - before_mib < GROWTH_MIB
        refuse(link)  # what the service holds goes back: all of it, so nothing was acknowledged
        await told(url, STATE, len(events))
        assert await depth(url, STATE) == len(events)
        link.heal()
        await serving(url)
        assert memory_mib(pid) - before_mib < GROWTH_MIB
        assert cpu_s(pid) - used_s < 1 + 0.2 * (time.monotonic() - began)
        spare_redis.start()

        async def all_ended() -> bool:
            return await count(own, "live") == 1 and await depth(url, STATE) == 0

        await eventually(all_ended, 60, every_s=0.2)
        assert process.alive
        assert memory_mib(pid) - before_mib < 2 * GROWTH_MIB
    # Each event is a version of its own: none was lost and none counted twice.
    jobs = [await own.job(f"j{job}") for job in range(JOBS)]
    assert {(job.version, job.status.value) for job in jobs} == {(EVENTS_EACH, "succeeded")}
    words = await own.words()
    assert len(words) == len(events) + 1
    assert words.count("recorded") == JOBS * (EVENTS_EACH - 2)


async def test_a_link_to_rabbitmq_that_nobody_closed_is_given_up_and_all_is_told_once(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url = spare_rabbitmq.url
    async with (
        Link("amqp", spare_rabbitmq.port) as link,
        notifier(amqp(spare_rabbitmq, link, heartbeat=2), redis_server.url) as process,
    ):
        await serving(url)
        await subscribed(url, lab.owner)
        await report(url, *(lab.say(Started, f"j{job}") for job in range(10)))
        await told(url, lab.owner, 10)
        link.lose()
        link.heal()  # for new connections: the old ones are dead for good
        await report(url, *(lab.say(Succeeded, f"j{job}") for job in range(10)))
        await told(url, lab.owner, 20, within_s=30)
        assert process.alive
        assert await lab.words() == ["started"] * 10 + ["succeeded"] * 10


async def test_a_channel_that_rabbitmq_closes_under_the_service_costs_no_notification(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, redis_server.url) as process:
        await serving(url)
        async with channel_to(url) as channel:
            await channel.exchange_delete(EVENTS)  # publishing to it closes the channel: 404
        await report(url, lab.say(Started))
        await eventually(lambda: any("next try" in line for line in process.lines))
        await serving(url)
        await subscribed(url, lab.owner)
        await report(url, lab.say(Succeeded))
        await told(url, lab.owner, 1)
        assert await lab.words() == ["started", "succeeded"]
        assert any(b'"succeeded"' in body for body in await bodies(url, lab.owner))
        assert await depth(url, STATE) == 0


async def test_a_link_to_redis_that_nobody_closed_holds_the_batch_up_for_seconds_only(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    url = spare_rabbitmq.url
    async with (
        Link("redis", redis_server.port) as link,
        notifier(url, f"redis://{LOOPBACK}:{link.port}/0") as process,
    ):
        await serving(url)
        await report(url, lab.say(Started))
        await eventually(lab.job)
        link.lose()
        link.heal()  # for new connections
        await report(url, lab.say(Succeeded))

        async def ended() -> bool:
            return (await lab.job()).ended

        await eventually(ended, 12)
        assert any("the batch waits" in line for line in process.lines)
