"""A real command, reported as a job, reaches clients on every door; nobody polls."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import aio_pika
import httpx
from redis.asyncio import Redis

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from jobcast.sse import EventStream
from tests.e2e.commands import COUNT_SLOWLY, run_job
from tests.eventually import eventually
from tests.logins import Login

ENDS = {"succeeded", "failed", "canceled"}
# The heartbeat of the hub, and its leaving when the last listener has gone.
QUIET_COMMANDS = {"ping", "xrange", "xrevrange", "unsubscribe"}


class Told(NamedTuple):
    """What a client learned of the end: the event word, the version, the representation."""

    event: str
    job: dict[str, Any]


class Counted:
    """An HTTP client that counts its requests."""

    def __init__(self, url: str, login: Login) -> None:
        self.requests = 0
        hooks = {"request": [self._count]}
        self.http = httpx.AsyncClient(
            base_url=url, headers=login.headers, event_hooks=hooks, timeout=70
        )

    async def _count(self, _: httpx.Request) -> None:
        self.requests += 1


async def listen(client: Counted, job_id: str, seen: list[Told] | None = None) -> list[Told]:
    """Every change of the job that an SSE listener sees, to the end of the stream."""
    parser, seen = EventStream(), [] if seen is None else seen
    async with client.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.status_code == 200
        async for chunk in response.aiter_bytes():
            seen += [Told(e.event, json.loads(e.data)) for e in parser.feed(chunk)]
    return seen


async def poll_long(client: Counted, job_id: str) -> Told:
    response = await client.http.get(f"/v1/jobs/{job_id}", params={"wait": 60})
    assert response.status_code == 200
    job = response.json()
    assert job.pop("links")["self"] == f"/v1/jobs/{job_id}"
    return Told(job["status"], job)


@asynccontextmanager
async def subscribed(amqp_url: str, owner: str) -> AsyncIterator[list[Told]]:
    """What a subscriber with a queue of its own is told of an owner's jobs."""
    told: list[Told] = []

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        body = json.loads(message.body)
        assert message.message_id == body["id"]
        told.append(Told(str(message.headers["event"]), body["data"]))

    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("job.events", f"{owner}.#")
        await queue.consume(take, no_ack=True)
        yield told


async def api_commands(redis: "Redis", during: asyncio.Event) -> list[str]:
    """The Redis commands of all API processes until `during` is set."""
    seen: list[str] = []
    clients = await redis.client_list()
    ours = {c["addr"] for c in clients if c["name"] in {"jobcast-reader", "jobcast-hub"}}
    async with redis.monitor() as monitor:
        stop = asyncio.create_task(during.wait())
        while not stop.done():
            following = asyncio.ensure_future(monitor.next_command())
            await asyncio.wait({stop, following}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                break
            command = following.result()
            if f"{command['client_address']}:{command['client_port']}" in ours:
                seen.append(command["command"].split()[0].lower())
    return seen


async def heard_by(redis: "Redis", owner: str, processes: int) -> bool:
    """Whether so many API processes have subscribed to the owner."""
    ((_, count),) = await redis.pubsub_numsub(f"jobcast:0:{{{owner}}}")
    return int(count) == processes


async def test_a_real_command_is_heard_of_once_on_every_door_without_polling(
    stack: Stack, rabbitmq: RabbitMQNode, redis_server: RedisNode, subscriber: Login
) -> None:
    job_id = f"archive-{subscriber.name}"
    listener, waiter = (Counted(url, subscriber) for url in stack.urls)
    over = asyncio.Event()
    async with (
        subscribed(rabbitmq.url, subscriber.name) as told,
        listener.http,
        waiter.http,
        Redis.from_url(redis_server.url) as redis,
        asyncio.TaskGroup() as tasks,
    ):
        command = [sys.executable, "-c", COUNT_SLOWLY]
        running = tasks.create_task(run_job(rabbitmq.url, subscriber.name, job_id, command))
        await eventually(lambda: bool(told))
        so_far: list[Told] = []
        listening = tasks.create_task(listen(listener, job_id, so_far))
        waiting = tasks.create_task(poll_long(waiter, job_id))
        await eventually(partial(heard_by, redis, subscriber.name, 2))
        # Both have read what there is; from here on they only wait.
        await eventually(lambda: [one.event for one in so_far].count("progressed") >= 3)
        watched = tasks.create_task(api_commands(redis, over))
        code, printed = await running
        by_sse, by_poll = await listening, await waiting
        over.set()
        commands = await watched
        ends = await eventually(lambda: [one for one in told if one.event in ENDS])

        assert code == 0
        assert "compressed 50%" in printed
        assert len(ends) == 1
        assert [one.event for one in by_sse if one.event in ENDS] == ["succeeded"]
        assert ends[0].job == by_sse[-1].job == by_poll.job
        assert by_poll.job["percent"] == 100
        assert by_poll.job["message"] == "archive complete"
        assert by_poll.job["result"] == {"exit_code": 0}
        assert listener.requests == waiter.requests == 1
        assert set(commands) <= QUIET_COMMANDS, commands
        progress = [one.job["percent"] for one in by_sse if one.event == "progressed"]
        assert progress == sorted(progress)
        assert len(progress) > 3
        versions = [one.job["version"] for one in by_sse[1:]]
        assert versions == sorted(set(versions))

        late, again = (Counted(url, subscriber) for url in stack.urls)
        async with late.http, again.http:
            after = await listen(late, job_id)
            assert [one.event for one in after] == ["stream", "snapshot"]
            assert after[-1].job == by_poll.job
            assert (await poll_long(again, job_id)).job == by_poll.job


async def test_a_command_that_fails_is_told_as_failed_with_its_last_words(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login
) -> None:
    job_id = f"broken-{subscriber.name}"
    async with subscribed(rabbitmq.url, subscriber.name) as told:
        code, _ = await run_job(
            rabbitmq.url,
            subscriber.name,
            job_id,
            ["ls", "/nowhere-at-all"],
        )
        ends = await eventually(lambda: [one for one in told if one.event in ENDS])
        client = Counted(stack.urls[0], subscriber)
        async with client.http:
            by_poll = await poll_long(client, job_id)
        assert code == 2
        assert [one.event for one in ends] == ["failed"]
        assert ends[0].job == by_poll.job
        assert by_poll.job["reason_code"] == 2
        assert by_poll.job["status_code"] == 500
        assert "No such file" in by_poll.job["message"]


async def test_nobody_else_learns_that_the_job_exists(
    stack: Stack, rabbitmq: RabbitMQNode, subscriber: Login, logins: Any
) -> None:
    job_id = f"secret-{subscriber.name}"
    await run_job(rabbitmq.url, subscriber.name, job_id, ["true"])
    async with httpx.AsyncClient(base_url=stack.urls[0]) as http:
        mine = await http.get(f"/v1/jobs/{job_id}", headers=subscriber.headers)
        assert mine.status_code == 200
        foreign = await http.get(f"/v1/jobs/{job_id}", headers=logins.bob.headers)
        unknown = await http.get(f"/v1/jobs/{job_id}x", headers=logins.bob.headers)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.content == unknown.content
        assert job_id not in (await http.get("/v1/jobs", headers=logins.bob.headers)).text
        assert (await http.get(f"/v1/jobs/{job_id}")).status_code == 401
