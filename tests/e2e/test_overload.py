"""One client that takes nothing is its own problem: the processes as a stranger starts them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import httpx

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.sse import EventStream, ServerSentEvent
from tests.cloudevents import event
from tests.e2e.test_main_path import subscribed
from tests.eventually import eventually
from tests.logins import Login, Logins

FAT = {f"label-{number}": "x" * 256 for number in range(16)}
RECORDS, AT_ONCE = 2_000, 200
"""Of 4 KB each: more than the kernel keeps for a connection whose client does not read."""


async def report(stack: Stack, executor: Login, events: Sequence[dict[str, Any]]) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=executor.headers) as client:
        response = await client.post("/v1/events", json=events)
    assert response.status_code == 202, response.text


async def known(stack: Stack, login: Login, job: str) -> None:
    """Returns when the job is stored."""
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=login.headers) as client:
        response = await client.get(f"/v1/jobs/{job}?wait=10", headers={"If-None-Match": '"0"'})
    assert response.status_code == 200, response.text


@asynccontextmanager
async def full_queue(amqp_url: str, owner: str) -> AsyncIterator[None]:
    """A subscription of the owner that takes one message and refuses all others."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = await channel.declare_queue(f"sub.{owner}.full", durable=True, arguments=arguments)
        await queue.bind("job.events", f"{owner}.#")
        try:
            yield
        finally:
            await queue.delete(if_unused=False, if_empty=False)


async def read_feed(stack: Stack, login: Login, seen: list[ServerSentEvent]) -> None:
    parser = EventStream()
    async with (
        httpx.AsyncClient(base_url=stack.urls[0], headers=login.headers, timeout=30) as client,
        client.stream("GET", "/v1/events") as response,
    ):
        async for chunk in response.aiter_bytes():
            seen += parser.feed(chunk)


@asynccontextmanager
async def reading(stack: Stack, login: Login) -> AsyncIterator[list[ServerSentEvent]]:
    """What comes on the user's feed at the first replica, from its opening on."""
    seen: list[ServerSentEvent] = []
    task = asyncio.create_task(read_feed(stack, login, seen))
    await eventually(lambda: [one for one in seen if one.event == "live"])
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_full_queue_loses_its_own_notifications_and_nothing_else(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, logins: Logins
) -> None:
    owner, other = subscriber.name, logins.fresh_subscriber().name
    jobs = [f"job-{number}" for number in range(20)]

    def given_up() -> list[str]:
        lines = [line for one in stack.notifiers for line in one.log.read_text().splitlines()]
        return [line for line in lines if f"gave up notification {owner}/" in line]

    async with (
        full_queue(rabbitmq.url, owner),
        subscribed(rabbitmq.url, other) as told,
        reading(stack, subscriber) as feed,
    ):
        for word in ("started", "succeeded"):
            # In one message, so that both owners meet in one batch of the notifier.
            mixed = [event(one, job, word) for job in jobs for one in (owner, other)]
            await report(stack, logins.executor, mixed)
        await eventually(lambda: len(told) == 40)
        ends = await eventually(lambda: [e for e in feed if e.event == "succeeded"][19:] and feed)
        await eventually(lambda: len(given_up()) == 39)
    words = [one.event for one in ends]
    assert (words.count("started"), words.count("succeeded")) == (20, 20)
    assert sorted(one.job["id"] for one in told if one.event == "succeeded") == sorted(jobs)
    async with httpx.AsyncClient(base_url=stack.urls[1], headers=subscriber.headers) as client:
        for job in jobs:
            assert (await client.get(f"/v1/jobs/{job}")).json()["status"] == "succeeded"


def stuck_reader(url: str, login: Login) -> socket.socket:
    """A client that asks for its feed and does not read."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    one.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    token = f"Authorization: Bearer {login.token}"
    one.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\n{token}\r\n\r\n".encode())
    return one


async def test_a_reader_that_stops_for_a_while_delays_nobody_and_has_missed_nothing(
    stack: Stack, subscriber: Login, logins: Logins
) -> None:
    owner = subscriber.name
    await report(stack, logins.executor, [event(owner, "j", "started", labels=FAT)])
    await known(stack, subscriber, "j")
    loop = asyncio.get_running_loop()
    with stuck_reader(stack.urls[0], subscriber) as stuck:
        stuck.setblocking(False)
        head = b""
        while b"event: live" not in head:
            head += await asyncio.wait_for(loop.sock_recv(stuck, 65_536), 10)
        async with reading(stack, subscriber) as feed:
            for start in range(0, RECORDS, AT_ONCE):
                numbers = range(start, start + AT_ONCE)
                records = [event(owner, "j", "recorded", target="t", code=n) for n in numbers]
                await report(stack, logins.executor, records)
            await report(stack, logins.executor, [event(owner, "j", "succeeded")])
            await eventually(lambda: feed[-1].event == "succeeded")
            prompt = [json.loads(one.data)["version"] for one in feed if one.event == "recorded"]
        assert len(prompt) == RECORDS
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        rest = b""
        while b"event: succeeded" not in rest[-200_000:]:
            rest += await asyncio.wait_for(loop.sock_recv(stuck, 1 << 20), 10)
    lines = [line for line in rest.splitlines() if line.startswith(b"event: ")]
    assert lines == [b"event: recorded"] * RECORDS + [b"event: succeeded"]
