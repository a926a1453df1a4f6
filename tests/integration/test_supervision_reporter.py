"""The Reporter when the broker is away, full of refusals, or never comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from deploy.rabbitmq import RabbitMQNode
from jobcast.backoff import CAP_S, delay_after
from jobcast.events import Event, Recorded
from jobcast.malformed import Malformed
from jobcast.names import LIFECYCLE
from jobcast.reporter import Reporter, Undelivered
from jobcast.wire import decode
from tests.chaos.link import Link
from tests.eventually import eventually

BUFFER_MAX = 20
RECORDS = 200


class Broker:
    """The lifecycle exchange with one queue behind it."""

    def __init__(self, url: str, queue: str) -> None:
        self.url = url
        self._queue = queue
        self.events: list[Event] = []

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.url) as connection, connection.channel() as channel:
            yield channel

    async def declare(self, *, internal: bool = False) -> None:
        """`internal`: RabbitMQ answers what is published to it with 403 and closes the channel."""
        async with self.channel() as channel:
            await channel.exchange_delete(LIFECYCLE)
            exchange = await channel.declare_exchange(
                LIFECYCLE, "fanout", durable=True, internal=internal
            )
            queue = await channel.declare_queue(self._queue, durable=True)
            await queue.bind(exchange)

    async def arrived(self) -> list[Event]:
        """All events so far, in the order of their arrival, without the repeats."""
        async with self.channel() as channel:
            queue = await channel.get_queue(self._queue)
            while message := await queue.get(no_ack=True, fail=False):
                for event in decode(message.body, message.content_type, {}, trusted=False):
                    assert not isinstance(event, Malformed)
                    if event.id not in {known.id for known in self.events}:
                        self.events.append(event)
        return self.events


@pytest.fixture
async def broker(spare_rabbitmq: RabbitMQNode, owner: str) -> Broker:
    broker = Broker(spare_rabbitmq.url, owner)
    await broker.declare()
    return broker


def through(node: RabbitMQNode, link: Link) -> str:
    return node.url_at(link.port)


async def test_a_403_on_publish_is_for_a_while_only(
    broker: Broker, owner: str, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.declare(internal=True)
    async with Reporter(broker.url, owner=owner) as reporter, reporter.job("job") as job:
        await job.progress(50)
        await eventually(lambda: "ACCESS_REFUSED" in caplog.text)
        assert len(reporter.undelivered) == 2
        await broker.declare()
    types = [event.type for event in await broker.arrived()]
    assert types == ["job.started", "job.progressed", "job.succeeded"]
    assert reporter.undelivered == []


async def test_a_full_buffer_holds_the_caller_until_the_broker_is_back_and_keeps_the_order(
    broker: Broker, spare_rabbitmq: RabbitMQNode, owner: str
) -> None:
    sent: list[int] = []
    async with (
        Link("amqp", spare_rabbitmq.port) as link,
        Reporter(through(spare_rabbitmq, link), owner=owner, buffer_max=BUFFER_MAX) as reporter,
        reporter.job("job") as job,
        asyncio.TaskGroup() as tasks,
    ):

        async def work() -> None:
            for number in range(RECORDS):
                await job.record("disk", number)
                sent.append(number)
                if number == RECORDS // 2:
                    link.refusing = True
                    link.cut()

        tasks.create_task(work())
        await eventually(lambda: link.refusing and len(reporter.undelivered) == BUFFER_MAX)
        held = len(sent)
        assert held <= RECORDS // 2 + 1 + BUFFER_MAX
        # It tries to connect a few times meanwhile, and still nothing moves.
        until = asyncio.get_running_loop().time() + 1
        await eventually(lambda: asyncio.get_running_loop().time() > until)
        assert (len(sent), len(reporter.undelivered)) == (held, BUFFER_MAX)
        link.heal()
    events = await broker.arrived()
    assert [event.code for event in events if isinstance(event, Recorded)] == list(range(RECORDS))
    assert [event.sequence for event in events] == list(range(2, RECORDS + 4))


async def test_what_could_not_be_delivered_is_named_and_nothing_else(
    broker: Broker, spare_rabbitmq: RabbitMQNode, owner: str
) -> None:
    async def work(link: Link) -> None:
        async with Reporter(through(spare_rabbitmq, link), owner=owner, close_s=0.5) as reporter:
            async with reporter.job("told"):
                pass
            link.refusing = True
            link.cut()
            async with reporter.job("untold") as job:
                await job.record("disk", 1)

    async with Link("amqp", spare_rabbitmq.port) as link:
        with pytest.raises(Undelivered) as caught:
            await work(link)
    named = [(event.job_id, event.type) for event in caught.value.events]
    assert named == [("untold", f"job.{word}") for word in ("started", "recorded", "succeeded")]
    assert [event.job_id for event in await broker.arrived()] == ["told", "told"]


async def test_a_link_that_nobody_closed_is_replaced_while_a_full_buffer_waits(
    broker: Broker, spare_rabbitmq: RabbitMQNode, owner: str
) -> None:
    async with Link("amqp", spare_rabbitmq.port) as link:
        url = f"{through(spare_rabbitmq, link)}?heartbeat=1"
        async with (
            Reporter(url, owner=owner, buffer_max=BUFFER_MAX) as reporter,
            reporter.job("job") as job,
        ):
            await eventually(lambda: not reporter.undelivered)
            link.lose()
            link.heal()  # for new connections: the old one is dead for good
            for number in range(2 * BUFFER_MAX):
                await asyncio.wait_for(job.record("disk", number), 20)
    events = await broker.arrived()
    assert [event.sequence for event in events] == list(range(2, 2 * BUFFER_MAX + 4))


@pytest.mark.parametrize("failures", [0, 1, 4, 100_000])
def test_the_reporter_comes_back_at_a_random_time_within_a_doubling_bound(failures: int) -> None:
    bound = min(CAP_S, 0.2 * 2.0 ** min(failures, 100))
    delays = [delay_after(failures) for _ in range(400)]
    assert min(delays) < bound / 10
    assert bound * 0.9 < max(delays) <= bound
    assert bound * 0.4 < sum(delays) / len(delays) < bound * 0.6
