"""What the tests on real servers share: a state service in this process, and a reader beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from notifier.connection import connect
from notifier.reader import Reader, opened_reader
from tests.integration.commander import Commander
from tests.integration.lab import Lab
from tests.integration.rabbit import channel_to, sweep


@pytest.fixture
async def lab(redis_server: RedisNode, owner: str) -> AsyncIterator[Lab]:
    """The jobs of a fresh owner."""
    redis = connect(redis_server.url, name="jobcast-test")
    yield Lab(redis, owner)
    await redis.aclose()


@pytest.fixture
async def reader(redis_server: RedisNode) -> AsyncIterator[Reader]:
    """What an API replica reads through."""
    async with opened_reader(redis_server.url) as reader:
        yield reader


@pytest.fixture
async def queue(rabbitmq: RabbitMQNode, owner: str) -> AsyncIterator[str]:
    """A queue of its own, on the default exchange."""
    async with channel_to(rabbitmq.url) as channel:
        await channel.queue_declare(owner, durable=True, arguments={"x-queue-type": "quorum"})
        yield owner
        await channel.queue_delete(owner)


@pytest.fixture(scope="session")
def _spare_rabbitmq(
    tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQNode
) -> Iterator[RabbitMQNode]:
    # `rabbitmq` first: where no server is installed, it skips.
    with RabbitMQNode(tmp_path_factory.mktemp("spare-rabbitmq")) as node:
        yield node


@pytest.fixture
async def spare_rabbitmq(_spare_rabbitmq: RabbitMQNode) -> RabbitMQNode:
    """A node that may be killed, with nothing declared on it."""
    _spare_rabbitmq.start()
    await sweep(_spare_rabbitmq.url)
    return _spare_rabbitmq


@pytest.fixture
async def commander(spare_rabbitmq: RabbitMQNode, owner: str) -> Commander:
    """The other side of a Reporter, on that node."""
    commander = Commander(spare_rabbitmq.url, owner)
    await commander.declare()
    return commander


@pytest.fixture
def spare_redis(tmp_path: Path) -> Iterator[RedisNode]:
    """A server that may be killed."""
    with RedisNode(tmp_path / "redis") as node:
        yield node


@pytest.fixture
async def own(spare_redis: RedisNode, owner: str) -> AsyncIterator[Lab]:
    """The owner's jobs on that server."""
    redis = connect(spare_redis.url, name="jobcast-test")
    yield Lab(redis, owner)
    await redis.aclose()
