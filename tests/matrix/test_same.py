"""A foreign job and an unknown one: the same answer, for the same price, and silence afterwards."""

import asyncio
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import aiormq
import httpx
import pytest
from redis.asyncio import Redis

from jobcast.events import Progressed
from jobcast.names import LIFECYCLE
from notifier.connection import connect
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.matrix.cast import PAIRS, STRANGER
from tests.matrix.policy import Kind
from tests.matrix.scene import Scene

WAIT_S: Final = 0.3
BESIDE: Final = frozenset(
    {"ping", "info", "hello", "auth", "client|setinfo", "client|setname", "pubsub|channels"}
)
RANDOM: Final = re.compile(rb"(?m)^retry: \d+$")
OWN_HEADERS: Final = frozenset({"x-request-id", "date"})
CURSOR: Final = {"Last-Event-ID": "1-0"}
ASKED: Final = {
    "read": ("/v1/jobs/{}", {}),
    "wait": ("/v1/jobs/{}?wait=0.1", {}),
    "records": ("/v1/jobs/{}/records", {}),
    "follow": ("/v1/jobs/{}/events", {}),
    "follow with a cursor": ("/v1/jobs/{}/events", CURSOR),
}


BY_BASIC: Final = {
    "netapp, read": "/api/v2/management-server/jobs/{}",
    "netapp, wait": "/api/management-server/jobs/{}?return_timeout=0.1",
    "netapp, in the guides' form": "/netapp-guide/api/v2/management-server/jobs/{}",
}
"""The same in dialects."""


Change = tuple[str, str, str | None]
CHANGES: Final[dict[str, Change]] = {
    "cancel": ("POST", "/v1/jobs/{}/cancel", None),
    "comment": ("PATCH", "/v1/jobs/{}", '{"comment":"x"}'),
    "record": ("POST", "/v1/jobs/{}/records", '{"target":"t","code":0}'),
    "delete": ("DELETE", "/v1/jobs/{}", None),
}


RPC: Final = {
    "getAsyncOperationJobRecords": '"job_id":"{}"',
    "getAsyncOperationStatus": '"taskID":"{}"',
    "killAsyncOperation": '"job_id":"{}"',
    "setAsyncOperationJobComment": '"job_id":"{}","comment":"x"',
    "deleteAsyncOperationJobRecords": '"job_ids":["{}"]',
    "addPersistentIDStatus": '"pidStatus":{"jobId":"{}","id":"t"}',
    "listPersistentIDStatus": '"id":"{}","pageinfo":{"offset":0,"max":-1}',
}
"""Functions of Cisco License Manager, with their parameters."""
BY_SESSION: Final = (
    "GET /api/jobs/{}",
    "DELETE /api/jobs/{}",
    "POST /api/jobs/{}/operations/cancel",
)


class Answer(NamedTuple):
    """All that a client can see of it, but for the job's id and what is random in any answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    calls: Counter[str]


@pytest.fixture
async def redis(scene: Scene) -> AsyncIterator[Redis]:
    redis = connect(scene.redis.url, name="matrix")
    yield redis
    await redis.aclose()


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("door", ["bearer", "basic", "cookie", "ticket"])
async def test_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    scene: Scene, redis: Redis, door: str, asked: str
) -> None:
    path, headers = ASKED[asked]
    for me, other in (("alice", "alice.x"), ("carol", "alice"), ("admin", "alice")):
        found: dict[Kind, Answer] = {}
        kinds: tuple[Kind, ...] = ("foreign", "unknown")
        for kind in kinds:
            _, job = scene.job(me, other, kind)
            query = ""
            if door == "ticket":
                query = ("&" if "?" in path else "?") + f"ticket={scene.ticket(me, job)}"
            own = headers | (scene.by(door, me) if door != "ticket" else {})
            async with httpx.AsyncClient(base_url=scene.url, headers=own) as client:
                found[kind] = await ask(client, redis, ("GET", path.format(job) + query, None), job)
        assert found["foreign"] == found["unknown"], (me, other)
        asked_redis = found["foreign"].calls.total() > 0
        assert asked_redis is (found["foreign"].status != 403)  # by ticket one follows, no more


@pytest.mark.parametrize("asked", BY_BASIC)
async def test_in_a_dialect_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    scene: Scene, redis: Redis, asked: str
) -> None:
    for me, other in (("alice", "alice.x"), ("carol", "alice"), ("admin", "alice")):
        found: list[Answer] = []
        kinds: tuple[Kind, ...] = ("foreign", "unknown")
        async with httpx.AsyncClient(base_url=scene.url, headers=scene.by("basic", me)) as client:
            for kind in kinds:
                _, job = scene.job(me, other, kind)
                request = "GET", BY_BASIC[asked].format(job), None
                found.append(await ask(client, redis, request, job))
        assert found[0] == found[1], (me, other)
        assert found[0].status == 404
        assert found[0].calls.total() > 0


@pytest.mark.parametrize("door", ["key", "bearer"])
async def test_in_cloudstack_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    scene: Scene, redis: Redis, door: str
) -> None:
    for me, other in (("alice", "alice.x"), ("admin", "alice")):
        found: list[Answer] = []
        kinds: tuple[Kind, ...] = ("foreign", "unknown")
        for kind in kinds:
            _, job = scene.job(me, other, kind)
            query = f"command=queryAsyncJobResult&jobid={job}"
            query += f"&{scene.signature(me, query)}" if door == "key" else ""
            headers = scene.by(door, me) if door != "key" else {}
            async with httpx.AsyncClient(base_url=scene.url, headers=headers) as client:
                found.append(await ask(client, redis, ("GET", f"/client/api?{query}", None), job))
        assert found[0] == found[1], (me, other)
        assert found[0].status == 431
        assert found[0].calls.total() > 0


@pytest.mark.parametrize("asked", CHANGES)
@pytest.mark.parametrize("door", ["bearer", "basic", "cookie"])
async def test_to_change_a_foreign_job_costs_what_an_unknown_one_does_and_tells_nobody(
    scene: Scene, redis: Redis, door: str, asked: str
) -> None:
    method, path, body = CHANGES[asked]
    async with overheard(scene) as published:
        for me, other in (("alice", "alice.x"), ("carol", "alice"), ("admin", "alice")):
            found: dict[Kind, Answer] = {}
            kinds: tuple[Kind, ...] = ("foreign", "unknown")
            for kind in kinds:
                _, job = scene.job(me, other, kind)
                async with httpx.AsyncClient(
                    base_url=scene.url, headers=scene.by(door, me)
                ) as client:
                    request = method, path.format(job), body
                    found[kind] = await ask(client, redis, request, job)
            assert found["foreign"] == found["unknown"], (me, other)
            assert found["foreign"].status == 404
            assert found["foreign"].calls.total() > 0
        # What the API publishes comes in order: nothing has come before this.
        event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/m", "subject": "last"}
        event |= {"type": "job.heartbeat", "owner": STRANGER}
        async with httpx.AsyncClient(base_url=scene.url) as client:
            told = await client.post(
                "/v1/events", json=event, headers=scene.by("bearer", "executor")
            )
            assert told.status_code == 202, told.text
        assert (await asyncio.wait_for(published.get(), 10)).header.properties.correlation_id == (
            "last"
        )


@pytest.mark.parametrize("method", RPC)
async def test_over_json_rpc_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    scene: Scene, redis: Redis, method: str
) -> None:
    for me, other in (("alice", "alice.x"), ("carol", "alice"), ("admin", "alice")):
        found: dict[Kind, Answer] = {}
        kinds: tuple[Kind, ...] = ("foreign", "unknown")
        for kind in kinds:
            _, job = scene.job(me, other, kind)
            params = f"{{{RPC[method].replace('{}', job)}}}"
            body = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'
            async with httpx.AsyncClient(
                base_url=scene.url, headers=scene.by("bearer", me)
            ) as client:
                found[kind] = await ask(client, redis, ("POST", "/clm/rpc", body), job)
        assert found["foreign"] == found["unknown"], (me, other)
        assert found["foreign"].status == 200
        assert found["foreign"].calls.total() > 0


@pytest.mark.parametrize("asked", BY_SESSION)
async def test_by_session_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    scene: Scene, redis: Redis, asked: str
) -> None:
    method, path = asked.split(" ")
    for me, other in (("alice", "alice.x"), ("carol", "alice"), ("admin", "alice")):
        found: dict[Kind, Answer] = {}
        kinds: tuple[Kind, ...] = ("foreign", "unknown")
        headers = scene.by("session", me)
        for kind in kinds:
            _, job = scene.job(me, other, kind)
            async with httpx.AsyncClient(base_url=scene.url, headers=headers) as client:
                found[kind] = await ask(client, redis, (method, path.format(job), None), job)
        assert found["foreign"] == found["unknown"], (me, other)
        assert found["foreign"].status == 404
        assert found["foreign"].calls.total() > 0


@asynccontextmanager
async def overheard(scene: Scene) -> AsyncIterator[asyncio.Queue[Any]]:
    """All that goes to job.lifecycle during the block."""
    heard: asyncio.Queue[Any] = asyncio.Queue()
    connection = await aiormq.connect(scene.node.url)
    try:
        channel = await connection.channel()
        queue = (await channel.queue_declare(uuid.uuid4().hex, exclusive=True)).queue or ""
        await channel.queue_bind(queue, LIFECYCLE)
        await channel.basic_consume(queue, heard.put, no_ack=True)
        yield heard
    finally:
        await connection.close()


async def ask(client: httpx.AsyncClient, redis: Redis, change: Change, job: str) -> Answer:
    method, path, content = change
    sent = {} if content is None else {"Content-Type": "application/json"}
    await eventually(lambda: _quiet(redis))
    before = await calls(redis)
    body = b""
    async with client.stream(method, path, content=content, headers=sent) as response:
        try:
            async with asyncio.timeout(WAIT_S if response.status_code == 200 else 10):
                async for chunk in response.aiter_bytes():
                    body += chunk
        except TimeoutError:
            pass
    await eventually(lambda: _quiet(redis))
    headers = [pair for pair in response.headers.raw if pair[0].decode() not in OWN_HEADERS]
    body = RANDOM.sub(b"retry: -", body.replace(job.encode(), b"-"))
    return Answer(response.status_code, headers, body, await calls(redis) - before)


async def _quiet(redis: Redis) -> bool:
    """Nobody is listened to any more."""
    found: Any = await redis.pubsub_channels()
    return not found


async def calls(redis: Redis) -> Counter[str]:
    """How often Redis has been asked what, but for heartbeats and the service's key."""
    stats: Any = await redis.info("commandstats")
    named = {name.removeprefix("cmdstat_"): said["calls"] for name, said in stats.items()}
    named["get"] = named.get("get", 0) - named.pop("set", 0)  # the key is one SET and one GET
    return Counter({name: count for name, count in named.items() if name not in BESIDE})


async def test_nobody_costs_redis_nothing(scene: Scene, redis: Redis) -> None:
    job = scene.jobs["alice"]
    async with httpx.AsyncClient(base_url=scene.url) as client:
        before = await calls(redis)
        for one in scene.cast.refused(job):
            for path in (
                f"/v1/jobs/{job}",
                f"/v1/jobs/{job}?wait=1",
                f"/v1/jobs/{job}/events",
                f"/api/v2/management-server/jobs/{job}",
            ):
                url = httpx.URL(path).copy_with(query=one.query.encode()) if one.query else path
                response = await client.get(url, headers=one.headers)
                assert response.status_code == 401, one.label
        assert await calls(redis) - before == Counter()


async def test_who_follows_a_foreign_job_hears_nothing_of_it(scene: Scene, redis: Redis) -> None:
    pairs = PAIRS["subscriber"]
    heard: dict[tuple[str, str], list[str]] = {pair: [] for pair in pairs}
    own: dict[str, list[str]] = {other: [] for _, other in pairs}
    async with (
        httpx.AsyncClient(base_url=scene.url, timeout=30) as client,
        asyncio.TaskGroup() as tasks,
    ):
        reading = [
            tasks.create_task(read(client, scene, (me, other), followed=(feed, heard[me, other])))
            for me, other in pairs
            for feed in ("/v1/events", f"/v1/jobs/{scene.jobs[other]}/events")
        ]
        reading += [
            tasks.create_task(read(client, scene, (name, name), followed=("/v1/events", lines)))
            for name, lines in own.items()
        ]
        everything = [*heard.values(), *own.values()]
        await eventually(lambda: all("event: stream" in lines for lines in everything) or None)
        await eventually(lambda: all("event: live" in lines for lines in own.values()) or None)
        for other in own:
            lab = Lab(redis, other)
            said = lab.say(Progressed, scene.jobs[other], message=f"news<{other}>")
            await lab.tell(said)
        await eventually(
            lambda: all(f"news<{name}>" in "".join(lines) for name, lines in own.items())
        )
        for task in reading:
            task.cancel()
    for (me, other), lines in heard.items():
        text = "".join(lines)
        assert f"news<{other}>" not in text, (me, other)
        assert f"whose<{other}>" not in text, (me, other)
        assert f"whose<{me}>" in text, (me, other)


async def read(
    client: httpx.AsyncClient,
    scene: Scene,
    pair: tuple[str, str],
    followed: tuple[str, list[str]],
) -> None:
    path, lines = followed
    async with client.stream("GET", path, headers=scene.bearer(pair[0])) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            lines.append(line)
