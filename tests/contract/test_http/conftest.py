"""The HTTP suite goes through the public doors alone: base URLs and tokens."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Replica, Stack
from notifier.connection import connect
from tests.cloudevents import event
from tests.contract.test_http.house import ORIGIN, WAITS, House
from tests.contract.test_http.reading import Reading
from tests.integration.lab import Lab
from tests.logins import Login, Logins
from tests.mint import AUDIENCE, ISSUER, Mint, key_set
from tests.replicas import replicas_beside

OwnApi = Callable[..., AbstractContextManager[Replica]]


class Door:
    """One user at one API replica."""

    def __init__(self, client: httpx.AsyncClient, login: Login) -> None:
        self.http = client
        self.name = login.name

    @property
    def get(self) -> Any:
        return self.http.get

    def events(self, path: str = "/v1/events", **options: Any) -> Reading:
        return Reading(self.http, path, **options)


class Executor:
    """Reports on jobs of one owner."""

    def __init__(self, client: httpx.AsyncClient, owner: str) -> None:
        self.http = client
        self.owner = owner

    def event(self, word: str, job: str, **data: Any) -> dict[str, Any]:
        return event(self.owner, job, word, **data)

    async def post(self, events: Any, **options: Any) -> httpx.Response:
        return await self.http.post("/v1/events", json=events, **options)

    async def report(self, word: str, job: str, **data: Any) -> None:
        response = await self.post(self.event(word, job, **data))
        assert response.status_code == 202, response.text


@pytest.fixture
def stack(session_stack: Stack) -> Stack:
    """The run's one stack, without the look after every test whether all of it still runs."""
    return session_stack


@pytest.fixture
def job() -> str:
    return f"job-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def door(stack: Stack, subscriber: Login) -> AsyncIterator[Door]:
    """A fresh subscriber at the first replica."""
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=subscriber.headers) as client:
        yield Door(client, subscriber)


@pytest.fixture
async def second(stack: Stack, subscriber: Login) -> AsyncIterator[Door]:
    """The same subscriber at the second replica."""
    async with httpx.AsyncClient(base_url=stack.urls[1], headers=subscriber.headers) as client:
        yield Door(client, subscriber)


@pytest.fixture
async def executor(stack: Stack, subscriber: Login, logins: Logins) -> AsyncIterator[Executor]:
    """Reports on the subscriber's jobs, at the first replica."""
    headers = logins.executor.headers
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=headers) as client:
        yield Executor(client, subscriber.name)


@pytest.fixture
def own_api(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> OwnApi:
    """`with own_api(JOBCAST_…="…") as replica`: a replica that the test may do with as it likes."""

    @contextmanager
    def start(**env: str) -> Iterator[Replica]:
        with replicas_beside(stack, tmp_path_factory.mktemp("log"), env=env) as own:
            yield own.replicas[0]

    return start


@pytest.fixture(scope="session")
def house(
    rabbitmq: RabbitMQNode, redis_server: RedisNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """See `House`; every test brings users of its own."""
    folder, mint = tmp_path_factory.mktemp("house"), Mint()
    users_file, keys = folder / "users.toml", folder / "keys.json"
    users_file.touch(mode=0o600)
    keys.write_bytes(key_set(mint))
    # `redis_server` first: where no server is installed, it skips.
    with RedisNode(folder / "redis") as redis:
        layout = Layout(
            amqp_url=rabbitmq.url,
            redis_url=redis.url,
            redis_reader_url=redis.reader_url,
            users_file=users_file,
            folder=folder,
            notifiers=0,
            http_ports=(0, 0),
            env={
                "JOBCAST_JWT_ISSUER": ISSUER,
                "JOBCAST_JWT_AUDIENCE": AUDIENCE,
                "JOBCAST_JWT_JWKS": str(keys),
                "JOBCAST_CORS_ORIGINS": ORIGIN,
                "JOBCAST_WAITS_PER_USER": str(WAITS),
                "JOBCAST_REQUESTS_PER_S": "1000",
            },
        )
        with Stack(layout) as stack:
            yield House(stack, redis, users_file, mint)


@pytest.fixture
async def lab_of(house: House) -> AsyncIterator[Callable[[str], Lab]]:
    """`lab_of(owner)`: what happens to the jobs of an owner in the house."""
    redis = connect(house.redis.url, name="jobcast-test")
    yield lambda owner: Lab(redis, owner)
    await redis.aclose()
