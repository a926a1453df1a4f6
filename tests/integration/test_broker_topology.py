"""What the notifier declares: partitions, the way from one to more, and what is in the way."""

import asyncio
from pathlib import Path

import pytest

from broker.errors import BrokerUnavailable, TopologyMismatch
from broker.link import connected, opened
from broker.topology import declare, keeps_ring, state_queues, topology
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.message import Message, Outcome
from jobcast.names import DEAD, EVENTS, LIFECYCLE
from tests.eventually import eventually
from tests.integration.rabbit import bodies, channel_to, depth, notifier, publish, serving, written

MANY = 12
"""So that the order of the names is not the order of the numbers."""


async def declared(url: str, partitions: int) -> None:
    async with channel_to(url) as channel:
        await declare(channel, topology(partitions))


def event(job: str, number: int = 0) -> Message:
    return Message(
        exchange=LIFECYCLE,
        routing_key="job.x",
        body=f"{job} {number}".encode(),
        message_id=f"{job}-{number}",
        content_type="text/plain",
        correlation_id=job,
        mandatory=True,
    )


async def test_with_one_partition_everything_comes_to_one_queue(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    url = spare_rabbitmq.url
    await declared(url, 1)
    await declared(url, 1)
    assert set(await publish(url, *(event(f"j{n}") for n in range(50)))) == {Outcome.CONFIRMED}
    assert await depth(url, "jobcast.state.0") == 50


async def test_with_more_partitions_each_job_has_one_queue_and_the_direct_binding_is_gone(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    url = spare_rabbitmq.url
    await declared(url, 1)
    await declared(url, 4)
    jobs = [f"job-{number}" for number in range(200)]
    messages = [event(job, number) for number in range(3) for job in jobs]
    assert set(await publish(url, *messages)) == {Outcome.CONFIRMED}
    found = [await bodies(url, queue) for queue in state_queues(4)]
    assert sum(len(some) for some in found) == 600
    homes = [{body.split()[0] for body in some} for some in found]
    assert sum(len(home) for home in homes) == 200
    assert min(len(home) for home in homes) > 10
    for some in found:
        of_one = [body for body in some if body.startswith(b"job-1 ")]
        assert of_one == sorted(of_one)


@pytest.mark.timeout(120)
async def test_a_job_keeps_its_partition_over_restarts_of_rabbitmq(tmp_path: Path) -> None:
    jobs = [event(f"job-{number}") for number in range(200)]
    found: list[list[set[bytes]]] = []
    with RabbitMQNode(tmp_path) as node:
        await declared(node.url, MANY)
        await written(node, *state_queues(MANY))
        for end in (node.kill, node.stop, None):
            assert set(await publish(node.url, *jobs)) == {Outcome.CONFIRMED}
            found.append([set(await bodies(node.url, queue)) for queue in state_queues(MANY)])
            if end:
                await asyncio.to_thread(end)
                await asyncio.to_thread(node.start)
    assert sum(len(home) for home in found[0]) == 200
    assert found[1] == found[0]
    assert found[2] == found[0]


async def test_a_notifier_says_what_partitions_want_of_this_rabbitmq(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    async def said(partitions: str) -> bool:
        async with notifier(
            spare_rabbitmq.url, redis_server.url, JOBCAST_PARTITIONS=partitions
        ) as process:
            await serving(spare_rabbitmq.url, state_queues(int(partitions)))
            return any("default_worker_pool_size" in line for line in process.lines)

    async with connected(spare_rabbitmq.url, "test") as connection:
        version = str(connection.server_properties["version"])
    assert not await said("1")
    assert await said("2") != keeps_ring(version)


async def test_without_the_plugin_partitions_are_refused_in_one_clear_line(
    tmp_path: Path, redis_server: RedisNode
) -> None:
    with RabbitMQNode(tmp_path, plugins=()) as node:
        with pytest.raises(TopologyMismatch) as caught:
            await declared(node.url, 2)
        assert "rabbitmq_consistent_hash_exchange" in str(caught.value)
        assert "\n" not in str(caught.value)
        async with notifier(node.url, redis_server.url, JOBCAST_PARTITIONS="2") as process:
            assert await process.exit_code() == 2
        assert "rabbitmq_consistent_hash_exchange" in process.lines[-1]
        assert not any("Traceback" in line for line in process.lines)
        await declared(node.url, 1)


async def test_a_queue_with_other_arguments_is_refused_in_one_clear_line(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    url = spare_rabbitmq.url
    async with channel_to(url) as channel:
        await channel.queue_declare("jobcast.state.0", durable=True)
    with pytest.raises(TopologyMismatch, match=r"jobcast\.state\.0"):
        await declared(url, 1)
    async with notifier(url, redis_server.url) as process:
        assert await process.exit_code() == 2
    assert len(process.lines) == 1
    assert "jobcast.state.0" in process.lines[0]


async def test_a_connection_that_breaks_while_it_declares_is_no_mismatch(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    async def broken() -> None:
        async with (
            connected(spare_rabbitmq.url, "test") as connection,
            opened(connection, confirms=False) as channel,
        ):
            await channel.close()
            await declare(channel, topology(1))

    with pytest.raises(BrokerUnavailable):
        await broken()


async def test_a_dead_letter_can_be_looked_at_as_often_as_one_likes(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    url = spare_rabbitmq.url
    await declared(url, 1)
    letter = Message(
        exchange="", routing_key=DEAD, body=b"x", message_id="m", content_type="text/plain"
    )
    assert await publish(url, letter) == [Outcome.CONFIRMED]
    for _ in range(30):
        # Given back by the one who looked, it is there again after a moment.
        assert await eventually(lambda: bodies(url, DEAD)) == [b"x"]


async def test_notifications_that_nobody_wants_are_confirmed(spare_rabbitmq: RabbitMQNode) -> None:
    await declared(spare_rabbitmq.url, 1)
    message = Message(
        exchange=EVENTS, routing_key="a.b.c.d", body=b"", message_id="m", content_type="x"
    )
    assert await publish(spare_rabbitmq.url, message) == [Outcome.CONFIRMED]
