"""What a client of Cisco License Manager sees of the stack: notices, settings, outages."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import aio_pika
import httpx
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from examples import clm_client as clm
from examples.clm_client import LicenseManager
from jobcast.sse import EventStream
from tests.chaos.link import Link
from tests.dialects.cisco.clm import UNKNOWN, Clm, ok
from tests.eventually import eventually
from tests.replicas import replicas_beside


async def test_the_notice_is_there_when_the_progress_entry_has_gone(
    session_stack: Stack, rabbitmq: RabbitMQNode, alice: Clm, job: str
) -> None:
    """Whoever finds the entry gone has been told, or is being told, how the job has ended."""
    heard: list[str] = []
    listening = asyncio.Event()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        heard.append(f"AMQP {message.headers['event']!s} {message.correlation_id}")

    async def read(url: str) -> None:
        parser = EventStream()
        async with (
            httpx.AsyncClient(base_url=url, headers=alice.login.headers, timeout=30) as client,
            client.stream("GET", f"/v1/jobs/{job}/events") as response,
        ):
            async for chunk in response.aiter_bytes():
                for event in parser.feed(chunk):
                    heard.append(f"SSE {event.event} {job}")
                    if event.event == "snapshot":
                        listening.set()

    alice.executor.report("started", job)
    await alice.until(job)
    name, token = alice.login
    async with (
        await aio_pika.connect(rabbitmq.url_of(name, token)) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        channel = await connection.channel()
        queue = await channel.declare_queue(f"sub.{name}.clm.test", exclusive=True)
        await queue.bind("job.events", f"{name}.*.succeeded.*")
        await queue.consume(take, no_ack=True)
        tasks.create_task(read(session_stack.urls[0]))
        await listening.wait()
        ask = alice.manager.getAsyncOperationStatus
        assert (await asyncio.to_thread(ask, job)).errorCode == 0
        assert "SSE succeeded" not in str(heard)
        alice.executor.report("succeeded", job)
        while (await asyncio.to_thread(ask, job)).errorCode == 0:
            pass
        wanted = {f"SSE succeeded {job}", f"AMQP succeeded {job}"}
        await eventually(lambda: wanted <= set(heard), 2)


Own = Callable[..., Any]


@pytest.fixture
def own_api(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Own:
    """`with own_api(JOBCAST_…="…") as url`: a replica with settings of the test's own."""

    @contextmanager
    def start(**env: str) -> Iterator[str]:
        urls = {"amqp_url": "JOBCAST_AMQP_URL", "redis_reader_url": "JOBCAST_REDIS_URL"}
        given = {field: env.pop(name) for field, name in urls.items() if name in env}
        folder = tmp_path_factory.mktemp("log")
        with replicas_beside(session_stack, folder, env=env, **given) as stack:
            yield stack.urls[0]

    return start


async def test_where_so_set_the_progress_of_an_ended_job_is_all_of_it(
    alice: Clm, own_api: Own, job: str
) -> None:
    alice.executor.report("progressed", job, percent=30, targets={"d-1": 30})
    alice.executor.report("failed", job)
    await alice.until(job, state="incomplete")
    with (
        own_api(JOBCAST_CISCO_FINISHED="complete") as url,
        LicenseManager(url, alice.login.name, alice.login.token) as manager,
    ):
        found = manager.getAsyncOperationStatus(job)
        ok(found)
        assert (found.overallPercentage, found.targetIds) == (100, ("d-1",))
        assert manager.getAsyncOperationStatus(UNKNOWN).errorCode == clm.JOB_ID_NOT_FOUND


async def test_while_a_part_is_away_the_caller_is_told_to_come_again(
    alice: Clm, own_api: Own, rabbitmq: RabbitMQNode, redis_server: RedisNode, job: str
) -> None:
    names = [f"{job}-{n}" for n in range(3)]
    alice.executor.report("succeeded", *names)
    for name in names:
        await alice.until(name, state="complete")
    async with Link("amqp", rabbitmq.port) as amqp, Link("redis", redis_server.port) as store:
        env = {
            "JOBCAST_AMQP_URL": rabbitmq.url_at(amqp.port),
            "JOBCAST_REDIS_URL": redis_server.reader_url_at(store.port),
        }
        opened = own_api(**env)
        url = await asyncio.to_thread(opened.__enter__)
        try:
            with closing(LicenseManager(url, "", "")) as manager:
                manager.token = alice.manager.token
                for link in (amqp, store):
                    link.refusing = True
                    link.cut()
                    for function, given in (
                        (manager.setAsyncOperationJobComment, (names[0], "lost")),
                        (manager.deleteAsyncOperationJobRecords, ([UNKNOWN, *names],)),
                        (manager.getAsyncOperationJobRecords, (names[0],)),
                    ):
                        told = await asyncio.to_thread(_told, function, *given)
                        assert told == _wanted(link is store, function.__name__), given
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)
    assert {found.comment for found in [await alice.until(name) for name in names]} == {None}


def _told(function: Callable[..., Any], *given: Any) -> str:
    """What the caller is told, in one word; of a deletion the words of its items."""
    try:
        result = function(*given)
    except clm.RemoteException as error:
        return f"{type(error).__name__} {error.code}"
    items = getattr(result, "items", ())
    return " ".join(item.errorName for item in items) or type(result).__name__


def _wanted(no_redis: bool, function: str) -> str:
    if not no_redis and function.startswith("delete"):
        return "JOB_ID_NOT_FOUND INTERNAL INTERNAL INTERNAL"
    if not no_redis and function.startswith("get"):
        return "ClmJob"
    return "RemoteException -32000"
