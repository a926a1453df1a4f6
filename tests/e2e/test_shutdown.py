"""SIGTERM with everything under way at once: in time, tidily, and nothing is lost or torn."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from deploy.process import LOOPBACK
from deploy.stack import Service
from jobcast.events import Started
from jobcast.names import EVENTS
from tests.contract.test_http.reading import Reading
from tests.e2e.rig import Nodes, Rig, opened_rig, running_nodes
from tests.eventually import eventually
from tests.integration.rabbit import bodies, channel_to, depth, report, serving
from tests.logins import Login, Logins

STOP_S = 10.0
STREAMS = 50
POLLS = 20
JOBS = 300
STATE = "jobcast.state.0"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with running_nodes(tmp_path_factory.mktemp("shutdown")) as nodes:
        yield nodes


@pytest.fixture
async def rig(nodes: Nodes, logins: Logins, tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened_rig(nodes, logins, tmp_path) as rig:
        yield rig


def started(owner: str, job: str) -> Started:
    return Started(id=f"{job}-1", source="/tests", owner=owner, job_id=job)


async def ended(service: Service) -> float:
    """Seconds from SIGTERM to the end, with exit code 0."""
    began = time.monotonic()
    service.terminate()
    await eventually(lambda: not service.alive, STOP_S)
    assert service._running.exit_code == 0
    return time.monotonic() - began


class SlowPost:
    """A request whose body comes in two halves."""

    def __init__(self, port: int, login: Login, owner: str) -> None:
        self._port = port
        event = {"specversion": "1.0", "id": "slow", "source": "/tests", "type": "job.started"}
        self._body = json.dumps(event | {"subject": "slow", "owner": owner}).encode()
        self._head = (
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {login.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self._body)}\r\n\r\n"
        ).encode()

    async def begin(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)
        self._writer.write(self._head + self._body[:20])
        await self._writer.drain()

    async def finish(self) -> None:
        self._writer.write(self._body[20:])
        await self._writer.drain()

    async def answer(self) -> bytes:
        """All that comes until the connection is closed; empty if it is reset."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""
        finally:
            self._writer.close()


async def told_to_come_back(reading: Reading) -> bool:
    """Reads on to a clean end: the last thing said is when to come back."""
    last = (await reading.rest())[-1]
    return last.retry is not None and 0 <= last.retry <= 1_000


async def test_a_replica_ends_in_time_with_streams_polls_and_a_slow_request_under_way(
    rig: Rig, subscriber: Login, logins: Logins
) -> None:
    port = int(rig.api.url.rpartition(":")[2])
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(
            base_url=rig.api.url, headers=subscriber.headers, limits=limits, timeout=30
        ) as http,
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as tasks,
    ):
        await report(rig.nodes.rabbitmq.url, started(subscriber.name, "job"))
        known = await eventually(lambda: readable(http, "job"))
        readings = [
            await stack.enter_async_context(
                Reading(http, "/v1/events" if number % 2 else "/v1/jobs/job/events")
            )
            for number in range(STREAMS)
        ]
        for reading in readings:
            await reading.until("snapshot")
        seen = {"If-None-Match": known.headers["etag"]}
        sent: list[str] = []
        polls = [
            tasks.create_task(long_poll(http, seen if number % 2 else {}, sent))
            for number in range(POLLS)
        ]
        posts = [SlowPost(port, logins.executor, subscriber.name) for _ in range(2)]
        for post in posts:
            await post.begin()
        await eventually(lambda: len(sent) == POLLS)
        await http.get("/healthz")  # what was sent before it has arrived
        ending = tasks.create_task(ended(rig.api))
        async with asyncio.timeout(STOP_S):
            assert all([await told_to_come_back(reading) for reading in readings])
            answers = [await poll for poll in polls]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, port)
            assert not ending.done()  # it waits for the slow requests
            await posts[0].finish()
            assert (await posts[0].answer()).startswith(b"HTTP/1.1 202 ")
            unfinished = await posts[1].answer()
        assert [answer.status_code for answer in answers] == [200, 304] * (POLLS // 2)
        assert {answer.json()["status"] for answer in answers[::2]} == {"running"}
        assert b" 500 " not in unfinished[:20]
        assert await ending < STOP_S
    log = rig.api.log.read_text()
    assert "Traceback" not in log, log


async def long_poll(
    http: httpx.AsyncClient, headers: dict[str, str], sent: list[str]
) -> httpx.Response:
    async def trace(name: str, _: object) -> None:
        if name == "http11.send_request_body.complete":
            sent.append(name)

    extensions = {"trace": trace}
    return await http.get("/v1/jobs/job?wait=60", headers=headers, extensions=extensions)


async def readable(http: httpx.AsyncClient, job: str) -> httpx.Response | None:
    answer = await http.get(f"/v1/jobs/{job}")
    return answer if answer.status_code == 200 else None


@pytest.mark.parametrize("store", ["slow", "silent"])
async def test_a_notifier_ends_in_time_with_a_batch_in_hand_and_nothing_is_told_in_two_ways(
    rig: Rig, owner: str, store: str
) -> None:
    url = rig.nodes.rabbitmq.url
    await serving(url)
    async with channel_to(url) as channel:
        await channel.queue_declare(owner, durable=True)
        await channel.queue_bind(owner, EVENTS, f"{owner}.#")
    if store == "slow":
        rig.store.delay_s = 0.2
    else:
        rig.store.stall()
    await report(url, *(started(owner, f"j{number}") for number in range(JOBS)))

    async def in_hand() -> bool:
        return await depth(url, STATE) <= JOBS - 100

    await eventually(in_hand)
    assert await ended(rig.notifier) < STOP_S
    assert await depth(url, STATE) > 0
    if store == "silent":
        assert await depth(url, STATE) == JOBS
    rig.store.heal()
    await asyncio.to_thread(rig.notifier.start)

    async def all_told() -> dict[str, set[bytes]] | None:
        told: defaultdict[str, set[bytes]] = defaultdict(set)
        for body in await bodies(url, owner):
            told[json.loads(body)["id"]].add(body)
        return told if len(told) == JOBS else None

    told = await eventually(all_told, 20, every_s=0.2)
    assert {len(versions) for versions in told.values()} == {1}
    assert told.keys() == {f"{owner}/j{number}/1" for number in range(JOBS)}
