"""A private RabbitMQ that asks us who may do what, and the authority that it asks.

The authority runs in a thread of its own: RabbitMQ's questions must be answered while a test's
event loop is busy, and between tests.
"""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiormq
import pytest
import uvicorn
from pamqp.constants import DOMAIN_REGEX
from starlette.types import ASGIApp, Receive, Scope, Send

from api.authority import Authority, asked
from api.deadlines import Deadlines
from api.identity import Credentials
from api.issuer import Issuer
from api.logon import Logons
from api.management import opened_management
from api.secret import Secret
from api.serve import Server
from api.settings import Settings
from broker.topology import topology
from deploy.guard import SERVICE, Doors
from deploy.process import LOOPBACK, free_port
from deploy.rabbitmq import RabbitMQNode
from notifier.users import Users
from tests.eventually import eventually

SECRET: Final = "a-secret-of-more-than-22"


class GuardedNode(RabbitMQNode):
    """Its login is the service's own; everybody else is up to the authority."""

    def __init__(self, folder: Path, authority_url: str, cache_ms: int) -> None:
        super().__init__(folder, doors=Doors(authority=authority_url, cache_ms=cache_ms))


class Guard:
    """The authority, running. `questions` counts what it was asked, by path and answer."""

    def __init__(self, users_file: Path) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}/{SECRET}"
        self.users_file = users_file
        self.amqp_url = self.management_url = ""  # once the node runs
        self.issuer: Issuer | None = None
        self.deadlines = Deadlines()
        self.questions: Counter[str] = Counter()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._up = threading.Event()

    def settings(self) -> Settings:
        return Settings(
            amqp_url=self.amqp_url,
            redis_url="redis://nowhere",
            users_file=self.users_file,
            authority_port=self.port,
            authority_secret=SECRET,
            management_url=self.management_url,
        )

    def start(self) -> None:
        """Returns when it answers."""
        self._up.clear()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        if not self._up.wait(10):
            raise RuntimeError("the authority has not come up")

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)

    async def _serve(self) -> None:
        logons = logons_of(self.users_file, self.issuer)
        settings = self.settings()
        async with opened_management(settings, "/") as management:
            authority = Authority(settings, logons, self.deadlines, management)
            await self._answer(asked(authority, SECRET))

    async def _answer(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            self._counted(app),
            host=LOOPBACK,
            port=self.port,
            lifespan="off",
            log_config=None,
            ws="none",
        )
        server = self._server = Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve())
            await eventually(lambda: server.started)
            self._up.set()

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.questions[scope["path"].rpartition("/")[2]] += 1
            await app(scope, receive, send)

        return counted


def logons_of(users_file: Path, issuer: Issuer | None = None) -> Logons:
    users = Users(users_file, {SERVICE})
    return Logons(Credentials(users, Secret(None), issuer))  # type: ignore[arg-type] # unused here


@contextmanager
def guarded_node(
    folder: Path, users_file: Path, cache_ms: int = 1_000
) -> Iterator[tuple[GuardedNode, Guard]]:
    """Both, with the service's topology declared. `cache_ms`: so long RabbitMQ keeps an answer."""
    guard = Guard(users_file)
    with GuardedNode(folder, guard.url, cache_ms) as node:
        guard.amqp_url, guard.management_url = node.url, node.management_url
        guard.start()
        try:
            asyncio.run(_declare(node.url))
            yield node, guard
        finally:
            guard.stop()


@contextmanager
def any_queue_name() -> Iterator[None]:
    """pamqp refuses `%` and `~` in the names of queues, which neither AMQP nor RabbitMQ does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DOMAIN_REGEX, "queue-name", re.compile(".*", re.DOTALL))
        yield


async def _declare(url: str) -> None:
    wanted = topology(1)
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    for exchange in wanted.exchanges:
        await channel.exchange_declare(exchange.name, exchange_type=exchange.kind, durable=True)
    await connection.close()
