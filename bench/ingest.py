"""`python -m bench ingest`: what the notifier takes in, against a consumer that only acks.

The queue is filled first. The clock of a notifier run starts when the broker has handed out the
first message, and stops when a job is stored whose message stands one prefetch behind the load: the
broker hands that one out only when all before it is acked. So the whole way of every event is in
the time, notifications and acks too, and the start of the process is not.
"""

import argparse
import asyncio
from collections.abc import Iterator
from statistics import median
from typing import Final

import msgspec
from redis.asyncio import Redis

from bench import load, queues
from bench.load import EVENTS_PER_JOB, Spec
from bench.machine import cpu_s
from bench.results import Failed, Row, print_table, spread
from bench.run import measured
from bench.servers import Servers
from bench.stored import wrong_in_notifications, wrong_in_redis
from broker.consumer import PREFETCH
from broker.link import connected, opened
from broker.topology import state_queues
from deploy.process import Child
from jobcast.message import Message
from jobcast.names import DEAD
from notifier.keys import OwnerKeys

WANTED: Final = {"single": 0.4, "batch": 1.5}
STATE: Final = state_queues(1)[0]
POLL_S: Final = 0.002
STALL_S: Final = 120.0


class Sizes(msgspec.Struct, frozen=True):
    """How much, and how often."""

    rounds: int
    singles: int
    batches: int
    batch: int
    live: int
    owners: int


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, under 30 s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--singles", type=int, default=30_000, help="messages of one event")
    parser.add_argument("--batches", type=int, default=2_000, help="messages of many events")
    parser.add_argument("--batch", type=int, default=50, help="events in each of those")
    parser.add_argument("--live", type=int, default=1_000, help="jobs open at any time")
    parser.add_argument("--owners", type=int, default=20)


def run(given: argparse.Namespace) -> int:
    sizes = Sizes(given.rounds, given.singles, given.batches, given.batch, given.live, given.owners)
    if given.quick:
        sizes = Sizes(1, 3_000, 100, given.batch, min(given.live, 300), given.owners)
    return measured(
        name="ingest",
        measure=lambda servers, rows: _measure(servers, sizes, rows),
        report=lambda rows: _report(rows, sizes),
    )


async def _measure(servers: Servers, sizes: Sizes, rows: list[Row]) -> None:
    url = servers.rabbitmq.url
    await queues.prepare(url)
    bench = Bench(servers, sizes)
    for number in range(sizes.rounds):
        rows.append({"round": number, **await bench.bare()})
        for kind in WANTED:
            rows.append({"round": number, **await bench.notifier(kind)})
    await queues.bind_subscriber(url)  # it costs the broker: only now
    for kind in WANTED:
        rows.append({"round": sizes.rounds, **await bench.notifier(kind, heard=True)})
        await queues.bind_subscriber(url)


class Bench:
    """The single measurements."""

    def __init__(self, servers: Servers, sizes: Sizes) -> None:
        self._servers = servers
        self._sizes = sizes
        self._url = servers.rabbitmq.url
        self._runs = 0

    async def bare(self) -> Row:
        """A bare consumer on the messages of the single events."""
        _, messages = self._load("single")
        to_bare = (
            msgspec.structs.replace(message, exchange="", routing_key=queues.BARE)
            for message in messages
        )
        count = await queues.fill(self._url, to_bare)
        began = cpu_s(*self._servers.rabbitmq.pids)
        seconds = await queues.drain(self._url, count)
        broker_s = cpu_s(*self._servers.rabbitmq.pids) - began
        return _row("bare", count, count, seconds) | {"rabbitmq_cpu_s": round(broker_s, 2)}

    async def notifier(self, kind: str, *, heard: bool = False) -> Row:
        """The real notifier, from a full queue to an empty one; then everything is checked."""
        jobs, messages = self._load(kind)
        count = await queues.fill(self._url, messages)
        last, tail = load.tail(PREFETCH)
        filled = count + await queues.fill(self._url, tail)
        servers, name = self._servers, f"notifier-{self._runs}"
        self._runs += 1
        async with Redis.from_url(servers.redis.url) as redis:
            with servers.running(name, ["-m", "notifier"]) as child:
                seconds, cpu = await self._timed(redis, child, filled, last)
            await self._check(redis, jobs, name, heard=heard)
            await redis.flushall()  # so that each run finds the same
        what = kind + (" with a subscriber" if heard else "")
        return _row(what, count, len(jobs) * EVENTS_PER_JOB, seconds) | cpu

    async def _timed(
        self, redis: Redis, child: Child, filled: int, last: Spec
    ) -> tuple[float, dict[str, float]]:
        loop = asyncio.get_running_loop()
        limit = loop.time() + STALL_S
        parts = {
            "notifier_cpu_s": (child.pid,),
            "rabbitmq_cpu_s": self._servers.rabbitmq.pids,
            "redis_cpu_s": self._servers.redis.pids,
        }
        async with (
            connected(self._url, "bench") as connection,
            opened(connection, confirms=False) as channel,
        ):
            while await queues.depth(channel, STATE) >= filled:
                await _pause(child, limit)
            began = loop.time()
            used = {part: cpu_s(*pids) for part, pids in parts.items()}
            while not await redis.exists(OwnerKeys(last.owner).job(last.job_id)):
                await _pause(child, limit, 25 * POLL_S)
            seconds = loop.time() - began
        return seconds, {part: round(cpu_s(*pids) - used[part], 2) for part, pids in parts.items()}

    async def _check(self, redis: Redis, jobs: list[Spec], name: str, *, heard: bool) -> None:
        wrong = await wrong_in_redis(redis, jobs)
        async with (
            connected(self._url, "bench") as connection,
            opened(connection, confirms=False) as channel,
        ):
            for queue in (STATE, DEAD):
                if left := await queues.depth(channel, queue):
                    wrong.append(f"{left} messages are left in {queue}")
        # It acks only what is confirmed or, with an error in its log, given up.
        log = self._servers.log(name).read_text()
        wrong += [line for line in log.splitlines() if " INFO " not in line]
        if heard:
            wrong += wrong_in_notifications(await queues.heard(self._url), jobs)
        if wrong:
            raise Failed(f"{len(wrong)} faults, such as: " + "; ".join(wrong[:3]))

    def _load(self, kind: str) -> tuple[list[Spec], Iterator[Message]]:
        sizes = self._sizes
        events = sizes.singles if kind == "single" else sizes.batches * sizes.batch
        jobs = load.specs(events // EVENTS_PER_JOB, sizes.owners)
        if kind == "single":
            return jobs, load.singles(jobs, sizes.live)
        return jobs, load.batches(jobs, sizes.batch)


async def _pause(child: Child, limit: float, seconds: float = POLL_S) -> None:
    if not child.alive:
        raise Failed(f"the notifier ended with exit code {child.exit_code}")
    if asyncio.get_running_loop().time() > limit:
        raise Failed(f"not done after {STALL_S:.0f} s")
    await asyncio.sleep(seconds)


def _row(what: str, messages: int, events: int, seconds: float) -> dict[str, str | int | float]:
    return {
        "what": what,
        "messages": messages,
        "events": events,
        "seconds": round(seconds, 4),
        "events_per_s": round(events / seconds, 1),
    }


def _report(rows: list[Row], sizes: Sizes) -> None:
    """Medians over the rounds; a ratio is that of two runs of one round."""

    def rates(what: str) -> list[float]:
        return [float(row["events_per_s"]) for row in rows if row["what"] == what]

    bare = rates("bare")
    table = [["bare consumer, messages", spread(bare), "", ""]]
    for kind, wanted in WANTED.items():
        ratios = [mine / its for mine, its in zip(rates(kind), bare, strict=True)]
        name = "one event a message" if kind == "single" else f"{sizes.batch} events a message"
        verdict = "met" if median(ratios) >= wanted else "missed"
        table.append([name, spread(rates(kind)), spread(ratios, 3), f"{wanted} {verdict}"])
        table.append(
            [f"{name}, with a subscriber", spread(rates(f"{kind} with a subscriber")), "", ""]
        )
    columns = ["", "events/s: median (min-max)", "ratio to bare", "wanted"]
    print_table(f"ingest, {sizes.rounds} rounds; everything stored and notified", columns, table)
