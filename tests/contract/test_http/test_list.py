"""`GET /v1/jobs`: filters and pages."""

from functools import partial
from urllib.parse import quote

import httpx
import pytest

from deploy.stack import Stack
from tests.contract.test_http.conftest import Door, Executor
from tests.contract.test_http.test_jobs import known
from tests.eventually import eventually
from tests.logins import Logins


async def ids(door: Door, query: str) -> list[str]:
    """Of all pages."""
    found: list[str] = []
    page: str | None = ""
    while page is not None:
        more = f"&page={page}" if page else ""
        response = await door.get(f"/v1/jobs?{query}{more}")
        assert response.status_code == 200, response.text
        found += [job["id"] for job in response.json()["jobs"]]
        page = response.json()["next"]
    return found


@pytest.fixture
async def seven(door: Door, executor: Executor) -> list[str]:
    """Seven jobs of different kinds, newest first."""
    kinds = [
        executor.event("queued", "j0", operation="backup", group="a", labels={"site": "x"}),
        executor.event("started", "j1", operation="backup", group="b", labels={"site": "y"}),
        executor.event("started", "j2", operation="restore", group="a"),
        executor.event("succeeded", "j3", outcome="warning"),
        executor.event("failed", "j4", outcome="partial-failures"),
        executor.event("failed", "j5"),
        executor.event("canceled", "j6"),
    ]
    for event in kinds:  # one after the other, so that they are created in this order
        await executor.post(event)
        await known(door, event["subject"])
    return [event["subject"] for event in reversed(kinds)]


async def test_pages_hold_every_job_once_and_newest_first(door: Door, seven: list[str]) -> None:
    for limit in (1, 2, 7, 50):
        assert await ids(door, f"limit={limit}") == seven


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("status=queued", ["j0"]),
        ("status=running&status=queued", ["j2", "j1", "j0"]),
        ("status=failed&status=succeeded", ["j5", "j4", "j3"]),
        ("outcome=warning&outcome=error", ["j5", "j3"]),
        ("operation=backup", ["j1", "j0"]),
        ("group=a", ["j2", "j0"]),
        ("group=a&group=b", ["j2", "j1", "j0"]),
        ("group=a&status=running", ["j2"]),
        ("label.site=x&label.site=y", ["j1", "j0"]),
        ("label.site=x&operation=restore", []),
        ("created_before=2020-01-01T00:00:00Z", []),
        ("created_after=2020-01-01T00:00:00Z&status=queued", ["j0"]),
        ("created_after=2999-01-01T00:00:00Z", []),
    ],
)
async def test_filters_choose_over_all_pages(
    door: Door, seven: list[str], query: str, wanted: list[str]
) -> None:
    for limit in (1, 50):
        assert await ids(door, f"{query}&limit={limit}") == wanted


async def test_the_times_of_creation_bound_a_list(door: Door, seven: list[str]) -> None:
    jobs = (await door.get("/v1/jobs")).json()["jobs"]
    third = next(job for job in jobs if job["id"] == "j2")["created_at"]
    assert await ids(door, f"created_after={third}") == ["j6", "j5", "j4", "j3"]
    assert await ids(door, f"created_before={third}") == ["j1", "j0"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("page=x", "page"),
        ("page=0000000000000:", "page"),
        ("created_after=now", "created_after"),
    ],
)
async def test_a_bad_parameter_is_named(door: Door, query: str, field: str) -> None:
    response = await door.get(f"/v1/jobs?{query}")
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"{field}:")


async def test_an_empty_list_has_no_next_page(door: Door) -> None:
    response = await door.get("/v1/jobs")
    assert response.json() == {"jobs": [], "next": None}
    assert response.headers["cache-control"] == "private, no-cache"


async def test_a_page_of_long_jobs_is_short_and_nothing_is_skipped(
    door: Door, executor: Executor
) -> None:
    long = "x" * 250_000
    wanted = [f"long-{number}" for number in range(24)]
    for job_id in wanted:
        await executor.post(executor.event("succeeded", job_id, result=long))
        await known(door, job_id)
    first = await door.get("/v1/jobs?limit=500")
    assert 1 <= len(first.json()["jobs"]) < len(wanted)
    assert len(first.content) < 5_000_000
    assert await ids(door, "limit=500") == wanted[::-1]


async def test_an_admin_lists_the_jobs_of_all_owners(
    stack: Stack, logins: Logins, door: Door, seven: list[str], job: str
) -> None:
    """The group is this test's own: other tests have owners too."""
    other = logins.fresh_subscriber()
    async with (
        httpx.AsyncClient(base_url=stack.urls[1], headers=logins.admin.headers) as admin,
        httpx.AsyncClient(base_url=stack.urls[0], headers=logins.executor.headers) as client,
    ):
        made: list[tuple[str, str]] = []
        for number in range(6):
            executor = Executor(client, (door.name, other.name)[number % 2])
            name = f"{job}-{number}"
            labels = {"even": str(number % 2 == 0)}
            await executor.report("started", name, group=job, labels=labels)
            await eventually(partial(is_there, admin, executor.owner, name))
            made.insert(0, (executor.owner, name))
        for limit in (1, 4, 50):
            assert await all_of(admin, f"owner=*&group={job}&limit={limit}") == made
        assert await all_of(admin, f"owner=*&group={job}&status=running&limit=2") == made
        mine = [name for name in made if name[0] == door.name]
        assert await all_of(admin, f"owner=*&group={job}&label.even=True") == mine
        assert await all_of(admin, f"owner=*&group={job}&created_before=2020-01-01T00:00:00Z") == []
        bad = await admin.get("/v1/jobs?owner=*&page=0000000000000:x")
        assert (bad.status_code, bad.json()["detail"][:5]) == (422, "page:")
        assert (await admin.get("/v1/events?owner=*")).status_code == 422
    refused = await door.get("/v1/jobs?owner=*")
    assert refused.status_code == 403


async def is_there(admin: httpx.AsyncClient, owner: str, job: str) -> bool:
    return (await admin.get(f"/v1/jobs/{job}?owner={owner}")).status_code == 200


async def all_of(admin: httpx.AsyncClient, query: str) -> list[tuple[str, str]]:
    """(owner, id) of all pages; each job's links lead to it."""
    found: list[tuple[str, str]] = []
    page: str | None = ""
    while page is not None:
        more = f"&page={quote(page)}" if page else ""
        answer = await admin.get(f"/v1/jobs?{query}{more}")
        assert answer.status_code == 200, answer.text
        for one in answer.json()["jobs"]:
            found.append((one["owner"], one["id"]))
            links = one["links"].values()
            assert all(link.endswith(f"?owner={one['owner']}") for link in links)
        page = answer.json()["next"]
    return found
