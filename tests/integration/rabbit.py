"""What the tests do on a RabbitMQ node, and the state service as a process of its own on it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiormq

from broker.consumer import consuming
from broker.link import connected, opened
from broker.publisher import publishing
from broker.topology import PARTITIONS, QUERIES
from deploy.rabbitmq import RabbitMQNode
from jobcast.events import Event
from jobcast.message import Incoming, Message, Outcome
from jobcast.names import COMMANDS, DEAD, EVENTS, LIFECYCLE, QUERY
from tests.eventually import eventually
from tests.integration.lab import incoming

ROOT = Path(__file__).parents[2]
DIRECTORY = "quorum/*/names.dets"
QUEUES = (DEAD, *(f"jobcast.state.{number}" for number in range(4)))


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    async with connected(url, "test") as connection, opened(connection, confirms=False) as channel:
        yield channel


async def written(node: RabbitMQNode, *queues: str, quorum: bool = True) -> None:
    """Returns when the node would find these new queues again after a SIGKILL.

    RabbitMQ answers a declaration before it is on disk: its table of queues is written within
    seconds, and the directory of quorum queues (3.10: not even synced when the first message is)
    half a second later. A quorum queue without its entry there comes back without a leader, for
    ever.
    """

    def held(pattern: str, name: str) -> bool:
        files = list(node.folder.glob(f"data/*/{pattern}"))
        return not files or any(name.encode() in file.read_bytes() for file in files)

    def all_held() -> bool:
        tables = all(held("*.[LD][OC][GLD]", name) for name in queues)
        return tables and (not quorum or all(held(DIRECTORY, f"_{name}m") for name in queues))

    await eventually(all_held, 20)


async def sweep(url: str) -> None:
    """Takes away all that a state service declares."""
    async with channel_to(url) as channel:
        for queue in (*QUEUES, QUERIES):
            await channel.queue_delete(queue)
        for exchange in (LIFECYCLE, EVENTS, COMMANDS, QUERY, PARTITIONS):
            await channel.exchange_delete(exchange)


def lifecycle(message: Incoming, name: str) -> Message:
    """The message as an executor publishes it."""
    return Message(
        exchange=LIFECYCLE,
        routing_key="job.x",
        body=message.body,
        message_id=name,
        content_type=message.content_type or "",
        correlation_id=message.correlation_id,
        user_id=message.user_id,
        mandatory=True,
    )


def letter(queue: str, number: int = 0, **fields: Any) -> Message:
    """For that queue; its body is its number where `fields` say no other."""
    said: dict[str, Any] = {"body": b"%d" % number, "content_type": "text/plain"}
    named = {"exchange": "", "routing_key": queue, "message_id": f"{queue}-{number}"}
    return Message(**(named | said | fields))


async def publish(url: str, *messages: Message) -> list[Outcome]:
    async with connected(url, "test") as connection, publishing(connection) as publisher:
        return await publisher.publish(messages, timeout_s=10)


async def report(url: str, *events: Event) -> None:
    """Publishes each event in a message of its own, and has them all confirmed."""
    messages = [lifecycle(incoming(event), event.id) for event in events]
    assert set(await publish(url, *messages)) == {Outcome.CONFIRMED}


async def depth(url: str, queue: str) -> int:
    """How many messages are ready."""
    async with channel_to(url) as channel:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0


async def bodies(url: str, queue: str) -> list[bytes]:
    """All ready messages of a queue, which keeps them."""
    count, found = await depth(url, queue), list[bytes]()
    async with connected(url, "test") as connection, consuming(connection, queue, 1_000) as batches:
        while len(found) < count:
            found += [message.body for message in await batches.take()]
    return found


class Process:
    """`python -m notifier`, running; what it says is in `lines`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip())

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def exit_code(self, within_s: float = 10) -> int:
        return await asyncio.wait_for(self._process.wait(), within_s)


@asynccontextmanager
async def notifier(amqp_url: str, redis_url: str, **settings: str) -> AsyncIterator[Process]:
    """The state service as a process, killed at the end of the block if it still runs."""
    environment = os.environ | {
        "JOBCAST_AMQP_URL": amqp_url,
        "JOBCAST_REDIS_URL": redis_url,
        **settings,
    }
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "notifier"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    process = Process(started)
    reading = asyncio.create_task(process.read())
    try:
        yield process
    finally:
        if process.alive:
            process.kill()
        await process.exit_code()
        await reading


async def serving(url: str, queues: Sequence[str] = QUEUES[1:2]) -> None:
    """Waits until every queue has a consumer."""

    async def consumed() -> bool:
        async with channel_to(url) as channel:
            found = [await channel.queue_declare(queue, passive=True) for queue in queues]
        return all(queue.consumer_count for queue in found)

    await eventually(consumed, 20, every_s=0.1)
