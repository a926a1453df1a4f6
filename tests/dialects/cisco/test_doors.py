"""/clm/rpc as a door: who comes in by what, how often, and with how much."""

import json
from typing import Any

import httpx
import pytest

from deploy.stack import Stack
from tests.dialects.cisco.clm import UNKNOWN
from tests.dialects.cisco.rpc import ALL, RECORD, STATUS, Rpc, request
from tests.eventually import eventually
from tests.logins import Logins


async def test_a_token_stands_in_the_call_or_in_the_head(
    rpc: Rpc, nobody: Rpc, running: str, logins: Logins
) -> None:
    name, own = rpc.login
    sealed = (await nobody.call("login", {"username": name, "password": own}))["token"]
    for token in (own, sealed):
        whole = {"token": token, "username": name, "timeout": 0, "sslEnabled": True}
        for given in (token, whole, {"token": token}):
            found = await nobody.call(RECORD, {"token": given, "job_id": running})
            assert found["jobId"] == running
            assert (await nobody.call(RECORD, [given, running])) == found
        headers = {"Authorization": f"Bearer {token}"}
        asked = json.dumps(request(RECORD, {"job_id": running}))
        response = await nobody.post(asked, headers=headers)
        assert response.json()["result"] == found
    assert (await rpc.call(RECORD, [None, running]))["jobId"] == running
    # The call's token counts alone.
    assert await rpc.call(RECORD, {"token": logins.bob.token, "job_id": running}) is None
    assert (await rpc.call(RECORD, {"token": "wrong", "job_id": running}))[0] == -32001


async def test_a_token_that_is_none_is_an_authentication_exception(
    nobody: Rpc, rpc: Rpc, logins: Logins, running: str
) -> None:
    name, own = rpc.login
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
        said = await nobody.ask(request(RECORD, {"token": token, "job_id": running}))
        assert said["error"]["code"] == -32001, token
        assert said["error"]["data"] == {"type": "AuthenticationException"}
    told = await nobody.call(RECORD, {"token": logins.executor.token, "job_id": running})
    assert told[0] == -32001
    assert "subscriber" in told[1]
    assert (await nobody.call(RECORD, {"token": 5, "job_id": running}))[0] == -32602
    assert (await rpc.call(RECORD, {"token": {"username": "bob"}, "job_id": running}))[0] == -32001


async def test_the_token_of_a_login_opens_no_other_door_and_theirs_not_this(
    nobody: Rpc, rpc: Rpc
) -> None:
    sealed = (await nobody.call("login", list(rpc.login)))["token"]
    for headers in (
        {"Authorization": f"Bearer {sealed}"},
        {"Cookie": f"jobcast_session={sealed}"},
    ):
        assert (await nobody.http.get("/v1/jobs", headers=headers)).status_code == 401
    opened = await rpc.http.post("/v1/session")
    cookie = opened.cookies["jobcast_session"]
    rpc.http.cookies.clear()
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


async def test_the_answers_of_a_batch_are_bounded_in_bytes(
    session_stack: Stack, logins: Logins, rpc: Rpc, running: str
) -> None:
    event = {"specversion": "1.0", "id": "2", "source": f"/{running}", "type": "job.succeeded"}
    event |= {"subject": running, "owner": rpc.login.name}
    ends = {**event, "data": {"result": "x" * 260_000}}
    async with httpx.AsyncClient(headers=logins.executor.headers) as client:
        await client.post(f"{session_stack.urls[0]}/v1/events", json=ends)

    async def ended() -> bool:
        found = await rpc.call(RECORD, {"job_id": running})
        return bool(found["state"] == "complete")

    await eventually(ended)
    said = await rpc.ask(*[request(RECORD, {"job_id": running}, id=n) for n in range(50)])
    answered = [one for one in said if "result" in one]
    assert len(answered) == 33
    assert {one["error"]["code"] for one in said[33:]} == {-32000}


async def test_other_media_and_too_much_are_said_by_the_status(rpc: Rpc) -> None:
    content = json.dumps(request(STATUS, {}))
    for headers, status in (
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ):
        response = await rpc.post(content, headers=headers)
        assert response.status_code == status, headers
        assert response.json()["jsonrpc"] == "2.0"
    response = await rpc.post(content + " " * 262_144)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == -32600
    response = await rpc.http.get("/clm/rpc")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_who_asks_too_often_is_told_when_to_come_again(rpc: Rpc) -> None:
    content = json.dumps(request(STATUS, {"taskID": UNKNOWN}, id="x"))
    batch = [request(STATUS, {"taskID": UNKNOWN}, id=n) for n in range(50)]

    async def single() -> httpx.Response | None:
        await rpc.ask(*batch)
        response = await rpc.post(content)
        return response if response.status_code == 429 else None

    response = await eventually(single)
    assert int(response.headers["retry-after"]) >= 1
    assert (response.json()["id"], response.json()["error"]["code"]) == ("x", -32000)

    async def of_a_batch() -> dict[str, Any] | None:
        refused = [one["error"] for one in await rpc.ask(*batch) if "error" in one]
        return refused[0] if refused else None

    refused = await eventually(of_a_batch)
    assert refused["code"] == -32000
    assert refused["data"]["type"] == "RemoteException"
    assert refused["data"]["retryAfter"] >= 1
    await eventually(lambda: _answered(rpc))


async def _answered(user: Rpc) -> bool:
    response = await user.post(json.dumps(request(STATUS, {"taskID": UNKNOWN})))
    return response.status_code == 200
