"""A guarded RabbitMQ with users whose tokens are known, as a test uses it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import aiormq
from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ProbableAuthenticationError,
)

from deploy.guard import SERVICE
from tests.integration.authority import Guard, GuardedNode
from tests.integration.operations import Doing
from tests.integration.stomp import Stomp

REFUSED: Final = (
    ChannelAccessRefused,
    ProbableAuthenticationError,
    AuthenticationError,
)


class Broker(NamedTuple):
    node: GuardedNode
    guard: Guard
    tokens: dict[str, str]

    @asynccontextmanager
    async def channel(self, user: str) -> AsyncIterator[AbstractChannel]:
        url = self.node.url if user == SERVICE else self.node.url_of(user, self.tokens[user])
        connection = await aiormq.connect(url)
        try:
            yield await connection.channel()
        finally:
            await connection.close()

    async def stomp(self, user: str) -> Stomp:
        return await Stomp.connect(self.node.stomp_port, user, self.tokens[user])

    async def refuses(self, user: str) -> bool:
        try:
            async with self.channel(user):
                return False
        except REFUSED:
            return True

    def refusals(self) -> int:
        """How many logins RabbitMQ has refused."""
        log = self.node.folder / "log" / "rabbitmq.log"
        return log.read_text().count("login refused")

    async def may(self, user: str, doing: Doing) -> bool:
        async with self.channel(user) as channel:
            try:
                await doing(channel)
            except REFUSED:
                return False
        return True
