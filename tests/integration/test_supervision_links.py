"""The outlet and the hub when the link they hang on is cut, hangs, or is half-open."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec.structs import replace

from api.health import Health
from broker.errors import BrokerUnavailable
from broker.outlet import opened_outlet
from deploy.process import LOOPBACK
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Recorded, Started, Succeeded
from jobcast.message import Message
from notifier.follow import follow_feed
from notifier.hub import DELAY_MAX_S, opened_hub
from notifier.reader import opened_reader
from tests.chaos.link import Link
from tests.eventually import eventually
from tests.integration.lab import Lab, reading
from tests.integration.rabbit import channel_to, depth

HEARTBEAT_S = 1.0


def refuse(link: Link) -> None:
    link.refusing = True
    link.cut()


def letter(queue: str, exchange: str = "") -> Message:
    return Message(
        exchange=exchange,
        routing_key=queue,
        body=b"{}",
        message_id=queue,
        content_type="application/json",
    )


HARMS: dict[str, tuple[Callable[[Link], None], float]] = {
    "cut": (refuse, 3),
    "half-open": (lambda link: link.lose(), 10),
    "stalled": (lambda link: link.stall(), 10),
}


@pytest.mark.parametrize("harm", HARMS)
async def test_an_outlet_says_in_time_that_it_cannot_publish_and_comes_back(
    spare_rabbitmq: RabbitMQNode, owner: str, harm: str
) -> None:
    do, within_s = HARMS[harm]
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_declare(owner, durable=True)
    async with (
        Link("amqp", spare_rabbitmq.port) as link,
        opened_outlet(f"{spare_rabbitmq.url_at(link.port)}?heartbeat=1") as outlet,
    ):
        await eventually(lambda: outlet.ready)
        await outlet.publish([letter(owner)])
        do(link)
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await outlet.publish([letter(owner)], timeout_s=1)
        assert time.monotonic() - began < 2
        await eventually(lambda: not outlet.ready, within_s)
        with pytest.raises(BrokerUnavailable):
            await outlet.publish([letter(owner)])
        link.heal()
        await eventually(lambda: outlet.ready, 15)
        await outlet.publish([letter(owner)])


async def test_an_outlet_whose_channel_was_closed_opens_another(
    spare_rabbitmq: RabbitMQNode, owner: str
) -> None:
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_declare(owner, durable=True)
    async with opened_outlet(spare_rabbitmq.url) as outlet:
        await eventually(lambda: outlet.ready)
        with pytest.raises(BrokerUnavailable):
            await outlet.publish([letter(owner, exchange="no-such-exchange")])

        async def published() -> bool:
            await outlet.publish([letter(owner)])
            return True

        assert await eventually(published)
    assert await depth(spare_rabbitmq.url, owner) == 1


@pytest.mark.parametrize("harm", ["cut", "half-open", "stalled"])
async def test_a_hub_without_its_link_is_named_and_streams_miss_nothing(
    redis_server: RedisNode, rabbitmq: RabbitMQNode, lab: Lab, harm: str
) -> None:
    async with (
        Link("hub", redis_server.port) as link,
        opened_reader(redis_server.url) as direct,
        opened_hub(f"redis://{LOOPBACK}:{link.port}/0", direct.feed, HEARTBEAT_S) as hub,
        opened_outlet(rabbitmq.url) as outlet,
    ):
        health = Health(replace(direct, hub=hub), outlet)
        await lab.tell(lab.say(Started))
        stream = follow_feed(health._reader, lab.owner, cursor=None, wanted=None, max_age_s=60)

        async def missing(*parts: str) -> bool:
            return await health.missing() == list(parts)

        await eventually(missing)
        async with reading(stream) as heard:
            await heard.until("stream", "snapshot", "live")
            HARMS[harm][0](link)
            await lab.tell(lab.say(Recorded, target="t", code=1))
            await eventually(lambda: missing("hub"), 4 * HEARTBEAT_S)
            link.heal()
            await eventually(missing, 8)
            await lab.tell(lab.say(Succeeded))
            await heard.until("stream", "snapshot", "live", "recorded", "succeeded")


async def test_a_hub_tries_again_at_random_times_and_not_in_a_busy_loop(owner: str) -> None:
    tries: list[float] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(time.monotonic())
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened_reader(f"redis://{LOOPBACK}:{port}/0") as reader:
        until = time.monotonic() + 8
        await eventually(lambda: time.monotonic() > until, 10)
        assert not reader.hub.ready
    gaps = [after - before for before, after in pairwise(tries)]
    assert 6 <= len(tries) <= 40
    assert max(gaps) < DELAY_MAX_S + 0.3
    assert max(gaps[3:]) - min(gaps[3:]) > 0.3  # jitter over the full range
