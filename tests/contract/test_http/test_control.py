"""Cancel, comment and delete over HTTP: what they answer, to whom, and what comes of it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import httpx
import msgspec
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.stack import Stack
from jobcast.events import Started
from jobcast.names import COMMANDS
from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.house import WAITS, House
from tests.contract.test_http.test_jobs import known
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.logins import Logins

RUNNING = "running"
NOWHERE = "unknown-job"


@pytest.fixture
async def admin(stack: Stack, logins: Logins) -> AsyncIterator[httpx.AsyncClient]:
    headers = logins.admin.headers
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=headers) as client:
        yield client


async def began(executor: Executor, door: Door, job: str, **data: Any) -> None:
    await executor.report("started", job, **data)
    await known(door, job)


async def ended(executor: Executor, door: Door, job: str, **data: Any) -> None:
    await executor.report("succeeded", job, **data)
    await known(door, job)


def problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix("/problems/")


async def test_a_cancel_is_answered_when_every_replica_shows_it(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job, name="nightly")
    response = await door.http.post(f"/v1/jobs/{job}/cancel")
    elsewhere = await second.get(f"/v1/jobs/{job}")
    assert response.status_code == 202
    assert response.json() == elsewhere.json()
    assert elsewhere.json()["status"] == "cancel-pending"
    assert response.headers["etag"] == elsewhere.headers["etag"] == '"2"'
    assert response.headers["cache-control"] == "no-store"


async def test_the_executor_is_told_to_cancel(
    rabbitmq: RabbitMQNode, door: Door, executor: Executor, job: str
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    connection = await aiormq.connect(rabbitmq.url)
    try:
        channel = await connection.channel()
        queue = (await channel.queue_declare(f"cmd.test.{uuid.uuid4().hex}", exclusive=True)).queue
        assert queue is not None
        await channel.queue_bind(queue, COMMANDS, f"backup.cancel.{job}")
        await channel.basic_consume(queue, heard.put, no_ack=True)
        await began(executor, door, job, operation="backup")
        await door.http.post(f"/v1/jobs/{job}/cancel")
        command = await asyncio.wait_for(heard.get(), 10)
    finally:
        await connection.close()
    said = msgspec.json.decode(command.body)
    assert (said["type"], said["subject"], said["owner"]) == ("job.cancel", job, door.name)
    await executor.report("canceled", job)
    await known(door, job, 3)
    assert (await door.get(f"/v1/jobs/{job}")).json()["status_code"] == 499


async def test_what_cannot_be_canceled_says_why(door: Door, executor: Executor, job: str) -> None:
    for name in ("pending", "over", "stubborn"):
        await began(executor, door, f"{job}-{name}", cancelable=name != "stubborn")
    assert (await door.http.post(f"/v1/jobs/{job}-pending/cancel")).status_code == 202
    await executor.report("failed", f"{job}-over")
    await known(door, f"{job}-over", 2)
    why = {
        name: problem(await door.http.post(f"/v1/jobs/{job}-{name}/cancel"))
        for name in ("pending", "over", "stubborn")
    }
    assert why == {
        "pending": (409, "cancel-pending"),
        "over": (409, "already-ended"),
        "stubborn": (409, "not-cancelable"),
    }
    assert (await door.get(f"/v1/jobs/{job}-stubborn")).json()["version"] == 1


async def test_of_cancels_at_the_same_time_each_is_right(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job)
    doors = [door, second] * 5
    said = await asyncio.gather(*(one.http.post(f"/v1/jobs/{job}/cancel") for one in doors))
    assert {answer.status_code for answer in said} <= {202, 409}
    assert 202 in {answer.status_code for answer in said}
    assert {answer.json()["status"] for answer in said if answer.status_code == 202} == {
        "cancel-pending"
    }
    assert (await second.get(f"/v1/jobs/{job}")).json()["version"] == 2


async def test_an_admin_cancels_for_another_and_others_do_not(
    door: Door, executor: Executor, admin: httpx.AsyncClient, job: str
) -> None:
    await began(executor, door, job)
    path = f"/v1/jobs/{job}/cancel"
    assert problem(await admin.post(path)) == (404, "job-not-found")
    assert problem(await executor.http.post(path)) == (403, "forbidden")
    refused = await door.http.post(path, params={"owner": "somebody"})
    assert problem(refused) == (403, "forbidden")
    assert problem(await admin.post(path, params={"owner": "*"})) == (422, "invalid-parameter")
    answer = await admin.post(path, params={"owner": door.name})
    assert answer.status_code == 202
    assert answer.json()["links"]["self"] == f"/v1/jobs/{job}?owner={door.name}"


async def test_a_ticket_changes_nothing(
    stack: Stack, door: Door, executor: Executor, job: str
) -> None:
    await ended(executor, door, job)
    made = (await door.http.post("/v1/tickets", json={"job": job})).json()["ticket"]
    async with httpx.AsyncClient(base_url=stack.urls[0], params={"ticket": made}) as client:
        for method, path in (
            ("POST", f"/v1/jobs/{job}/cancel"),
            ("PATCH", f"/v1/jobs/{job}"),
            ("DELETE", f"/v1/jobs/{job}"),
        ):
            assert problem(await client.request(method, path)) == (403, "forbidden")
    assert (await door.get(f"/v1/jobs/{job}")).json()["version"] == 1


async def test_a_cancel_that_is_not_applied_in_time_is_accepted_all_the_same(
    stack: Stack, house: House, lab_of: Any, job: str
) -> None:
    """In the house nothing is applied but by the lab; the stack's notifiers have the queue."""
    alice = house.user()
    lab: Lab = lab_of(alice.name)
    await lab.tell(lab.say(Started, job))
    began_at = time.monotonic()
    async with house.client(alice) as client:
        answer = await client.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] == RUNNING
    assert 4.9 < time.monotonic() - began_at < 9
    await eventually(lambda: f"action=cancel target={alice.name}/{job}\n" in house.log or None)


async def test_a_comment_is_readable_at_once_and_everywhere(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job)
    for number, text in enumerate(("looked at", "ü" * 1024, "", None, None), 2):
        answer = await door.http.patch(f"/v1/jobs/{job}", json={"comment": text, "other": 1})
        elsewhere = await second.get(f"/v1/jobs/{job}")
        assert answer.status_code == 202
        assert answer.json() == elsewhere.json()
        assert elsewhere.json()["comment"] == text
        assert elsewhere.json()["version"] == min(number, 5)  # the last one says nothing new


async def test_comments_at_the_same_time_are_each_answered_and_one_stays(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await ended(executor, door, job)
    expires_at = (await door.get(f"/v1/jobs/{job}")).json()["expires_at"]
    texts = [f"c{n}" for n in range(10)]
    began_at = time.monotonic()
    said = await asyncio.gather(
        *(
            one.http.patch(f"/v1/jobs/{job}", json={"comment": text})
            for text, one in zip(texts, [door, second] * 5, strict=True)
        )
    )
    assert [answer.status_code for answer in said] == [202] * 10
    assert time.monotonic() - began_at < 5  # nobody has waited in vain
    after = (await second.get(f"/v1/jobs/{job}")).json()
    assert after["version"] == 11
    assert after["comment"] in texts
    assert after["expires_at"] == expires_at


@pytest.mark.parametrize(
    ("body", "content_type", "wanted"),
    [
        (b'{"comment":1}', "application/json", (422, "invalid-parameter", "comment:")),
        (b'{"comment":"%b"}' % (b"x" * 1025), "application/json", (422, "", "comment:")),
        (b"{}", "application/json", (422, "", "comment:")),
        (b"[]", "application/json", (422, "", "body:")),
        (b"{", "application/json", (400, "bad-request", "the body:")),
        (b'{"comment":"\xff"}', "application/json", (400, "bad-request", "the body:")),
        (b'{"a":%b' % (b"[" * 9_000), "application/json", (400, "bad-request", "the body:")),
        (b"comment=x", "application/x-www-form-urlencoded", (415, "", "Content-Type:")),
        (b'{"comment":"%b"}' % (b"x" * 20_000), "application/json", (413, "too-large", "")),
    ],
)
async def test_a_bad_comment_is_refused_and_the_field_is_named(
    door: Door, body: bytes, content_type: str, wanted: tuple[int, str, str]
) -> None:
    """Before the job is looked for."""
    headers = {"Content-Type": content_type}
    answer = await door.http.patch(f"/v1/jobs/{NOWHERE}", content=body, headers=headers)
    status, name, detail = wanted
    assert answer.status_code == status
    assert name in answer.json()["type"]
    assert answer.json().get("detail", "").startswith(detail)


async def test_a_body_in_parts_is_cut_off_where_it_becomes_too_large(door: Door) -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1
            yield b" " * 4096

    try:
        answer = await door.http.patch("/v1/jobs/x", content=parts())
        assert answer.status_code == 413
    except (httpx.WriteError, httpx.ReadError):
        pass  # the server has closed, and left most of it unread
    assert sent < 5_000


async def test_a_merge_patch_is_one_too(door: Door, executor: Executor, job: str) -> None:
    await began(executor, door, job)
    headers = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    answer = await door.http.patch(f"/v1/jobs/{job}", content=b'{"comment":"x"}', headers=headers)
    assert answer.json()["comment"] == "x"


async def test_a_deletion_is_over_when_every_replica_says_so(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job, group="g")
    assert problem(await door.http.delete(f"/v1/jobs/{job}")) == (409, "not-ended")
    await executor.report("succeeded", job)
    await known(door, job, 2)
    answer = await door.http.delete(f"/v1/jobs/{job}")
    elsewhere = await second.get(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert problem(elsewhere) == (410, "job-deleted")
    for query in ("", "?group=g"):
        assert (await second.get(f"/v1/jobs{query}")).json()["jobs"] == []
    for method, path in (("DELETE", ""), ("PATCH", ""), ("POST", "/cancel")):
        body = {"comment": "x"} if method == "PATCH" else None
        again = await second.http.request(method, f"/v1/jobs/{job}{path}", json=body)
        assert problem(again) == (410, "job-deleted")


async def test_deletions_at_the_same_time_are_all_answered(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await ended(executor, door, job)
    doors = [door, second] * 5
    said = await asyncio.gather(*(one.http.delete(f"/v1/jobs/{job}") for one in doors))
    assert {answer.status_code for answer in said} <= {204, 410}
    assert 204 in {answer.status_code for answer in said}


async def test_streams_tell_of_comments_and_end_with_the_deletion(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job)
    async with second.events() as feed, second.events(f"/v1/jobs/{job}/events") as one:
        await feed.until("live")
        await one.until("snapshot")
        await door.http.patch(f"/v1/jobs/{job}", json={"comment": "x"})
        for stream in (feed, one):
            assert (await stream.until("commented"))[-1].data["comment"] == "x"
        await executor.report("canceled", job)
        assert [block.event for block in await one.rest() if block.event] == ["canceled"]
        await feed.until("canceled")
        assert (await door.http.delete(f"/v1/jobs/{job}")).status_code == 204
        assert (await feed.until("deleted"))[-1].data["id"] == job


async def test_a_stream_that_comes_back_after_the_deletion_is_told(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await began(executor, door, job)
    async with second.events() as feed:
        cursor = (await feed.until("live"))[-1].id
    await executor.report("succeeded", job)
    await known(door, job, 2)
    await door.http.delete(f"/v1/jobs/{job}")
    async with second.events(headers={"Last-Event-ID": cursor}) as feed:
        events = [block.event for block in await feed.until("deleted")]
    assert events == ["stream", "succeeded", "deleted"]
    gone = await second.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": cursor})
    assert problem(gone) == (410, "job-deleted")


async def test_a_late_event_does_not_bring_a_deleted_job_back(
    door: Door, executor: Executor, job: str
) -> None:
    await ended(executor, door, job)
    await door.http.delete(f"/v1/jobs/{job}")
    for word in ("queued", "started", "progressed", "failed"):
        await executor.report(word, job)
    await executor.report("recorded", job, target="t", code=1)
    await ended(executor, door, f"{job}-later")
    assert problem(await door.get(f"/v1/jobs/{job}")) == (410, "job-deleted")
    assert [one["id"] for one in (await door.get("/v1/jobs")).json()["jobs"]] == [f"{job}-later"]


async def test_who_waits_too_often_at_the_same_time_is_told_so_and_nothing_is_done(
    stack: Stack, house: House, lab_of: Any, job: str
) -> None:
    alice = house.user()
    lab: Lab = lab_of(alice.name)
    await lab.tell(lab.say(Started, job))
    async with house.client(alice) as client:
        said = await asyncio.gather(
            *(client.patch(f"/v1/jobs/{job}", json={"comment": str(n)}) for n in range(WAITS + 1))
        )
    assert sorted(answer.status_code for answer in said) == [202] * WAITS + [429]
    assert house.log.count(f"action=comment target={alice.name}/{job}\n") == WAITS
