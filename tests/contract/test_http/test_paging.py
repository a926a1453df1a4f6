"""`GET /v1/jobs` page by page, while jobs come, end, go and expire between the pages."""

import random
from collections.abc import Callable
from itertools import cycle

import httpx
import pytest

from jobcast.events import Deleted, Started, Succeeded
from tests.contract.test_http.house import House
from tests.integration.lab import Lab

JOBS = 60
LabOf = Callable[[str], Lab]


class Shelf:
    """An owner's jobs by how they fare. `changed`: those that have ended or gone since `fill`."""

    def __init__(self, lab: Lab, seed: str) -> None:
        self.lab = lab
        self.made: list[str] = []
        self.live: list[str] = []
        self.ended: list[str] = []
        self.changed: set[str] = set()
        self._random = random.Random(seed)

    async def fill(self) -> None:
        """60 jobs, several of each moment, half of them ended."""
        for _ in range(JOBS // 5):
            await self.create(5)
        for _ in range(JOBS // 2):
            await self.end()
        self.changed.clear()

    async def create(self, count: int = 1) -> None:
        """All at one moment, in no order of their names."""
        events = []
        for number in range(len(self.made), len(self.made) + count):
            job = f"j{self._random.randrange(1000):03}-{number}"
            labels = {"odd": "yes"} if number % 2 else {}
            events.append(self.lab.say(Started, job, group=f"g{number % 3}", labels=labels))
            self.made.append(job)
            self.live.append(job)
        await self.lab.tell(*events)

    async def end(self) -> None:
        job = self._one_of(self.live)
        self.ended.append(job)
        await self.lab.tell(self.lab.say(Succeeded, job))

    async def delete(self) -> None:
        await self.lab.tell(self.lab.say(Deleted, self._one_of(self.ended)))

    async def expire(self) -> None:
        """Its time is over, and no commit has come by that takes it out of the indexes."""
        job = self._one_of(self.ended)
        assert await self.lab.redis.pexpireat(self.lab.keys.job(job), 1)

    async def change(self) -> None:
        """One new job, and something happens to another."""
        await self.create()
        happens = [self.end, *([self.delete, self.expire] if self.ended else [])]
        await self._random.choice(happens)()

    def _one_of(self, jobs: list[str]) -> str:
        job = jobs.pop(self._random.randrange(len(jobs)))
        self.changed.add(job)
        return job


async def all_of(client: httpx.AsyncClient, query: str) -> list[str]:
    """At one moment: nothing happens meanwhile."""
    answer = (await client.get(f"/v1/jobs?{query}&limit=500")).json()
    assert answer["next"] is None
    return [job["id"] for job in answer["jobs"]]


@pytest.mark.parametrize("limit", [1, 7])
@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=running",
        "status=succeeded",
        "group=g1",
        "label.odd=yes",
        "created_before=2999-01-01T00:00:00Z",
    ],
)
async def test_what_stays_comes_once_whatever_comes_and_goes_between_the_pages(
    house: House, lab_of: LabOf, query: str, limit: int
) -> None:
    login = house.user()
    shelf = Shelf(lab_of(login.name), f"{query} {limit}")
    await shelf.fill()
    seen: list[str] = []
    async with house.client(login, 0) as one, house.client(login, 1) as other:
        before = await all_of(one, query)
        replicas, page = cycle([one, other]), ""
        for _ in range(JOBS + 1):
            answer = (await next(replicas).get(f"/v1/jobs?{query}&limit={limit}{page}")).json()
            seen += [job["id"] for job in answer["jobs"]]
            if answer["next"] is None:
                break
            page = f"&page={answer['next']}"
            await shelf.change()
        assert answer["next"] is None
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(shelf.made)
    steady = [job for job in before if job not in shelf.changed]
    assert len(steady) >= limit
    assert [job for job in seen if job in set(before) - shelf.changed] == steady


async def test_jobs_that_have_expired_do_not_hide_the_older_ones(
    house: House, lab_of: LabOf
) -> None:
    login = house.user()
    shelf = Shelf(lab_of(login.name), "expired")
    await shelf.create(3)
    oldest = list(shelf.live)
    await shelf.create(JOBS)
    for job in shelf.live[3:]:
        assert await shelf.lab.redis.pexpireat(shelf.lab.keys.job(job), 1)
    async with house.client(login) as client:
        answer = (await client.get("/v1/jobs?limit=3")).json()
    assert {job["id"] for job in answer["jobs"]} == set(oldest)
