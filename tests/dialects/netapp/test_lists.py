"""Lists of jobs as Active IQ Unified Manager has them, on the real stack."""

from typing import Any, NamedTuple

import pytest
import requests

from tests.dialects.netapp.client import Client, Guide, Modules, Server
from tests.dialects.netapp.world import World
from tests.logins import Login

JOBS = "/management-server/jobs"
FORMS = [Modules, Guide]


@pytest.fixture(scope="module")
def fifty(world: World) -> Login:
    """Who has fifty jobs, ended."""
    login = world.logins.fresh_subscriber()
    for number in range(50):
        world.report(login.name, "succeeded", f"j{number:02}")
    for number in range(50):
        world.has(login, f"j{number:02}")
    return login


@pytest.mark.parametrize("form", FORMS)
def test_pages_hold_every_job_once_and_newest_first(
    world: World, server: Server, fifty: Login, form: type[Client]
) -> None:
    client = form(server, fifty)
    plain = client.listed()
    assert (plain["num_records"], plain["total_records"]) == (20, 50)
    for query in ({}, {"max_records": 7}, {"max_records": 50}, {"max_records": 9, "name": "*"}):
        keys: list[str] = []
        page = client.listed(**query)
        while True:
            keys += [one["key"] for one in page["records"]]
            assert page["total_records"] == 50
            if "next" not in page["_links"]:
                break
            page = client.follow(page["_links"]["next"]["href"])
        records = [client.job(key) for key in keys[:3]]
        assert sorted(set(keys)) == sorted(keys) == [f"j{number:02}" for number in range(50)]
        times = [one["submit_time"] for one in records]
        assert times == sorted(times, reverse=True)
    last = client.listed(offset=45, max_records=10)
    assert (last["num_records"], "next" in last["_links"]) == (5, False)
    assert client.listed(offset=50)["records"] == []


class Some(NamedTuple):
    login: Login
    jobs: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def some(world: World) -> Some:
    """Jobs of all kinds, j0 the oldest; and what is told of each."""
    login = world.logins.fresh_subscriber()
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("queued", {"operation": "share_create", "name": "Create share 1"}),
        ("started", {"operation": "share_create", "name": "Create share 2"}),
        ("started", {"operation": "share_delete", "name": "Delete share 1"}),
        ("succeeded", {}),
        ("succeeded", {"outcome": "warning"}),
        ("failed", {"outcome": "partial-failures"}),
        ("failed", {}),
        ("canceled", {}),
    ]
    for number, (word, data) in enumerate(kinds):  # one after the other, to be of different times
        world.report(login.name, word, f"j{number}", **data)
        world.has(login, f"j{number}")
    records = Modules(world.servers["http"], login).listed()["records"]
    return Some(login, {record["key"]: record for record in records})


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"key": "j3"}, "3"),
        ({"key": "j3|j5"}, "53"),
        ({"name": "Create share 1"}, "0"),
        ({"name": "*share*"}, "210"),
        ({"name": "!*share*"}, "76543"),
        ({"type": "share_create"}, "10"),
        ({"type": "share_create", "state": "running"}, "1"),
        ({"state": "queued"}, "0"),
        ({"state": "Running"}, "21"),
        ({"state": "completed", "status": "ERROR"}, "76"),
        ({"status": "normal"}, "3210"),
        ({"status": "warning|partial_failures"}, "54"),
        ({"parent_job_key": "j1"}, ""),
        ({"parent_job_key": "!j1"}, "76543210"),
        ({"submit_time": "{j2}"}, "2"),
        ({"submit_time": ">{j2}"}, "76543"),
        ({"submit_time": ">={j2}"}, "765432"),
        ({"submit_time": "<{j2}"}, "10"),
        ({"submit_time": "<={j2}"}, "210"),
        ({"submit_time": [">{j2}", "<{j5}"]}, "43"),
        ({"complete_time": ">={j5}"}, "765"),
        ({"complete_time": "!>2020-01-01T00:00:00Z"}, "210"),
        ({"name": "", "key": "", "nonsense": "x", "fields": "*", "query": "zzz"}, "76543210"),
        ({"order_by": "submit_time"}, "01234567"),
        ({"order_by": "asc"}, "01234567"),
        ({"order_by": "desc"}, "76543210"),
        ({"order_by": "submit_time desc"}, "76543210"),
        ({"order_by": "key"}, "01234567"),
        ({"order_by": "key DESC"}, "76543210"),
        ({"order_by": "type,key desc", "name": "*share*"}, "102"),
        ({"order_by": "name desc", "type": "share_*"}, "210"),
        ({"order_by": "state,key", "key": "<j4"}, "3012"),
        ({"order_by": "status desc,key", "state": "completed"}, "45367"),
        ({"order_by": "complete_time desc", "max_records": 5}, "21076"),
        ({"order_by": "complete_time", "offset": 3}, "67210"),
        ({"order_by": "parent_job_key desc"}, "76543210"),
    ],
)
def test_lists_are_filtered_and_ordered(
    world: World, some: Some, query: dict[str, Any], wanted: str
) -> None:
    login, jobs = some
    times = {key: record["submit_time"] for key, record in jobs.items()}
    filled = {
        name: [one.format(**times) for one in value]
        if isinstance(value, list)
        else str(value).format(**times)
        for name, value in query.items()
    }
    told = Modules(world.servers["http"], login).listed(**filled)
    assert "".join(record["key"][1:] for record in told["records"]) == wanted
    assert all(record == jobs[record["key"]] for record in told["records"])


def test_the_guides_states_are_filtered_by_its_words(world: World, some: Some) -> None:
    guide = Guide(world.servers["http"], some.login)
    for state, wanted in {"RUNNING": "210", "normal": "43", "ERROR": "76", "completed": ""}.items():
        records = guide.listed(state=state)["records"]
        assert "".join(record["key"][1:] for record in records) == wanted
    assert [one["key"] for one in guide.listed(status="WARNING")["records"]] == ["j4"]


def test_a_plus_sign_that_is_not_encoded_is_understood(world: World, some: Some) -> None:
    at = some.jobs["j2"]["submit_time"]
    url = f"{world.servers['http'].url}/api/v2{JOBS}?&submit_time=>={at}"
    assert "+00:00" in url
    answer = requests.get(url, auth=some.login, timeout=10)
    assert answer.json()["total_records"] == 6


def test_an_admin_sees_own_jobs_and_others_by_owner(world: World, some: Some, job: str) -> None:
    admin = Modules(world.servers["http"], world.logins.admin)
    assert not {"j0", "j1"} & {record["key"] for record in admin.listed()["records"]}
    assert admin.get("/j1").status_code == 404
    told = admin.job("j1", owner=some.login.name)
    href = f"/api{JOBS}/j1?owner={some.login.name}"
    assert told == some.jobs["j1"] | {"_links": {"self": {"href": href}}}
    assert admin.follow(href) == told
    assert admin.job("j1", owner=some.login.name, return_timeout="0.1") == told
    others = [world.logins.fresh_subscriber() for _ in range(2)]
    for login in others:
        world.report(login.name, "started", job, name=f"of {job}")
        world.has(login, job)
    found = admin.listed(owner="*", name=f"of {job}")["records"]
    hrefs = {record["_links"]["self"]["href"] for record in found}
    assert hrefs == {f"/api{JOBS}/{job}?owner={login.name}" for login in others}
    assert admin.listed(owner=others[0].name)["total_records"] == 1
