"""The suite's own servers: a private RabbitMQ and Redis on free ports, once per run."""

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from deploy.guard import Doors
from deploy.process import LOOPBACK, claim_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from tests.logins import Login, Logins
from tests.servers import need_rabbitmq, need_redis

# The developer's own servers, users and tokens are none of the tests' business.
for _name in [name for name in os.environ if name.startswith("JOBCAST_")]:
    del os.environ[_name]

# Where the suite itself runs in the background Ctrl-C is ignored, and what it starts would inherit
# that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def authority_port() -> int:
    """Where the suite's RabbitMQ asks who may do what; `session_stack` answers there."""
    return claim_port(0)


@pytest.fixture(scope="session")
def rabbitmq(
    tmp_path_factory: pytest.TempPathFactory, authority_port: int
) -> Iterator[RabbitMQNode]:
    """A running node; a test that stops or kills it starts it again."""
    need_rabbitmq()
    doors = Doors(authority=f"http://{LOOPBACK}:{authority_port}")
    with RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"), doors=doors) as node:
        yield node


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisNode]:
    """A running server; a test that stops or kills it starts it again."""
    need_redis()
    with RedisNode(tmp_path_factory.mktemp("redis")) as node:
        yield node


@pytest.fixture
def owner() -> str:
    """A fresh owner: what other tests have left behind is invisible to it."""
    return f"owner-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def logins(tmp_path_factory: pytest.TempPathFactory) -> Logins:
    """Users with known tokens; `users_file` is where they stand."""
    return Logins(tmp_path_factory.mktemp("users") / "users.toml")


@pytest.fixture(scope="session")
def session_stack(
    rabbitmq: RabbitMQNode,
    redis_server: RedisNode,
    logins: Logins,
    authority_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """The processes as a stranger starts them: two notifiers and two API replicas."""
    layout = Layout(
        amqp_url=rabbitmq.url,
        redis_url=redis_server.url,
        redis_reader_url=redis_server.reader_url,
        users_file=logins.users_file,
        folder=tmp_path_factory.mktemp("log"),
        notifiers=2,
        http_ports=(0, 0),
        authority_port=authority_port,
        management_url=rabbitmq.management_url,
    )
    with Stack(layout) as stack:
        yield stack


@pytest.fixture
def subscriber(logins: Logins) -> Login:
    """A subscriber whom no other test uses: `subscriber.name` is a fresh owner."""
    return logins.fresh_subscriber()
