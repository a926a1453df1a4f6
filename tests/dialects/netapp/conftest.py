"""What clients of Active IQ Unified Manager are pointed at."""

import uuid
from collections.abc import Iterator

import pytest

from deploy.certificates import certificates_in
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from tests.dialects.netapp.client import Server
from tests.dialects.netapp.world import World
from tests.logins import Logins


@pytest.fixture(scope="session")
def world(
    session_stack: Stack,
    rabbitmq: RabbitMQNode,
    redis_server: RedisNode,
    logins: Logins,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """The run's stack, and a replica of its own that speaks TLS."""
    folder = tmp_path_factory.mktemp("netapp")
    certificates = certificates_in(folder / "tls")
    layout = Layout(
        amqp_url=rabbitmq.url,
        redis_url=redis_server.url,
        redis_reader_url=redis_server.reader_url,
        users_file=logins.users_file,
        folder=folder,
        notifiers=0,
        certificates=certificates,
    )
    with Stack(layout) as own:
        https = Server(own.urls[0], str(certificates.ca))
        yield World({"http": Server(session_stack.urls[0]), "https": https}, logins)


@pytest.fixture(params=["http", "https"])
def server(world: World, request: pytest.FixtureRequest) -> Server:
    return world.servers[request.param]


@pytest.fixture
def job() -> str:
    """As the product's keys look."""
    return f"{uuid.uuid4().hex[:16]}:e6fd83b:16e69bdf32f:-7fbd"
