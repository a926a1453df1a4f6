"""What a client of CloudStack sees of all that there is: long lists, lists of all accounts, an
outage, and the event bus. Everything is over TLS, and the servers are the module's own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from cs import CloudStackApiException

from broker.cloudstack import DOMAIN_ID
from tests.dialects.cloudstack.world import BUS, Asked, Reports, Who, World, opened_world
from tests.eventually import eventually
from tests.unit.broker.test_cloudstack import whose

pytestmark = pytest.mark.timeout(120)

COMPLETED: Final = "management-server.AsyncJobEvent.complete.#"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("cloudstack")) as world:
        yield world


async def test_a_client_lists_what_has_not_ended_over_several_pages(
    client: Callable[..., Asked], world: World, reports: Reports, alice: Who
) -> None:
    jobs = [f"job-{number:04d}" for number in range(1_101)]
    await reports.ended(alice, "succeeded")
    for at in range(0, len(jobs), 300):
        some = jobs[at : at + 300]
        await reports.say(*((alice.name, job, "started", {"operation": "copy"}) for job in some))
        await reports.stored(alice, some[-1], "running")
    ask = client(alice)
    found = await ask("listAsyncJobs", fetch_list=True)
    assert [job["created"] for job in found] == sorted(job["created"] for job in found)
    assert [job["jobid"] for job in found] == jobs
    found = await ask("listAsyncJobs", fetch_list=True, keyword="COP", listall=True)
    assert [job["jobid"] for job in found] == jobs
    page = await ask("listAsyncJobs", page=3, pagesize=100)
    assert page["count"] == len(jobs)
    assert [job["jobid"] for job in page["asyncjobs"]] == jobs[200:300]
    assert (await ask("listAsyncJobs"))["asyncjobs"][-1]["jobid"] == jobs[499]
    every = await ask("listAsyncJobs", pagesize=-1)
    assert [job["jobid"] for job in every["asyncjobs"]] == jobs
    assert await ask("listAsyncJobs", page=4) == {"count": len(jobs)}
    assert await ask("listAsyncJobs", keyword="nothing") == {}
    assert await ask("listAsyncJobs", startdate="2999-01-01") == {}
    since = found[0]["created"]
    assert (await ask("listAsyncJobs", startdate=since))["count"] == len(jobs)


async def test_an_admin_lists_the_jobs_of_all_accounts_and_nobody_else_does(
    client: Callable[..., Asked], world: World, reports: Reports, alice: Who
) -> None:
    admin, bob = world.user("admin"), world.user()
    jobs = [await reports.started(who) for who in (alice, bob, alice)]
    owners = {alice.name, bob.name, admin.name}
    ask = client(admin)

    async def told(**more: Any) -> list[str]:
        found = await ask("listAsyncJobs", **more)
        return [job["jobid"] for job in found.get("asyncjobs", []) if job["account"] in owners]

    assert await told() == []
    for wide in ({"listall": True}, {"domainid": DOMAIN_ID, "isrecursive": True}):
        assert await told(pagesize=-1, **wide) == jobs
    assert await told(account=alice.name, domainid=DOMAIN_ID) == [jobs[0], jobs[2]]
    assert await told(account="nobody-at-all", domainid=DOMAIN_ID) == []
    found = await ask("queryAsyncJobResult", jobid=jobs[1], account=bob.name, domainid=DOMAIN_ID)
    assert found["account"] == bob.name
    ask = client(bob)
    assert await told(listall=True, domainid=DOMAIN_ID) == [jobs[1]]
    assert await told(account=bob.name, domainid=DOMAIN_ID) == [jobs[1]]
    for name in (alice.name, "nobody-at-all"):
        with pytest.raises(CloudStackApiException) as raised:
            await told(account=name, domainid=DOMAIN_ID)
        assert raised.value.error["errorcode"] == 531
        assert raised.value.error["cserrorcode"] == 4365
        assert name not in raised.value.error["errortext"]


async def test_while_redis_is_away_503_is_said(
    client: Callable[..., Asked], world: World, alice: Who
) -> None:
    ask = client(alice)
    await asyncio.to_thread(world.redis.kill)
    try:
        with pytest.raises(CloudStackApiException, match="HTTP 503") as raised:
            await ask("listAsyncJobs")
        assert raised.value.error["errorcode"] == 503
    finally:
        await asyncio.to_thread(world.redis.start)
    assert await eventually(lambda: _answered(ask)) == "yes"


async def _answered(ask: Asked) -> str:
    return "yes" if await ask("listAsyncJobs") == {} else ""


# The event bus.


@pytest.fixture
async def admin_channel(world: World) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    admin = world.user("admin")
    url = world.rabbitmq.url_of(admin.name, admin.token)
    async with await aio_pika.connect(url, ssl_context=world.certificates.context()) as connection:
        yield await connection.channel()


async def heard_on(
    channel: aio_pika.abc.AbstractChannel, key: str
) -> asyncio.Queue[aio_pika.abc.AbstractIncomingMessage]:
    """What comes from now on."""
    heard: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    exchange = await channel.get_exchange(BUS)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, key)
    await queue.consume(heard.put, no_ack=True)
    return heard


async def test_completions_are_told_on_the_bus(
    admin_channel: aio_pika.abc.AbstractChannel, reports: Reports, alice: Who
) -> None:
    heard = await heard_on(admin_channel, COMPLETED)
    resource = {"type": "VirtualMachine", "id": "v1.2"}
    result = {"virtualmachine": {"id": "v1.2"}}
    good = await reports.started(alice, operation="deploy", resource=resource)
    bad = await reports.started(alice)
    await reports.say(
        (alice.name, good, "succeeded", {"result": result}), (alice.name, bad, "canceled", {})
    )
    told: dict[str, aio_pika.abc.AbstractIncomingMessage] = {}
    async with asyncio.timeout(20):
        while len(told) < 2:
            message = await heard.get()
            told[json.loads(message.body)["jobId"]] = message
    message = told[good]
    assert message.routing_key == "management-server.AsyncJobEvent.complete.VirtualMachine.v1-2"
    assert message.content_type == "text/plain"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert json.loads(message.body) == {
        "jobId": good,
        "status": "SUCCEEDED",
        "resultCode": "0",
        "processStatus": "0",
        "jobResult": {"id": "v1.2", "class": "deploy", "object": "virtualmachine"},
    } | whose(alice.name, "v1.2")
    assert told[bad].routing_key == "management-server.AsyncJobEvent.complete.unknown.*"
    failed = json.loads(told[bad].body)
    assert (failed["status"], failed["resultCode"]) == ("FAILED", "530")
    assert failed["jobResult"]["errortext"] == "The job was canceled"


async def test_a_job_is_told_from_its_beginning(
    admin_channel: aio_pika.abc.AbstractChannel, world: World, reports: Reports, alice: Who
) -> None:
    heard = await heard_on(admin_channel, "#")
    job = str(uuid.uuid4())
    for word in ("queued", "progressed", "started", "succeeded"):
        await reports.say((alice.name, job, word, {"message": word} if word != "queued" else {}))
    told: list[tuple[str, str]] = []
    async with asyncio.timeout(20):
        while not told or told[-1][1] != "SUCCEEDED":
            message = await heard.get()
            said = json.loads(message.body)
            if said["jobId"] == job:
                told.append(((message.routing_key or "").split(".")[2], said["status"]))
    assert told == [
        ("submit", "IN_PROGRESS"),
        ("update", "IN_PROGRESS"),
        ("complete", "SUCCEEDED"),
    ]


@pytest.mark.parametrize("role", ["subscriber", "executor"])
async def test_nobody_but_an_admin_reads_the_bus(world: World, role: str) -> None:
    who = world.user(role)
    url = world.rabbitmq.url_of(who.name, who.token)
    own = f"{'sub' if role == 'subscriber' else 'cmd'}.{who.name}."
    own += "c.bus" if role == "subscriber" else "bus"
    async with await aio_pika.connect(url, ssl_context=world.certificates.context()) as connection:
        for key in ("#", COMPLETED, f"{who.name}.#"):
            channel = await connection.channel()
            queue = await channel.declare_queue(own, durable=True)
            with pytest.raises(ChannelAccessRefused, match=BUS):
                await queue.bind(BUS, key)
        channel = await connection.channel()
        exchange = await channel.get_exchange(BUS, ensure=False)
        with pytest.raises(ChannelAccessRefused, match=BUS):
            await exchange.publish(aio_pika.Message(b"{}"), COMPLETED)
