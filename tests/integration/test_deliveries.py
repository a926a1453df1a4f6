"""Deliveries on a real link: what is in hand is bounded, and a busy link is not a dead one."""

import asyncio
from typing import Final

import pytest

from broker import deliveries, link
from broker.consumer import consuming
from broker.link import connected
from broker.publisher import publishing
from deploy.rabbitmq import RabbitMQNode
from jobcast.message import Outcome
from tests.integration.rabbit import depth, letter
from tests.integration.ward import after

BODY: Final = 524_288
FILL: Final = b"x" * (BODY - 8)
COUNT: Final = 40
HELD_MAX: Final = 8 * BODY
GRACE_S: Final = 6.0
"""After so long without a frame aiormq takes the link for dead, with a heartbeat of a second."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HEARTBEAT_S", 1)


async def test_large_messages_wait_at_the_broker_and_the_link_lives_on(
    rabbitmq: RabbitMQNode, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "HELD_MAX", HELD_MAX)
    letters = [letter(queue, number, body=b"%08d" % number + FILL) for number in range(COUNT)]
    async with (
        connected(rabbitmq.url, "test") as connection,
        publishing(connection) as publisher,
    ):
        assert set(await publisher.publish(letters, timeout_s=30)) == {Outcome.CONFIRMED}
    found: list[int] = []
    async with (
        connected(rabbitmq.url, "test") as connection,
        consuming(connection, queue) as batches,
    ):
        first = await batches.take()
        await after(GRACE_S + 2)  # a batch whose work takes long
        held = connection.deliveries.held
        assert HELD_MAX < held < 2 * HELD_MAX < COUNT * BODY
        batch = first
        while len(found) < COUNT:
            found += [int(message.body[:8]) for message in batch]
            await batches.settle(batch)
            if len(found) < COUNT:
                batch = await asyncio.wait_for(batches.take(), 10)
    assert found == list(range(COUNT))
    assert await depth(rabbitmq.url, queue) == 0


async def test_a_link_that_is_never_quiet_is_not_taken_for_dead(
    rabbitmq: RabbitMQNode, queue: str
) -> None:
    """Beside deliveries the broker sends no heartbeats."""
    loop = asyncio.get_running_loop()
    async with (
        connected(rabbitmq.url, "out") as out,
        publishing(out) as publisher,
        connected(rabbitmq.url, "in") as connection,
        consuming(connection, queue) as batches,
    ):
        until, found = loop.time() + GRACE_S + 2, 0
        while loop.time() < until:
            await publisher.publish([letter(queue, found)], timeout_s=10)
            batch = await batches.take()
            await batches.settle(batch)
            found += len(batch)
            await after(0.1)
    assert found > GRACE_S
