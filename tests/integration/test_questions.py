"""The door for queries by itself: names that would harm it, Redis away, RabbitMQ killed."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ConnectionInternalError
from pamqp.commands import Basic

from broker.direct import node_of
from broker.errors import TopologyMismatch
from broker.questions import Questions
from broker.topology import QUERIES
from deploy.guard import SERVICE
from deploy.process import free_port
from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Started
from jobcast.message import Incoming, Reply
from notifier.connection import connect
from notifier.figures import Figures
from notifier.query import Answerer
from notifier.store import Gone, Snapshot, Store
from tests.eventually import eventually
from tests.integration.asker import DIRECT_REPLY, asking
from tests.integration.lab import Lab
from tests.integration.rabbit import channel_to

USER = "the-service"
"""So that the node's only login is somebody else."""


@pytest.fixture
async def door(spare_rabbitmq: RabbitMQNode, lab: Lab) -> AsyncIterator[Questions]:
    """Serving, with a running job `j` of the node's only login."""
    mine = Lab(lab.redis, SERVICE)
    await mine.tell(mine.say(Started, "j"))
    answerer = Answerer(lab.store, (), USER, Figures())
    questions = Questions(spare_rabbitmq.url, answerer.answer)
    task = asyncio.create_task(questions.run())
    try:
        await consumed(spare_rabbitmq.url)
        yield questions
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def consumed(url: str) -> None:
    async def there() -> bool:
        async with channel_to(url) as channel:
            return bool((await channel.queue_declare(QUERIES, passive=True)).consumer_count)

    await eventually(there, 30, every_s=0.1)


def named(node: bytes, kind: bytes = b"v\x00", key: str = "A" * 22 + "==") -> str:
    process = b"\x83X" + kind + bytes([len(node)]) + node + bytes(12)
    return f"amq.rabbitmq.reply-to.{base64.b64encode(process).decode()}.{key}"


async def test_a_name_that_rabbitmq_has_not_made_harms_nobody(
    door: Questions, spare_rabbitmq: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """On 3.10 each of these ends the connection that answers to it."""
    harmful = [
        "amq.rabbitmq.reply-to.x.y",
        "amq.rabbitmq.reply-to.aGVsbG8=.AAAAAAAAAAAAAAAAAAAAAA==",
        *(named(b"reply@%d" % number) for number in range(20)),
    ]
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        await asker.ask({"job": "j"})
        with caplog.at_level(logging.WARNING):
            for name in harmful:
                await asker.send({"job": "j"}, reply_to=name)
            good = await asker.ask({"job": "j"})
    assert json.loads(good.body)["id"] == "j"
    assert not [record for record in caplog.records if record.name == "broker.link"]


async def test_such_a_name_would_end_the_connection(spare_rabbitmq: RabbitMQNode) -> None:
    """Why they are looked at. When this fails RabbitMQ has become careful itself, as 4.x has."""
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        with pytest.raises(ConnectionInternalError):
            await asker.channel.basic_publish(b"", routing_key=named(b"reply@1"))


async def test_after_a_crash_of_the_broker_questions_are_answered_again(
    door: Questions, spare_rabbitmq: RabbitMQNode
) -> None:
    spare_rabbitmq.kill()
    await asyncio.to_thread(spare_rabbitmq.start)
    await consumed(spare_rabbitmq.url)
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        assert json.loads((await asker.ask({"job": "j"})).body)["id"] == "j"


async def test_a_queue_that_is_deleted_is_declared_again(
    door: Questions, spare_rabbitmq: RabbitMQNode
) -> None:
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_delete(QUERIES)
    await consumed(spare_rabbitmq.url)
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        assert json.loads((await asker.ask({"job": "j"})).body)["id"] == "j"


async def test_stopped_it_answers_what_it_has_in_hand_and_ends(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(batch: Sequence[Incoming]) -> list[Reply]:
        begun.set()
        await go_on.wait()
        return [
            Reply(to=m.reply_to or "", body=b"late", type="t", correlation_id=m.correlation_id)
            for m in batch
        ]

    questions = Questions(spare_rabbitmq.url, slowly)
    running = asyncio.create_task(questions.run())
    await consumed(spare_rabbitmq.url)
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        name = await asker.send({"job": "j"})
        await begun.wait()
        assert questions.stop()
        go_on.set()
        assert (await asker.answer(name)).body == b"late"
        await asyncio.wait_for(running, 10)
    assert not questions.stop()


async def test_what_is_in_hand_at_a_crash_is_answered_by_another(
    spare_rabbitmq: RabbitMQNode, lab: Lab
) -> None:
    begun = asyncio.Event()

    async def never(_: Sequence[Incoming]) -> list[Reply]:
        begun.set()
        await asyncio.Event().wait()
        return []

    dying = asyncio.create_task(Questions(spare_rabbitmq.url, never).run())
    await consumed(spare_rabbitmq.url)
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        name = await asker.send({"job": "nowhere"})
        await begun.wait()
        other = Questions(spare_rabbitmq.url, Answerer(lab.store, (), USER, Figures()).answer)
        living = asyncio.create_task(other.run())
        dying.cancel()
        assert b"job-not-found" in (await asker.answer(name)).body
        living.cancel()
        await asyncio.wait([dying, living])


async def test_a_queue_of_other_arguments_is_an_operators_task(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    async with channel_to(spare_rabbitmq.url) as channel:
        await channel.queue_declare(QUERIES, durable=True)

    async def nothing(_: Sequence[Incoming]) -> list[Reply]:
        return []

    with pytest.raises(TopologyMismatch, match=QUERIES):
        await Questions(spare_rabbitmq.url, nothing).run()


@pytest.mark.parametrize("name", ["", " ", "ü" * 127 + "x", "\0", "a\nb", "x" * 255])
async def test_any_correlation_id_comes_back(
    door: Questions, spare_rabbitmq: RabbitMQNode, name: str
) -> None:
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        await asker.send({"job": "j"}, correlation_id=name)
        assert b"running" in (await asker.answer(name)).body


async def test_an_answer_that_cannot_be_sent_is_passed_over(
    spare_rabbitmq: RabbitMQNode,
) -> None:
    async def odd(batch: Sequence[Incoming]) -> list[Reply]:
        return [
            Reply(to=to, body=b"good", type="t", correlation_id=message.correlation_id)
            for message in batch
            for to in ("x" * 256, message.reply_to or "")
        ]

    running = asyncio.create_task(Questions(spare_rabbitmq.url, odd).run())
    await consumed(spare_rabbitmq.url)
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        assert (await asker.ask({"job": "j"})).body == b"good"
    running.cancel()
    await asyncio.wait([running])


async def test_without_redis_the_answer_says_so() -> None:
    redis = connect(f"redis://127.0.0.1:{free_port()}/0")
    body = b'{"job":"j"}'
    asked = Incoming(body=body, user_id="alice", reply_to="sub.alice.c.n", correlation_id="c")
    (reply,) = await Answerer(Store(redis), (), USER, Figures()).answer([asked])
    assert reply.body == b'{"error":{"status":503,"type":"unavailable"}}'
    assert (reply.to, reply.type, reply.correlation_id) == ("sub.alice.c.n", "error", "c")
    await redis.aclose()


class Breaking:
    """A store on which our own code fails for one job."""

    async def read(self, owner: str, job_id: str) -> Snapshot | Gone | None:
        if job_id == "bad":
            raise ZeroDivisionError
        return Snapshot(1, owner.encode())


async def test_a_query_on_which_our_code_fails_stops_nobody_elses() -> None:
    asked = [
        Incoming(body=b'{"job":"%s"}' % job, user_id="alice", reply_to="sub.alice.c.n")
        for job in (b"good", b"bad", b"good")
    ]
    replies = await Answerer(Breaking(), (), USER, Figures()).answer(asked)
    error = b'{"error":{"status":500,"type":"internal-error"}}'
    assert [reply.body for reply in replies] == [b"alice", error, b"alice"]


async def test_the_name_that_rabbitmq_writes_has_a_node(spare_rabbitmq: RabbitMQNode) -> None:
    async with asking(spare_rabbitmq.url, SERVICE) as asker:
        queue = (await asker.channel.queue_declare("", exclusive=True)).queue or ""
        arrived: asyncio.Queue[str] = asyncio.Queue()

        async def note(message: DeliveredMessage) -> None:
            arrived.put_nowait(message.header.properties.reply_to or "")

        await asker.channel.basic_consume(queue, note, no_ack=True)
        asks = Basic.Properties(reply_to=DIRECT_REPLY)
        await asker.channel.basic_publish(b"", routing_key=queue, properties=asks)
        name = await asyncio.wait_for(arrived.get(), 10)
    node = node_of(name)
    assert node is not None
    assert node.startswith(b"reply@")
