"""JSON-RPC 2.0 at /clm/rpc, request by request: what is asked, who asks, and in what form."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deploy.stack import Stack
from tests.eventually import eventually
from tests.logins import Login, Logins

STATUS = "getAsyncOperationStatus"
RECORD = "getAsyncOperationJobRecords"
ALL = "listAllAsyncOperationJobRecords"
UNKNOWN = "unknown-job"


class Rpc:
    """One user, or nobody, at `/clm/rpc`."""

    def __init__(self, client: httpx.AsyncClient, login: Login) -> None:
        self.http = client
        self.login = login

    async def post(self, content: bytes | str, **options: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.http.post("/clm/rpc", content=content, headers=headers, **options)

    async def ask(self, *requests: Any) -> Any:
        """What is answered, always with 200."""
        content = json.dumps(requests[0] if len(requests) == 1 else requests)
        response = await self.post(content)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        return response.json()

    async def call(self, method: str, params: Any = None, **more: Any) -> Any:
        """The `result`, or the `error`'s code and message."""
        said = await self.ask(request(method, params, **more))
        assert said["jsonrpc"] == "2.0"
        if "error" in said:
            return said["error"]["code"], said["error"]["message"]
        return said["result"]


def request(method: Any, params: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "id": 1, "method": method, **given, **more}


@pytest.fixture
async def nobody(session_stack: Stack, subscriber: Login) -> AsyncIterator[Rpc]:
    """Without any credential in the request's head."""
    async with httpx.AsyncClient(base_url=session_stack.urls[0], timeout=20) as client:
        yield Rpc(client, subscriber)


@pytest.fixture
async def alice(session_stack: Stack, subscriber: Login) -> AsyncIterator[Rpc]:
    """With her own token as `Authorization: Bearer`."""
    headers = subscriber.headers
    async with httpx.AsyncClient(
        base_url=session_stack.urls[0], headers=headers, timeout=20
    ) as client:
        yield Rpc(client, subscriber)


@pytest.fixture
async def job(session_stack: Stack, logins: Logins, alice: Rpc) -> str:
    """A running job of alice's."""
    job = f"job-{uuid.uuid4().hex[:8]}"
    event = {"specversion": "1.0", "id": "1", "source": f"/{job}", "type": "job.started"}
    event |= {"subject": job, "owner": alice.login.name}
    async with httpx.AsyncClient(headers=logins.executor.headers) as client:
        told = await client.post(f"{session_stack.urls[0]}/v1/events", json=event)
        assert told.status_code == 202, told.text

    async def there() -> bool:
        return await alice.call(RECORD, {"job_id": job}) is not None

    await eventually(there)
    return job


async def test_a_token_stands_in_the_call_or_in_the_head(
    alice: Rpc, nobody: Rpc, job: str, logins: Logins
) -> None:
    name, own = alice.login
    sealed = (await nobody.call("login", {"username": name, "password": own}))["token"]
    for token in (own, sealed):
        whole = {"token": token, "username": name, "timeout": 0, "sslEnabled": True}
        for given in (token, whole, {"token": token}):
            found = await nobody.call(RECORD, {"token": given, "job_id": job})
            assert found["jobId"] == job
            assert (await nobody.call(RECORD, [given, job])) == found
        headers = {"Authorization": f"Bearer {token}"}
        asked = json.dumps(request(RECORD, {"job_id": job}))
        response = await nobody.post(asked, headers=headers)
        assert response.json()["result"] == found
    assert (await alice.call(RECORD, [None, job]))["jobId"] == job
    # The call's token counts alone.
    assert await alice.call(RECORD, {"token": logins.bob.token, "job_id": job}) is None
    assert (await alice.call(RECORD, {"token": "wrong", "job_id": job}))[0] == -32001


async def test_a_token_that_is_none_is_an_authentication_exception(
    nobody: Rpc, alice: Rpc, logins: Logins, job: str
) -> None:
    name, own = alice.login
    sealed = (await nobody.call("login", [name, own]))["token"]
    for token in (
        None,
        "",
        "wrong",
        sealed.replace(name, "bob"),
        f"9{sealed}",
        {"token": own, "username": "bob"},
        {"token": "", "username": name},
        {},
    ):
        said = await nobody.ask(request(RECORD, {"token": token, "job_id": job}))
        assert said["error"]["code"] == -32001, token
        assert said["error"]["data"] == {"type": "AuthenticationException"}
    told = await nobody.call(RECORD, {"token": logins.executor.token, "job_id": job})
    assert told[0] == -32001
    assert "subscriber" in told[1]
    assert (await nobody.call(RECORD, {"token": 5, "job_id": job}))[0] == -32602
    assert (await alice.call(RECORD, {"token": {"username": "bob"}, "job_id": job}))[0] == -32001


async def test_the_token_of_a_login_opens_no_other_door_and_theirs_not_this(
    nobody: Rpc, alice: Rpc
) -> None:
    sealed = (await nobody.call("login", list(alice.login)))["token"]
    for headers in (
        {"Authorization": f"Bearer {sealed}"},
        {"Cookie": f"jobcast_session={sealed}"},
    ):
        assert (await nobody.http.get("/v1/jobs", headers=headers)).status_code == 401
    opened = await alice.http.post("/v1/session")
    cookie = opened.cookies["jobcast_session"]
    alice.http.cookies.clear()
    assert (await nobody.call(ALL, {"token": cookie, "include_all_user": False}))[0] == -32001
    asked = json.dumps(request(ALL, {"include_all_user": False}))
    told = await nobody.post(asked, headers={"Cookie": f"jobcast_session={cookie}"})
    assert told.json()["error"]["code"] == -32001


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer", "Basic eDp5", "x", ""])
async def test_a_bad_authorization_is_401_whatever_the_body_says(
    nobody: Rpc, authorization: str
) -> None:
    content = json.dumps(request(ALL, {"token": nobody.login.token, "include_all_user": False}))
    response = await nobody.post(content, headers={"Authorization": authorization})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["error"]["code"] == -32001


async def test_refusals_are_in_the_audit_log(session_stack: Stack, nobody: Rpc) -> None:
    log = session_stack.replicas[0].log
    line = 'refused who=- door=http action="POST /clm/rpc killAsyncOperation" why=unauthorized'

    async def written() -> bool:
        told = await nobody.call("LicenseManager.killAsyncOperation", {"job_id": "secret-word"})
        assert told[0] == -32001
        return line in log.read_text()

    await eventually(written)
    assert "secret-word" not in log.read_text()


async def test_names_with_the_prefix_and_other_spellings(alice: Rpc, job: str) -> None:
    wanted = await alice.call(STATUS, {"taskID": job})
    assert wanted["errorCode"] == 0
    assert await alice.call(f"LicenseManager.{STATUS}", {"taskID": job}) == wanted
    assert await alice.call(STATUS, {"job_id": job}) == wanted
    assert await alice.call(STATUS, {"job_id": job, "taskID": job, "more": 1}) == wanted
    assert await alice.call(STATUS, {"job_id": job, "taskID": None}) == wanted
    told = await alice.call(STATUS, {"job_id": job, "taskID": "other"})
    assert told == (-32602, "Invalid params: job_id: another value than that of taskID")
    page = {"offset": 0, "max": -1}
    by_group = "listPersistentIDStatusByGroup"
    assert await alice.call(by_group, {"jobgroup": "g", "pageinfo": page}) == (
        await alice.call(by_group, {"jobGroup": "g", "pageinfo": page})
    )


@pytest.mark.parametrize("params", [{}, {"taskID": None}, {"taskID": ""}, [None], [None, None]])
async def test_a_missing_id_is_an_operation_error_of_the_progress(alice: Rpc, params: Any) -> None:
    said = await alice.call(STATUS, params)
    assert (said["errorCode"], said["errorName"]) == (2, "JOB_ID_MISSING")
    assert (said["overallPercentage"], said["targetIds"], said["targetProgress"]) == (0, [], [])


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        (STATUS, {"taskID": 5}, "taskID"),
        (RECORD, {}, "job_id"),
        (RECORD, {"job_id": None}, "job_id"),
        (RECORD, [None, UNKNOWN, "more"], "at most 2 are wanted: token, job_id"),
        ("killAsyncOperation", {"taskID": UNKNOWN}, "job_id"),
        (ALL, {}, "include_all_user"),
        (ALL, {"include_all_user": "true"}, "include_all_user"),
        ("deleteAsyncOperationJobRecords", {"job_ids": UNKNOWN}, "job_ids"),
        ("deleteAsyncOperationJobRecords", {"job_ids": [UNKNOWN, 5]}, "job_ids"),
        ("setAsyncOperationJobComment", {"job_id": UNKNOWN}, "comment"),
        ("listPersistentIDStatus", {"id": UNKNOWN}, "pageinfo"),
        ("listPersistentIDStatus", {"id": UNKNOWN, "pageinfo": "all"}, "pageinfo"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"max": True}}, "pageinfo.max"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"offset": 1.5}}, "pageinfo.offset"),
        ("listPersistentIDStatus", {"id": "x", "pageinfo": {"max": 10**30}}, "pageinfo.max"),
        ("addPersistentIDStatus", {"pidStatus": {"jobId": UNKNOWN}}, "pidStatus.id"),
        ("login", {"username": "alice"}, "password"),
    ],
)
async def test_a_parameter_that_is_none_is_named(
    alice: Rpc, method: str, params: Any, named: str
) -> None:
    code, message = await alice.call(method, params)
    assert code == -32602
    assert message.startswith("Invalid params: ")
    assert named in message


@pytest.mark.parametrize("given", ["x", 7, 0, -1.5, 10**30, "", None, "ü"])
async def test_an_id_comes_back_as_it_was_given(alice: Rpc, given: Any) -> None:
    said = await alice.ask(request(STATUS, {"taskID": UNKNOWN}, id=given))
    assert said["id"] == given
    assert type(said["id"]) is type(given)
    assert said["result"]["errorCode"] == 1


@pytest.mark.parametrize(
    ("content", "code", "id_"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b'"\xff"', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b"1", -32600, None),
        (b"null", -32600, None),
        (b"{}", -32600, None),
        (json.dumps(request(STATUS, jsonrpc="1.0")).encode(), -32600, 1),
        (json.dumps(request(1)).encode(), -32600, 1),
        (json.dumps(request(STATUS, "x")).encode(), -32600, 1),
        (json.dumps(request(STATUS, id=True)).encode(), -32600, None),
        (json.dumps(request(STATUS, id=[1])).encode(), -32600, None),
        (json.dumps(request("stop", {})).encode(), -32601, 1),
        (json.dumps(request("LicenseManager.LicenseManager.login")).encode(), -32601, 1),
        (json.dumps([request(STATUS)] * 51).encode(), -32600, None),
    ],
)
async def test_what_is_no_request_is_answered_as_json_rpc_says(
    alice: Rpc, content: bytes, code: int, id_: Any
) -> None:
    response = await alice.post(content)
    assert response.status_code == 200
    said = response.json()
    assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", id_, code)
    assert "result" not in said


async def test_requests_of_a_batch_take_nothing_from_each_other(alice: Rpc, job: str) -> None:
    quiet = request("setAsyncOperationJobComment", {"job_id": job, "comment": "quiet"})
    del quiet["id"]
    good = request(RECORD, {"job_id": job}, id="good")
    said = await alice.ask(1, quiet, request("x", id=2), good, [], request(STATUS, 5, id=3))
    assert [(one["id"], one.get("error", {}).get("code")) for one in said] == [
        (None, -32600),
        (2, -32601),
        ("good", None),
        (None, -32600),
        (3, -32600),
    ]
    assert said[2]["result"]["comment"] == "quiet"


async def test_notifications_are_carried_out_and_not_answered(alice: Rpc, job: str) -> None:
    asked = request("setAsyncOperationJobComment", {"job_id": job, "comment": "one"})
    del asked["id"]
    bad = {**asked, "method": "nothing"}
    for content in (asked, bad, [asked, bad]):
        response = await alice.post(json.dumps(content))
        assert (response.status_code, response.content) == (204, b"")
    assert (await alice.call(RECORD, {"job_id": job}))["comment"] == "one"


async def test_a_batch_of_fifty_is_served(alice: Rpc) -> None:
    asked = [request(STATUS, {"taskID": f"{UNKNOWN}-{n}"}, id=n) for n in range(50)]
    said = await alice.ask(*asked)
    assert [one["id"] for one in said] == list(range(50))
    assert {one["result"]["errorName"] for one in said} == {"JOB_ID_NOT_FOUND"}


async def test_the_answers_of_a_batch_are_bounded_in_bytes(
    session_stack: Stack, logins: Logins, alice: Rpc, job: str
) -> None:
    event = {"specversion": "1.0", "id": "2", "source": f"/{job}", "type": "job.succeeded"}
    event |= {"subject": job, "owner": alice.login.name}
    ends = {**event, "data": {"result": "x" * 260_000}}
    async with httpx.AsyncClient(headers=logins.executor.headers) as client:
        await client.post(f"{session_stack.urls[0]}/v1/events", json=ends)

    async def ended() -> bool:
        found = await alice.call(RECORD, {"job_id": job})
        return bool(found["state"] == "complete")

    await eventually(ended)
    said = await alice.ask(*[request(RECORD, {"job_id": job}, id=n) for n in range(50)])
    answered = [one for one in said if "result" in one]
    assert len(answered) == 33
    assert {one["error"]["code"] for one in said[33:]} == {-32000}


async def test_other_media_and_too_much_are_said_by_the_status(alice: Rpc) -> None:
    content = json.dumps(request(STATUS, {}))
    for headers, status in (
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ):
        response = await alice.post(content, headers=headers)
        assert response.status_code == status, headers
        assert response.json()["jsonrpc"] == "2.0"
    response = await alice.post(content + " " * 262_144)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == -32600
    response = await alice.http.get("/clm/rpc")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_who_asks_too_often_is_told_when_to_come_again(alice: Rpc) -> None:
    content = json.dumps(request(STATUS, {"taskID": UNKNOWN}, id="x"))
    batch = [request(STATUS, {"taskID": UNKNOWN}, id=n) for n in range(50)]

    async def single() -> httpx.Response | None:
        await alice.ask(*batch)
        response = await alice.post(content)
        return response if response.status_code == 429 else None

    response = await eventually(single)
    assert int(response.headers["retry-after"]) >= 1
    assert (response.json()["id"], response.json()["error"]["code"]) == ("x", -32000)

    async def of_a_batch() -> dict[str, Any] | None:
        refused = [one["error"] for one in await alice.ask(*batch) if "error" in one]
        return refused[0] if refused else None

    refused = await eventually(of_a_batch)
    assert refused["code"] == -32000
    assert refused["data"]["type"] == "RemoteException"
    assert refused["data"]["retryAfter"] >= 1
    await eventually(lambda: _answered(alice))


async def _answered(user: Rpc) -> bool:
    response = await user.post(json.dumps(request(STATUS, {"taskID": UNKNOWN})))
    return response.status_code == 200
