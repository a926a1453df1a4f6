"""Records over HTTP: listing those of a job and of a group, and adding one."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import httpx
import pytest
from aiormq.abc import DeliveredMessage

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.events import Event, Progressed, Started
from jobcast.names import LIFECYCLE
from jobcast.wire import decode
from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.house import House
from tests.contract.test_http.test_control import NOWHERE, began, ended, problem
from tests.contract.test_http.test_jobs import known
from tests.integration.lab import Lab
from tests.logins import Logins

LINE = {"target": "vol1", "code": 200, "message": "copied"}


async def post(door: Door, job: str, **line: Any) -> httpx.Response:
    return await door.http.post(f"/v1/jobs/{job}/records", json=LINE | line)


async def listed(door: Door, path: str) -> tuple[list[str], int]:
    """The targets, and the total."""
    answer = await door.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-cache"
    body = answer.json()
    assert body.keys() == {"records", "total"}
    return [record["target"] for record in body["records"]], body["total"]


async def test_a_record_is_readable_at_once_and_everywhere(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job, group="g")
    answer = await post(door, job, other="ignored")
    elsewhere = await second.get(f"/v1/jobs/{job}/records")
    assert answer.status_code == 202
    assert answer.json()["version"] == 2
    (record,) = elsewhere.json()["records"]
    assert record.pop("at") == answer.json()["updated_at"]
    assert record == {"job": job, "group": "g", **LINE}
    assert (await second.get("/v1/records?group=g")).json() == elsewhere.json()


async def test_each_request_is_a_record_of_its_own_and_a_repeated_event_is_none(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job)
    said = await asyncio.gather(*(post(one, job) for one in [door, second] * 5))
    assert [answer.status_code for answer in said] == [202] * 10
    event = executor.event("recorded", job, target="again", code=0)
    for _ in range(3):
        await executor.post([event, event])
    await known(door, job, 12)
    assert await listed(door, f"/v1/jobs/{job}/records") == (["vol1"] * 10 + ["again"], 11)


async def test_pages_of_records(door: Door, executor: Executor, job: str) -> None:
    await began(executor, door, job, group="g")
    names = [f"t{number}" for number in range(120)]
    await executor.post([executor.event("recorded", job, target=name, code=0) for name in names])
    await known(door, job, 121)
    for path in (f"/v1/jobs/{job}/records?", "/v1/records?group=g&"):
        assert await listed(door, path) == (names[:100], 120)
        assert await listed(door, f"{path}max=-1") == (names, 120)
        assert await listed(door, f"{path}offset=118") == (names[118:], 120)
        assert await listed(door, f"{path}offset=5&max=3") == (names[5:8], 120)
        assert await listed(door, f"{path}offset=120&max=-1") == ([], 120)
        assert await listed(door, f"{path}offset=999999999") == ([], 120)
        assert await listed(door, f"{path}max=0") == ([], 120)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/jobs/x/records?offset=-1", "offset"),
        ("/v1/jobs/x/records?offset=x", "offset"),
        ("/v1/jobs/x/records?max=-2", "max"),
        ("/v1/jobs/x/records?max=", "max"),
        ("/v1/records?group=g&max=1.5", "max"),
        ("/v1/records", "group"),
        ("/v1/records?group=", "group"),
        ("/v1/records?group=g&group=h", "group"),
        (f"/v1/records?group={'g' * 129}", "group"),
    ],
)
async def test_a_bad_parameter_is_named(door: Door, path: str, field: str) -> None:
    answer = await door.get(path)
    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["detail"].startswith(f"{field}:")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ({"target": 1}, "target"),
        ({"target": ""}, "target"),
        ({"target": "x" * 101}, "target"),
        ({"code": "200"}, "code"),
        ({"code": 1.5}, "code"),
        ({"code": 2**31}, "code"),
        ({"message": []}, "message"),
        ({"message": "x" * 1025}, "message"),
    ],
)
async def test_a_bad_record_is_refused_and_the_field_is_named(
    door: Door, line: dict[str, Any], field: str
) -> None:
    answer = await post(door, NOWHERE, **line)
    assert problem(answer) == (422, "invalid-parameter")
    assert answer.json()["detail"].startswith(f"{field}:")


async def test_every_member_but_the_message_must_be_there(
    door: Door, executor: Executor, job: str
) -> None:
    for line in ({"target": "t"}, {"code": 1}, {}):
        answer = await door.http.post(f"/v1/jobs/{job}/records", json=line)
        assert problem(answer) == (422, "invalid-parameter")
    await began(executor, door, job)
    answer = await door.http.post(f"/v1/jobs/{job}/records", json={"target": "t", "code": -1})
    assert answer.status_code == 202
    (record,) = (await door.get(f"/v1/jobs/{job}/records")).json()["records"]
    assert (record["message"], record["group"]) == (None, None)


async def test_records_go_with_their_job(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await ended(executor, door, job)
    assert problem(await door.get(f"/v1/jobs/{NOWHERE}/records")) == (404, "job-not-found")
    assert problem(await post(door, NOWHERE)) == (404, "job-not-found")
    expires_at = (await door.get(f"/v1/jobs/{job}")).json()["expires_at"]
    answer = await post(door, job)  # also after the end
    assert (answer.status_code, answer.json()["expires_at"]) == (202, expires_at)
    await executor.report("recorded", job, target="of-g", code=0, group="g")
    await known(door, job, 3)
    assert await listed(second, "/v1/records?group=g") == (["of-g"], 1)
    assert (await door.http.delete(f"/v1/jobs/{job}")).status_code == 204
    assert await listed(second, "/v1/records?group=g") == ([], 0)
    for gone in (await second.get(f"/v1/jobs/{job}/records"), await post(second, job)):
        assert problem(gone) == (410, "job-deleted")


async def test_who_may_add_and_who_may_read(
    stack: Stack, logins: Logins, door: Door, executor: Executor, job: str
) -> None:
    """An executor adds, and learns nothing of the job by it."""
    await began(executor, door, job)
    path, owner = f"/v1/jobs/{job}/records", {"owner": door.name}
    added = await executor.http.post(path, json=LINE, params=owner)
    assert (added.status_code, added.json()) == (202, {"accepted": 1})
    assert problem(await executor.http.post(path, json=LINE)) == (403, "forbidden")
    assert problem(await executor.http.get(path, params=owner)) == (403, "forbidden")
    bad = await executor.http.post(path, json=LINE, params={"owner": "a/b"})
    assert problem(bad) == (422, "invalid-parameter")
    for login, wanted in ((logins.admin, 202), (logins.bob, 403)):
        async with httpx.AsyncClient(base_url=stack.urls[1], headers=login.headers) as client:
            answer = await client.post(path, json=LINE, params=owner)
            assert answer.status_code == wanted
            assert (await client.get(path)).status_code == 404  # not theirs
            read = await client.get(path, params=owner)
            assert read.status_code == (200 if wanted == 202 else 403)
    assert (await listed(door, path))[1] == 2


@asynccontextmanager
async def overheard(rabbitmq: RabbitMQNode, job: str) -> AsyncIterator[asyncio.Queue[Event]]:
    """The events of one job that go to job.lifecycle during the block."""
    heard: asyncio.Queue[Event] = asyncio.Queue()

    async def take(message: DeliveredMessage) -> None:
        content_type = message.header.properties.content_type
        for event in decode(message.body, content_type, {}, trusted=True):
            if isinstance(event, Event) and event.job_id == job:
                heard.put_nowait(event)

    connection = await aiormq.connect(rabbitmq.url)
    try:
        channel = await connection.channel()
        queue = (await channel.queue_declare(exclusive=True)).queue or ""
        await channel.queue_bind(queue, LIFECYCLE)
        await channel.basic_consume(queue, take, no_ack=True)
        yield heard
    finally:
        await connection.close()


async def test_a_record_counts_though_a_new_attempt_begins_meanwhile(
    rabbitmq: RabbitMQNode, stack: Stack, house: House, lab_of: Callable[[str], Lab], job: str
) -> None:
    """In the house the test itself applies what is said, and the record as it was sent never.

    So it is sent again with the attempt that has begun: what the executor of the next attempt
    cannot make void.
    """
    alice = house.user()
    lab = lab_of(alice.name)
    await lab.tell(lab.say(Started, job))
    async with house.client(alice) as client, overheard(rabbitmq, job) as published:
        answer = asyncio.create_task(client.post(f"/v1/jobs/{job}/records", json=LINE))
        first = await published.get()
        await lab.tell(lab.say(Started, job, attempt=2))
        again = await asyncio.wait_for(published.get(), 5)
        await lab.tell(first)
        await lab.tell(lab.say(Progressed, job, attempt=2, percent=5))
        began_at = time.monotonic()
        await lab.tell(again)
        assert (await answer).status_code == 202
        assert time.monotonic() - began_at < 3
        listed_ = (await client.get(f"/v1/jobs/{job}/records")).json()
    assert (first.attempt, again.attempt, first.id) == (1, 2, again.id)
    assert listed_["total"] == 1
