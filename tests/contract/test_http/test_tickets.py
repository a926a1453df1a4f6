"""Tickets: one job, for some minutes, in a URL."""

import asyncio
import time
from collections.abc import Callable

import pytest

from api.users import remove_user, rotate_token
from jobcast.events import Queued, Started, Succeeded
from jobcast.job import milliseconds
from tests.contract.test_http.house import House
from tests.integration.lab import Lab
from tests.logins import Login

LabOf = Callable[[str], Lab]


@pytest.mark.parametrize("issued", [False, True])
async def test_a_ticket_reads_waits_for_and_follows_its_job_at_every_replica(
    house: House, lab_of: LabOf, issued: bool
) -> None:
    login = house.issued() if issued else house.user()
    lab = lab_of(login.name)
    await lab.tell(lab.say(Queued), lab.say(Started))
    params = {"ticket": await house.ticket(login, "j")}
    for replica in (0, 1):
        async with house.client(replica=replica) as nobody:
            assert (await nobody.get("/v1/jobs/j", params=params)).json()["status"] == "running"
            waited = await nobody.get("/v1/jobs/j", params={**params, "wait": "0.1"})
            assert waited.status_code == 200
            assert (await nobody.head("/v1/jobs/j", params=params)).status_code == 200
    async with house.reading(None, "/v1/jobs/j/events", params=params) as reading:
        await reading.until("snapshot")
        await lab.tell(lab.say(Succeeded))
        assert [block.event for block in await reading.rest()] == ["succeeded"]


async def test_a_ticket_opens_nothing_else(house: House, lab_of: LabOf) -> None:
    login = house.user("subscriber", "executor", "admin")
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started), lab.say(Started, "other"), lab.say(Started, "j.x"))
    params = {"ticket": await house.ticket(login, "j")}
    async with house.client() as nobody:
        for method, path in (
            *(("GET", path) for path in ("/v1/jobs", "/v1/events", "/metrics", "/v1", "/v1/jobs/")),
            *(("GET", f"/v1/jobs/{path}") for path in ("other", "j.x", "J", "j/", "j/records")),
            *(("GET", f"/v1/jobs/{path}/events") for path in ("other", "j.x", "unknown")),
            *((method, "/v1/jobs/j") for method in ("DELETE", "PATCH", "PUT", "POST", "OPTIONS")),
            *(("POST", path) for path in ("/v1/tickets", "/v1/session", "/v1/events")),
            ("DELETE", "/v1/session"),
            ("POST", "/v1/jobs/j/cancel"),
            ("POST", "/v1/jobs/j/events"),
        ):
            response = await nobody.request(method, path, params=params, json={"job": "j"})
            assert response.status_code == 403, (method, path)
            assert response.json()["type"] == "/problems/forbidden"
        for_another = await nobody.get("/v1/jobs/j", params={**params, "owner": "alice"})
        assert for_another.status_code == 403


async def test_only_a_ticket_is_read_from_a_url(house: House) -> None:
    login = house.user()
    async with house.client() as nobody:
        for name in ("token", "access_token", "authorization", "jobcast_session", "ticket"):
            for path in ("/v1/jobs", "/v1/jobs/j", "/v1/jobs/j/events"):
                response = await nobody.get(path, params={name: login.token})
                assert response.status_code == 401


async def test_a_ticket_ends_with_the_token_that_has_made_it(house: House, lab_of: LabOf) -> None:
    rotated, removed, kept = house.user(), house.user(), house.user()
    tickets = []
    for login in (rotated, removed, kept):
        lab = lab_of(login.name)
        await lab.tell(lab.say(Started))
        tickets.append(await house.ticket(login, "j"))
    rotate_token(house.users_file, rotated.name)
    remove_user(house.users_file, removed.name)
    for replica in (0, 1):
        async with house.client(replica=replica) as nobody:
            answers = [await nobody.get("/v1/jobs/j", params={"ticket": one}) for one in tickets]
            assert [answer.status_code for answer in answers] == [401, 401, 200]


async def test_a_ticket_may_be_faster_than_its_job(house: House, lab_of: LabOf) -> None:
    login = house.user()
    lab = lab_of(login.name)
    params = {"ticket": await house.ticket(login, "j")}
    async with house.reading(None, "/v1/jobs/j/events", params=params) as reading:
        assert (await reading.next()).data == {"resume": "fresh"}
        await lab.tell(lab.say(Started))
        assert (await reading.next()).event == "snapshot"


async def test_a_ticket_for_somebody_elses_job_tells_nothing(house: House, lab_of: LabOf) -> None:
    login, other = house.user(), house.user()
    lab = lab_of(other.name)
    await lab.tell(lab.say(Started, "theirs"))
    answers = []
    async with house.client() as nobody:
        for job in ("theirs", "unknown"):
            params = {"ticket": await house.ticket(login, job)}
            answers.append(await nobody.get(f"/v1/jobs/{job}", params=params))
    assert {answer.status_code for answer in answers} == {404}
    assert answers[0].content == answers[1].content


async def test_an_admin_makes_tickets_for_another_owner_and_others_do_not(
    house: House, lab_of: LabOf
) -> None:
    admin, owner = house.user("admin"), house.user()
    lab = lab_of(owner.name)
    await lab.tell(lab.say(Started))
    wish, query = {"job": "j"}, {"owner": owner.name}
    async with house.client(admin) as client:
        made = await client.post("/v1/tickets", json=wish, params=query)
    async with house.client() as nobody:
        found = await nobody.get("/v1/jobs/j", params={"ticket": made.json()["ticket"]})
        assert found.json()["owner"] == owner.name
    async with house.client(house.user()) as client:
        assert (await client.post("/v1/tickets", json=wish, params=query)).status_code == 403
    async with house.client(house.user("executor")) as client:
        assert (await client.post("/v1/tickets", json=wish)).status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ('{"job": "j", "ttl_s": 901}', 422, "ttl_s"),
        ('{"job": "j", "ttl_s": 0}', 422, "ttl_s"),
        ('{"job": "j", "ttl_s": -1}', 422, "ttl_s"),
        ('{"job": "j", "ttl_s": "60"}', 422, "ttl_s"),
        ('{"job": "j", "ttl_s": null}', 422, "ttl_s"),
        ('{"job": "j", "ttl_s": 1.5}', 422, "ttl_s"),
        ('{"ttl_s": 60}', 422, "job"),
        ('{"job": 7}', 422, "job"),
        ('{"job": "a/b"}', 422, "job"),
        ('{"job": "a!b"}', 422, "job"),
        ('{"job": ""}', 422, "job"),
        ("[]", 422, "job"),
        ("{", 400, "body"),
        ("", 400, "body"),
        ('{"job": "%s"}' % ("x" * 5_000), 413, None),
    ],
)
async def test_a_wish_that_cannot_be_met_names_the_field(
    house: House, maker: Login, body: str, status: int, named: str | None
) -> None:
    async with house.client(maker) as client:
        response = await client.post("/v1/tickets", content=body)
    assert response.status_code == status
    assert (response.json().get("detail") or "").partition(":")[0].endswith(named or "")


@pytest.fixture(scope="module")
def maker(house: House) -> Login:
    return house.user()


async def test_a_ticket_lives_as_long_as_was_wished_and_no_longer_than_its_maker(
    house: House, lab_of: LabOf
) -> None:
    login, short = house.user(), house.issued(ttl_s=60)
    lab = lab_of(login.name)
    await lab.tell(lab.say(Started))
    async with house.client(login) as client:
        longest = await client.post("/v1/tickets", json={"job": "j", "ttl_s": 900})
        assert longest.headers["cache-control"] == "no-store"
        left_s = milliseconds(longest.json()["expires_at"]) / 1000 - time.time()
        assert 895 < left_s <= 900
    async with house.client(short) as client:
        made = await client.post("/v1/tickets", json={"job": "j", "ttl_s": 900})
        assert milliseconds(made.json()["expires_at"]) / 1000 - time.time() < 70
    ticket = await house.ticket(login, "j", ttl_s=2)
    async with house.reading(None, "/v1/jobs/j/events", params={"ticket": ticket}) as reading:
        async with asyncio.timeout(6):
            said = [block for block in await reading.rest() if block.event]
    assert [block.event for block in said] == ["stream", "expiring", "snapshot"]
    assert said[1].data["in_s"] <= 2
    async with house.client() as nobody:
        again = await nobody.get("/v1/jobs/j", params={"ticket": ticket})
        assert again.status_code == 401
