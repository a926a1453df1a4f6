"""Who asks CloudStack's API, and by which client. Where a module has servers of its own, it has
another `world`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from cs import AIOCloudStack, CloudStack

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from tests.dialects.cloudstack.world import Asked, Reports, Who, World

POLL_S: Final = 0.05


@pytest.fixture(scope="session")
def world(tls_stack: Stack, rabbitmq: RabbitMQNode, redis_server: RedisNode) -> World:
    return World(rabbitmq, redis_server, tls_stack)


@pytest.fixture
def alice(world: World) -> Who:
    return world.user()


@pytest.fixture
async def reports(world: World) -> AsyncIterator[Reports]:
    async with world.http(world.user("executor", "admin")) as http:
        yield Reports(http)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, world: World) -> Callable[..., Asked]:
    """`await client(who, …)(command, …)`: by one of the two classes of `cs`, as it is."""

    def made(who: Who, **options: Any) -> Asked:
        given: dict[str, Any] = {"key": who.keys.api_key, "secret": who.keys.secret_key}
        given |= {"verify": str(world.certificates.ca), "poll_interval": POLL_S, **options}

        async def asked(command: str, **parameters: Any) -> Any:
            if request.param == "sync":
                ask = getattr(CloudStack(world.url, **given), command)
                return await asyncio.to_thread(ask, **parameters)
            async with AIOCloudStack(world.url, **given) as cloud:
                return await getattr(cloud, command)(**parameters)

        return asked

    return made
