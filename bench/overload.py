"""`python -m bench overload`: too much of everything, and who suffers from it.

Two notifiers, two API replicas, RabbitMQ and Redis, each load on new processes. Told for each load:
the resident memory of every process before, at most, and after; whether every end has arrived; and
how long the ends of a bystander, another owner, are under way without and with it.
"""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from bench.loads import (
    Sizes,
    full_queue,
    progress_flood,
    remove_full,
    slow_redis,
    stuck_readers,
)
from bench.machine import open_files
from bench.readers import FILES
from bench.results import Row, print_table
from bench.run import measured
from bench.scene import Scene, scene
from bench.servers import Servers

QUICK: Final = Sizes(
    events=5_000,
    stuck=60,
    changes=1_500,
    resumed=20,
    flood_s=3.0,
    paced=200,
    burst=500,
    quiet_s=2.0,
    wait_for_cut=False,
)
OWNERS: Final = [f"loaded-{number}" for number in range(20)]

Load = Callable[[Scene, Sizes], Awaitable[Row]]


class Plan(NamedTuple):
    """A load, the number of its owners, and the partitions it is put on."""

    load: Load
    owners: int = 1
    partitions: int = 1


LOADS: Final[Mapping[str, Plan]] = {
    "slow-redis": Plan(slow_redis, owners=20),
    "stuck-readers": Plan(stuck_readers),
    "reporter-flood": Plan(partial(progress_flood, kind="reporter")),
    "progress-flood": Plan(progress_flood),
    "flood-1000-jobs": Plan(partial(progress_flood, count=1_000)),
    "hose": Plan(partial(progress_flood, kind="hose")),
    "hose-1000-jobs": Plan(partial(progress_flood, kind="hose", count=1_000)),
    "no-full-queue": Plan(partial(full_queue, full=False)),
    "full-queue": Plan(full_queue),
    "flood-of-8": Plan(progress_flood, partitions=8),
}
"""`no-full-queue` is what `full-queue` is compared with. More partitions come last: a broker that
has had them keeps them."""

DELAYS: Final = (
    "probes",
    "confirm_p99_ms",
    "sse_p50_ms",
    "sse_p99_ms",
    "amqp_p50_ms",
    "amqp_p99_ms",
)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a smoke run, about a minute")
    parser.add_argument("--load", choices=LOADS, action="append", help="this one only; repeatable")


def run(given: argparse.Namespace) -> int:
    sizes = QUICK if given.quick else Sizes()
    chosen = given.load or list(LOADS)
    if open_files(FILES) < sizes.stuck + 1_000:
        print("the limit of open files is too low for so many streams")
        return 1
    return measured(
        name="overload",
        measure=lambda servers, rows: _measure(servers, sizes, chosen, rows),
        report=_report,
    )


async def _measure(servers: Servers, sizes: Sizes, chosen: list[str], rows: list[Row]) -> None:
    for name in chosen:
        plan = LOADS[name]
        async with scene(
            servers, name, OWNERS[: plan.owners], sizes.quiet_s, plan.partitions
        ) as one:
            rows += await one.measured(partial(_loaded, plan.load, sizes))
        await remove_full(servers.rabbitmq.url)


async def _loaded(load: Load, sizes: Sizes, one: Scene) -> Row:
    return await load(one, sizes)


def _report(rows: list[Row]) -> None:
    """Three tables: the delays of the bystander, the weights, and what each load says of itself."""
    delays = [row for row in rows if row["what"] in {"quiet", "under load"}]
    print_table(
        "the bystander, from the broker's confirm",
        ["", *DELAYS],
        [[f"{row['load']}: {row['what']}", *(str(row[name]) for name in DELAYS)] for row in delays],
    )
    weights = [row for row in rows if row["what"] == "memory"]
    columns = ("before_mb", "peak_mb", "after_mb")
    print_table(
        "resident memory, MB",
        ["", *columns],
        [[f"{row['load']}: {row['process']}", *(str(row[c]) for c in columns)] for row in weights],
    )
    known = {"load", "what", "probes_lost", *DELAYS}
    for row in delays:
        if row["what"] == "under load":
            said = ", ".join(f"{name} {value}" for name, value in row.items() if name not in known)
            print(f"{row['load']}: {said}")
