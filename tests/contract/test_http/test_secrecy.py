"""What the doors of HTTP write down: every refusal and control action, and no secret."""

import asyncio
import base64
import json
import socket
import uuid
from urllib.parse import urlsplit

import httpx
import pytest

from tests.contract.test_http.house import House
from tests.eventually import eventually


@pytest.mark.usefixtures("stack")  # its notifiers declare what is published to
async def test_refusals_and_control_actions_are_written_down(house: House) -> None:
    login, executor = house.user(), house.user("executor")
    cookie = {}
    async with house.client() as client:
        await client.post("/v1/session", headers=login.headers)
        cookie = dict(client.cookies)
        await client.delete("/v1/session")  # cross-origin
        await client.delete("/v1/session", headers={"Sec-Fetch-Site": "same-origin"})
        client.cookies.clear()
        await client.get("/v1/jobs/some?owner=bob", headers=login.headers)
        await client.get("/v1/events?owner=bob", headers=login.headers)
        await client.post("/v1/tickets", json={"job": "j"}, headers=login.headers)
        event = {
            "specversion": "1.0",
            "id": "1",
            "source": "/x",
            "type": "job.started",
            "subject": "j",
            "owner": login.name,
        }
        reported = await client.post("/v1/events", json=event, headers=executor.headers)
        assert reported.status_code == 202
    assert cookie

    def written() -> list[str]:
        lines = [line for line in house.log.splitlines() if " jobcast.audit: " in line]
        mine = [line.partition(" jobcast.audit: ")[2] for line in lines]
        return [line for line in mine if login.name in line]

    who = f"who={login.name}"
    assert await eventually(lambda: len(written()) >= 7 and written()) == [
        f"controlled {who} action=session-open target={login.name}",
        f'refused {who} door=http action="DELETE /v1/session" why=cross-origin',
        f"controlled {who} action=session-close target={login.name}",
        f'refused {who} door=http action="GET /v1/jobs/*" why=forbidden',
        f'refused {who} door=http action="GET /v1/events" why=forbidden',
        f"controlled {who} action=ticket target={login.name}/j",
        f"controlled who={executor.name} action=report target={login.name}/j",
    ]


async def test_a_flood_of_wrong_tokens_does_not_fill_the_log(house: House) -> None:
    before = house.log.count("\n")
    async with house.client() as client:
        for number in range(300):
            headers = {"Authorization": f"Bearer wrong{number}"}
            assert (await client.get("/v1/jobs", headers=headers)).status_code == 401
    await eventually(lambda: "refused unwritten=" in house.log)
    assert house.log.count("\n") - before < 60


async def test_no_door_writes_a_secret_down_or_says_it_again(house: House) -> None:
    login, executor = house.user(), house.user("executor")
    mark = f"marked-{uuid.uuid4().hex}"
    basic = base64.b64encode(f"x:{mark}".encode()).decode()
    ticket = await house.ticket(login, "j")
    said: list[httpx.Response] = []
    async with house.client() as client:
        for headers in (
            {"Authorization": f"Bearer {mark}"},
            {"Authorization": f"Basic {basic}"},
            {"Authorization": f"Basic {mark}"},
            {"Authorization": mark},
            {"Cookie": f"jobcast_session=9999999999.{mark}.alice"},
            {"Cookie": mark},
            {"X-Request-Id": mark, "X-Forwarded-Proto": mark, "Origin": mark},
            {"Authorization": f"Bearer {house.mint.token()}x{mark}"},
        ):
            for path in ("/v1/jobs", "/v1/events", "/v1/jobs/j/events", "/v1/session", "/metrics"):
                said.append(await client.get(path, headers=headers))
        for name in ("token", "ticket", "access_token", "wait", "page", "owner", "limit"):
            for headers in ({}, login.headers):
                params = {name: mark}
                said += [await client.get("/v1/jobs", params=params, headers=headers)]
                said += [await client.get("/v1/jobs/j", params=params, headers=headers)]
        said.append(await client.request(mark.upper(), "/v1/jobs"))
        for content in (mark, json.dumps({"id": mark}), json.dumps([{"specversion": mark}])):
            headers = executor.headers | {"Content-Type": "application/json"}
            said.append(await client.post("/v1/events", content=content, headers=headers))
            said.append(await client.post("/v1/tickets", content=content, headers=login.headers))
        await client.get("/v1/jobs/j", params={"ticket": ticket})
        await client.get("/v1/jobs", params={"ticket": ticket})
        opened = await client.post("/v1/session", headers=login.headers)
        assert login.token not in opened.text + str(opened.headers)
    for raw in (
        f"GET /v1/jobs HTTP/1.1\r\nAuthorization Bearer {mark}\r\n\r\n",
        f"GET /v1/jobs?ticket={mark} HTTP/9.9\r\nHost: a\r\n\r\n",
        f"{mark} / HTTP/1.1\r\n\r\n",
        f"GET /{mark}\x00 HTTP/1.1\r\nHost: a\r\nAuthorization: {mark}\r\n\r\n",
    ):
        assert mark.encode() not in await asyncio.to_thread(raw_answer, house.urls[0], raw)
    assert {answer.status_code for answer in said} <= {200, 400, 401, 403, 404, 405, 422}
    for answer in said:
        assert mark not in answer.text
        assert mark not in str(answer.headers)
    log = house.log
    for secret in (mark, login.token, executor.token, ticket, ticket.split(".")[1]):
        assert secret not in log
    for value in opened.cookies.values():
        assert value not in log


def raw_answer(url: str, request: str) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as link:
        link.sendall(request.encode())
        return link.recv(4096)
