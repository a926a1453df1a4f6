"""The notice of a job's end at RabbitMQ: after the end can be read, owed with the notification, and
only where the dialect is spoken."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.notices import TOPICS, job_topic
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Started, Succeeded
from jobcast.names import EVENTS
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.integration.rabbit import channel_to, depth, notifier, report, serving


@asynccontextmanager
async def heard(url: str, lab: Lab) -> AsyncIterator[tuple[str, str]]:
    """Two queues: all notices, and the notifications of the owner's ends."""
    notices, ends = f"{lab.owner}-notices", f"{lab.owner}-ends"
    async with channel_to(url) as channel:
        for queue, exchange, key in (
            (notices, TOPICS, "#"),
            (ends, EVENTS, f"{lab.owner}.*.succeeded.*"),
        ):
            await channel.queue_declare(queue, durable=True)
            await channel.queue_bind(queue, exchange, key)
    yield notices, ends
    async with channel_to(url) as channel:
        for queue in (notices, ends):
            await channel.queue_delete(queue)


@pytest.mark.parametrize(("dialects", "count"), [("", 1), ("cisco,hmc", 1), ("cisco", 0)])
async def test_an_end_is_told_once_and_only_where_the_dialect_is_spoken(
    spare_rabbitmq: RabbitMQNode, spare_redis: RedisNode, own: Lab, dialects: str, count: int
) -> None:
    url = spare_rabbitmq.url
    async with notifier(url, spare_redis.url, JOBCAST_DIALECTS=dialects):
        await serving(url)
        async with heard(url, own) as (notices, ends):
            end = own.say(Succeeded, "j")
            await report(url, own.say(Started, "j"), end, end)
            await report(url, own.say(Succeeded, "last"))
            await eventually(lambda: _waiting(url, ends, 2), 20)
            # They leave the service together: what was told of `j` was told before `last` was.
            await eventually(lambda: _waiting(url, notices, 2 * count), 20)
            if count:
                await _looks_right(url, notices, own)


async def _waiting(url: str, queue: str, count: int) -> bool:
    return await depth(url, queue) == count


async def _looks_right(url: str, queue: str, lab: Lab) -> None:
    async with channel_to(url) as channel:
        told = await channel.basic_get(queue, no_ack=True)
    assert told.header is not None
    properties = told.header.properties
    assert (told.body, properties.content_type) == (b"", None)
    assert getattr(told.delivery, "routing_key", None) == job_topic(lab.owner)
    headers = properties.headers or {}
    assert headers["job-uri"] == "/api/jobs/j"
    assert headers["notification-type"] == "job-completion"
    assert isinstance(headers["global-sequence-nr"], int)
