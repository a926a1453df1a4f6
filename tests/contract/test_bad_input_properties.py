"""AMQP properties that a library cannot read must not stop the service."""

import asyncio
from contextlib import closing
from typing import Any, Final

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.job import Status
from tests.contract.test_bad_input import (
    Letter,
    Stranger,
    declared,
    good,
    jobs_of,
    running,
    served,
)

INVALID: Final = b"\xff\xfe"
PROPERTIES: Final[tuple[dict[str, Any], ...]] = (
    {"kind": INVALID},
    {"correlation_id": INVALID},
    {"message_id": INVALID},
    {"type": INVALID},
    {"timestamp": 2**64 - 1},
    {"routing_key": INVALID},
)


@pytest.fixture(scope="module")
def letters(rabbitmq: RabbitMQNode, redis_server: RedisNode) -> list[Letter]:
    asyncio.run(declared(rabbitmq.url))
    with closing(Stranger(rabbitmq.url)) as stranger:
        list(stranger.dead_letters())  # of whoever was here before
        with running(rabbitmq, redis_server):
            for number, properties in enumerate(PROPERTIES):
                stranger.publish(good("job.started", f"unreadable-{number}", 1), **properties)
                stranger.publish(good("job.started", f"readable-{number}", 1))
            stranger.publish(good("job.succeeded", "after-unreadable", 1))
            asyncio.run(served(redis_server.url, "after-unreadable"))
            return list(stranger.dead_letters())


def test_unreadable_properties_are_dead_letters_or_ignored(
    letters: list[Letter], redis_server: RedisNode
) -> None:
    names = [f"unreadable-{number}" for number in range(len(PROPERTIES))]
    applied = asyncio.run(jobs_of(redis_server.url, names))
    dead = {name for name in names for letter in letters if name.encode() in letter.body}
    assert applied.keys() | dead == set(names)


def test_their_neighbours_are_applied(letters: list[Letter], redis_server: RedisNode) -> None:
    names = [f"readable-{number}" for number in range(len(PROPERTIES))]
    jobs = asyncio.run(jobs_of(redis_server.url, names))
    assert {name: jobs[name].status for name in names} == dict.fromkeys(names, Status.RUNNING)
