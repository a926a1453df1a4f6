"""The figures of one notifier, and how they get to whoever serves `/metrics`.

Owns the names, help texts and buckets of what a notifier counts (docs/metrics.md), and their keys'
contents in Redis: each process writes its own, under its own name, and they go within `EXPIRY_S` of
its death. Promises: the calls cost microseconds and are made per batch or round, never per event;
exporting never fails the service. Never holds a user's, owner's or job's name.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector
from redis.asyncio import Redis

from jobcast.reasons import CODES
from notifier.connection import StoreUnavailable, translated
from notifier.keys import FIGURES, figures_of

log = logging.getLogger(__name__)

EVERY_S: Final = 5.0
EXPIRY_S: Final = 30
FAREWELL_S: Final = 1.0
FORGOTTEN_S: Final = 3_600
"""After so long a name is taken out of the index; generous, because it goes by each writer's own
clock. What tells the living from the dead is Redis's clock: the expiry of what they wrote."""
NOTIFIERS_MAX: Final = 256

SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
LATENCIES_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

OTHER: Final = "other"
REASONS: Final = frozenset(code for _, code in CODES) | {
    "not-cloudevent",
    "not-json",
    "poison",
    "reserved-type",
    "too-deep",
    "too-large",
    "unknown-type",
    "unsupported-content-type",
}
"""Why an event becomes a dead letter: a bounded set, as a label's values must be."""


QUERIES: Final = frozenset(
    {
        *("job", "job-not-found", "job-expired", "job-deleted"),
        *("bad-request", "invalid-parameter", "forbidden", "unavailable", "internal-error"),
        *("no-user", "service", "dead-lettered", "reply-to"),
    }
)
"""What became of a query: the kind of its answer; the last four are not answered."""


class Sample(Struct, frozen=True, array_like=True):
    """One number. `name` is the family's, or that with a suffix."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, frozen=True):
    """All samples of one metric; `kind` is a type of Prometheus."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


class Exported(Struct, frozen=True):
    """What one notifier has written; `at` in seconds since 1970, by its own clock."""

    at: float
    families: list[Family]


class Figures:
    """What one notifier process counts. Times are in seconds."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()  # the library's default one is never used
        ProcessCollector(namespace="jobcast_notifier", registry=own)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"jobcast_{name}", text, registry=own)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(f"jobcast_{name}_seconds", text, buckets=LATENCIES_S, registry=own)

        self._sizes = Histogram(
            "jobcast_batch_messages",
            "Messages taken from a state queue at once; the sum is all that were taken",
            buckets=SIZES,
            registry=own,
        )
        self._batch_s = seconds("batch", "From taking a batch to its acknowledgement")
        self._commit_s = seconds("commit", "One round trip to Redis that commits some jobs")
        self._notify_s = seconds("notify", "From publishing notifications to the last confirm")
        self._events = counter("events_total", "Lifecycle events read, repeats included")
        self._changes = counter("changes_total", "Versions of jobs written")
        self._commits = counter("commits_total", "Jobs written")
        self._conflicts = counter(
            "conflicts_total", "Commits made anew because another notifier had been first"
        )
        self._waits = counter("redis_waits_total", "Times a batch had to wait because Redis failed")
        self._notified = counter(
            "notifications_total",
            "Notifications, in all words, and commands confirmed by RabbitMQ",
        )
        self._refused = counter(
            "notifications_refused_total",
            "Tries at which RabbitMQ refused a notification, or did not confirm it in time",
        )
        self._given_up = counter(
            "notifications_given_up_total", "Notifications never told: refused at every try"
        )
        self._lost = counter("lost_verdicts_total", "Silent jobs for which the verdict was sent")
        dead = Counter(
            "jobcast_dead_letters_total",
            "Events put into the queue jobcast.dead",
            ["reason"],
            registry=own,
        )
        self._dead = {reason: dead.labels(reason) for reason in sorted(REASONS | {OTHER})}

        queries = Counter("jobcast_queries_total", "Queries over AMQP", ["answer"], registry=own)
        self._queries = {answer: queries.labels(answer) for answer in sorted(QUERIES)}

    def taken(self, messages: int) -> None:
        """A batch was taken from a queue."""
        self._sizes.observe(messages)

    def settled(self, seconds: float) -> None:
        """A batch was acknowledged, so long after it was taken."""
        self._batch_s.observe(seconds)

    def read(self, events: int) -> None:
        """So many well-formed events came out of a batch."""
        self._events.inc(events)

    def committed(self, jobs: int, seconds: float, changes: int = 0) -> None:
        """One round trip committed `jobs`, with `changes` versions among them."""
        self._commit_s.observe(seconds)
        self._commits.inc(jobs)
        self._changes.inc(changes)

    def conflicted(self, jobs: int) -> None:
        """So many jobs of a commit lost the comparison of versions."""
        self._conflicts.inc(jobs)

    def waited(self) -> None:
        """A round failed because Redis is away; it is tried again."""
        self._waits.inc()

    def notified(self, messages: int, seconds: float) -> None:
        """One try: `messages` were confirmed, the last so long after they were sent."""
        self._notify_s.observe(seconds)
        self._notified.inc(messages)

    def refused(self, messages: int) -> None:
        """So many notifications were not confirmed at one try."""
        self._refused.inc(messages)

    def given_up(self, messages: int) -> None:
        """So many notifications were refused at their last try."""
        self._given_up.inc(messages)

    def dead_lettered(self, reason: str) -> None:
        """One event went to `jobcast.dead`, confirmed."""
        (self._dead.get(reason) or self._dead[OTHER]).inc()

    def asked(self, answer: str) -> None:
        """One query was answered, or was not, by one of `QUERIES`."""
        self._queries[answer].inc()

    def lost(self, verdicts: int) -> None:
        """So many lost verdicts were sent."""
        self._lost.inc(verdicts)

    def exported(self) -> Exported:
        """All of it as it is now; takes about a millisecond."""
        return Exported(time.time(), [_family(metric) for metric in self._registry.collect()])


def _family(metric: Metric) -> Family:
    samples = [
        Sample(sample.name, sample.labels, float(sample.value))
        for sample in metric.samples
        if not sample.name.endswith("_created")  # doubles the series, and nobody looks at it
    ]
    return Family(metric.name, metric.type, metric.documentation, samples)


def process_name() -> str:
    """What this process is called in the label `notifier`: no other start has the same name."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}"


@asynccontextmanager
async def exporting(
    figures: Figures, redis: Redis, name: str, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Writes the figures to Redis for the block, and a last time when it is left."""
    task = asyncio.create_task(_export(figures, redis, name, every_s))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await write(figures.exported(), redis, name)


async def _export(figures: Figures, redis: Redis, name: str, every_s: float) -> None:
    while True:
        try:
            await write(figures.exported(), redis, name)
        except StoreUnavailable as error:
            log.debug("figures: %s", error)  # the service says it louder
        except Exception:
            log.exception("figures: not exported")  # no reason to stop serving
        await asyncio.sleep(every_s)


async def write(exported: Exported, redis: Redis, name: str) -> None:
    """Write one process's figures. Raises `StoreUnavailable`."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.set(figures_of(name), msgspec.json.encode(exported), ex=EXPIRY_S)
    pipeline.zadd(FIGURES, {name: exported.at})
    pipeline.zremrangebyscore(FIGURES, "-inf", exported.at - FORGOTTEN_S)
    pipeline.expire(FIGURES, FORGOTTEN_S)
    with translated():
        await pipeline.execute()


async def read(redis: Redis) -> dict[str, Exported]:
    """The figures of every notifier that lives, by its name. Raises `StoreUnavailable`."""
    with translated():
        newest: list[Any] = await redis.zrange(FIGURES, 0, NOTIFIERS_MAX - 1, desc=True)
        names = [name.decode() for name in newest]
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.get(figures_of(name))
        found = await pipeline.execute() if names else []
    written = zip(names, found, strict=True)
    return {name: one for name, body in written if body and (one := _decoded(name, body))}


def _decoded(name: str, body: bytes) -> Exported | None:
    try:
        return msgspec.json.decode(body, type=Exported)
    except msgspec.MsgspecError as error:  # written by another release of ours
        log.warning("figures of %s: %s", name, error)
        return None
