"""Who may open the door, by what, and for whom."""

import httpx
import pytest

from deploy.stack import Stack
from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.test_jobs import known
from tests.logins import Login, Logins

PATHS = ["/v1", "/v1/", "/v1/jobs", "/v1/jobs/x", "/v1/events", "/v1/nowhere", "/v1/session"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_without_a_credential_every_path_is_401(stack: Stack, path: str, method: str) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0]) as nobody:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "jobcast_session=1.2.x"}):
            response = await nobody.request(method, path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.json()["type"] == "/problems/unauthorized"


async def test_what_is_not_there_is_404_and_405_only_for_those_known(door: Door) -> None:
    missing = await door.get("/v1/nowhere")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    wrong = await door.http.put("/v1/events")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "GET, HEAD, POST"
    assert wrong.headers["x-request-id"] != missing.headers["x-request-id"]
    slash = await door.get("/v1/jobs/")
    assert slash.status_code == 404  # no redirect: it would name an address


async def test_the_token_is_a_basic_password_too(stack: Stack, subscriber: Login) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0]) as client:
        good = await client.get("/v1/jobs", auth=(subscriber.name, subscriber.token))
        other = await client.get("/v1/jobs", auth=("alice", subscriber.token))
    assert (good.status_code, other.status_code) == (200, 401)


async def test_a_session_is_good_at_every_replica_and_after_a_restart(
    stack: Stack, subscriber: Login
) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0]) as browser:
        opened = await browser.post("/v1/session", headers=subscriber.headers)
        assert opened.status_code == 200
        assert opened.json()["user"] == subscriber.name
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        assert subscriber.token not in cookie
        stack.replicas[0].restart()
        for url in stack.urls:
            assert (await browser.get(f"{url}/v1/jobs")).status_code == 200
        same = {"Sec-Fetch-Site": "same-origin"}
        assert (await browser.post("/v1/session", headers=same)).status_code == 401
        closed = await browser.delete("/v1/session", headers=same)
        assert closed.status_code == 204
        assert not browser.cookies


async def test_a_session_changes_things_from_its_own_origin_only(
    stack: Stack, subscriber: Login
) -> None:
    async with httpx.AsyncClient(base_url=stack.urls[0]) as browser:
        await browser.post("/v1/session", headers=subscriber.headers)
        for headers in (
            {},
            {"Origin": "https://elsewhere.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": stack.urls[0]},
        ):
            response = await browser.delete("/v1/session", headers=headers)
            assert response.status_code == 403
            assert response.json()["type"] == "/problems/cross-origin"
        response = await browser.delete("/v1/session", headers={"Origin": stack.urls[0]})
        assert response.status_code == 204


async def test_a_cookie_is_secure_where_tls_ends_before_us(stack: Stack, subscriber: Login) -> None:
    headers = subscriber.headers | {"X-Forwarded-Proto": "https"}
    async with httpx.AsyncClient(base_url=stack.urls[0]) as browser:
        opened = await browser.post("/v1/session", headers=headers)
    assert "Secure" in opened.headers["set-cookie"]


async def test_an_admin_reads_for_any_owner_and_keeps_them_in_the_links(
    stack: Stack, door: Door, executor: Executor, logins: Logins, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    query = f"owner={door.name}"
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=logins.admin.headers) as admin:
        one = await admin.get(f"/v1/jobs/{job}?{query}")
        assert one.status_code == 200
        assert (await admin.get(one.json()["links"]["self"])).json() == one.json()
        listed = await admin.get(f"/v1/jobs?{query}")
        assert [found["id"] for found in listed.json()["jobs"]] == [job]
        assert (await admin.get(f"/v1/jobs/{job}")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/x", "/v1/jobs/x/events", "/v1/events"])
async def test_others_may_not_read_for_another_owner(
    stack: Stack, door: Door, executor: Executor, path: str
) -> None:
    for client in (door.http, executor.http):
        response = await client.get(f"{path}?owner=alice")
        assert response.status_code == 403
        assert response.json()["type"] == "/problems/forbidden"
    assert (await executor.http.get(path)).status_code == 403
