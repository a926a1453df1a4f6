"""`python -m bench auth`: what the gate costs a GET of one job, by every credential.

One replica process has three doors to the same routes (bench/doors.py): the product's; one that
asks nobody who they are; one without the gate's headers too. A row asks at its door for a moment;
before it and after it somebody asks at the open doors, and so on, round after round, so that what
else the machine does hits all alike. A ratio is that of a row to its neighbours of that round.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from statistics import median
from typing import Final

import msgspec
from redis.asyncio import Redis

from bench import credentials, load, queues
from bench.asking import Askers, asking
from bench.credentials import JOB, PATH, USER, Mint
from bench.machine import cpu_s
from bench.results import Row, print_table, spread
from bench.run import measured
from bench.servers import Servers
from bench.targets import NO_LIMIT, running
from deploy.process import free_port
from notifier.keys import OwnerKeys

WANTED: Final = 0.10
WRONG: Final = "a wrong token: 401"
STORED_S: Final = 30.0


class Sizes(msgspec.Struct, frozen=True):
    """How many rounds, seconds of each turn, connections; users in the second file; JWTs a turn
    where each is a new one."""

    rounds: int
    turn_s: float
    connections: int
    users: int
    fresh: int


class Spent(msgspec.Struct, frozen=True):
    """Seconds a request: of the replica's processors, and of the clock."""

    cpu: float
    clock: float


class Door(msgspec.Struct, frozen=True):
    """Connections to a door of the replica that is process `pid`."""

    pid: int
    askers: Askers

    async def ask(self, requests: list[bytes], seconds: float, *, once: bool = False) -> Spent:
        used = cpu_s(self.pid)
        answers = await self.askers.ask(requests, seconds, once=once)
        used = cpu_s(self.pid) - used
        return Spent(used / answers.count, answers.seconds / answers.count)


class Turn(msgspec.Struct, frozen=True):
    """Somebody asks, with requests made for each turn anew: after those whom nobody asks."""

    name: str
    users: int
    door: Door
    made: Callable[[], list[bytes]]
    once: bool = False  # no request twice

    async def take(self, bare: Door, unasked: Door, seconds: float) -> Row:
        requests = self.made()
        before = await bare.ask(requests[:1], seconds)
        headers = await unasked.ask(requests[:1], seconds)
        spent = await self.door.ask(requests, seconds, once=self.once)
        return {
            "what": self.name,
            "users": self.users,
            **_columns("", spent),
            **_columns("open_", headers),
            **_columns("bare_", before),
        }


def _columns(prefix: str, spent: Spent) -> Row:
    return {
        f"{prefix}cpu_us": round(spent.cpu * 1e6, 2),
        f"{prefix}clock_us": round(spent.clock * 1e6, 2),
    }


class Replica(msgspec.Struct, frozen=True):
    """One replica's turns of a round, and its doors without a gate."""

    turns: list[Turn]
    bare: Door
    unasked: Door


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, under 30 s")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turn", type=float, default=0.5, help="seconds of a turn")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--users", type=int, default=10_000, help="users in the second file")


def run(given: argparse.Namespace) -> int:
    sizes = Sizes(given.rounds, given.turn, given.connections, given.users, 300)
    if given.quick:
        sizes = Sizes(1, 0.1, given.connections, given.users, 30)
    return measured(
        name="auth",
        measure=lambda servers, rows: _measure(servers, sizes, rows),
        report=lambda rows: _report(rows, sizes),
    )


async def _measure(servers: Servers, sizes: Sizes, rows: list[Row]) -> None:
    await _store_job(servers)
    mints = [Mint.made("RS256"), Mint.made("ES256")]
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(_replica(servers, sizes, users, mints))
            for users in (1, sizes.users)
        ]
        for number in range(-1, sizes.rounds):
            for one in replicas:
                for turn in one.turns:
                    row = await turn.take(one.bare, one.unasked, sizes.turn_s)
                    if number >= 0:  # before that, what is loaded only once
                        rows.append({"round": number, **row})


async def _store_job(servers: Servers) -> None:
    """A running job, stored by the notifier."""
    await queues.prepare(servers.rabbitmq.url)
    spec, key = load.Spec(USER, JOB, fails=False), OwnerKeys(USER).job(JOB)
    with servers.running("notifier", ["-m", "notifier"]):
        messages = [load.single(load.event(spec, number)) for number in range(5)]
        await queues.fill(servers.rabbitmq.url, messages)
        async with Redis.from_url(servers.redis.url) as redis, asyncio.timeout(STORED_S):
            while await redis.hget(key, "version") != b"5":  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _replica(
    servers: Servers, sizes: Sizes, users: int, mints: list[Mint]
) -> AsyncIterator[Replica]:
    """One with a file of so many users."""
    users_file, ports = servers.folder / f"users-{users}.toml", [free_port() for _ in range(3)]
    token = credentials.write_users(users_file, users)
    settings = credentials.write_keys(servers.folder / "keys.json", *mints) | {
        "JOBCAST_HTTP_PORT": str(ports[0]),
        "JOBCAST_USERS_FILE": str(users_file),
        "JOBCAST_REQUESTS_PER_S": NO_LIMIT,
    }
    args = ["-m", "bench.doors", USER, *map(str, ports[1:])]
    async with running(servers, f"doors-{users}", args, ports[0], **settings) as child:
        with (
            asking(ports[0], sizes.connections) as gate,
            asking(ports[0], sizes.connections, status=401) as refused,
            asking(ports[1], sizes.connections) as unasked,
            asking(ports[2], sizes.connections) as bare,
        ):
            door = Door(child.pid, gate)
            turns = [
                Turn(name, users, door, partial(list, [one]))
                for name, one in (await credentials.requests(ports[0], token, mints)).items()
            ]
            wrong = credentials.bearer(PATH, token[::-1])
            turns.append(Turn(WRONG, users, Door(child.pid, refused), partial(list, [wrong])))
            turns += [
                Turn(f"JWT, {mint.alg}, a new one each time", users, door, made, once=True)
                for mint in mints
                for made in [partial(_new, mint, sizes.fresh)]
            ]
            yield Replica(turns, Door(child.pid, bare), Door(child.pid, unasked))


def _new(mint: Mint, count: int) -> list[bytes]:
    return [credentials.bearer(PATH, mint.token()) for _ in range(count)]


def _report(rows: list[Row], sizes: Sizes) -> None:
    """A ratio is that of a row to the open doors just before it."""

    def values(what: str, users: int, column: str) -> list[float]:
        chosen = [row for row in rows if (row["what"], row["users"]) == (what, users)]
        return [float(row[column]) for row in chosen]

    def more(what: str, users: int, column: str, than: str) -> str:
        pairs = zip(values(what, users, column), values(what, users, than), strict=True)
        return f"{median(mine / its for mine, its in pairs) - 1:+.1%}"

    table = [
        [
            f"{what}, {users:,} users",
            spread(values(what, users, "cpu_us"), 1),
            more(what, users, "cpu_us", "open_cpu_us"),
            more(what, users, "cpu_us", "bare_cpu_us"),
            more(what, users, "clock_us", "open_clock_us"),
        ]
        for users in (1, sizes.users)
        for what in dict.fromkeys(str(row["what"]) for row in rows)
    ]
    columns = ["", "CPU us a request", "to no gate, but headers", "to no gate", "time"]
    print_table(f"auth, {sizes.rounds} rounds: median (min-max)", columns, table)
    for users in (1, sizes.users):
        seen = more(credentials.BEARER, users, "cpu_us", "open_cpu_us")
        print(f"a bearer token among {users:,} users: {seen} CPU, wanted <= {WANTED:+.0%}")
