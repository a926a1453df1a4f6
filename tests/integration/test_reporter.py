"""The Reporter against a real broker: what it promises when the broker is there, gone, or refuses.

The node is this file's own: it is killed, and its exchange deleted, while nobody else looks on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Canceled, Event, Failed, Heartbeat, Progressed, Started, Succeeded
from jobcast.malformed import Malformed
from jobcast.names import LIFECYCLE
from jobcast.outbox import InvalidEvent
from jobcast.reporter import Reporter, Undelivered
from jobcast.wire import BATCH, decode
from tests.eventually import eventually
from tests.servers import need_rabbitmq

QUEUE = "reporter-test"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    need_rabbitmq()
    with RabbitMQNode(tmp_path_factory.mktemp("reporter")) as node:
        yield node


class Broker:
    """What the service would have declared, and what has arrived there."""

    def __init__(self, node: RabbitMQNode, owner: str) -> None:
        self.node = node
        self.owner = owner
        self.messages: list[AbstractIncomingMessage] = []

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with (
            await aio_pika.connect(self.node.url) as connection,
            connection.channel() as channel,
        ):
            yield channel

    async def declare(self) -> None:
        async with self.channel() as channel:
            exchange = await channel.declare_exchange(LIFECYCLE, "fanout", durable=True)
            # Classic: a quorum queue whose broker is killed in the first second of its life never
            # confirms again (seen with RabbitMQ 3.10.8), and the queues of these tests are young.
            queue = await channel.declare_queue(QUEUE, durable=True)
            await queue.bind(exchange)

    async def forget(self) -> None:
        async with self.channel() as channel:
            await channel.exchange_delete(LIFECYCLE)
            await channel.queue_delete(QUEUE)

    async def arrived(self) -> list[Event]:
        """The owner's events so far, in the order of their arrival."""
        async with self.channel() as channel:
            queue = await channel.get_queue(QUEUE)
            while message := await queue.get(no_ack=True, fail=False):
                self.messages.append(message)
        events: list[Event] = []
        for message in self.messages:
            for event in decode(message.body, message.content_type, message.headers, trusted=False):
                assert not isinstance(event, Malformed)
                events.append(event)
        return [event for event in events if event.owner == self.owner]

    async def arrived_types(self) -> list[str]:
        return [event.type for event in await self.arrived()]


@pytest.fixture
async def broker(node: RabbitMQNode, owner: str) -> Broker:
    broker = Broker(node, owner)
    await broker.declare()
    return broker


def once(events: list[Event]) -> list[Event]:
    """Without the repeats: the first of each id."""
    return list({event.id: event for event in reversed(events)}.values())[::-1]


async def test_a_job_is_reported_from_start_to_end(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner, source="/tests/1") as reporter:
        assert await reporter.queued("job-1", operation="backup") == "job-1"
        async with reporter.job("job-1", operation="backup", group="nightly") as job:
            await job.progress(40, targets={"vol1": 80}, message="copying")
            await job.record("vol1", 7, "slow disk")
            job.succeed(result={"bytes": 12}, outcome="warning", message="done")
        events = await broker.arrived()  # the end is confirmed when the job's block is left
    types = ["queued", "started", "progressed", "recorded", "succeeded"]
    assert [event.type for event in events] == [f"job.{word}" for word in types]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert len({event.id for event in events}) == 5
    assert {(event.source, event.job_id) for event in events} == {("/tests/1", "job-1")}
    end = events[-1]
    assert isinstance(end, Succeeded)
    assert (bytes(end.result), end.outcome, end.message) == (b'{"bytes":12}', "warning", "done")
    message = broker.messages[-1]
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert (message.correlation_id, message.routing_key) == ("job-1", "backup.succeeded")


async def test_an_exception_fails_the_job_and_goes_on(broker: Broker) -> None:
    with pytest.raises(LookupError, match="no such volume"):
        async with Reporter(broker.node.url, owner=broker.owner) as reporter, reporter.job():
            raise LookupError("no such volume")
    end = (await broker.arrived())[-1]
    assert isinstance(end, Failed)
    assert end.error is not None
    assert (end.error.code, end.error.message) == ("LookupError", "no such volume")


async def test_a_cancellation_cancels_the_job_and_goes_on(broker: Broker) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with Reporter(broker.node.url, owner=broker.owner) as reporter, reporter.job():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance((await broker.arrived())[-1], Canceled)


async def test_a_chosen_failure_does_not_raise(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as reporter:
        async with reporter.job() as job:
            job.fail("quota", "disk full", reason_code=28, outcome="partial-failures")
        async with reporter.job() as job:
            job.cancel("not wanted any more")
    failed, canceled = [e for e in await broker.arrived() if not isinstance(e, Started)]
    assert isinstance(failed, Failed)
    assert (failed.reason_code, failed.outcome, failed.message) == (
        28,
        "partial-failures",
        "disk full",
    )
    assert isinstance(canceled, Canceled)


async def test_what_the_service_would_refuse_is_refused_in_the_callers_line(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as reporter:
        with pytest.raises(InvalidEvent, match=r"data\.operation"):
            await reporter.queued(operation="white space")
        async with reporter.job() as job:
            with pytest.raises(InvalidEvent, match=r"data\.percent"):
                await job.progress(101)
            with pytest.raises(InvalidEvent, match=r"data\.result"):
                job.succeed(result="x" * 300_000)
            await job.progress(100.0000001, message="y" * 5000)
    assert isinstance((await broker.arrived())[-1], Succeeded)


async def test_a_lease_is_renewed_by_heartbeats_while_the_job_is_quiet(broker: Broker) -> None:
    async def beaten() -> bool:
        return sum(isinstance(event, Heartbeat) for event in await broker.arrived()) >= 2

    check: Callable[[], Awaitable[bool]] = beaten
    async with Reporter(broker.node.url, owner=broker.owner) as r, r.job(lease_s=0.3):
        await eventually(check)
    assert isinstance((await broker.arrived())[-1], Succeeded)


async def test_the_next_attempt_numbers_its_events_anew(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as reporter, reporter.job() as job:
        await job.progress(90)
        await job.next_attempt("the disk came back")
        await job.progress(10)
    found = [(e.type[4:], e.attempt, e.sequence) for e in await broker.arrived()]
    assert found == [
        ("started", 1, 2),
        ("progressed", 1, 3),
        ("started", 2, 2),
        ("progressed", 2, 3),
        ("succeeded", 2, 4),
    ]


async def test_events_that_wait_together_travel_in_batches_per_job(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as reporter, AsyncExitStack() as stack:
        jobs = [await stack.enter_async_context(reporter.job()) for _ in range(3)]
        for number in range(500):
            for job in jobs:
                await job.record("disk", number)
    events = await broker.arrived()
    assert len(events) == 3 * 502
    for job in jobs:
        mine = [event.sequence for event in events if event.job_id == job.id]
        assert mine == list(range(2, 504))
    batches = [message for message in broker.messages if message.content_type == BATCH]
    assert batches
    assert len(broker.messages) < 100
    assert all(message.correlation_id in {job.id for job in jobs} for message in broker.messages)


async def test_a_killed_broker_costs_no_event_and_no_order(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as r, r.job("steady") as job:
        for number in range(300):
            await job.record("disk", number)
            await asyncio.sleep(0)
            if number == 150:
                await asyncio.to_thread(broker.node.kill)
        assert r.undelivered
        await asyncio.to_thread(broker.node.start)
    events = once(await broker.arrived())
    assert [event.sequence for event in events] == list(range(2, 304))
    assert isinstance(events[-1], Succeeded)


async def test_a_link_that_nobody_closed_is_noticed_and_replaced(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{broker.node.url}?heartbeat=1"
    async with Reporter(url, owner=broker.owner) as r, r.job("steady") as job:
        await eventually(lambda: not r.undelivered)
        broker.node.pause()
        try:
            await job.record("disk", 1)
            await eventually(lambda: "sent again" in caplog.text, 20)
        finally:
            broker.node.resume()
    events = once(await broker.arrived())
    assert [event.sequence for event in events] == [2, 3, 4]


async def test_a_closed_channel_is_replaced_without_a_word_from_us(broker: Broker) -> None:
    async with Reporter(broker.node.url, owner=broker.owner) as r, r.job() as job:
        await eventually(lambda: not r.undelivered)
        await broker.forget()
        await job.progress(10)
        await broker.declare()
        await eventually(lambda: not r.undelivered)
    assert (await broker.arrived_types())[-2:] == ["job.progressed", "job.succeeded"]


async def test_an_exchange_that_is_not_there_yet_is_waited_for(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.forget()
    async with Reporter(broker.node.url, owner=broker.owner) as reporter, reporter.job() as job:
        await job.progress(50)
        await eventually(lambda: "no exchange" in caplog.text)
        assert reporter.undelivered
        await broker.declare()
    assert await broker.arrived_types() == ["job.started", "job.progressed", "job.succeeded"]


async def test_a_returned_message_is_not_accepted_and_sent_again(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.forget()
    async with broker.channel() as channel:  # an exchange without a queue returns messages
        await channel.declare_exchange(LIFECYCLE, "fanout", durable=True)
    async with Reporter(broker.node.url, owner=broker.owner) as reporter, reporter.job() as job:
        await job.progress(50)
        await eventually(lambda: "NO_ROUTE" in caplog.text)
        assert reporter.undelivered
        await broker.declare()
    assert await broker.arrived_types() == ["job.started", "job.progressed", "job.succeeded"]


NOWHERE = "amqp://127.0.0.1:1/"


async def test_a_full_buffer_makes_the_caller_wait_and_drops_nothing() -> None:
    async def work() -> None:
        async with (
            Reporter(NOWHERE, owner="nobody", buffer_max=5, close_s=0.1) as r,
            r.job() as job,
        ):
            for number in range(4):
                await job.record("disk", number)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job.record("disk", 4), 0.1)
            assert len(r.undelivered) == 5

    with pytest.raises(Undelivered, match=r"6 event\(s\)") as caught:
        await work()
    assert len(caught.value.events) == 6  # the end always finds room


async def test_progress_that_cannot_be_sent_is_merged_and_takes_no_room() -> None:
    async def work() -> None:
        async with (
            Reporter(NOWHERE, owner="nobody", buffer_max=2, close_s=0.1) as r,
            r.job() as job,
        ):
            for number in range(100):
                await job.progress(number, targets={f"t{number % 3}": number})

    with pytest.raises(Undelivered) as caught:
        await work()
    progressed = caught.value.events[1]
    assert isinstance(progressed, Progressed)
    assert progressed.percent == 99
    assert progressed.targets == {"t0": 99, "t1": 97, "t2": 98}


async def test_an_exception_of_the_block_is_not_hidden_by_what_is_undelivered() -> None:
    with pytest.raises(LookupError) as caught:
        async with Reporter(NOWHERE, owner="nobody", close_s=0.1) as r, r.job():
            raise LookupError("mine")
    assert "2 event(s) could not be delivered" in caught.value.__notes__[0]
