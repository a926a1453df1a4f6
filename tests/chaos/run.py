"""One run: start everything, write and listen while the nemesis is at work, let it come to rest,
then compare what was confirmed with what every channel told."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
from msgspec import Struct

from tests.chaos.audience import Audience
from tests.chaos.book import Book
from tests.chaos.foreign import ForeignWriter
from tests.chaos.ledger import Ledger, judge
from tests.chaos.life import Lives
from tests.chaos.nemesis import Nemesis
from tests.chaos.plan import LONG, SHORT, Pace, plan
from tests.chaos.polls import final_answers
from tests.chaos.record import JobKey, Record
from tests.chaos.streams import Doors, Manner
from tests.chaos.truth import stored_changes
from tests.chaos.world import World, opened_world
from tests.chaos.writers import SdkWriter

THREADS: Final = 24
SHORT_S: Final = 60.0
LOOK_EVERY_S: Final = 0.2
JOBS_AT_ONCE: Final = 70


class Settings(Struct, frozen=True, kw_only=True):
    """`seconds` of disturbance; `per_s` events at most, over all writers. `calm`: no nemesis."""

    seconds: float
    seed: int
    partitions: int
    folder: Path
    per_s: float = 450.0
    calm: bool = False

    @property
    def short(self) -> bool:
        return self.seconds <= SHORT_S

    @property
    def pace(self) -> Pace:
        return SHORT if self.short else LONG

    @property
    def manner(self) -> Manner:
        if self.short:
            return Manner(quiet_s=3.0, stays_s=3.0, retry_max_s=0.4)
        return Manner(quiet_s=20.0, stays_s=12.0, retry_max_s=2.0)

    @property
    def rest_s(self) -> float:
        """How long everything may take to come to rest after the last disturbance."""
        return 20.0 if self.short else 150.0


class Result(Struct, kw_only=True):
    """What a run has found. `rested_s`: so long after the last disturbance everybody had all."""

    settings: Settings
    ledger: Ledger
    kills_and_pauses: int
    deeds: dict[str, int]
    findings: list[str]
    log: list[str]
    rested_s: float
    took_s: float
    refusals: dict[str, int]

    @property
    def ok(self) -> bool:
        return self.ledger.ok and not self.findings


class Writers:
    """All executors of a run."""

    def __init__(self, world: World, book: Book, settings: Settings) -> None:
        owners = [login.name for login in world.owners]
        seed, per_s = settings.seed, settings.per_s
        self.sdk = SdkWriter(
            world.amqp_url("sdk-amqp", world.logins.executor),
            book,
            Lives(f"{seed} sdk", owners),
            jobs=JOBS_AT_ONCE,
            per_s=per_s * 0.5,
        )
        self.foreign = [
            ForeignWriter(
                world.amqp_url("pika-amqp", world.logins.executor),
                book,
                Lives(f"{seed} {'batch' if batches else 'single'}", owners),
                per_s=per_s * (0.35 if batches else 0.15),
                batches=batches,
            )
            for batches in (False, True)
        ]

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """They write within the block; `rest` ends that."""
        self._task = asyncio.create_task(self.sdk.run())
        for writer in self.foreign:
            writer.start()
        try:
            yield
        finally:
            self.sdk.abandon()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            for writer in self.foreign:
                writer.abandon()

    def stop(self) -> None:
        self.sdk.stop()
        for writer in self.foreign:
            writer.stop()

    @property
    def failed(self) -> str | None:
        if self._task.done() and not self._task.cancelled() and self._task.exception():
            return f"the SDK's writer broke: {self._task.exception()!r}"
        broken = [f"{one.name} broke: {one.broken!r}" for one in self.foreign if one.broken]
        return broken[0] if broken else None

    @property
    def busy(self) -> list[str]:
        """Who has still something to say or to hear."""
        busy = [writer.name for writer in self.foreign if writer.is_alive()]
        return busy if self._task.done() else ["sdk", *busy]


async def run(settings: Settings) -> Result:
    """Raises StartFailure if there is nothing to disturb."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    began = time.monotonic()
    book = Book()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=40)
    async with (
        opened_world(settings.folder, settings.partitions) as world,
        httpx.AsyncClient(limits=limits) as http,
    ):
        doors = Doors(http, world.urls, {login.name: login.token for login in world.owners})
        audience = Audience(world, book, doors, settings.manner, settings.seed)
        nemesis = Nemesis(world)
        listening = asyncio.create_task(audience.run())
        writers = Writers(world, book, settings)
        try:
            await audience.opened()
            async with writers.writing():
                deeds = (
                    [] if settings.calm else plan(settings.seed, settings.seconds, settings.pace)
                )
                await nemesis.run(deeds, settings.seconds)
                writers.stop()
                rested_s = await _rest(writers, audience, book, settings, nemesis)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        record = await _recorded(world, book, audience, doors)
    return Result(
        settings=settings,
        ledger=judge(record),
        kills_and_pauses=nemesis.kills_and_pauses,
        deeds=dict(nemesis.done),
        findings=nemesis.findings,
        log=nemesis.log,
        rested_s=rested_s,
        took_s=time.monotonic() - began,
        refusals=_refusals(audience),
    )


async def _rest(
    writers: Writers, audience: Audience, book: Book, settings: Settings, nemesis: Nemesis
) -> float:
    """Wait until all is confirmed and told, or the time is up; the seconds it took."""
    began = time.monotonic()
    before: Sequence[str] | dict[str, int] = []
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        rested_s = time.monotonic() - began
        if failed := writers.failed:
            nemesis.findings.append(failed)
            return rested_s
        missing: Sequence[str] | dict[str, int] = writers.busy
        if not missing:
            missing = audience.missing(_ended(book))
        if not missing:
            return rested_s
        if missing != before:
            nemesis.say(f"waiting for {missing}")
            before = missing
        if rested_s > settings.rest_s:
            nemesis.findings.append(f"no rest after {rested_s:.0f} s: {missing}")
            return rested_s


def _ended(book: Book) -> set[JobKey]:
    return {key for key, one in book.expected().items() if one.final is not None}


async def _recorded(world: World, book: Book, audience: Audience, doors: Doors) -> Record:
    expected = dict(book.expected())
    finals = await final_answers(doors, expected)
    owners = [login.name for login in world.owners]
    return Record(
        expected=expected,
        stored=await stored_changes(world.redis.url, owners, finals),
        deliveries={one.owner: one.deliveries for one in audience.subscribers},
        feeds=[reader.record for reader in audience.feeds],
        streams=[reader.record for reader in audience.readers],
        polls=[poller.record for poller in audience.pollers],
        finals=finals,
    )


def _refusals(audience: Audience) -> dict[str, int]:
    """Answers that were neither a job nor a stream, by who got them.

    A long poll for a job that is not known yet may end with 404; a stream with a cursor may not.
    """
    found: Counter[str] = Counter()
    for reader in (*audience.feeds, *audience.readers):
        for one in reader.record.connections:
            if one.status not in {0, 200, 204}:
                resumed = "a resumed stream" if one.cursor else "a new stream"
                found[f"{one.status} for {resumed}"] += 1
    for poller in audience.pollers:
        found.update(f"{status} for a long poll" for status in poller.refused)
    return dict(found)
