"""`GET /v1/jobs/{id}` and the long poll."""

import asyncio
import time

import pytest

from deploy.redis import RedisNode
from deploy.stack import Stack
from notifier.connection import connect
from notifier.keys import OwnerKeys
from tests.contract.test_http.conftest import Door, Executor
from tests.eventually import eventually


async def known(door: Door, job: str, version: int = 1) -> None:
    async def there() -> bool:
        response = await door.get(f"/v1/jobs/{job}")
        return bool(response.status_code == 200 and response.json()["version"] >= version)

    await eventually(there)


async def test_a_job_comes_with_its_links_and_headers(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("started", job, operation="backup", labels={"a": "ü"})
    await known(door, job)
    response = await door.get(f"/v1/jobs/{job}")
    body = response.json()
    assert body["owner"] == door.name
    assert body["labels"] == {"a": "ü"}
    assert body["links"] == {
        "self": f"/v1/jobs/{job}",
        "events": f"/v1/jobs/{job}/events",
        "cancel": f"/v1/jobs/{job}/cancel",
        "records": f"/v1/jobs/{job}/records",
    }
    headers = response.headers
    assert headers["content-type"] == "application/json"
    assert headers["etag"] == '"1"'
    assert headers["cache-control"] == "private, no-cache"
    assert headers["vary"] == "Authorization, Cookie, Prefer"
    assert 1 <= int(headers["retry-after"]) <= 30


async def test_a_job_that_has_ended_has_no_retry_after(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("succeeded", job, result={"n": [1, "\n"]})
    await known(door, job)
    response = await door.get(f"/v1/jobs/{job}")
    assert response.json()["result"] == {"n": [1, "\n"]}
    assert "retry-after" not in response.headers


async def test_if_none_match_saves_the_body(door: Door, executor: Executor, job: str) -> None:
    await executor.report("started", job)
    await known(door, job)
    for tags in ('"1"', 'W/"1"', '"7", "1"', "*"):
        response = await door.get(f"/v1/jobs/{job}", headers={"If-None-Match": tags})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == '"1"'
    other = await door.get(f"/v1/jobs/{job}", headers={"If-None-Match": '"2"'})
    assert other.status_code == 200


async def test_head_says_what_get_would(door: Door, executor: Executor, job: str) -> None:
    await executor.report("started", job)
    await known(door, job)
    head = await door.http.head(f"/v1/jobs/{job}")
    get = await door.get(f"/v1/jobs/{job}")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "vary"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize("job_id", ["never", "a b", "a%00b", "x" * 101, "%2E%2E", "ü"])
async def test_an_unknown_and_an_impossible_job_get_the_same_answer(
    door: Door, job_id: str
) -> None:
    response = await door.get(f"/v1/jobs/{job_id}")
    assert response.status_code == 404
    assert response.json() == {
        "type": "/problems/job-not-found",
        "title": "There is no such job",
        "status": 404,
    }
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_foreign_job_and_an_unknown_one_differ_in_nothing(
    door: Door, executor: Executor, job: str, stack: Stack
) -> None:
    executor.owner = "somebody-else"
    await executor.report("started", job)
    executor.owner = door.name
    await executor.report("started", f"{job}-later")
    await known(door, f"{job}-later")
    foreign, unknown = await door.get(f"/v1/jobs/{job}"), await door.get("/v1/jobs/unknown")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content
    changing = {"x-request-id", "date"}
    assert {k: v for k, v in foreign.headers.items() if k not in changing} == {
        k: v for k, v in unknown.headers.items() if k not in changing
    }


@pytest.mark.parametrize("what", ["expired", "deleted"])
async def test_a_job_that_is_gone_says_so_at_once(
    door: Door, redis_server: RedisNode, job: str, what: str
) -> None:
    redis = connect(redis_server.url, name="tests")
    await redis.set(OwnerKeys(door.name).gone(job), what, ex=60)
    await redis.aclose()
    response = await door.get(f"/v1/jobs/{job}?wait=30")
    assert response.status_code == 410
    assert response.json()["type"] == f"/problems/job-{what}"
    stream = await door.get(f"/v1/jobs/{job}/events")
    assert stream.status_code == 410


async def test_a_long_poll_answers_when_the_job_ends(
    door: Door, second: Door, executor: Executor, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    polls = [asyncio.create_task(d.get(f"/v1/jobs/{job}?wait=30")) for d in (door, second)]
    await executor.report("progressed", job, percent=50)
    await known(door, job, 2)
    assert not any(poll.done() for poll in polls)
    await executor.report("failed", job, error={"code": "disk", "message": "full"})
    for poll in polls:
        response = await asyncio.wait_for(poll, 5)
        assert response.json()["status"] == "failed"


async def test_with_if_none_match_a_long_poll_answers_at_the_next_version(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("queued", job)
    await known(door, job)
    seen = {"If-None-Match": '"1"'}
    poll = asyncio.create_task(door.get(f"/v1/jobs/{job}?wait=30", headers=seen))
    await executor.report("started", job)
    response = await asyncio.wait_for(poll, 5)
    assert response.json()["status"] == "running"
    assert response.headers["etag"] == '"2"'


async def test_a_long_poll_ends_with_the_present_state(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("started", job)
    await known(door, job)
    began = time.monotonic()
    response = await door.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=0.3"})
    assert 0.3 <= time.monotonic() - began < 3
    assert response.json()["status"] == "running"
    assert response.headers["preference-applied"] == "wait=0.3"
    same = {"If-None-Match": '"1"', "Prefer": "wait=50"}
    response = await door.get(f"/v1/jobs/{job}?wait=0.2", headers=same)
    assert response.status_code == 304
    assert "preference-applied" not in response.headers


async def test_a_long_poll_waits_for_a_job_that_is_not_known_yet(
    door: Door, executor: Executor, job: str
) -> None:
    poll = asyncio.create_task(door.get(f"/v1/jobs/{job}?wait=30"))
    short = await door.get(f"/v1/jobs/{job}?wait=0.2")
    assert short.status_code == 404
    await executor.report("canceled", job)
    response = await asyncio.wait_for(poll, 5)
    assert response.json()["status"] == "canceled"


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", ""])
async def test_a_wait_that_is_not_a_number_is_422(door: Door, wait: str) -> None:
    response = await door.get("/v1/jobs/any", params={"wait": wait})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("wait:")
    response = await door.get("/v1/jobs/any", headers={"Prefer": f"wait={wait}"})
    assert response.status_code == 422


async def test_waiting_longer_than_a_minute_counts_as_a_minute(
    door: Door, executor: Executor, job: str
) -> None:
    await executor.report("succeeded", job)
    await known(door, job)
    response = await door.get(f"/v1/jobs/{job}", headers={"Prefer": "respond-async, wait=3600"})
    assert response.headers["preference-applied"] == "wait=60"
