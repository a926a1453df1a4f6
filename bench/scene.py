"""The processes that `bench overload` watches, and the measuring of a load that is put on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from redis.asyncio import Redis

from api.users import add_user
from bench import queues
from bench.bystander import OWNER as BYSTANDER
from bench.bystander import Bystander, standing_by
from bench.results import Failed, Row
from bench.servers import Servers
from bench.slow import SlowLink, slow_link
from bench.weights import weighing
from broker.link import connected, opened
from broker.topology import state_queues
from deploy.process import LOOPBACK
from deploy.stack import Layout, Stack

NO_LIMIT: Final = "1000000"
SETTLE_S: Final = 2.0
IDLE_EVERY_S: Final = 0.1
IDLE_LOOKS: Final = 5
DRAINED_S: Final = 240.0


class Scene(msgspec.Struct):
    """Two notifiers and two API replicas, on servers of their own, with users' tokens."""

    name: str
    servers: Servers
    stack: Stack
    link: SlowLink
    tokens: dict[str, str]
    bystander: Bystander
    quiet_s: float
    partitions: int

    @property
    def amqp_url(self) -> str:
        return self.servers.rabbitmq.url

    @property
    def port(self) -> int:
        """Of the first replica, where the bystander listens too."""
        return int(self.stack.urls[0].rpartition(":")[2])

    @property
    def pids(self) -> dict[str, int]:
        ours = {service.name: service.pid for service in self.stack.services}
        return ours | {
            "rabbitmq": self.servers.rabbitmq.pids[0],
            "redis": self.servers.redis.pids[0],
        }

    def logged(self, text: str) -> int:
        """How many lines of the notifiers' and replicas' logs hold it."""
        return sum(service.log.read_text().count(text) for service in self.stack.services)

    async def has_logged(self, text: str, count: int) -> None:
        """Returns when so many lines hold it."""
        limit = time.monotonic() + DRAINED_S
        while (found := self.logged(text)) < count:
            if time.monotonic() > limit:
                raise Failed(f"{self.name}: {found} times {text!r} in the logs, not {count}")
            await asyncio.sleep(0.1)

    async def measured(self, load: Callable[["Scene"], Awaitable[Row]]) -> list[Row]:
        """The rows of one load: how the bystander fares without and with it, and the weights."""
        quiet = await self._quiet()
        stopped = asyncio.Event()
        async with weighing(self.pids) as weights:
            probing = asyncio.create_task(self.bystander.probe(stopped))
            try:
                figures = await load(self)
            finally:
                stopped.set()
                under = await probing
            await asyncio.sleep(SETTLE_S)
        rows: list[Row] = [
            {"load": self.name, "what": "quiet", **quiet},
            {"load": self.name, "what": "under load", **under, **figures},
        ]
        if lost := under["probes_lost"]:
            raise Failed(f"{self.name}: {lost} of the bystander's ends have not arrived")
        return rows + [
            {"load": self.name, "what": "memory", "process": name, **weight.row()}
            for name, weight in weights.items()
        ]

    async def _quiet(self) -> Row:
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(self.quiet_s, stopped.set)
        return await self.bystander.probe(stopped)

    async def drained(self) -> float:
        """Returns when the state queues were empty for some looks; monotonic time of the first.

        Messages in the notifier's hands are not seen here: check what they should have become.
        """
        limit, looks, since = time.monotonic() + DRAINED_S, 0, 0.0
        async with (
            connected(self.amqp_url, "bench") as connection,
            opened(connection, confirms=False) as channel,
        ):
            while looks < IDLE_LOOKS:
                if time.monotonic() > limit:
                    raise Failed(f"{self.name}: the queue is not empty after {DRAINED_S:.0f} s")
                depths = [
                    await queues.depth(channel, queue) for queue in state_queues(self.partitions)
                ]
                empty = not any(depths)
                looks = looks + 1 if empty else 0
                since = time.monotonic() if looks == 1 else since
                await asyncio.sleep(IDLE_EVERY_S)
        return since


@asynccontextmanager
async def scene(
    servers: Servers, name: str, owners: list[str], quiet_s: float, partitions: int = 1
) -> AsyncIterator[Scene]:
    """New processes on an empty Redis, for the block. Redis is reached through a slow link."""
    async with Redis.from_url(servers.redis.url) as redis, slow_link(servers.redis.port) as link:
        await redis.flushall()
        await queues.prepare(servers.rabbitmq.url, partitions)
        users = servers.folder / f"users-{name}.toml"
        users.unlink(missing_ok=True)
        tokens = {one: add_user(users, one, ["subscriber"]) for one in [BYSTANDER, *owners]}
        layout = Layout(
            amqp_url=servers.rabbitmq.url,
            redis_url=f"redis://{LOOPBACK}:{link.port}/0",
            redis_reader_url=servers.redis.reader_url_at(link.port),
            users_file=users,
            folder=servers.folder / name,
            notifiers=2,
            http_ports=(0, 0),
            env={**_settings(), "JOBCAST_PARTITIONS": str(partitions)},
        )
        stack = await asyncio.to_thread(Stack, layout)
        try:
            await asyncio.to_thread(stack.start)
            port = int(stack.urls[0].rpartition(":")[2])
            async with standing_by(servers.rabbitmq.url, port, tokens[BYSTANDER]) as bystander:
                yield Scene(name, servers, stack, link, tokens, bystander, quiet_s, partitions)
        finally:
            await asyncio.to_thread(stack.stop)


def _settings() -> Mapping[str, str]:
    names = ("JOBCAST_REQUESTS_PER_S", "JOBCAST_STREAMS_PER_USER", "JOBCAST_STREAMS_MAX")
    return dict.fromkeys(names, NO_LIMIT)
