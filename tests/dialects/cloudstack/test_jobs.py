"""Jobs in CloudStack's API, asked by its real client over TLS: `cs`, in both its classes."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, Final

import pytest
from cs import CloudStackApiException
from redis.asyncio import Redis

from broker.cloudstack import DOMAIN_ID, id_of
from notifier.keys import OwnerKeys
from tests.dialects.cloudstack.world import Asked, Reports, Who, World

pytestmark = pytest.mark.timeout(120)

NO_JOB: Final = {"errorcode": 431, "cserrorcode": 4350, "errortext": "jobid: there is no such job"}


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
