"""`python -m bench list`: a page of an owner's jobs, with few jobs and with many.

Owners with from 100 to 110,000 jobs, one replica. At the first page, in the middle and at the last
each filter is asked for 50 jobs, one request after the other, the owners by turns; then once page
by page until 50 have come, because a page may be short. Beside it another owner asks for one job,
again and again: what a list costs those who do not ask for one.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median, quantiles
from typing import Final
from urllib.parse import quote

import msgspec
from redis.asyncio import Redis

from api.users import add_user
from bench import queues
from bench.asking import Askers, asking, request
from bench.machine import cpu_s
from bench.results import Failed, Row, print_table
from bench.run import measured
from bench.servers import Servers
from bench.stocked import Stock, expire, stocked
from bench.targets import NO_LIMIT, running
from deploy.process import free_port
from notifier.keys import job_of

LIMIT: Final = 50
PAGES_MAX: Final = 2_000
FILTERS: Final[Mapping[str, str]] = {
    "none": "",
    "running": "&status=running",
    "succeeded": "&status=succeeded",
    "group, 1 in 100": "&group=nightly",
    "label, 1 in 2": "&label.tier=gold",
    "label, 1 in 1,000": "&label.rare=yes",
    "created_after the middle": "&created_after={middle}",
    "created_before the middle": "&created_before={middle}",
}
EXPIRED: Final = "none, the new ones expired"


class Sizes(msgspec.Struct, frozen=True):
    """Rounds, seconds of each turn, jobs of each owner; and of one more, most of which expire."""

    rounds: int
    turn_s: float
    jobs: list[int]
    expired: int


class Found(msgspec.Struct):
    """An answer, as far as it counts here."""

    jobs: list[msgspec.Raw]
    next: str | None


class User(msgspec.Struct, frozen=True):
    """An owner of so many jobs, at the replica; `pids`: the replica's and Redis's."""

    stock: Stock
    askers: Askers
    token: str
    pids: tuple[int, ...]

    def ask_for(self, path: str) -> bytes:
        return request(path, f"Authorization: Bearer {self.token}")

    def page(self, what: str, after: str | None) -> bytes:
        query = FILTERS.get(what, "").format(middle=self.stock.middle)
        page = "" if after is None else f"&page={quote(after)}"
        return self.ask_for(f"/v1/jobs?limit={LIMIT}{query}{page}")

    async def row(self, what: str, place: str, seconds: float) -> Row:
        after = self.stock.places[place]
        used = [cpu_s(pid) for pid in self.pids]
        answers = await self.askers.ask([self.page(what, after)], seconds)
        api, redis = (cpu_s(pid) - before for pid, before in zip(self.pids, used, strict=True))
        requests, jobs = await self._filled(what, after)
        return {
            "filter": what,
            "place": place,
            "jobs": len(self.stock.members),
            "ms": round(median(answers.delays) * 1000, 3),
            "api_cpu_ms": round(api / answers.count * 1000, 3),
            "redis_cpu_ms": round(redis / answers.count * 1000, 3),
            "requests": requests,
            "found": jobs,
        }

    async def _filled(self, what: str, after: str | None) -> tuple[int, int]:
        """Requests until 50 jobs have come, or all that there are; and how many came."""
        found = 0
        for number in range(1, PAGES_MAX):
            body = await self.askers.answer(self.page(what, after))
            page = msgspec.json.decode(body, type=Found)
            found, after = found + len(page.jobs), page.next
            if found >= LIMIT or after is None:
                return number, found
        raise Failed(f"{what}: not 50 jobs in {PAGES_MAX} pages")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, under 30 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", type=float, default=0.2, help="seconds of a turn")
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1_000, 10_000, 110_000])


def run(given: argparse.Namespace) -> int:
    sizes = Sizes(given.rounds, given.turn, given.jobs, 11_000)
    if given.quick:
        sizes = Sizes(1, 0.05, [100, 2_000], 1_100)
    return measured(
        name="list",
        measure=lambda servers, rows: _measure(servers, sizes, rows),
        report=lambda rows: _report(rows, sizes),
    )


async def _measure(servers: Servers, sizes: Sizes, rows: list[Row]) -> None:
    async with _users(servers, [*sizes.jobs, sizes.expired]) as (*users, expired):
        for number in range(sizes.rounds):
            for what in FILTERS:
                for place in users[0].stock.places:
                    for user in users:
                        row = await user.row(what, place, sizes.turn_s)
                        rows.append({"round": number, **row})
            rows.append({"round": number, **await expired.row(EXPIRED, "first", sizes.turn_s)})
            rows += [{"round": number, **row} for row in await _beside(users, sizes.turn_s)]


async def _beside(users: list[User], seconds: float) -> list[Row]:
    """The owner of the fewest jobs asks for one, alone and while the one of the most lists."""
    one, many = users[0], users[-1]
    get = [one.ask_for(f"/v1/jobs/{job_of(one.stock.members[0])}")]
    alone = await one.askers.ask(get, seconds)
    rows = [_delays("nobody", alone.delays)]
    for what in FILTERS:
        listing = asyncio.create_task(many.askers.ask([many.page(what, None)], seconds))
        beside = await one.askers.ask(get, seconds)
        await listing
        rows.append(_delays(what, beside.delays))
    return rows


def _delays(what: str, delays: list[float]) -> Row:
    percentiles = quantiles(delays, n=100)
    return {
        "beside": what,
        "p50_ms": round(percentiles[49] * 1000, 3),
        "p99_ms": round(percentiles[98] * 1000, 3),
    }


@asynccontextmanager
async def _users(servers: Servers, counts: list[int]) -> AsyncIterator[list[User]]:
    """Of the last owner all jobs have expired but the oldest."""
    users_file, port = servers.folder / "users.toml", free_port()
    await queues.prepare(servers.rabbitmq.url)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(servers.redis.url))
        with servers.running("notifier", ["-m", "notifier"]):
            stocks = await stocked(servers, redis, counts)
        await expire(redis, stocks[-1], LIMIT)
        tokens = [add_user(users_file, stock.owner, ["subscriber"]) for stock in stocks]
        settings = {
            "JOBCAST_HTTP_PORT": str(port),
            "JOBCAST_USERS_FILE": str(users_file),
            "JOBCAST_REQUESTS_PER_S": NO_LIMIT,
        }
        child = await stack.enter_async_context(
            running(servers, "api", ["-m", "api"], port, **settings)
        )
        pids = (child.pid, servers.redis.pids[0])
        yield [
            User(stock, stack.enter_context(asking(port, 1)), token, pids)
            for stock, token in zip(stocks, tokens, strict=True)
        ]


def _report(rows: list[Row], sizes: Sizes) -> None:
    def middle(column: str, **chosen: str | int) -> float:
        some = [row for row in rows if chosen.items() <= row.items()]
        return median(float(row[column]) for row in some)

    def shown(**chosen: str | int) -> str:
        requests, found = (int(middle(column, **chosen)) for column in ("requests", "found"))
        more = f", {found} in {requests}" if requests > 1 or found < LIMIT else ""
        return f"{middle('ms', **chosen):.1f}{more}"

    table = [
        [f"{what}: {place}", *(shown(filter=what, place=place, jobs=jobs) for jobs in sizes.jobs)]
        for what in FILTERS
        for place in ("first", "middle", "last")
    ]
    columns = ["ms a request; n jobs in m requests", *(f"{jobs:,} jobs" for jobs in sizes.jobs)]
    print_table(f"list, {sizes.rounds} rounds: medians", columns, table)
    print(f"of {sizes.expired:,} jobs all but the oldest {LIMIT} expired: {shown(filter=EXPIRED)}")
    beside = [
        [what, *(f"{middle(column, beside=what):.2f}" for column in ("p50_ms", "p99_ms"))]
        for what in ("nobody", *FILTERS)
    ]
    print_table(
        f"a GET while lists of {sizes.jobs[-1]:,} jobs are asked for",
        ["", "p50 ms", "p99 ms"],
        beside,
    )
