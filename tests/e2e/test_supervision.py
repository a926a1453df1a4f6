"""What an API replica says of itself, and goes on doing, while RabbitMQ or Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from deploy.process import LOOPBACK
from jobcast.client import Client
from jobcast.events import Event, Recorded, Started, Succeeded
from jobcast.watch import Change, Patience
from tests.chaos.link import Link
from tests.contract.test_http.reading import Reading
from tests.e2e.rig import Nodes, Rig, cpu_s, opened_rig, running_nodes, watching
from tests.eventually import eventually
from tests.integration.rabbit import report
from tests.logins import Login, Logins

HOLD_S = 1.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with running_nodes(tmp_path_factory.mktemp("supervision")) as nodes:
        yield nodes


@pytest.fixture
async def rig(nodes: Nodes, logins: Logins, tmp_path: Path) -> AsyncIterator[Rig]:
    async with opened_rig(nodes, logins, tmp_path) as rig:
        yield rig


class Teller:
    """Says what happens to one owner's jobs, straight to RabbitMQ."""

    def __init__(self, rig: Rig, owner: str) -> None:
        self._rig = rig
        self.owner = owner
        self._number = 0

    async def say(self, kind: type[Event], job_id: str, **fields: Any) -> None:
        self._number += 1
        named: dict[str, Any] = {"id": f"{job_id}-{self._number}", "source": "/tests"}
        event = kind(owner=self.owner, job_id=job_id, **(named | fields))
        await report(self._rig.nodes.rabbitmq.url, event)


@pytest.fixture
def teller(rig: Rig, subscriber: Login) -> Teller:
    return Teller(rig, subscriber.name)


@pytest.fixture
async def http(rig: Rig, subscriber: Login) -> AsyncIterator[httpx.AsyncClient]:
    headers = subscriber.headers
    async with httpx.AsyncClient(base_url=rig.api.url, headers=headers, timeout=20) as http:
        yield http


async def known(http: httpx.AsyncClient, job: str, version: int = 1) -> None:
    """Returns when the job is readable in that version."""

    async def has() -> bool:
        answer = await http.get(f"/v1/jobs/{job}")
        return answer.status_code == 200 and answer.json()["version"] >= version

    await eventually(has)


def refuse(link: Link) -> None:
    link.refusing = True
    link.cut()


class Harm(NamedTuple):
    """What is done, and how soon `/readyz` is to name `part`, and to be 200 again once it is
    undone. None of it takes a second of waiting for more than a time-out of ours."""

    part: str
    do: Callable[[Rig], None]
    undo: Callable[[Rig], None]
    within_s: float
    back_s: float


HARMS = {
    "rabbitmq killed": Harm(
        "rabbitmq", lambda r: r.nodes.rabbitmq.kill(), lambda r: r.nodes.rabbitmq.start(), 2, 5
    ),
    "rabbitmq paused": Harm(
        "rabbitmq", lambda r: r.nodes.rabbitmq.pause(), lambda r: r.nodes.rabbitmq.resume(), 25, 15
    ),
    "redis killed": Harm(
        "redis", lambda r: r.nodes.redis.kill(), lambda r: r.nodes.redis.start(), 3, 5
    ),
    "redis paused": Harm(
        "redis", lambda r: r.nodes.redis.pause(), lambda r: r.nodes.redis.resume(), 4, 5
    ),
    "the hub's link": Harm("hub", lambda r: refuse(r.store), lambda r: r.store.heal(), 3, 5),
}


@pytest.mark.parametrize("name", HARMS)
async def test_readiness_names_what_is_away_within_seconds_and_liveness_stays(
    rig: Rig, name: str
) -> None:
    harm = HARMS[name]
    async with watching(rig.api) as watchman:
        await watchman.until(lambda missing: not missing, 5)
        began, used_s = time.monotonic(), cpu_s(rig.api.pid)
        await asyncio.to_thread(harm.do, rig)
        await watchman.until(lambda missing: harm.part in missing, harm.within_s)
        held_until = time.monotonic() + HOLD_S
        await eventually(lambda: time.monotonic() > held_until)
        assert harm.part in watchman.looks[-1].missing
        away_s, used_s = time.monotonic() - began, cpu_s(rig.api.pid) - used_s
        await asyncio.to_thread(harm.undo, rig)
        await watchman.until(lambda missing: not missing, harm.back_s)
        assert watchman.healthy
    # The watchman's twenty requests a second cost a fiftieth of a processor; trying again in a
    # busy loop would cost all of it.
    assert used_s < 0.3 + 0.1 * away_s
    assert rig.api.alive


def started(job: str, owner: str) -> dict[str, str]:
    """As an executor posts it."""
    name = {"specversion": "1.0", "id": job, "source": "/tests", "type": "job.started"}
    return name | {"subject": job, "owner": owner}


async def test_without_rabbitmq_reading_goes_on_and_reporting_says_when_to_come_again(
    rig: Rig, teller: Teller, http: httpx.AsyncClient, logins: Logins
) -> None:
    executor, event = logins.executor.headers, started("late", teller.owner)
    await teller.say(Started, "job")
    await known(http, "job")
    async with AsyncExitStack() as stack:
        paths = ("/v1/events", "/v1/jobs/job/events")
        open_ = [await stack.enter_async_context(Reading(http, path)) for path in paths]
        feed, one_job = open_
        await feed.until("live")
        cursor = (await one_job.until("snapshot"))[-1].id or ""
        await asyncio.to_thread(rig.nodes.rabbitmq.stop)
        assert (await http.get("/v1/jobs/job")).json()["status"] == "running"
        assert [job["id"] for job in (await http.get("/v1/jobs")).json()["jobs"]] == ["job"]
        poll = await http.get("/v1/jobs/job", params={"wait": "1"})
        assert (poll.status_code, poll.json()["status"]) == (200, "running")
        seen = {"If-None-Match": poll.headers["etag"]}
        assert (await http.get("/v1/jobs/job?wait=1", headers=seen)).status_code == 304
        for path in paths:
            async with Reading(http, path) as fresh:
                assert (await fresh.until("snapshot"))[-1].data["status"] == "running"
            async with Reading(http, path, headers={"Last-Event-ID": cursor}) as resumed:
                assert (await resumed.until("stream"))[-1].data == {"resume": "resumed"}
        refused = await http.post("/v1/events", json=event, headers=executor)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert int(refused.headers["retry-after"]) > 0
        for method, path in (("POST", "/v1/jobs/job/cancel"), ("PATCH", "/v1/jobs/job")):
            refused = await http.request(method, path, json={"comment": "x"})
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        await asyncio.to_thread(rig.nodes.rabbitmq.start)

        async def accepted() -> bool:
            answer = await http.post("/v1/events", json=event, headers=executor)
            return answer.status_code == 202

        await eventually(accepted)
        await teller.say(Succeeded, "job")
        for reading in open_:
            assert (await reading.until("succeeded"))[-1].data["id"] == "job"
    await known(http, "late")


async def test_what_is_asked_for_while_no_notifier_runs_is_accepted_and_done_once_one_does(
    rig: Rig, teller: Teller, http: httpx.AsyncClient
) -> None:
    await teller.say(Started, "job")
    await teller.say(Succeeded, "over")
    await known(http, "job")
    await known(http, "over")
    await asyncio.to_thread(rig.notifier.stop)
    wishes: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/v1/jobs/job/cancel", None),
        ("PATCH", "/v1/jobs/job", {"comment": "x"}),
        ("POST", "/v1/jobs/job/records", {"target": "t", "code": 0}),
        ("DELETE", "/v1/jobs/over", None),
    ]
    said = await asyncio.gather(*(http.request(how, path, json=j) for how, path, j in wishes))
    assert [answer.status_code for answer in said] == [202] * 4
    assert {(answer.json()["status"], answer.json()["version"]) for answer in said} == {
        ("running", 1),
        ("succeeded", 1),
    }
    await asyncio.to_thread(rig.notifier.start)
    await known(http, "job", 4)
    job = (await http.get("/v1/jobs/job")).json()
    assert (job["status"], job["comment"]) == ("cancel-pending", "x")
    assert (await http.get("/v1/jobs/job/records")).json()["total"] == 1

    async def deleted() -> bool:
        return (await http.get("/v1/jobs/over")).status_code == 410

    await eventually(deleted)


async def test_reading_is_refused_in_time_without_redis_and_served_again_with_it(
    rig: Rig, teller: Teller, http: httpx.AsyncClient
) -> None:
    harm = HARMS["redis paused"]
    await teller.say(Started, "job")
    await known(http, "job")
    await asyncio.to_thread(harm.do, rig)
    for path in ("/v1/jobs/job", "/v1/jobs"):
        began = time.monotonic()
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - began < 7
    async with Reading(http, "/v1/events") as later:  # EventSource would give up on a 503
        blocks = await later.rest()
    assert later.response.status_code == 200
    assert 5_000 <= (blocks[-1].retry or 0) <= 15_000
    await asyncio.to_thread(harm.undo, rig)
    await known(http, "job")


async def test_connections_to_redis_that_died_unnoticed_do_not_fail_one_reader_each(
    rig: Rig, teller: Teller, http: httpx.AsyncClient
) -> None:
    async def burst() -> set[int]:
        answers = await asyncio.gather(*(http.get("/v1/jobs/job") for _ in range(30)))
        return {answer.status_code for answer in answers}

    await teller.say(Started, "job")
    await known(http, "job")
    rig.store.delay_s = 0.2  # so that each reader needs a connection of its own
    assert await burst() == {200}
    rig.store.lose()
    rig.store.heal()  # for new connections: the old ones are dead for good
    await known(http, "job")  # one reader has paid for finding that out
    assert await burst() == {200}


class Trouble(NamedTuple):
    """What befalls a watcher, or what it watches."""

    do: Callable[[Rig, Link], None]
    undo: Callable[[Rig, Link], None]


TROUBLES = {
    "rabbitmq killed": Trouble(
        lambda r, _: r.nodes.rabbitmq.kill(), lambda r, _: r.nodes.rabbitmq.start()
    ),
    "redis paused": Trouble(
        lambda r, _: r.nodes.redis.pause(), lambda r, _: r.nodes.redis.resume()
    ),
    "replica killed": Trouble(lambda r, _: r.api.kill(), lambda r, _: r.api.start()),
    "link half-open": Trouble(lambda _, link: link.lose(), lambda _, link: link.heal()),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_watcher_of_the_sdk_sees_every_change_once_whatever_goes_away(
    rig: Rig, teller: Teller, http: httpx.AsyncClient, subscriber: Login, name: str
) -> None:
    trouble, told = TROUBLES[name], list[Change]()
    port, patience = int(rig.api.url.rpartition(":")[2]), Patience(quiet_s=2.5)
    await teller.say(Started, "job")
    await known(http, "job")

    async def watch(url: str) -> None:
        async with Client(url, subscriber.token, patience=patience) as client:
            told.extend([change async for change in client.watch("job")])

    async with Link("http", port) as link, asyncio.TaskGroup() as tasks:
        watching_it = tasks.create_task(watch(f"http://{LOOPBACK}:{link.port}"))
        await teller.say(Recorded, "job", target="t", code=1)
        await known(http, "job", 2)
        await asyncio.to_thread(trouble.do, rig, link)
        away_until = time.monotonic() + HOLD_S
        await eventually(lambda: time.monotonic() > away_until)
        await asyncio.to_thread(trouble.undo, rig, link)
        await teller.say(Recorded, "job", target="t", code=2)
        await teller.say(Succeeded, "job")
        await asyncio.wait_for(watching_it, 25)
    # After a resume the progress that may have been missed is told once more.
    changes = [change for change in told if change.event != "progressed"]
    versions = [change.job.version for change in changes]
    assert versions == sorted(set(versions))
    assert versions[-2:] == [3, 4]
    assert [change.event for change in changes][-2:] == ["recorded", "succeeded"]
