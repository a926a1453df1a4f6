"""Batches in, confirmed messages out, on a real RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast
from unittest.mock import Mock

import aiormq
import pytest

from broker.consumer import PREFETCH, consuming
from broker.deliveries import Connection
from broker.errors import BrokerUnavailable, Refused
from broker.link import connected, keep, opened
from broker.outlet import opened_outlet
from broker.publisher import Publisher, publishing
from deploy.guard import SERVICE
from deploy.rabbitmq import RabbitMQNode
from jobcast.cancellation import ended_by_a_child
from jobcast.message import Message, Outcome
from tests.eventually import eventually
from tests.integration.proxy import proxying
from tests.integration.rabbit import channel_to, depth, letter

COUNT = 3 * PREFETCH // 2


@pytest.fixture
async def connection(rabbitmq: RabbitMQNode) -> AsyncIterator[Connection]:
    async with connected(rabbitmq.url, "test") as connection:
        yield connection


@pytest.fixture
async def publisher(connection: Connection) -> AsyncIterator[Publisher]:
    async with publishing(connection) as publisher:
        yield publisher


async def send(publisher: Publisher, *messages: Message) -> list[Outcome]:
    return await publisher.publish(messages, timeout_s=10)


async def test_every_message_of_a_publish_is_confirmed_and_arrives_in_order(
    connection: Connection, publisher: Publisher, queue: str
) -> None:
    outcomes = await send(publisher, *(letter(queue, number) for number in range(COUNT)))
    assert outcomes == [Outcome.CONFIRMED] * COUNT
    found: list[int] = []
    async with consuming(connection, queue) as batches:
        while len(found) < COUNT:
            batch = await batches.take()
            assert len(batch) <= PREFETCH
            found += [int(message.body) for message in batch]
            await batches.settle(batch)
    assert found == list(range(COUNT))


async def test_publishes_at_the_same_time_do_not_mix_up_their_confirms(
    rabbitmq: RabbitMQNode, publisher: Publisher, queue: str
) -> None:
    kinds = [letter(queue, 1), letter("nowhere-to-go", 2, mandatory=True)]
    outcomes = await asyncio.gather(
        *(
            send(
                publisher,
                *(
                    letter(kind.routing_key, number, mandatory=kind.mandatory)
                    for number in range(50 * at, 50 * at + 50)
                ),
            )
            for at, kind in enumerate(kinds * 4)
        )
    )
    assert [set(some) for some in outcomes] == [{Outcome.CONFIRMED}, {Outcome.RETURNED}] * 4
    assert await depth(rabbitmq.url, queue) == 200


async def test_the_properties_of_a_message_arrive_as_they_were_set(
    connection: Connection, publisher: Publisher, queue: str
) -> None:
    headers = {"owner": "ä" * 100, "version": 3, "large": 2**40, "negative": -5}
    await send(
        publisher,
        letter(
            queue,
            body=b"\x00\xff" * 200_000,  # more than one frame
            headers=headers,
            correlation_id="c",
            type="job.x",
            timestamp=1_800_000_000,
            priority=4,
            app_id="jobcast",
            user_id=SERVICE,
        ),
    )
    async with opened(connection, confirms=False) as channel:
        found = await channel.basic_get(queue)
        properties = found.header.properties
        assert found.body == b"\x00\xff" * 200_000
        assert properties.headers is not None
        assert headers.items() <= properties.headers.items()
        assert properties.timestamp is not None
        assert properties.timestamp.timestamp() == 1_800_000_000
        said = (properties.correlation_id, properties.message_type, properties.priority)
        assert said == ("c", "job.x", 4)
        assert (properties.delivery_mode, properties.app_id) == (2, "jobcast")
        assert (properties.user_id, properties.message_id) == (SERVICE, f"{queue}-0")


async def test_what_no_queue_wants_is_returned_and_what_one_refuses_is_nacked(
    connection: Connection, publisher: Publisher, owner: str
) -> None:
    async with opened(connection, confirms=False) as channel:
        full = f"{owner}-full"
        arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await channel.queue_declare(full, exclusive=True, arguments=arguments)
        assert await send(publisher, letter(full, 0)) == [Outcome.CONFIRMED]
        outcomes = await send(
            publisher,
            letter(full, 1),
            letter(f"{owner}-none", 2, mandatory=True),
            letter(f"{owner}-none", 3),
        )
        assert outcomes == [Outcome.NACKED, Outcome.RETURNED, Outcome.CONFIRMED]


async def test_one_id_in_two_publishes_at_the_same_time_is_confirmed_in_both(
    publisher: Publisher, queue: str
) -> None:
    same = letter(queue, mandatory=True)
    outcomes = await asyncio.gather(*(send(publisher, same) for _ in range(20)))
    assert outcomes == [[Outcome.CONFIRMED]] * 20


async def test_of_thousands_at_once_each_has_its_own_outcome(
    connection: Connection, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Mock()
    monkeypatch.setattr(aiormq.Channel, "_confirm_delivery", slow)
    async with opened(connection, confirms=True) as channel:
        arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await channel.queue_declare(f"{queue}-full", exclusive=True, arguments=arguments)
        own = cast("aiormq.Channel", channel)
        publisher = Publisher(own)
        assert await send(publisher, letter(f"{queue}-full", -1)) == [Outcome.CONFIRMED]
        ways = [f"{queue}-full", queue, f"{queue}-none"]
        letters = [letter(ways[at % 3], at, mandatory=True) for at in range(6_000)]
        outcomes = await send(publisher, *letters)
        assert outcomes == [Outcome.NACKED, Outcome.CONFIRMED, Outcome.RETURNED] * 2_000
        assert not own.confirmations
    assert not slow.called


async def test_a_cancellation_that_comes_with_the_end_of_a_channel_is_heeded(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = aiormq.Channel._on_close_ok_frame

    async def canceled_and_closed(channel: aiormq.Channel, frame: Any) -> None:
        task.cancel()
        await closed(channel, frame)

    async def work() -> None:
        while True:
            async with opened(connection, confirms=False):
                pass

    monkeypatch.setattr(aiormq.Channel, "_on_close_ok_frame", canceled_and_closed)
    task = asyncio.create_task(work())
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_a_channel_that_the_broker_closes_ends_the_publish_and_the_block(
    connection: Connection, queue: str
) -> None:
    with pytest.raises(BrokerUnavailable):
        async with publishing(connection) as publisher:
            await send(publisher, letter(queue, exchange="there-is-no-such-exchange"))
    async with publishing(connection) as publisher:  # the connection is as good as before
        assert await send(publisher, letter(queue)) == [Outcome.CONFIRMED]


async def test_what_is_not_settled_comes_again_in_order(
    connection: Connection, publisher: Publisher, queue: str
) -> None:
    await send(publisher, *(letter(queue, number) for number in range(10)))

    async def ten() -> list[bytes]:
        found: list[bytes] = []
        async with consuming(connection, queue) as batches:
            while len(found) < 10:
                found += [message.body for message in await batches.take()]
        return found

    assert await ten() == await ten() == [b"%d" % number for number in range(10)]


async def test_a_stopped_consumer_takes_nothing_more(
    rabbitmq: RabbitMQNode, connection: Connection, publisher: Publisher, queue: str
) -> None:
    async with consuming(connection, queue) as batches:
        taking = asyncio.create_task(batches.take())
        await send(publisher, letter(queue, 1))
        first = await taking
        await send(publisher, letter(queue, 2))
        batches.stop()
        await batches.settle(first)
        assert await batches.take() == ()
    left = await eventually(lambda: depth(rabbitmq.url, queue))
    assert left == 1


async def test_a_deleted_queue_ends_the_wait_for_a_batch(
    rabbitmq: RabbitMQNode, connection: Connection, queue: str
) -> None:
    async with consuming(connection, queue) as batches:
        taking = asyncio.create_task(batches.take())
        async with channel_to(rabbitmq.url) as channel:
            await channel.queue_delete(queue)
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(taking, 5)


async def test_who_keeps_a_connection_has_it_again_however_often_it_breaks(
    rabbitmq: RabbitMQNode, queue: str
) -> None:
    served: list[bool] = []

    async def serve(connection: Connection) -> None:
        async with consuming(connection, queue) as batches:
            served.append(True)
            if len(served) == 1:
                raise BrokerUnavailable("a channel broke, and its connection did not")
            await batches.take()

    async def connect(url: str) -> None:
        async with connected(url, "in") as one, connected(url, "out") as other:
            try:
                async with publishing(other), asyncio.TaskGroup() as tasks:
                    tasks.create_task(serve(one))
                    tasks.create_task(serve(one))
                    await ended_by_a_child()
            except* BrokerUnavailable as group:
                raise BrokerUnavailable(str(group.exceptions[0])) from group

    def more_than(count: int) -> bool:
        return len(served) >= count + 2

    async with proxying(rabbitmq.port) as proxy:
        url = rabbitmq.url_at(proxy.port)
        keeping = asyncio.create_task(keep("test", lambda: connect(url)))
        for _ in range(3):
            await eventually(partial(more_than, len(served)))
            proxy.cut()
        await eventually(partial(more_than, len(served)))
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping


async def test_a_cancellation_from_outside_stays_a_cancellation(
    rabbitmq: RabbitMQNode, queue: str
) -> None:
    ready = asyncio.Event()

    async def body() -> None:
        async with (
            connected(rabbitmq.url, "test") as connection,
            consuming(connection, queue) as batches,
        ):
            ready.set()
            await batches.take()

    task = asyncio.create_task(body())
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_broker_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(BrokerUnavailable, match="cannot connect") as caught:
        async with connected("amqp://guest:secret@127.0.0.1:1/", "test"):
            pass
    assert "secret" not in str(caught.value)


async def test_an_outlet_publishes_refuses_and_says_when_it_is_ready(
    rabbitmq: RabbitMQNode, queue: str
) -> None:
    async with opened_outlet(rabbitmq.url) as outlet:
        await eventually(lambda: outlet.ready)
        await outlet.publish([letter(queue)])
        with pytest.raises(Refused):
            await outlet.publish([letter("nowhere-to-go", mandatory=True)])
        await outlet.publish([letter(queue, 1)])
    assert await depth(rabbitmq.url, queue) == 2
    async with opened_outlet("amqp://127.0.0.1:1/") as outlet:
        assert not outlet.ready
        with pytest.raises(BrokerUnavailable):
            await outlet.publish([letter(queue)])
