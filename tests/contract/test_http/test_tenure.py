"""What is open ends with its credential: at its expiry, and soon after it is revoked."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from api.bearer import LEEWAY_S
from api.users import remove_user, rotate_token
from jobcast.events import Progressed, Queued, Started, Succeeded
from tests.contract.test_http.house import House
from tests.contract.test_http.reading import Reading
from tests.integration.lab import Lab
from tests.logins import Login

LabOf = Callable[[str], Lab]
REVOKED_S = 5.0


def short_lived(house: House, login: Login, left_s: float) -> Login:
    """The same user's JWT, for so many seconds more."""
    return Login(login.name, house.mint.token(login.name, ttl_s=left_s - LEEWAY_S))


async def rest(reading: Reading, limit_s: float) -> list[str]:
    """The names of the events until the stream is closed."""
    async with asyncio.timeout(limit_s):
        return [block.event for block in await reading.rest() if block.event]


async def test_a_stream_says_that_its_credential_ends_and_is_resumed_with_a_new_one(
    house: House, lab_of: LabOf
) -> None:
    login = house.issued()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Queued))
    async with house.reading(short_lived(house, login, 4), "/v1/events") as reading:
        opening = await reading.until("live")
        assert [block.event for block in opening] == ["stream", "expiring", "snapshot", "live"]
        assert opening[1].data["in_s"] in range(5)
        assert opening[1].id is None
        await lab.tell(lab.say(Started))
        started = await reading.next()
        begun = time.monotonic()
        assert await rest(reading, 10) == []
        assert time.monotonic() - begun < 8
    await lab.tell(lab.say(Progressed, percent=5), lab.say(Queued, "second"))
    cursor = started.id or ""
    ways: list[dict[str, Any]] = [
        {"params": {"last_event_id": cursor}},
        {"headers": {"Last-Event-ID": cursor}},
    ]
    for options in ways:
        async with house.reading(login, "/v1/events", 1, **options) as again:
            assert (await again.next()).data == {"resume": "resumed"}
            told = await again.next()
            assert (told.event, told.data["id"]) == ("queued", "second")


async def test_a_stream_of_a_lasting_credential_is_told_nothing(
    house: House, lab_of: LabOf
) -> None:
    for login in (house.user(), house.issued(ttl_s=600)):
        lab = lab_of(login.name)
        await lab.tell(lab.say(Queued))
        async with house.reading(login, "/v1/events") as reading:
            events = [block.event for block in await reading.until("live")]
            assert events == ["stream", "snapshot", "live"]


async def test_an_expired_token_opens_nothing(house: House) -> None:
    login = house.issued(ttl_s=-LEEWAY_S - 1)
    async with house.client(login) as client:
        for path in ("/v1/jobs", "/v1/jobs/j", "/v1/events", "/v1/jobs/j/events"):
            assert (await client.get(path)).status_code == 401


async def test_a_long_poll_ends_with_its_credential(house: House, lab_of: LabOf) -> None:
    login = house.issued()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started))
    async with house.client(short_lived(house, login, 5)) as client:
        begun = time.monotonic()
        answer = await client.get("/v1/jobs/j?wait=15")
        assert time.monotonic() - begun < 10
        assert answer.json()["status"] == "running"


async def test_a_session_of_an_issuers_user_ends_with_the_token(
    house: House, lab_of: LabOf
) -> None:
    login = house.issued()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started))
    short = short_lived(house, login, 4)
    async with house.client() as browser:
        opened = await browser.post("/v1/session", headers=short.headers)
        cookie = opened.headers["set-cookie"]
        assert opened.json()["roles"] == ["subscriber"]
        assert "HttpOnly" in cookie
        assert int(cookie.partition("Max-Age=")[2].partition(";")[0]) <= 4
        assert short.token not in cookie
        browser.headers["Cookie"] = cookie.partition(";")[0]
        for url in house.urls:  # no replica has more of this user than another
            assert (await browser.get(f"{url}/v1/jobs/j")).status_code == 200
        async with Reading(browser, "/v1/events") as reading:
            assert "expiring" in await rest(reading, 8)
        assert (await browser.get("/v1/jobs/j")).status_code == 401


def removed(house: House, login: Login) -> None:
    remove_user(house.users_file, login.name)


def rotated(house: House, login: Login) -> None:
    rotate_token(house.users_file, login.name)


def without_role(house: House, login: Login) -> None:
    blocks = house.users_file.read_text().split("[[user]]")
    changed = [
        block.replace('"subscriber"', '"executor"') if f'"{login.name}"' in block else block
        for block in blocks
    ]
    house.users_file.write_text("[[user]]".join(changed))


@pytest.mark.parametrize("revoke", [removed, rotated, without_role])
async def test_what_is_revoked_is_closed_within_seconds(
    house: House, lab_of: LabOf, revoke: Callable[[House, Login], None]
) -> None:
    login, other = house.user(), house.user()
    for one in (login, other):
        lab = lab_of(one.name)
        await lab.tell(lab.say(Started))
    params = {"ticket": await house.ticket(login, "j")}
    async with (
        house.client(login) as client,
        house.reading(login, "/v1/events") as feed,
        house.reading(login, "/v1/jobs/j/events", 1) as job,
        house.reading(None, "/v1/jobs/j/events", params=params) as by_ticket,
        house.reading(other, "/v1/events") as bystander,
    ):
        for reading in (feed, bystander):
            await reading.until("live")
        for reading in (job, by_ticket):
            await reading.until("snapshot")
        poll = asyncio.create_task(client.get("/v1/jobs/j?wait=20"))
        await asyncio.wait({poll}, timeout=0.3)
        assert not poll.done()
        begun = time.monotonic()
        revoke(house, login)
        ends = [rest(reading, REVOKED_S) for reading in (feed, job, by_ticket)]
        assert await asyncio.gather(*ends) == [[], [], []]
        answer = await poll
        assert time.monotonic() - begun < REVOKED_S
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/v1/jobs", "/v1/events", "/v1/jobs/j/events"):
            assert (await client.get(path)).status_code == (403 if revoke is without_role else 401)
        lab = lab_of(other.name)
        await lab.tell(lab.say(Succeeded))
        assert (await bystander.next()).event == "succeeded"
