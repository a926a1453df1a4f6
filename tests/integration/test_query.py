"""Queries over AMQP, of a running service: two notifiers, RabbitMQ that asks the API who may."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from broker.topology import QUERIES
from deploy.guard import SERVICE
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from jobcast.events import Deleted, Started, Succeeded
from notifier.connection import connect
from tests.contract.test_http.test_metrics import scrape
from tests.eventually import eventually
from tests.integration.asker import Asker, asking
from tests.integration.lab import Lab
from tests.integration.rabbit import channel_to
from tests.logins import Login, Logins


@pytest.fixture
async def redis(redis_server: RedisNode) -> AsyncIterator[Redis]:
    client = connect(redis_server.url, name="jobcast-test")
    yield client
    await client.aclose()


@pytest.fixture
async def mine(redis: Redis, subscriber: Login, session_stack: Stack) -> Lab:
    """The subscriber's jobs: `j` runs."""
    lab = Lab(redis, subscriber.name)
    await lab.tell(lab.say(Started, "j", operation="backup", name="nightly"))
    return lab


@pytest.fixture
async def asker(mine: Lab, rabbitmq: RabbitMQNode, subscriber: Login) -> AsyncIterator[Asker]:
    async with asking(rabbitmq.url_of(*subscriber), subscriber.name) as asker:
        yield asker


async def test_the_answer_is_the_job_as_get_shows_it(
    asker: Asker, session_stack: Stack, subscriber: Login
) -> None:
    message = await asker.ask({"job": "j"})
    properties = message.header.properties
    assert properties.message_type == "job.status"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 1
    async with httpx.AsyncClient(headers=subscriber.headers) as http:
        shown = (await http.get(f"{session_stack.urls[0]}/v1/jobs/j")).json()
    shown.pop("links")
    assert json.loads(message.body) == shown


async def test_an_answer_comes_to_a_subscription_of_ones_own(
    asker: Asker, subscriber: Login
) -> None:
    queue = f"sub.{subscriber.name}.c.answers"
    await asker.channel.queue_declare(queue, durable=True)
    await asker.listen(queue)
    message = await asker.ask({"job": "j"}, reply_to=queue)
    assert message.routing_key == queue
    assert json.loads(message.body)["id"] == "j"
    await asker.channel.queue_delete(queue)


async def test_a_foreign_job_and_an_unknown_one_are_answered_with_the_same_bytes(
    asker: Asker, redis: Redis, logins: Logins
) -> None:
    bob = Lab(redis, logins.bob.name)
    await bob.tell(bob.say(Started, "of-bob"))
    foreign, unknown = await asker.ask({"job": "of-bob"}), await asker.ask({"job": "nowhere"})
    assert foreign.body == unknown.body == b'{"error":{"status":404,"type":"job-not-found"}}'


async def test_jobs_that_are_gone_are_told_apart_from_unknown_ones(
    asker: Asker, mine: Lab, redis: Redis
) -> None:
    await mine.tell(mine.say(Succeeded, "deleted"))
    deletion = mine.say(Deleted, "deleted")
    await mine.tell(deletion)
    brief = Lab(redis, mine.owner, retention_s=1)
    await brief.tell(brief.say(Succeeded, "expired"))
    assert await asker.error({"job": "deleted"}) == {"status": 410, "type": "job-deleted"}

    async def expired() -> bool:
        told = await asker.ask({"job": "expired"})
        return told.body == b'{"error":{"status":410,"type":"job-expired"}}'

    await eventually(expired, every_s=0.1)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"not json", 400, "body"),
        ([], 400, "body"),
        (b'"' + b"x" * 5_000 + b'"', 400, "body"),
        (b"[" * 4_000, 400, "body"),
        ({}, 422, "job"),
        ({"job": None}, 422, "job"),
        ({"job": 7}, 422, "job"),
        ({"job": ""}, 422, "job"),
        ({"job": "a/b"}, 422, "job"),
        ({"job": "x" * 101}, 422, "job"),
        ({"job": "." * 99}, 422, "job"),
        ({"job": "j", "owner": []}, 422, "owner"),
        ({"job": "j", "owner": "*"}, 422, "owner"),
        ({"job": "j", "owner": "@" * 60}, 422, "owner"),
    ],
)
async def test_a_bad_body_is_answered_with_the_field(
    asker: Asker, body: object, status: int, field: str
) -> None:
    error = await asker.error(body)
    name = {400: "bad-request", 422: "invalid-parameter"}[status]
    assert (error["status"], error["type"]) == (status, name)
    assert error["detail"].startswith(field)


async def test_only_an_admin_names_another_owner(
    asker: Asker, rabbitmq: RabbitMQNode, subscriber: Login, logins: Logins
) -> None:
    other = await asker.error({"job": "j", "owner": logins.alice.name})
    assert (other["status"], other["type"]) == (403, "forbidden")
    own = await asker.ask({"job": "j", "owner": subscriber.name})
    assert json.loads(own.body)["id"] == "j"
    async with asking(rabbitmq.url_of(*logins.admin), logins.admin.name) as admin:
        seen = await admin.ask({"job": "j", "owner": subscriber.name})
        assert json.loads(seen.body)["owner"] == subscriber.name
        assert (await admin.error({"job": "j"}))["type"] == "job-not-found"


async def test_what_may_not_be_answered_is_not(
    asker: Asker, subscriber: Login, logins: Logins, rabbitmq: RabbitMQNode
) -> None:
    """Each of these is told apart from an answer that is late by a good one after it."""
    mine, alices = f"sub.{subscriber.name}.c.n", f"sub.{logins.alice.name}.c.n"
    names: list[dict[str, Any]] = [
        {"user_id": None},
        {"reply_to": None},
        {"reply_to": alices},
        {"reply_to": "jobcast.dead"},
        {"reply_to": "amq.gen-JzTY20BRgKO-HjmUJj0wLg"},
        {"reply_to": f"{mine}.more"},
        {"reply_to": "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAx.AAAA"},
        {"headers": {"x-death": [{"queue": "q"}]}},
        {"headers": {"x-first-death-queue": "q"}},
    ]
    async with channel_to(rabbitmq.url) as channel:
        await channel.queue_declare(alices, durable=True)
        asked = [await asker.send({"job": "j"}, **properties) for properties in names]
        for _ in range(2):  # of both notifiers
            await asker.ask({"job": "j"})
        async with asking(rabbitmq.url, SERVICE) as service:
            own = await service.send({"job": "j", "owner": subscriber.name})
            for _ in range(2):
                await asker.ask({"job": "j"})
            assert own not in service.heard
        assert not set(asked) & set(asker.heard)
        assert (await channel.queue_declare(alices, passive=True)).message_count == 0
        await channel.queue_delete(alices)


async def test_every_notifier_answers_with_a_partition_or_without(
    asker: Asker, session_stack: Stack, rabbitmq: RabbitMQNode, logins: Logins
) -> None:
    async with channel_to(rabbitmq.url) as channel:
        declared = await channel.queue_declare(QUERIES, passive=True)
        assert declared.consumer_count == len(session_stack.notifiers) == 2
    names = [await asker.send({"job": "j"}) for _ in range(60)]
    await asyncio.gather(*(asker.answer(name) for name in names))

    async def both() -> bool:
        answer = await scrape(session_stack.urls[0], logins.admin)
        counts = [
            sample.value
            for family in answer.families
            for sample in family.samples
            if sample.name == "jobcast_queries_total" and sample.labels["answer"] == "job"
        ]
        return len(counts) >= 2 and sum(count > 0 for count in counts) >= 2

    await eventually(both, 20, every_s=0.5)
