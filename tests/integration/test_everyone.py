"""The list over all owners: complete, in order, and steady while jobs come and go."""

import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from deploy.redis import RedisNode
from jobcast.events import Deleted, Queued, Succeeded
from notifier.connection import connect
from notifier.everyone import Everyone, Place, place_of
from notifier.store import BadPage, Page
from tests.integration.lab import Lab


@pytest.fixture
async def redis(spare_redis: RedisNode) -> AsyncIterator[Redis]:
    """Nobody else's owners are in it."""
    redis = connect(spare_redis.url, name="jobcast-test")
    yield redis
    await redis.aclose()


def named(page: Page) -> list[tuple[str, str]]:
    jobs: list[dict[str, Any]] = [msgspec.json.decode(job.body) for job in page.jobs]
    return [(job["owner"], job["id"]) for job in jobs]


async def one(redis: Redis, size: int, after: str | None = None, index: str = "jobs") -> Page:
    async for page in Everyone(redis).pages(index, after, [size]):
        return page
    raise AssertionError


async def every(redis: Redis, size: int, index: str = "jobs") -> list[tuple[str, str]]:
    """All pages, each asked for by itself."""
    found: list[tuple[str, str]] = []
    after: str | None = None
    while True:
        page = await one(redis, size, after, index)
        found += named(page)
        if (after := page.next) is None:
            return found


async def fill(redis: Redis, jobs: int, owners: list[str]) -> list[tuple[str, str]]:
    """Jobs of owners drawn by lot, several at the same moment; newest first."""
    chance = random.Random(7)
    labs = {owner: Lab(redis, owner) for owner in owners}
    now = next(iter(labs.values())).now()
    made: list[tuple[int, str, str]] = []
    for number in range(jobs):
        owner = chance.choice(owners)
        job, at = f"{chance.choice('.:A~a')}{number}", now + number // 4
        labs[owner].service._clock = lambda at=at: at  # type: ignore[misc]
        await labs[owner].tell(labs[owner].say(Queued, job, group=f"g{number % 3}"))
        made.append((at, owner, job))
    return [(owner, job) for _, owner, job in sorted(made, reverse=True)]


async def test_every_job_comes_once_and_the_newest_first(redis: Redis) -> None:
    owners = ["a", "a.b", "A", "a@b", "b:c", "~", *["busy"] * 20]
    wanted = await fill(redis, 100, owners)
    for size in (1, 2, 7, 50, 99, 100, 101, 500):
        assert await every(redis, size) == wanted, size
    several = [named(page) async for page in Everyone(redis).pages("jobs", None, [7] * 4)]
    assert [name for names in several for name in names] == wanted[:28]
    assert await every(redis, 3, "group:g1") == [
        name for name in wanted if int(name[1][1:]) % 3 == 1
    ]
    assert await every(redis, 3, "group:none") == []


async def test_more_owners_than_a_page_has_jobs(redis: Redis) -> None:
    owners = [f"owner-{number}" for number in range(40)]
    wanted = await fill(redis, 90, owners)
    for size in (3, 30):
        assert await every(redis, size) == wanted


async def test_jobs_that_come_and_go_between_pages_move_no_other(redis: Redis) -> None:
    owners = ["a", "b", "c"]
    wanted = await fill(redis, 40, owners)
    labs = {owner: Lab(redis, owner) for owner in owners}
    chance = random.Random(11)
    found: list[tuple[str, str]] = []
    removed: set[tuple[str, str]] = set()
    after: str | None = None
    for number in range(100):
        page = await one(redis, 3, after)
        found += named(page)
        if (after := page.next) is None:
            break
        left = [name for name in wanted if name not in removed]
        for owner, job in {chance.choice(left), named(page)[-1]}:
            await labs[owner].tell(labs[owner].say(Succeeded, job))
            await labs[owner].tell(labs[owner].say(Deleted, job))
            removed.add((owner, job))
        await labs["b"].tell(labs["b"].say(Queued, f"new{number}"))
        newcomer = Lab(redis, f"owner-{number}")
        await newcomer.tell(newcomer.say(Queued))
    assert len(found) == len(set(found))
    assert set(found) >= set(wanted) - removed
    assert found == [name for name in wanted if name in found]


async def test_the_cost_of_a_page_is_a_command_per_owner_and_a_few_rounds(redis: Redis) -> None:
    owners = [f"owner-{number}" for number in range(30)]
    await fill(redis, 300, [*owners, *["busy"] * 100])
    before: Any = await redis.info("commandstats")
    page = await one(redis, 100)
    after: Any = await redis.info("commandstats")

    def calls(name: str) -> int:
        return int(after[name]["calls"]) - int(before.get(name, {"calls": 0})["calls"])

    assert len(page.jobs) == 100
    assert calls("cmdstat_hmget") == 100
    assert 31 <= calls("cmdstat_zrange") <= 31 + 80
    assert calls("cmdstat_zscan") <= 2


@pytest.mark.parametrize(
    "token", ["", "x", "1:a/b", "0000000000000:a", "0000000000000:/b", "0000000000000:a/", "*"]
)
def test_a_token_that_no_page_has_given_is_none(token: str) -> None:
    with pytest.raises(BadPage):
        place_of(token)


def test_a_token_names_a_place() -> None:
    place = Place("0000000000001", "b:c@d", "a:b.c~")
    assert place_of(place.token) == place
