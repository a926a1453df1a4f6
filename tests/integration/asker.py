"""Somebody who asks how jobs stand, over AMQP."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from jobcast.names import QUERY, QUERY_KEY
from tests.eventually import eventually

DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"
"""What a publisher writes; RabbitMQ puts the rest behind it."""


class Asker:
    """`user` writes the property `user_id`; `heard` holds all answers, by correlation id."""

    def __init__(self, channel: AbstractChannel, user: str) -> None:
        self.channel = channel
        self.user = user
        self.heard: dict[str, DeliveredMessage] = {}

    async def listen(self, queue: str = DIRECT_REPLY) -> None:
        await self.channel.basic_consume(queue, self._hear, no_ack=True)

    async def send(self, body: object, **properties: Any) -> str:
        """Asks, and answers the correlation id; bytes are sent as they are."""
        name = uuid.uuid4().hex
        said = {"user_id": self.user, "reply_to": DIRECT_REPLY, "correlation_id": name}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.channel.basic_publish(
            content,
            exchange=QUERY,
            routing_key=QUERY_KEY,
            properties=Basic.Properties(**(said | properties)),
        )
        return name

    async def answer(self, name: str, timeout_s: float = 10) -> DeliveredMessage:
        return await eventually(lambda: self.heard.get(name), timeout_s)

    async def ask(self, body: object, **properties: Any) -> DeliveredMessage:
        return await self.answer(await self.send(body, **properties))

    async def error(self, body: object, **properties: Any) -> dict[str, Any]:
        """The error that is answered."""
        message = await self.ask(body, **properties)
        assert message.header.properties.message_type == "error"
        told: dict[str, Any] = json.loads(message.body)["error"]
        return told

    async def _hear(self, message: DeliveredMessage) -> None:
        self.heard[message.header.properties.correlation_id or ""] = message


@asynccontextmanager
async def asking(url: str, user: str) -> AsyncIterator[Asker]:
    """Listening for direct replies."""
    connection = await aiormq.connect(url)
    try:
        asker = Asker(await connection.channel(), user)
        await asker.listen()
        yield asker
    finally:
        async with asyncio.timeout(5):
            await connection.close()
