"""Active IQ Unified Manager: clients written for it, on the real stack."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import requests

from deploy.stack import Stack
from tests.dialects.netapp.client import Client, Guide, Modules, Server
from tests.dialects.netapp.world import World
from tests.logins import Login

JOBS = "/management-server/jobs"
FORMS = [Modules, Guide]
ENDS: dict[str, tuple[dict[str, Any], tuple[str, str], str]] = {
    "succeeded": ({}, ("completed", "normal"), "NORMAL"),
    "succeeded with a warning": (
        {"outcome": "warning"},
        ("completed", "warning"),
        "NORMAL",
    ),
    "failed in parts": (
        {"outcome": "partial-failures"},
        ("completed", "partial_failures"),
        "PARTIAL_FAILURES",
    ),
    "failed": (
        {"error": {"code": "disk", "message": "full"}},
        ("completed", "error"),
        "ERROR",
    ),
    "canceled": ({}, ("completed", "error"), "ERROR"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_modules_poll_a_job_to_its_end(
    world: World, server: Server, subscriber: Login, job: str, end: str
) -> None:
    data, (state, status), _ = ENDS[end]
    world.report(subscriber.name, "started", job, operation="provision", name="Create share")
    world.has(subscriber, job, status="running")
    modules = Modules(server, subscriber)
    assert modules.job(job) | {"state": "running", "status": "normal"} == modules.job(job)
    with ThreadPoolExecutor(1) as polling:
        polled = polling.submit(modules.run, {"job": {"key": job}})
        world.report(subscriber.name, end.partition(" ")[0], job, **data)
        told = polled.result(20)
    assert (told["job"]["state"], told["job"]["status"]) == (state, status)
    assert (told["changed"], told["name"]) == (status == "normal", "Create share")
    reasons = [task["failure_reason"] for task in told["job"]["task_reports"]]
    assert any(reasons) is (status in {"error", "partial_failures"})


@pytest.mark.parametrize("end", ENDS)
def test_a_client_of_the_guide_polls_a_job_to_its_end(
    world: World, server: Server, subscriber: Login, job: str, end: str
) -> None:
    data, (_, status), state = ENDS[end]
    world.report(subscriber.name, "queued", job)
    world.has(subscriber, job, status="queued")
    guide = Guide(server, subscriber)
    assert guide.job(job)["state"] == "RUNNING"
    with ThreadPoolExecutor(2) as polling:
        polls = [polling.submit(guide.run, job, return_timeout) for return_timeout in (0, 25)]
        world.report(subscriber.name, end.partition(" ")[0], job, **data)
        assert [polled.result(20) for polled in polls] == [state, state]
    assert guide.job(job)["status"] == status.upper()


@pytest.mark.parametrize("form", FORMS)
def test_a_long_poll_answers_at_the_end_and_at_its_time_out(
    world: World, server: Server, subscriber: Login, job: str, form: type[Client]
) -> None:
    world.report(subscriber.name, "started", job)
    world.has(subscriber, job, status="running")
    client = form(server, subscriber)
    began = time.monotonic()
    assert client.job(job, return_timeout="0.5")["state"].lower() == "running"
    assert time.monotonic() - began >= 0.5
    with ThreadPoolExecutor(1) as polling:
        polled = polling.submit(client.job, job, return_timeout=120)
        world.report(subscriber.name, "progressed", job, percent=50)
        world.has(subscriber, job, percent=50)
        assert not polled.done()
        world.report(subscriber.name, "succeeded", job)
        assert polled.result(20)["state"] in {"completed", "NORMAL"}
    began = time.monotonic()
    client.job(job, return_timeout=120)  # has ended: at once
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("value", ["121", "-1", "soon", "nan", "1e1"])
@pytest.mark.parametrize("form", FORMS)
def test_a_time_out_of_the_range_is_400(
    world: World, subscriber: Login, job: str, form: type[Client], value: str
) -> None:
    answer = form(world.servers["http"], subscriber).get(f"/{job}", return_timeout=value)
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "code": "invalid-parameter",
            "message": "return_timeout: a number of seconds from 0 to 120 is wanted",
            "target": "return_timeout",
        }
    }


def test_a_job_has_the_same_address_under_all_bases(
    world: World, subscriber: Login, job: str
) -> None:
    world.report(subscriber.name, "succeeded", job, result={"svmKey": "1:2"})
    world.has(subscriber, job)
    url = world.servers["http"].url
    for bases in (("/api", "/api/v2"), ("/netapp-guide/api", "/netapp-guide/api/v2")):
        told = []
        for base in bases:
            for key in (job, quote(job, safe="")):
                answer = requests.get(f"{url}{base}{JOBS}/{key}", auth=subscriber, timeout=9)
                assert answer.status_code == 200
                told.append(answer.json())
        assert all(one == told[0] for one in told)
        assert told[0]["job_results"] == [{"name": "svmKey", "value": "1:2"}]
        href = told[0]["_links"]["self"]["href"]
        assert href == f"{bases[0]}{JOBS}/{job}"
        again = requests.get(f"{url}{href}", auth=subscriber, timeout=9)
        assert again.json() == told[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_foreign_job_an_unknown_one_and_none_are_404(
    world: World, server: Server, subscriber: Login, job: str, form: type[Client]
) -> None:
    world.report("somebody-else", "started", job)
    world.report(subscriber.name, "started", f"{job}-later")
    world.has(subscriber, f"{job}-later")
    client = form(server, subscriber)
    told = [client.get(f"/{key}") for key in (job, "unknown", "a b", "x" * 300, "%E2%82%AC")]
    told += [client.get(f"/{key}", return_timeout=30) for key in (job, "unknown")]
    changing = {"x-request-id", "date"}
    for answer in told:
        assert answer.status_code == 404
        assert answer.content == told[0].content
        headers = {name: text for name, text in answer.headers.items() if name not in changing}
        first = {name: text for name, text in told[0].headers.items() if name not in changing}
        assert headers == first
    assert told[0].json()["error"] == {
        "code": "job-not-found",
        "message": "There is no such job",
        "target": "key",
    }


def test_a_job_that_is_gone_is_404(world: World, server: Server, subscriber: Login) -> None:
    key = uuid.uuid4().hex
    world.report(subscriber.name, "succeeded", key)
    world.has(subscriber, key)
    native = f"{world.servers['http'].url}/v1/jobs/{key}"
    assert requests.delete(native, headers=subscriber.headers, timeout=10).status_code == 204
    answer = Modules(server, subscriber).get(f"/{key}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job-deleted")


@pytest.mark.parametrize("base", ["/api/v2", "/api", "/netapp-guide/api"])
@pytest.mark.parametrize("path", [JOBS, f"{JOBS}/any", "/management-server/nowhere"])
def test_who_is_not_known_is_told_so_in_json(
    world: World, server: Server, subscriber: Login, base: str, path: str
) -> None:
    url = f"{server.url}{base}{path}"
    wrong: list[Any] = [None, (subscriber.name, "wrong"), ("", ""), ("alice", subscriber.token)]
    for auth in wrong:
        answer = requests.get(url, auth=auth, verify=server.ca, timeout=10)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answer.json()["error"]["code"] == "unauthorized"
    bearer = requests.get(url, headers=subscriber.headers, verify=server.ca, timeout=10)
    assert bearer.status_code == 401


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("POST /jobs", (405, "method-not-allowed")),
        ("PATCH /jobs/any", (405, "method-not-allowed")),
        ("DELETE /jobs/any", (405, "method-not-allowed")),
        ("GET /jobs/", (404, "not-found")),
        ("GET /jobs/a/b", (404, "not-found")),
        ("GET /nowhere", (404, "not-found")),
        ("GET /jobs?order_by=uuid", (400, "invalid-parameter")),
        ("GET /jobs?owner=alice", (403, "forbidden")),
        ("GET /jobs?owner=*", (403, "forbidden")),
    ],
)
@pytest.mark.parametrize("base", ["/api/v2", "/api", "/netapp-guide/api/v2"])
def test_every_refusal_has_the_error_body(
    world: World, subscriber: Login, base: str, asked: str, told: tuple[int, str]
) -> None:
    method, _, path = asked.partition(" ")
    url = f"{world.servers['http'].url}{base}/management-server{path}"
    answer = requests.request(method, url, auth=subscriber, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == told
    assert all(isinstance(text, str) for text in answer.json()["error"].values())
    assert set(answer.json()["error"]) == {"code", "message", "target"}


def test_an_executor_may_not_read(world: World, server: Server) -> None:
    answer = Modules(server, world.logins.executor).get()
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_who_asks_too_often_is_told_so_in_json(
    session_stack: Stack, subscriber: Login, tmp_path: Path
) -> None:
    layout = msgspec.structs.replace(
        session_stack.layout,
        folder=tmp_path,
        notifiers=0,
        http_ports=(0,),
        authority_port=None,
        env={"JOBCAST_REQUESTS_PER_S": "1"},
    )
    with Stack(layout) as slow:
        modules = Modules(Server(slow.urls[0]), subscriber)
        answers = [modules.get("/any") for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {404, 429}
    assert {answer.json()["error"]["code"] for answer in refused} == {"too-many-requests"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
