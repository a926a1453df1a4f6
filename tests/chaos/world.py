"""The machines and networks of a run: private servers, two notifiers, two API replicas, and a link
of the test's own wherever two of them, or a client and they, meet. RabbitMQ asks the first replica
who may do what; executors and subscribers have logins of their own.

Owns everything it has started. Order of starting: servers, links, services; of stopping: reversed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.guard import Doors
from deploy.process import LOOPBACK, claim_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Service, Stack
from tests.chaos.link import Link
from tests.chaos.plan import LINKS
from tests.logins import Login, Logins

SIDES: Final = ("a", "b")
OWNERS: Final = 4
REQUESTS_PER_S: Final = "100000"


class World:
    """`services` and `links` are named as in `plan.py`."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self.folder = folder
        self.partitions = partitions
        self.authority_port = claim_port(0)
        doors = Doors(authority=f"http://{LOOPBACK}:{self.authority_port}")
        self.rabbitmq = RabbitMQNode(folder / "rabbitmq", doors=doors)
        self.redis = RedisNode(folder / "redis")
        self.links: dict[str, Link] = {}
        self.stacks: list[Stack] = []
        self.logins = Logins(folder / "users.toml")
        self.owners: list[Login] = [self.logins.fresh_subscriber() for _ in range(OWNERS)]

    @property
    def services(self) -> Mapping[str, Service]:
        named: dict[str, Service] = {}
        for side, stack in zip(SIDES, self.stacks, strict=True):
            named[f"notifier-{side}"] = stack.notifiers[0]
            named[f"api-{side}"] = stack.replicas[0]
        return named

    @property
    def urls(self) -> list[str]:
        """The API replicas as clients reach them."""
        return [f"http://{LOOPBACK}:{self.links[f'{side}-http'].port}" for side in SIDES]

    def amqp_url(self, link: str, login: Login | None = None) -> str:
        """Through that link, as the service or as a user."""
        port = self.links[link].port
        return self.rabbitmq.url_at(port) if login is None else self.rabbitmq.url_at(port, *login)

    def start_all(self) -> None:
        """Start what is down, and wait until it works."""
        self.rabbitmq.start()
        self.redis.start()
        for stack in self.stacks:
            for service in stack.services:
                service.launch()
        for stack in self.stacks:
            stack.start()

    def make_stack(self, side: str, http_port: int) -> Stack:
        redis_port = self.links[f"{side}-redis"].port
        layout = Layout(
            amqp_url=self.amqp_url(f"{side}-amqp"),
            redis_url=f"redis://{LOOPBACK}:{redis_port}/0",
            redis_reader_url=self.redis.reader_url_at(redis_port),
            users_file=self.logins.users_file,
            folder=self.folder / side,
            http_ports=(http_port,),
            # RabbitMQ has one address to ask at; while that replica is down nobody can log in.
            authority_port=self.authority_port if side == SIDES[0] else None,
            management_url=self.rabbitmq.management_url,
            env={
                "JOBCAST_PARTITIONS": str(self.partitions),
                "JOBCAST_REQUESTS_PER_S": REQUESTS_PER_S,
            },
        )
        return Stack(layout)


@asynccontextmanager
async def opened_world(folder: Path, partitions: int) -> AsyncIterator[World]:
    """Everything runs and is ready within the block."""
    world = World(folder, partitions)
    async with AsyncExitStack() as exits:
        for node in (world.rabbitmq, world.redis):
            exits.push_async_callback(asyncio.to_thread, node.stop)
        await asyncio.gather(
            asyncio.to_thread(world.rabbitmq.start), asyncio.to_thread(world.redis.start)
        )
        http_ports = {side: claim_port(0) for side in SIDES}
        for name in LINKS:
            side, _, what = name.partition("-")
            targets = {"amqp": world.rabbitmq.port, "redis": world.redis.port}
            target = targets.get(what) or http_ports[side]
            world.links[name] = await exits.enter_async_context(Link(name, target))
        world.stacks = [world.make_stack(side, http_ports[side]) for side in SIDES]
        for stack in world.stacks:
            exits.push_async_callback(asyncio.to_thread, stack.stop)
        await asyncio.to_thread(world.start_all)
        yield world
