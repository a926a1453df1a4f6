"""CloudStack's API and event bus, asked by its real clients: `cs` in both its classes, and
aio-pika. Everything is over TLS, and the servers are the module's own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from cs import AIOCloudStack, CloudStack, CloudStackApiException
from msgspec.structs import replace
from redis.asyncio import Redis

from api.users import new_keys, remove_user, rotate_token
from broker.cloudstack import DOMAIN_ID, id_of
from deploy.stack import Stack
from notifier.keys import OwnerKeys
from tests.dialects.cloudstack_world import BUS, Reports, Who, World, opened_world, signed
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

POLL_S: Final = 0.05
COMPLETED: Final = "management-server.AsyncJobEvent.complete.#"
NO_JOB: Final = {"errorcode": 431, "cserrorcode": 4350, "errortext": "jobid: there is no such job"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("cloudstack")) as world:
        yield world


@pytest.fixture
def alice(world: World) -> Who:
    return world.user()


@pytest.fixture
async def reports(world: World) -> AsyncIterator[Reports]:
    async with world.http(world.user("executor", "admin")) as http:
        yield Reports(http)


Asked = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, world: World) -> Callable[..., Asked]:
    """`await client(who, …)(command, …)`: by one of the two classes of `cs`, as it is."""

    def made(who: Who, **options: Any) -> Asked:
        given: dict[str, Any] = {"key": who.keys.api_key, "secret": who.keys.secret_key}
        given |= {"verify": str(world.certificates.ca), "poll_interval": POLL_S, **options}

        async def asked(command: str, **parameters: Any) -> Any:
            if request.param == "sync":
                ask = getattr(CloudStack(world.url, **given), command)
                return await asyncio.to_thread(ask, **parameters)
            async with AIOCloudStack(world.url, **given) as cloud:
                return await getattr(cloud, command)(**parameters)

        return asked

    return made


@pytest.mark.parametrize("method", ["get", "post"])
async def test_a_client_waits_for_success(
    client: Callable[..., Asked], reports: Reports, alice: Who, method: str
) -> None:
    resource = {"type": "VirtualMachine", "id": "v1"}
    job = await reports.started(alice, operation="deployVirtualMachine", resource=resource)
    ask = client(alice, method=method)
    pending = await ask("queryAsyncJobResult", jobid=job)
    assert pending.pop("created").endswith("+0000")
    assert pending == {
        "accountid": id_of(alice.name),
        "account": alice.name,
        "domainid": DOMAIN_ID,
        "domainpath": "ROOT",
        "userid": id_of(alice.name),
        "cmd": "deployVirtualMachine",
        "jobstatus": 0,
        "jobprocstatus": 1,
        "jobresultcode": 0,
        "jobinstancetype": "VirtualMachine",
        "jobinstanceid": "v1",
        "jobid": job,
    }
    waiting = asyncio.create_task(ask("queryAsyncJobResult", jobId=job, fetch_result=True))
    result = {"virtualmachine": {"id": "v1", "state": "Running"}}
    await reports.say((alice.name, job, "succeeded", {"result": result}))
    assert await waiting == result
    done = await ask("queryAsyncJobResult", jobid=job)
    assert (done["jobstatus"], done["jobresultcode"], done["jobprocstatus"]) == (1, 0, 0)
    assert (done["jobresulttype"], done["jobresult"]) == ("object", result)
    assert done["completed"].endswith("+0000")


@pytest.mark.parametrize(
    "end",
    [
        ("failed", {"error": {"message": "no space"}}, {"errorcode": 500, "errortext": "no space"}),
        ("failed", {"status_code": 551, "outcome": "partial-failures", "message": "two of three"},
         {"errorcode": 551, "errortext": "two of three"}),
        ("canceled", {}, {"errorcode": 530, "errortext": "The job was canceled"}),
    ],
)  # fmt: skip
async def test_a_client_hears_of_a_failure(
    client: Callable[..., Asked],
    reports: Reports,
    alice: Who,
    end: tuple[str, dict[str, Any], dict[str, Any]],
) -> None:
    word, data, error = end
    job = await reports.ended(alice, word, **data)
    with pytest.raises(CloudStackApiException, match="Job failure") as raised:
        await client(alice, job_timeout=10)("queryAsyncJobResult", jobid=job, fetch_result=True)
    assert raised.value.error == error


async def test_a_success_without_a_result_is_one(
    client: Callable[..., Asked], reports: Reports, alice: Who
) -> None:
    job = await reports.ended(alice, "succeeded")
    ask = client(alice, job_timeout=10)
    assert await ask("queryAsyncJobResult", jobid=job, fetch_result=True) == {"success": True}


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


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"page": 1, "pagesize": 501}, "pagesize"),
        ({"pagesize": 20}, "page"),
        ({"page": 1, "pagesize": -1}, "page"),
        ({"startdate": "yesterday"}, "startdate"),
        ({"account": "bob"}, "domainid"),
        ({"domainid": str(uuid.uuid4())}, "domainid"),
        ({"managementserverid": str(uuid.uuid4())}, "managementserverid"),
    ],
)
async def test_a_bad_parameter_is_named(
    client: Callable[..., Asked], alice: Who, more: dict[str, Any], text: str
) -> None:
    with pytest.raises(CloudStackApiException) as raised:
        await client(alice)("listAsyncJobs", **more)
    error = raised.value.error
    assert (error["errorcode"], error["cserrorcode"], error["uuidList"]) == (431, 4350, [])
    assert error["errortext"].startswith(text)


async def test_a_job_is_wanted(client: Callable[..., Asked], alice: Who) -> None:
    with pytest.raises(CloudStackApiException) as raised:
        await client(alice)("queryAsyncJobResult")
    assert raised.value.error["errorcode"] == 431
    assert raised.value.error["errortext"].startswith("jobid")


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


@pytest.mark.parametrize(
    "options",
    [{"secret": "wrong" * 8}, {"key": "wrong"}, {"key": ""}, {"secret": ""}, {"expiration": 0}],
    ids=["wrong secret", "unknown key", "no key", "no secret", "expired"],
)
@pytest.mark.parametrize("method", ["get", "post"])
async def test_who_has_not_signed_well_is_nobody(
    client: Callable[..., Asked],
    reports: Reports,
    alice: Who,
    options: dict[str, Any],
    method: str,
) -> None:
    job = await reports.started(alice)
    with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
        await client(alice, method=method, **options)("queryAsyncJobResult", jobid=job)
    assert raised.value.error.keys() == {"uuidList", "errorcode", "errortext"}
    assert raised.value.error["errorcode"] == 401


async def test_a_signature_may_count_for_ever_and_hold_a_tilde(
    client: Callable[..., Asked], reports: Reports, alice: Who
) -> None:
    await reports.started(alice, operation="a~b")
    for options in ({}, {"expiration": -1}):
        found = await client(alice, **options)("listAsyncJobs", keyword="a~b")
        assert found["count"] == 1


async def test_foreign_unknown_deleted_and_expired_jobs_are_told_alike(
    client: Callable[..., Asked], world: World, reports: Reports, alice: Who
) -> None:
    foreign = await reports.started(world.user())
    deleted, expired = [await reports.ended(alice, "succeeded") for _ in range(2)]
    answer = await reports.http.delete(f"/v1/jobs/{deleted}", params={"owner": alice.name})
    assert answer.status_code == 204
    async with Redis.from_url(world.redis.url) as redis:
        await redis.delete(OwnerKeys(alice.name).job(expired))
    bodies = set()
    for job in (foreign, deleted, expired, str(uuid.uuid4()), "not an id/", "x" * 5_000):
        with pytest.raises(CloudStackApiException, match="HTTP 431") as raised:
            await client(alice)("queryAsyncJobResult", jobid=job, fetch_result=True)
        assert raised.value.error == {"uuidList": [], **NO_JOB}
        bodies.add(str(raised.value.error))
    assert len(bodies) == 1


async def test_the_key_of_a_removed_user_stops_at_once(
    client: Callable[..., Asked], world: World
) -> None:
    carol, dave = world.user(), world.user()
    assert await client(carol)("listAsyncJobs") == {}
    assert await client(dave)("listAsyncJobs") == {}
    remove_user(world.users_file, carol.name)
    rotate_token(world.users_file, dave.name)
    for who in (carol, dave):
        with pytest.raises(CloudStackApiException, match="HTTP 401"):
            await client(who)("listAsyncJobs")
    keys = new_keys()
    token = rotate_token(world.users_file, dave.name, keys=keys)
    assert await client(Who(dave.name, token, keys))("listAsyncJobs") == {}


async def test_roles_of_the_file_count(client: Callable[..., Asked], world: World) -> None:
    with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
        await client(world.user("executor"))("listAsyncJobs")
    assert "subscriber" in raised.value.error["errortext"]


async def test_a_client_without_keys_brings_a_token(
    client: Callable[..., Asked], world: World, reports: Reports, alice: Who
) -> None:
    job = await reports.started(alice)
    headers = {"Authorization": f"Bearer {alice.token}"}
    ask = client(alice, key=None, secret=None, headers=headers)
    assert (await ask("queryAsyncJobResult", jobid=job))["jobid"] == job
    with pytest.raises(CloudStackApiException, match="HTTP 432") as raised:
        await ask("deployVirtualMachine")
    assert raised.value.error["errorcode"] == 432
    with pytest.raises(CloudStackApiException, match="HTTP 401"):  # a signature counts alone
        await client(alice, secret="wrong", headers=headers)("queryAsyncJobResult", jobid=job)


async def test_what_is_not_served_is_said_to_who_has_signed(
    client: Callable[..., Asked], alice: Who
) -> None:
    for command in ("deployVirtualMachine", "queryasyncjobresult"):
        with pytest.raises(CloudStackApiException, match="HTTP 401") as raised:
            await client(alice)(command)
        assert raised.value.error["errortext"].startswith("command:")


# What `cs` does not send.


async def test_xml_unless_json_is_asked_for(world: World, reports: Reports, alice: Who) -> None:
    job = await reports.ended(alice, "failed", message="<no> \x00space")
    async with world.http() as http:
        query = signed(alice, command="queryAsyncJobResult", jobId=job)
        answer = await http.get("/client/api", params=query)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/xml; charset=UTF-8"
        assert answer.headers["cache-control"] == "no-store"
        root = ElementTree.fromstring(answer.text)  # noqa: S314 - our own
        assert root.tag == "queryasyncjobresultresponse"
        assert root.findtext("jobresulttype") == "text"
        assert root.findtext("jobresult") == "<no> \ufffdspace"
        answer = await http.get("/client/api", params=signed(alice, command="listAsyncJobs"))
        root = ElementTree.fromstring(answer.text)  # noqa: S314 - our own
        assert (root.tag, len(root)) == ("listasyncjobsresponse", 0)
        answer = await http.get("/client/api", params={"command": "listAsyncJobs"})
        assert answer.status_code == 401
        root = ElementTree.fromstring(answer.text)  # noqa: S314 - our own
        assert root.tag == "listasyncjobsresponse"
        assert [child.tag for child in root] == ["errorcode", "errortext"]


async def test_query_and_form_together_are_signed(world: World, alice: Who) -> None:
    whole = signed(alice, command="listAsyncJobs", response="json", keyword="x")
    query = {name: whole.pop(name) for name in ("command", "signature")}
    async with world.http() as http:
        answer = await http.post("/client/api", params=query, data=whole | {"command": "other"})
        assert answer.json() == {"listasyncjobsresponse": {}}


@pytest.mark.parametrize(
    ("method", "options", "code"),
    [
        ("PUT", {}, 405),
        ("DELETE", {}, 405),
        ("POST", {"content": b"a=" + b"x" * 20_000}, 430),
        ("POST", {"content": b"&".join(b"a=1" for _ in range(101))}, 430),
        ("POST", {"content": b"\xff\xfe=%ff&%"}, 401),
        ("POST", {"content": b"{}", "headers": {"Content-Type": "application/json"}}, 401),
        ("GET", {}, 401),
    ],
)
async def test_what_cannot_be_read_is_answered_in_the_words_of_cloudstack(
    world: World, method: str, options: dict[str, Any], code: int
) -> None:
    form = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    async with world.http() as http:
        answer = await http.request(
            method, "/client/api?response=json&command=listAsyncJobs", **form | options
        )
    assert answer.status_code == code
    assert answer.json()["listasyncjobsresponse"]["errorcode"] == code


async def test_too_many_requests_are_429_and_refusals_are_written_down(
    world: World, tmp_path: Path, alice: Who
) -> None:
    query = signed(alice, command="listAsyncJobs", response="json")
    one_a_second = {**world.stack.layout.env, "JOBCAST_REQUESTS_PER_S": "1"}
    layout = replace(
        world.stack.layout, env=one_a_second, notifiers=0, authority_port=None, folder=tmp_path
    )
    stack = Stack(layout)
    try:
        await asyncio.to_thread(stack.start)
        async with world.http() as http:
            url = f"{stack.urls[0]}/client/api"
            answers = [await http.get(url, params=query) for _ in range(5)]
    finally:
        await asyncio.to_thread(stack.stop)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["listasyncjobsresponse"]["errorcode"] == 429
    assert int(refused[0].headers["retry-after"]) >= 1
    log = stack.replicas[0].log.read_text()
    assert f'who={alice.name} door=http action="GET /client/api" why=too-many-requests' in log
    assert alice.keys.secret_key not in log
    assert alice.keys.api_key not in log


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
    account = id_of(alice.name)
    assert json.loads(message.body) == {
        "jobId": good,
        "status": "SUCCEEDED",
        "resultCode": "0",
        "processStatus": "0",
        "jobResult": {"id": "v1.2", "class": "deploy", "object": "virtualmachine"},
        "command": "deploy",
        "commandEventType": "unknown",
        "cmdInfo": {},
        "user": account,
        "account": account,
        "instanceType": "VirtualMachine",
        "instanceUuid": "v1.2",
        "username": alice.name,
        "accountname": alice.name,
        "domainname": "ROOT",
    }
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
