"""One subscriber with a durable subscription, and executors that report on their jobs."""

import asyncio
import uuid
from typing import Any, Final

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.client import Client
from jobcast.events import Described, Event
from tests.eventually import eventually
from tests.integration.rabbit import channel_to, report
from tests.logins import Login

CLIENT_ID: Final = "0123456789abcdef.0123456789abcdef"
TIMEOUT_S: Final = 30.0


class Place:
    """One subscriber, what executors report on their jobs, and their queue."""

    def __init__(self, node: RabbitMQNode, stack: Stack, login: Login) -> None:
        self.node = node
        self.login = login
        self.http_url = stack.urls[0]
        self.amqp_url = node.url_of(login.name, login.token)
        self.queue = f"sub.{login.name}.0123456789abcdef%2E0123456789abcdef.ends"

    def client(self, **options: Any) -> Client:
        given: dict[str, Any] = {"amqp_url": self.amqp_url, "client_id": CLIENT_ID}
        return Client(self.http_url, self.login.token, **(given | options))

    async def report(
        self, *kinds: type[Event], job: str = "j", operation: str | None = None
    ) -> None:
        named = {"source": "/tests", "owner": self.login.name, "job_id": job}
        for kind in kinds:  # one after the other: they must not overtake each other
            told: dict[str, Any] = {"id": uuid.uuid4().hex} | named
            if issubclass(kind, Described):
                told["operation"] = operation
            await report(self.node.url, kind(**told))

    async def emptied(self) -> None:
        """Nothing waits, and nobody holds anything."""

        async def empty() -> bool:
            async with channel_to(self.node.url) as channel:
                found = await channel.queue_declare(self.queue, passive=True)
            return not found.consumer_count and not found.message_count

        await eventually(empty)

    async def subscribe(self) -> None:
        """Makes the queue, and leaves it."""
        async with self.client() as client, asyncio.TaskGroup() as tasks:
            task = tasks.create_task(anext(client.subscribe("ends")))
            await self.consumed()
            task.cancel()

    async def consumed(self) -> None:
        async def there() -> bool:
            async with channel_to(self.node.url) as channel:
                found = await channel.queue_declare(self.queue, passive=True)
            return bool(found.consumer_count)

        await eventually(there, TIMEOUT_S)
