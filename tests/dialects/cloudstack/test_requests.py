"""CloudStack's API over TLS, by hand: what `cs` does not send."""

import asyncio
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from deploy.stack import Stack
from tests.dialects.cloudstack.world import Reports, Who, World, signed

pytestmark = pytest.mark.timeout(120)


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
    layout = replace(world.stack.layout, env=one_a_second, http_ports=(0,), folder=tmp_path)
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
