"""JWTs of the issuer at the doors of HTTP. What a token must look like: tests/unit/api."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest

from api.bearer import LEEWAY_S
from jobcast.client import Client
from jobcast.events import Queued, Started, Succeeded
from tests.contract.test_http.house import House
from tests.eventually import eventually
from tests.integration.lab import Lab
from tests.logins import Login
from tests.mint import Mint

LabOf = Callable[[str], Lab]


async def test_a_token_of_the_issuer_opens_as_bearer_and_as_password(
    house: House, lab_of: LabOf
) -> None:
    login = house.issued()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started))
    async with house.client() as client:
        bearer = await client.get("/v1/jobs/j", headers=login.headers)
        basic = await client.get("/v1/jobs/j", auth=(login.name, login.token))
        wrong = await client.get("/v1/jobs/j", auth=("alice", login.token))
    assert [answer.status_code for answer in (bearer, basic, wrong)] == [200, 200, 401]
    assert bearer.json()["owner"] == login.name


async def test_forged_tokens_are_401_and_say_no_more_than_any_other(house: House) -> None:
    login = house.issued()
    mint = house.mint
    forged = [
        Mint().token(login.name),
        Mint("unknown").token(login.name),
        mint.token(login.name, aud="other"),
        mint.token(login.name, iss="https://other.example"),
        mint.token(login.name, ttl_s=-60),
        mint.token("guest"),
        mint.token("a/b"),
        mint.token("a!b"),
        "wrong",
    ]
    async with house.client() as client:
        said = []
        for token in forged:
            answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
            said.append((answer.status_code, answer.content, answer.headers["www-authenticate"]))
    assert len(set(said)) == 1
    assert said[0][0] == 401


async def test_roles_are_those_of_the_claim_and_never_those_of_the_file(
    house: House, lab_of: LabOf
) -> None:
    login = house.user("admin", "subscriber", "executor")
    none = Login(login.name, house.mint.token(login.name, roles=None))
    some = Login(login.name, house.mint.token(login.name, roles=["subscriber", "root"]))
    async with house.client(none) as client:
        for path in ("/v1/jobs", "/v1/events", "/metrics", "/v1/jobs/j"):
            assert (await client.get(path)).status_code == 403
    async with house.client(some) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        assert (await client.get("/metrics")).status_code == 403


async def test_a_client_with_tokens_that_expire_misses_nothing(house: House, lab_of: LabOf) -> None:
    login = house.issued()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Queued))
    given: list[str] = []

    def token() -> str:
        given.append(house.mint.token(login.name, ttl_s=600 if given else 2 - LEEWAY_S))
        return given[-1]

    async with Client(house.urls[0], token) as client, asyncio.timeout(20):
        changes = client.watch("j")
        assert (await anext(changes)).event == "snapshot"
        await eventually(lambda: _expired(given[0]))
        await lab.tell(lab.say(Started))
        await lab.tell(lab.say(Succeeded))
        assert [change.event async for change in changes] == ["started", "succeeded"]
    assert len(given) == 2


def _expired(token: str) -> bool:
    claims = jwt.decode(token, options={"verify_signature": False})
    return time.time() > float(claims["exp"]) + LEEWAY_S


@pytest.mark.parametrize("way", ["bearer", "cookie", "ticket"])
async def test_while_redis_is_away_nobody_is_taken_for_a_forger(house: House, way: str) -> None:
    login = house.issued()
    async with house.client() as client:
        opened = await client.post("/v1/session", headers=login.headers)
        cookie = opened.headers["set-cookie"].partition(";")[0]
        client.cookies.clear()
        options: dict[str, Any] = {
            "bearer": {"headers": login.headers},
            "cookie": {"headers": {"Cookie": cookie}},
            "ticket": {"params": {"ticket": await house.ticket(login, "j")}},
        }[way]
        assert (await client.get("/v1/jobs/j", **options)).status_code == 404
        house.redis.stop()
        try:
            away = await client.get("/v1/jobs/j", **options)
            assert away.status_code == 503
            assert away.json()["detail"] == "redis is away"
            house.stack.replicas[1].stop()
            house.stack.replicas[1].launch()
            if way != "bearer":
                await knows_nothing(house.urls[1], options)
        finally:
            house.redis.start()
            house.stack.start()

        async def opens() -> bool:
            answers = [await client.get(f"{url}/v1/jobs/j", **options) for url in house.urls]
            return [answer.status_code for answer in answers] == [404, 404]

        await eventually(opens, 5)


async def knows_nothing(url: str, options: dict[str, Any]) -> None:
    """A replica that has never read the service's key asks to come again."""
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:

        async def answers() -> httpx.Response:
            return await client.get("/v1/jobs/j", **options)

        said = await eventually(answers)
        assert said.status_code == 503
        assert said.headers["retry-after"]
        stream = await client.get("/v1/jobs/j/events", **options)
        assert stream.status_code == 200  # EventSource would give up for good
        assert stream.text.startswith("retry: ")
        assert "event:" not in stream.text
