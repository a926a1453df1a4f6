"""The two servers that `bench streams` measures, behind one face."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import httpx
import msgspec
from redis.asyncio import Redis

from api.users import add_user
from bench import load, queues
from bench.servers import Servers
from bench.stock import Published
from broker.link import connected
from broker.publisher import Publisher, publishing
from deploy.health import answers_ok
from deploy.process import LOOPBACK, Child, free_port
from jobcast.events import Recorded, Started
from notifier.keys import OwnerKeys

OWNER: Final = "bench"
NO_LIMIT: Final = "1000000"
READY: Final = {"feed": "event: live", "job": "event: snapshot"}
STORED_TRIES: Final = 300
STORED_EVERY_S: Final = 0.1


class Jobs(msgspec.Struct):
    """Running jobs of one owner; each name holds the one mark that the readers count."""

    servers: Servers
    ids: list[str]
    token: str
    users_file: Path
    snapshot: str = ""

    @classmethod
    async def made(cls, servers: Servers, count: int) -> "Jobs":
        """Makes them through the notifier and waits until they are stored."""
        users_file = servers.folder / "users.toml"
        token = add_user(users_file, OWNER, ["subscriber"])
        jobs = cls(servers, [str(uuid4()) for _ in range(count)], token, users_file)
        await queues.prepare(servers.rabbitmq.url)
        await queues.fill(servers.rabbitmq.url, [load.single(_started(one)) for one in jobs.ids])
        async with Redis.from_url(servers.redis.url, decode_responses=True) as redis:
            for _ in range(STORED_TRIES):
                if await redis.zcard(OwnerKeys(OWNER).live) == count:
                    break
                await asyncio.sleep(STORED_EVERY_S)
            jobs.snapshot = str(await redis.hget(OwnerKeys(OWNER).job(jobs.ids[0]), "snapshot"))
        return jobs

    def chosen(self, kind: str, each: int) -> list[str]:
        """The jobs of the events that give every stream so many: any one, or each."""
        if kind == "feed":
            return [self.ids[number % len(self.ids)] for number in range(each)]
        return [one for _ in range(each) for one in self.ids]


def _started(job_id: str) -> Started:
    return Started(
        id=str(uuid4()),
        source=load.SOURCE,
        owner=OWNER,
        job_id=job_id,
        operation="backup",
        name="nightly backup | of the file server",
        labels={"site": "north", "tier": "gold"},
        message="reading the catalogue",
        time=datetime.now(UTC),
    )


class Target(Protocol):
    """A server under load. `publish` gives every stream of that kind so many events."""

    pid: int
    port: int
    token: str

    def paths(self, kind: str) -> list[str]: ...
    def ready(self, kind: str) -> str: ...
    async def publish(self, kind: str, each: int) -> None: ...


class _Server:
    def __init__(self, child: Child, port: int, jobs: Jobs) -> None:
        self.pid = child.pid
        self.port = port
        self.token = jobs.token
        self._jobs = jobs

    def paths(self, kind: str) -> list[str]:
        if kind == "feed":
            return ["/v1/events"]
        return [f"/v1/jobs/{job_id}/events" for job_id in self._jobs.ids]

    def ready(self, kind: str) -> str:
        return READY[kind]


class Stock(_Server):
    """The stock response; its events come over HTTP."""

    def __init__(self, child: Child, port: int, jobs: Jobs, client: httpx.AsyncClient) -> None:
        super().__init__(child, port, jobs)
        self._client = client

    async def publish(self, kind: str, each: int) -> None:
        some = [
            Published("recorded", f"1790000000000-{number}", job_id, self._jobs.snapshot)
            for number, job_id in enumerate(self._jobs.chosen(kind, each))
        ]
        url = f"http://{LOOPBACK}:{self.port}/publish"
        answer = await self._client.post(url, content=msgspec.json.encode(some), timeout=60)
        answer.raise_for_status()


class Jobcast(_Server):
    """The API; its events come from RabbitMQ through the notifier.

    They are records, because these are never merged: each is one frame for each stream.
    """

    def __init__(self, child: Child, port: int, jobs: Jobs, publisher: Publisher) -> None:
        super().__init__(child, port, jobs)
        self._publisher = publisher

    async def publish(self, kind: str, each: int) -> None:
        events = [
            Recorded(
                id=str(uuid4()),
                source=load.SOURCE,
                owner=OWNER,
                job_id=job_id,
                target="vol-17",
                code=0,
                message="copied",
            )
            for job_id in self._jobs.chosen(kind, each)
        ]
        await self._publisher.publish([load.single(event) for event in events], timeout_s=60)


@asynccontextmanager
async def running(
    servers: Servers, name: str, args: list[str], port: int, **env: str
) -> AsyncIterator[Child]:
    with servers.running(name, args, **env) as child:
        await asyncio.to_thread(
            child.wait_until, lambda: answers_ok(f"http://{LOOPBACK}:{port}/readyz"), 30
        )
        yield child


@asynccontextmanager
async def stock(servers: Servers, jobs: Jobs) -> AsyncIterator[Target]:
    port = free_port()
    async with (
        running(servers, "stock", ["-m", "bench.stock", str(port)], port) as child,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        yield Stock(child, port, jobs, client)


@asynccontextmanager
async def jobcast(servers: Servers, jobs: Jobs) -> AsyncIterator[Target]:
    port = free_port()
    settings = {
        "JOBCAST_HTTP_PORT": str(port),
        "JOBCAST_USERS_FILE": str(jobs.users_file),
        "JOBCAST_REQUESTS_PER_S": NO_LIMIT,
        "JOBCAST_STREAMS_PER_USER": NO_LIMIT,
        "JOBCAST_STREAMS_MAX": NO_LIMIT,
    }
    async with (
        running(servers, "api", ["-m", "api"], port, **settings) as child,
        connected(servers.rabbitmq.url, "bench") as connection,
        publishing(connection) as publisher,
    ):
        yield Jobcast(child, port, jobs, publisher)


Opened = Callable[[Servers, Jobs], AbstractAsyncContextManager[Target]]
TARGETS: Final[Mapping[str, Opened]] = {"stock": stock, "jobcast": jobcast}
