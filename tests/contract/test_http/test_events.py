"""`POST /v1/events`."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from jobcast.wire import BATCH, MESSAGE_MAX, STRUCTURED
from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.test_jobs import known


async def test_one_event_in_structured_mode_is_accepted(
    door: Door, executor: Executor, job: str
) -> None:
    headers = {"Content-Type": STRUCTURED}
    response = await executor.post(executor.event("started", job), headers=headers)
    assert (response.status_code, response.json()) == (202, {"accepted": 1})
    await known(door, job)


@pytest.mark.parametrize("content_type", [BATCH, "application/json; charset=utf-8"])
async def test_a_batch_may_speak_of_several_jobs(
    door: Door, executor: Executor, job: str, content_type: str
) -> None:
    jobs = [f"{job}-{number}" for number in range(3)]
    events = [executor.event(word, j) for word in ("queued", "started") for j in jobs]
    response = await executor.post(events, headers={"Content-Type": content_type})
    assert response.json() == {"accepted": 6}
    for each in jobs:
        await known(door, each, 2)


async def test_binary_mode_has_the_attributes_in_headers(
    door: Door, executor: Executor, job: str
) -> None:
    event = executor.event("started", job)
    attributes = {f"ce-{name}": value for name, value in event.items() if name != "data"}
    headers = attributes | {"Content-Type": "application/json"}
    response = await executor.post({"operation": "backup"}, headers=headers)
    assert response.json() == {"accepted": 1}
    await known(door, job)
    assert (await door.get(f"/v1/jobs/{job}")).json()["operation"] == "backup"


async def test_an_empty_batch_is_accepted_as_nothing(executor: Executor) -> None:
    response = await executor.post([])
    assert (response.status_code, response.json()) == (202, {"accepted": 0})


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"type": "job.exploded"}, "type"),
        ({"type": "job.deleted"}, "type"),
        ({"type": "job.lost"}, "type"),
        ({"subject": "a b"}, "subject"),
        ({"owner": None}, "owner"),
        ({"specversion": "0.3"}, "specversion"),
        ({"data": {"percent": 101}}, "data.percent"),
    ],
)
async def test_with_one_bad_event_nothing_of_the_request_is_published(
    door: Door, executor: Executor, job: str, wrong: dict[str, Any], field: str
) -> None:
    good = executor.event("started", job)
    bad = executor.event("progressed", job) | wrong
    response = await executor.post([good, bad])
    assert response.status_code == 400
    body = response.json()
    assert body["type"] == "/problems/malformed-event"
    assert body["index"] == 1
    assert body["reason"]
    assert body["detail"].startswith(f"{field}:")
    await executor.report("started", f"{job}-later")
    await known(door, f"{job}-later")
    assert (await door.get(f"/v1/jobs/{job}")).status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[1]", b"null", b'"x"', b"NaN"])
async def test_what_is_not_an_event_is_400(executor: Executor, body: bytes) -> None:
    response = await executor.http.post("/v1/events", content=body)
    assert response.status_code == 400
    assert response.json()["type"] == "/problems/malformed-event"


async def test_other_content_types_are_415(executor: Executor) -> None:
    for headers in ({"Content-Type": "text/xml"}, {"Content-Encoding": "gzip"}):
        response = await executor.http.post("/v1/events", content=b"{}", headers=headers)
        assert response.status_code == 415


async def test_a_body_over_the_limit_is_413_whether_or_not_it_says_so(executor: Executor) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2 + MESSAGE_MAX // 65_536):
            yield b" " * 65_536

    for content in (b" " * (MESSAGE_MAX + 1), chunks()):
        try:
            response = await executor.http.post("/v1/events", content=content)
        except (httpx.WriteError, httpx.ReadError):
            continue  # the answer came before all was sent, and the connection was closed
        assert response.status_code == 413


async def test_a_subscriber_may_not_report(door: Door, executor: Executor) -> None:
    response = await door.http.post("/v1/events", json=executor.event("started", "x"))
    assert response.status_code == 403
    assert response.json()["type"] == "/problems/forbidden"
