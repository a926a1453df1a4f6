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
from tests.contract.test_http.house import House
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
