"""`python -m bench streams`: open event streams, against the stock response of sse-starlette.

Both servers run in turn, each round with new processes; the load generator is another process. Two
kinds of stream: the feed of one owner, where every event goes to every stream, and streams of
single jobs. jobcast gets its events the real way, through RabbitMQ, the notifier and Redis; the
stock server is handed its own over HTTP.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Final

import msgspec

from bench.crowd import Generator, Report, generator
from bench.machine import cpu_s, open_files, rss_bytes
from bench.readers import FILES
from bench.results import Failed, Row, print_table, spread
from bench.run import measured
from bench.servers import Servers
from bench.targets import TARGETS, Jobs, Target

WARM: Final = 50
SETTLE_S: Final = 1.0
KINDS: Final = ("feed", "job")
KB_WANTED: Final = 20
RATE_WANTED: Final = 2

SHOWN: Final[Mapping[str, tuple[str, int]]] = {
    "KB per idle stream": ("kb_per_stream", 1),
    "events/s at once": ("frames_per_s", 0),
    "CPU us": ("cpu_us_per_frame", 1),
    "events/s one by one": ("paced_per_s", 0),
    "CPU us, one by one": ("cpu_us_per_paced", 1),
    "p50 ms": ("p50_ms", 1),
    "p99 ms": ("p99_ms", 1),
}
"""Column of the table, column of the raw rows, digits."""


class Sizes(msgspec.Struct, frozen=True):
    """How many streams of how many jobs; how many events each gets at once, and one by one."""

    rounds: int
    streams: int
    jobs: int
    burst: int
    paced: int


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, under 30 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=20, help="jobs that the events are about")
    parser.add_argument("--burst", type=int, default=50, help="events sent at once")
    parser.add_argument("--paced", type=int, default=20, help="events sent one by one")


def run(given: argparse.Namespace) -> int:
    sizes = Sizes(given.rounds, given.streams, given.jobs, given.burst, given.paced)
    if given.quick:
        sizes = Sizes(1, 200, 4, 10, 3)
    if open_files(FILES) < sizes.streams + 1_000:
        print("the limit of open files is too low for so many streams")
        return 1
    return measured(
        name="streams",
        measure=lambda servers, rows: _measure(servers, sizes, rows),
        report=lambda rows: _report(rows, sizes),
    )


async def _measure(servers: Servers, sizes: Sizes, rows: list[Row]) -> None:
    with servers.running("notifier", ["-m", "notifier"]):
        jobs = await Jobs.made(servers, sizes.jobs)
        for number in range(sizes.rounds):
            for kind in KINDS:
                for name, target in TARGETS.items():
                    async with target(servers, jobs) as one:
                        row = await _one(one, kind, sizes)
                    rows.append({"round": number, "server": name, "streams": kind, **row})


async def _one(target: Target, kind: str, sizes: Sizes) -> Row:
    """Open the streams, weigh them, then send: all at once, and one by one."""
    paths, ready = target.paths(kind), target.ready(kind)
    async with generator(target.port) as readers:
        await readers.open(WARM, paths, ready, target.token)  # what is loaded only once
        await asyncio.sleep(SETTLE_S)
        before = rss_bytes(target.pid)
        seconds = await readers.open(sizes.streams, paths, ready, target.token)
        await asyncio.sleep(SETTLE_S)
        weight = (rss_bytes(target.pid) - before) / sizes.streams / 1024
        burst = await _burst(target, readers, kind, sizes.burst)
        paced = await _paced(target, readers, kind, sizes.paced)
    return {
        "open": readers.open_streams,
        "opened_per_s": round(sizes.streams / seconds),
        "kb_per_stream": round(weight, 1),
        **burst,
        **paced,
    }


async def _burst(target: Target, readers: Generator, kind: str, each: int) -> dict[str, float]:
    """So many events for every stream at once: frames per second, from publishing to the last."""
    await readers.expect(each, 60)
    used, began = cpu_s(target.pid), time.monotonic()
    await target.publish(kind, each)
    report = _complete(await readers.report(), readers, each)
    seconds = max(report.reached) - began
    return {
        "frames": report.frames,
        "burst_s": round(seconds, 4),
        "frames_per_s": round(report.frames / seconds),
        "cpu_us_per_frame": round((cpu_s(target.pid) - used) / report.frames * 1e6, 1),
    }


async def _paced(target: Target, readers: Generator, kind: str, count: int) -> dict[str, float]:
    """One event after the other, each to every stream.

    The percentiles are of the times since publishing; the rate is that from the first stream that
    has the event to the last, because the way to the server is not the same for both.
    """
    since_published: list[float] = []
    since_first: list[float] = []
    seconds = 0.0
    used = cpu_s(target.pid)
    for _ in range(count):
        await readers.expect(1, 60)
        began = time.monotonic()
        await target.publish(kind, 1)
        report = _complete(await readers.report(), readers, 1)
        since_published += [at - began for at in report.reached]
        since_first += [at - report.first for at in report.reached]
        seconds += max(report.reached) - report.first
    used = cpu_s(target.pid) - used
    return {
        "paced_per_s": round(len(since_first) / seconds),
        "p50_ms": _ms(since_published, 50),
        "p99_ms": _ms(since_published, 99),
        "spread_p99_ms": _ms(since_first, 99),
        "cpu_us_per_paced": round(used / len(since_first) * 1e6, 1),
    }


def _complete(report: Report, readers: Generator, each: int) -> Report:
    wanted = readers.open_streams * each
    if report.lost or report.frames != wanted or len(report.reached) != readers.open_streams:
        raise Failed(f"{report.frames} of {wanted} frames, {report.lost} streams lost")
    return report


def _ms(seconds: Sequence[float], percent: int) -> float:
    return round(quantiles(seconds, n=100)[percent - 1] * 1000, 2)


def _report(rows: list[Row], sizes: Sizes) -> None:
    """Medians over the rounds; a ratio is that of two runs of one round."""

    def values(server: str, kind: str, column: str) -> list[float]:
        chosen = [row for row in rows if (row["server"], row["streams"]) == (server, kind)]
        return [float(row[column]) for row in chosen]

    def ratios(kind: str, column: str) -> list[float]:
        pairs = zip(values("jobcast", kind, column), values("stock", kind, column), strict=True)
        return [ours / theirs for ours, theirs in pairs]

    table = []
    for kind in KINDS:
        table += [
            [
                f"{kind}: {server}",
                *(spread(values(server, kind, name), digits) for name, digits in SHOWN.values()),
            ]
            for server in TARGETS
        ]
        verdict = [""] * len(SHOWN)
        verdict[0] = _verdict(values("jobcast", kind, "kb_per_stream"), KB_WANTED, at_most=True)
        verdict[1] = "x " + _verdict(ratios(kind, "frames_per_s"), RATE_WANTED, at_most=False)
        verdict[3] = f"x {median(ratios(kind, 'paced_per_s')):.1f}"
        table.append([f"{kind}: wanted", *verdict])
    title = f"{sizes.streams} streams, {sizes.rounds} rounds: median (min-max)"
    print_table(title, ["", *SHOWN], table)


def _verdict(values: Sequence[float], wanted: float, *, at_most: bool) -> str:
    seen = median(values)
    met = seen <= wanted if at_most else seen >= wanted
    return f"{seen:.1f}, wanted {'<=' if at_most else '>='} {wanted}: {'met' if met else 'missed'}"
