"""How the doors of HTTP behave: headers, other origins, limits, the audit log, secrets."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from jobcast.events import Started, Succeeded
from tests.contract.test_http.house import ORIGIN, WAITS, House
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.logins import Login

LabOf = Callable[[str], Lab]

ANSWERS = [
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/nowhere", 404),
    ("GET", "/v1/nowhere", 404),
    ("GET", "/v1/jobs", 200),
    ("GET", "/v1/jobs/unknown", 404),
    ("GET", "/v1/jobs?limit=0", 422),
    ("PUT", "/v1/jobs", 405),
    ("POST", "/v1/events", 403),
    ("GET", "/v1/jobs/unknown/events?last_event_id=1-0", 404),
    ("HEAD", "/v1/events", 200),
    ("POST", "/v1/session", 200),
    ("DELETE", "/v1/session", 204),
    ("POST", "/v1/tickets", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_every_answer_carries_the_security_headers(
    house: House, method: str, path: str, status: int
) -> None:
    login = house.user()
    async with house.client(login) as client:
        answers = [await client.request(method, path)]
        if path.startswith("/v1"):
            del client.headers["Authorization"]
            client.cookies.clear()
            answers.append(await client.request(method, path))
    wanted = [status, 401][: len(answers)]
    assert [answer.status_code for answer in answers] == wanted
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert len(answer.headers["x-request-id"]) == 16
        assert "strict-transport-security" not in answer.headers
        if answer.status_code >= 400 or "session" in path:
            assert answer.headers["cache-control"] == "no-store"


async def test_under_tls_browsers_are_told_to_stay_there_but_not_on_localhost(
    house: House,
) -> None:
    tls = {"X-Forwarded-Proto": "https"}
    async with house.client() as client:
        assert "strict-transport-security" in (await client.get("/v1/jobs", headers=tls)).headers
        local = {**tls, "Host": "localhost:8080"}
        answer = await client.get("/v1/jobs", headers=local)
        assert "strict-transport-security" not in answer.headers


async def test_pages_of_an_allowed_origin_may_ask_and_read(house: House, lab_of: LabOf) -> None:
    login = house.user()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started), lab.say(Succeeded))
    origin = {"Origin": ORIGIN}
    async with house.client() as client:
        asked = await client.options(
            "/v1/jobs/j", headers={**origin, "Access-Control-Request-Method": "GET"}
        )
        assert asked.status_code == 204
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        assert "GET" in asked.headers["access-control-allow-methods"]
        answers = [
            asked,
            await client.get("/v1/jobs/j", headers={**origin, **login.headers}),
            await client.get("/v1/jobs/j", headers=origin),
            await client.get("/v1/jobs/j/events", headers={**origin, **login.headers}),
            await client.get("/v1/jobs/j/events", headers=origin),
            await client.get("/v1/jobs/u/events?last_event_id=1", headers=origin | login.headers),
        ]
    assert [answer.status_code for answer in answers] == [204, 200, 401, 200, 401, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ETag", "Retry-After", "X-Request-Id"} == set(exposed.split(", "))
    assert "Authorization" in answers[1].headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://pages.example.evil",
        "http://pages.example",
        "https://pages.example:8443",
        "https://PAGES.example",
        "null",
        "*",
        "",
    ],
)
async def test_pages_of_other_origins_may_not(house: House, origin: str) -> None:
    login = house.user()
    headers = {"Origin": origin}
    async with house.client() as client:
        asked = await client.options(
            "/v1/jobs", headers={**headers, "Access-Control-Request-Method": "GET"}
        )
        answers = [
            asked,
            await client.get("/v1/jobs", headers=headers | login.headers),
            await client.head("/v1/events", headers=headers | login.headers),
        ]
    assert [answer.status_code for answer in answers] == [401, 200, 200]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "Origin" in answer.headers["vary"]  # a cache must not mix the two up


async def test_by_default_no_origin_is_known(stack: Any, subscriber: Login) -> None:
    headers = {"Origin": ORIGIN, **subscriber.headers}
    async with httpx.AsyncClient(base_url=stack.urls[0], headers=headers) as client:
        answer = await client.get("/v1/jobs")
        preflight = {"Access-Control-Request-Method": "GET"}
        asked = await client.options("/v1/jobs", headers=preflight)
    assert asked.status_code == 405
    for one in (answer, asked):
        assert not [name for name in one.headers if name.startswith("access-control-")]


async def test_a_session_changes_nothing_for_a_page_of_an_allowed_origin(house: House) -> None:
    login = house.user()
    async with house.client() as browser:
        await browser.post("/v1/session", headers=login.headers)
        for headers in ({"Origin": ORIGIN}, {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}):
            refused = await browser.post("/v1/tickets", json={"job": "j"}, headers=headers)
            assert refused.status_code == 403
            assert refused.json()["type"] == "/problems/cross-origin"
        own = {"Origin": house.urls[0]}
        made = await browser.post("/v1/tickets", json={"job": "j"}, headers=own)
        assert made.status_code == 201


async def test_too_many_long_polls_are_429_before_they_cost_anything(
    house: House, lab_of: LabOf
) -> None:
    login, other = house.user(), house.user()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started))
    async with house.client(login) as client, house.client(other) as bystander:
        path = "/v1/jobs/j?wait=20"
        polls = {asyncio.create_task(client.get(path)) for _ in range(WAITS + 1)}
        done, polls = await asyncio.wait(polls, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = [await poll for poll in done]
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"] == "/problems/too-many-waits"
        async with Redis.from_url(house.redis.url) as redis:
            before = await _at_rest(redis)
            for _ in range(20):
                assert (await client.get(path)).status_code == 429
            assert await _calls(redis) - before == Counter()
        assert (await client.get("/v1/jobs/j")).status_code == 200
        assert (await bystander.get("/v1/jobs/j?wait=0.1")).status_code == 404
        await lab.tell(lab.say(Succeeded))
        assert {(await poll).status_code for poll in polls} == {200}
        assert (await client.get(path)).status_code == 200


BESIDE = {"ping", "info", "hello", "auth", "client|setinfo", "client|setname", "pubsub|channels"}


async def _calls(redis: "Redis") -> Counter[str]:
    """How often Redis has been asked what, but for heartbeats and the service's key."""
    calls = await redis.info("commandstats")
    named = {name.removeprefix("cmdstat_"): said["calls"] for name, said in calls.items()}
    named["get"] = named.get("get", 0) - named.pop("set", 0)  # the key is one SET and one GET
    return Counter({name: count for name, count in named.items() if name not in BESIDE})


async def _at_rest(redis: "Redis") -> Counter[str]:
    """The calls once what is in hand has been asked."""
    seen = [Counter[str]()]

    async def same() -> bool:
        seen.append(await _calls(redis))
        return seen[-1] == seen[-2]

    await eventually(same, every_s=0.1)
    return seen[-1]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/{}",
        "/v1/jobs/{}?wait=0.1",
        "/v1/jobs/{}/events?last_event_id=1-0",
        "/v1/jobs?label.x={}",
        "/v1/jobs?group={}",
        "/v1/events?job={}&last_event_id=",
        "/v1/jobs/{}?owner={}",
    ],
)
async def test_a_foreign_job_and_an_unknown_one_answer_and_cost_the_same(
    house: House, lab_of: LabOf, path: str
) -> None:
    login, other = house.user(), house.user()
    lab = lab_of(other.name)
    await lab.tell(lab.say(Started, "theirs", group="theirs", labels={"x": "theirs"}))
    owners = {"theirs": other.name, "nobody": "nobody-at-all"}
    said: list[Any] = []
    cost: list[Counter[str]] = []
    async with house.client(login) as client, Redis.from_url(house.redis.url) as redis:
        await client.get("/v1/jobs/warm?wait=0.01")
        for job in ("theirs", "nobody"):
            full = path.format(job, owners[job])
            await eventually(lambda: _quiet(redis))
            before = await _at_rest(redis)
            if path.startswith("/v1/events"):
                async with house.reading(login, full) as reading:
                    said.append([block.event for block in await reading.until("live")])
            else:
                answer = await client.get(full)
                headers = {
                    n: v for n, v in answer.headers.items() if n not in {"x-request-id", "date"}
                }
                said.append(
                    [answer.status_code, answer.content.replace(job.encode(), b""), headers]
                )
            await eventually(lambda: _quiet(redis))
            cost.append(await _at_rest(redis) - before)
    assert said[0] == said[1]
    assert cost[0] == cost[1]


async def _quiet(redis: "Redis") -> bool:
    """The stream has been left: nobody listens to that owner any more."""
    return not await redis.pubsub_channels()


async def test_the_streams_of_a_foreign_job_and_of_an_unknown_one_are_the_same(
    house: House, lab_of: LabOf
) -> None:
    login, other = house.user(), house.user()
    lab = lab_of(other.name)
    await lab.tell(lab.say(Started, "theirs"))
    async with Redis.from_url(house.redis.url) as redis:
        cost = []
        for job in ("theirs", "nobody"):
            before = await _at_rest(redis)
            async with house.reading(login, f"/v1/jobs/{job}/events") as reading:
                first = await reading.next()
                assert (first.event, first.data, first.id) == ("stream", {"resume": "fresh"}, None)
                await _at_rest(redis)
            await eventually(lambda: _quiet(redis))
            cost.append(await _at_rest(redis) - before)
    assert cost[0] == cost[1]
