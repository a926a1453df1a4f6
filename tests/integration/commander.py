"""The other side of a Reporter: what has arrived at the broker, and commands as the service's."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
import msgspec
from aiormq.abc import DeliveredMessage

from deploy.rabbitmq import NODE, RabbitMQNode
from jobcast.events import Event, Started
from jobcast.job import Job, Status
from jobcast.malformed import Malformed
from jobcast.names import COMMANDS, LIFECYCLE
from jobcast.notification import Notice, command
from jobcast.wire import decode
from tests.eventually import eventually
from tests.integration.rabbit import channel_to, publish

AT = "2026-11-21T10:00:00.000Z"
CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


class Commander:
    """`queue` stands behind `job.lifecycle`, as the state service's does."""

    def __init__(self, url: str, owner: str) -> None:
        self.url = url
        self.owner = owner
        self.events: list[Event] = []

    async def declare(self) -> None:
        async with channel_to(self.url) as channel:
            await channel.exchange_declare(LIFECYCLE, exchange_type="fanout", durable=True)
            await channel.exchange_declare(COMMANDS, exchange_type="topic", durable=True)
            await channel.queue_declare(self.owner, durable=True)
            await channel.queue_bind(self.owner, LIFECYCLE)

    async def arrived(self) -> list[Event]:
        """The owner's events so far, with the repeats."""
        async with channel_to(self.url) as channel:
            while (message := await channel.basic_get(self.owner, no_ack=True)).body:
                for event in decode(
                    message.body, message.header.properties.content_type, {}, trusted=False
                ):
                    assert not isinstance(event, Malformed)
                    self.events.append(event)
        return [event for event in self.events if event.owner == self.owner]

    async def starts(self, job_id: str) -> list[Started]:
        arrived = await self.arrived()
        return [e for e in arrived if isinstance(e, Started) and e.job_id == job_id]

    async def end(self, job_id: str) -> Event:
        return [event for event in await self.arrived() if event.job_id == job_id][-1]

    async def cancel(self, job_id: str, operation: str, attempt: int = 1) -> bool:
        """Sends the command once; whether there was a queue for it."""
        return await cancel(self.url, self._pending(job_id, operation, attempt))

    async def insist(self, job_id: str, operation: str) -> None:
        """Sends it until there is a queue for it."""
        await eventually(lambda: self.cancel(job_id, operation), 30)

    @asynccontextmanager
    async def insisting(self, job_id: str, operation: str) -> AsyncIterator[None]:
        """The same beside the block, which may be cancelled by it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.insist(job_id, operation))
            yield

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[list[bool]]:
        """Every `job.started` is answered with the command, as the service does for a job that was
        canceled before; says of each whether there was a queue for it."""
        routed: list[bool] = []
        connection = await aiormq.connect(self.url)
        channel = await connection.channel()

        async def answer(message: DeliveredMessage) -> None:
            for event in decode(
                message.body, message.header.properties.content_type, {}, trusted=False
            ):
                if isinstance(event, Started):
                    job = self._pending(event.job_id, event.operation or "", event.attempt)
                    routed.append(await cancel(self.url, job))

        await channel.basic_consume(self.owner, answer, no_ack=True)
        try:
            yield routed
        finally:
            await connection.close()

    def _pending(self, job_id: str, operation: str, attempt: int) -> Job:
        return Job(
            id=job_id,
            owner=self.owner,
            operation=operation,
            attempt=attempt,
            status=Status.CANCEL_PENDING,
            created_at=AT,
            updated_at=AT,
        )


async def cancel(url: str, job: Job) -> bool:
    notice = Notice(
        job=job, snapshot=msgspec.json.encode(job), event="cancel-pending", cursor="1-0"
    )
    message = msgspec.structs.replace(command(notice), mandatory=True)
    (outcome,) = await publish(url, message)
    return outcome.name == "CONFIRMED"


async def control(node: RabbitMQNode, *words: str) -> str:
    """`rabbitmqctl` on a private node; what it prints."""
    env = node._write_files() | {"RABBITMQ_LOG_BASE": str(node.folder / "log")}
    done = await asyncio.to_thread(
        subprocess.run,
        [CONTROL, "-q", "-n", NODE, *words],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


async def command_queues(node: RabbitMQNode) -> list[str]:
    listed = await control(node, "list_queues", "name", "--no-table-headers")
    return [name for name in listed.split() if name.startswith("cmd.")]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def uncancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0
