"""The limits of open streams (docs/protocol.md § 8.8): what they answer, at no cost.

On a Redis of their own, whose statistics tell whether a refused request has asked it anything.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Replica, Stack
from tests.contract.test_http.reading import Reading
from tests.eventually import eventually
from tests.logins import Login, Logins

STREAMS = ["/v1/events", "/v1/jobs/some/events", "/v1/events?last_event_id=1-0"]
# The heartbeat of the hub, and our own question.
BESIDE = {"ping", "info", "client|setinfo", "client|setname"}

Limited = Callable[..., AbstractContextManager[Replica]]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisNode) -> Iterator[str]:
    # `redis_server` first: where no server is installed, it skips.
    with RedisNode(tmp_path_factory.mktemp("limits-redis")) as node:
        yield node.url


@pytest.fixture
def limited(rabbitmq: RabbitMQNode, own_redis: str, logins: Logins, tmp_path: Path) -> Limited:
    """`with limited(JOBCAST_STREAMS_MAX="1") as replica`"""

    @contextmanager
    def start(**env: str) -> Iterator[Replica]:
        layout = Layout(
            amqp_url=rabbitmq.url,
            redis_url=own_redis,
            users_file=logins.users_file,
            folder=tmp_path,
            notifiers=0,
            env=env,
        )
        with Stack(layout) as own:
            yield own.replicas[0]

    return start


class Asked:
    """How often Redis has been asked what, since it was made."""

    def __init__(self, redis: "Redis", before: Counter[str], clients: int) -> None:
        self._redis = redis
        self._before = before
        self._clients = clients

    @classmethod
    async def from_now(cls, redis: "Redis") -> "Asked":
        return cls(redis, *await _statistics(redis))

    async def since(self) -> tuple[dict[str, int], int]:
        """The commands, and how many connections were made for them."""
        now, clients = await _statistics(self._redis)
        new = now - self._before
        return {name: count for name, count in new.items() if name not in BESIDE}, (
            clients - self._clients
        )


async def _statistics(redis: "Redis") -> tuple[Counter[str], int]:
    calls = await redis.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): said["calls"] for name, said in calls.items()}
    clients = await redis.info("stats")
    return Counter(counted), int(clients["total_connections_received"])


def client_of(replica: Replica, login: Login) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=replica.url, headers=login.headers)


async def test_a_users_own_limit_is_429_with_retry_after_before_redis_is_asked(
    limited: Limited, own_redis: str, subscriber: Login, logins: Logins
) -> None:
    async with Redis.from_url(own_redis) as redis:
        with limited(JOBCAST_STREAMS_PER_USER="2") as replica:
            async with (
                client_of(replica, subscriber) as client,
                Reading(client, "/v1/events") as first,
                Reading(client, "/v1/events") as second,
            ):
                for reading in (first, second):
                    await reading.until("live")
                asked = await Asked.from_now(redis)
                for path in STREAMS * 3:
                    refused = await client.get(path)
                    assert refused.status_code == 429
                    assert int(refused.headers["retry-after"]) >= 1
                    assert refused.json()["type"] == "/problems/too-many-streams"
                assert await asked.since() == ({}, 0)
                assert (await client.get("/v1/jobs")).status_code == 200
                # The statistics do see what is asked, and the limit is this user's alone.
                async with (
                    client_of(replica, logins.bob) as other,
                    Reading(other, "/v1/events") as third,
                ):
                    await third.until("live")
                commands, _ = await asked.since()
                assert {"subscribe", "xrevrange", "zrange"} <= commands.keys()


async def test_the_processes_limit_is_a_stream_that_says_come_later_before_redis_is_asked(
    limited: Limited, own_redis: str, subscriber: Login, logins: Logins
) -> None:
    async with Redis.from_url(own_redis) as redis:
        with limited(JOBCAST_STREAMS_MAX="1") as replica:
            async with (
                client_of(replica, subscriber) as client,
                client_of(replica, logins.bob) as other,
                Reading(other, "/v1/events") as only,
            ):
                await only.until("live")
                asked = await Asked.from_now(redis)
                for path in STREAMS * 3:
                    async with Reading(client, path) as reading:
                        (said,) = await reading.rest()
                        assert reading.response.status_code == 200
                        content_type = reading.response.headers["content-type"]
                    assert content_type == "text/event-stream; charset=utf-8"
                    assert said.event is None
                    assert said.retry is not None
                    assert 5_000 <= said.retry <= 15_000
                    assert said.comment
                assert await asked.since() == ({}, 0)


async def test_a_users_own_limit_comes_before_the_processes(
    limited: Limited, subscriber: Login
) -> None:
    with limited(JOBCAST_STREAMS_MAX="1", JOBCAST_STREAMS_PER_USER="1") as replica:
        async with client_of(replica, subscriber) as client, Reading(client, "/v1/events") as one:
            await one.until("live")
            assert (await client.get("/v1/events")).status_code == 429


async def test_neither_head_nor_a_refused_request_takes_a_place(
    limited: Limited, own_redis: str, subscriber: Login, logins: Logins
) -> None:
    async with Redis.from_url(own_redis) as redis:
        with limited(JOBCAST_STREAMS_MAX="2", JOBCAST_STREAMS_PER_USER="1") as replica:
            async with (
                client_of(replica, subscriber) as client,
                client_of(replica, logins.bob) as other,
            ):
                asked = await Asked.from_now(redis)
                for path in STREAMS * 3:
                    answer = await client.head(path)
                    assert (answer.status_code, answer.content) == (200, b"")
                commands, _ = await asked.since()
                assert "subscribe" not in commands
                async with Reading(client, "/v1/events") as mine:
                    await mine.until("live")
                    for _ in range(5):
                        assert (await client.get("/v1/events")).status_code == 429
                    async with Reading(other, "/v1/events") as theirs:
                        await theirs.until("live")
                        assert (await other.head("/v1/events")).status_code == 429

                async def opens() -> bool:
                    async with Reading(client, "/v1/events") as again:
                        return again.response.status_code == 200

                await eventually(opens, 3)
