"""One job, reported once, is shown by the native API and by all four dialects at the same time; and
what a client deletes in one is gone in all."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import httpx
import msgspec
import pytest

from deploy.stack import Stack
from jobcast.client import Client
from jobcast.events import Canceled, Event, Failed, Progressed, Queued, Recorded, Started, Succeeded
from jobcast.job import JobError
from tests.logins import Login, Logins

STATES: Final[Mapping[str, tuple[Any, ...]]] = {
    # native: HMC, CloudStack, NetApp's state and status, Cisco
    "queued": ("running", 0, ("queued", "normal"), "running"),
    "running": ("running", 0, ("running", "normal"), "running"),
    "normal": ("complete", 1, ("completed", "normal"), "complete"),
    "warning": ("complete", 1, ("completed", "warning"), "complete"),
    "partial-failures": ("complete", 2, ("completed", "partial_failures"), "incomplete"),
    "error": ("complete", 2, ("completed", "error"), "incomplete"),
    "canceled": ("canceled", 2, ("completed", "error"), "incomplete"),
}
ENDS: Final[Mapping[str, tuple[type[Event], dict[str, Any]]]] = {
    "normal": (Succeeded, {"result": b'{"answer":42}'}),
    "warning": (Succeeded, {"outcome": "warning"}),
    "partial-failures": (Failed, {"outcome": "partial-failures", "reason_code": 7}),
    "error": (Failed, {"error": JobError("disk", "disk full"), "status_code": 507}),
    "canceled": (Canceled, {}),
}


class Everybody:
    """A user who asks at every door for one job."""

    def __init__(self, http: httpx.AsyncClient, login: Login, job: str) -> None:
        self.http = http
        self.login = login
        self.job = job
        self.session = ""

    async def log_on(self) -> None:
        given = {"userid": self.login.name, "password": self.login.token}
        answer = await self.http.post("/api/sessions", json=given)
        self.session = answer.json()["api-session"]

    async def native(self, method: str = "GET", **more: Any) -> httpx.Response:
        path = f"/v1/jobs/{self.job}"
        return await self.http.request(method, path, headers=self.login.headers, **more)

    async def hmc(self, method: str = "GET") -> httpx.Response:
        headers = {"X-API-Session": self.session}
        return await self.http.request(method, f"/api/jobs/{self.job}", headers=headers)

    async def cloudstack(self) -> httpx.Response:
        query = {"command": "queryAsyncJobResult", "jobid": self.job, "response": "json"}
        return await self.http.get("/client/api", params=query, headers=self.login.headers)

    async def netapp(self) -> httpx.Response:
        path = f"/api/v2/management-server/jobs/{self.job}"
        return await self.http.get(path, auth=(self.login.name, self.login.token))

    async def cisco(self, method: str, **params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.http.post("/clm/rpc", json=request, headers=self.login.headers)
        return answer.json()["result"]

    async def shown(self) -> tuple[Any, ...]:
        """As STATES has it."""
        netapp = (await self.netapp()).json()
        record = await self.cisco("getAsyncOperationJobRecords", job_id=self.job)
        return (
            (await self.hmc()).json()["status"],
            (await self.cloudstack()).json()["queryasyncjobresultresponse"]["jobstatus"],
            (netapp["state"], netapp["status"]),
            record["state"],
        )

    async def gone(self) -> tuple[Any, ...]:
        return (
            (await self.native()).status_code,
            (await self.hmc()).status_code,
            (await self.cloudstack()).status_code,
            (await self.netapp()).status_code,
            await self.cisco("getAsyncOperationJobRecords", job_id=self.job),
        )


Tell = Callable[..., Awaitable[None]]


@pytest.fixture
async def everybody(session_stack: Stack, logins: Logins) -> AsyncIterator[Everybody]:
    login = logins.fresh_subscriber()
    async with httpx.AsyncClient(base_url=session_stack.urls[0]) as http:
        one = Everybody(http, login, f"together-{uuid.uuid4().hex[:8]}")
        await one.log_on()
        yield one


@pytest.fixture
async def tell(session_stack: Stack, logins: Logins, everybody: Everybody) -> AsyncIterator[Tell]:
    """Reports an event of the job, and returns when it can be read."""
    version = 0
    async with Client(session_stack.urls[0], logins.executor.token) as executor:

        async def report(kind: type[Event], **data: Any) -> None:
            nonlocal version
            named: dict[str, Any] = {
                "id": uuid.uuid4().hex,
                "source": "/together",
                "owner": everybody.login.name,
            }
            await executor.report(kind(**named, job_id=everybody.job, **data))
            seen = {} if not version else {"If-None-Match": f'"{version}"'}
            headers = everybody.login.headers | seen
            path = f"/v1/jobs/{everybody.job}?wait={20 if version else 0.5}"
            while (answer := await everybody.http.get(path, headers=headers)).status_code != 200:
                pass
            version = answer.json()["version"]

        yield report


@pytest.mark.parametrize("end", ENDS)
async def test_one_job_is_shown_by_all_in_agreement(
    everybody: Everybody, tell: Tell, end: str
) -> None:
    await tell(Queued, operation="backup", group="nightly")
    assert await everybody.shown() == STATES["queued"]
    await tell(Started)
    assert await everybody.shown() == STATES["running"]
    await tell(Progressed, targets={"vol1": 80.0, "vol2": 40.0})
    progress = await everybody.cisco("getAsyncOperationStatus", job_id=everybody.job)
    assert progress["overallPercentage"] == 60
    await tell(Recorded, target="vol1", code=3, message="looked at")
    kind, data = ENDS[end]
    if "result" in data:
        data = data | {"result": msgspec.Raw(data["result"])}
    await tell(kind, **data)
    assert await everybody.shown() == STATES[end]
    job = (await everybody.native()).json()
    assert (await everybody.hmc()).json()["job-status-code"] == job["status_code"]


@pytest.mark.parametrize("door", ["hmc", "cisco", "native"])
async def test_what_is_deleted_in_one_is_gone_in_all(
    everybody: Everybody, tell: Tell, door: str
) -> None:
    await tell(Succeeded)
    if door == "hmc":
        assert (await everybody.hmc("DELETE")).status_code == 204
    elif door == "cisco":
        deleted = await everybody.cisco("deleteAsyncOperationJobRecords", job_ids=[everybody.job])
        assert deleted["errorCode"] == 0
    else:
        assert (await everybody.native("DELETE")).status_code == 204
    assert await everybody.gone() == (410, 404, 431, 404, None)
