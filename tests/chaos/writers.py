"""Executors that report with the SDK: every other job event by event, the rest as job blocks."""

import asyncio
from typing import Any, Final

from jobcast.events import Canceled, Event, Failed, Progressed, Queued, Recorded, Started
from jobcast.report import JobReport
from jobcast.reporter import Reporter
from tests.chaos.book import Book
from tests.chaos.life import Life, Lives

PATIENCE_S: Final = 3_600.0
"""The run's own deadline ends a wait for confirms, not the reporter's."""


class Bucket:
    """So many a second and no more, for all who take from it."""

    def __init__(self, per_s: float) -> None:
        self._step_s = 1 / per_s
        self._next = 0.0

    async def take(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1.0) + self._step_s
        await asyncio.sleep(max(0.0, self._next - now))


class SdkWriter:
    """`jobs` at a time over one Reporter, at most `per_s` events a second."""

    def __init__(self, url: str, book: Book, lives: Lives, *, jobs: int, per_s: float) -> None:
        self._book = book
        self._lives = lives
        self._jobs = jobs
        self._bucket = Bucket(per_s)
        self._stopping = False
        self._reporter = Reporter(url, owner="nobody", source="/chaos/sdk", close_s=PATIENCE_S)

    def stop(self) -> None:
        """Begin no more jobs, and end those begun without pauses."""
        self._stopping = True

    def abandon(self) -> None:
        """Before the cancellation of `run`: what is not confirmed by now will not be."""
        self._reporter.close_s = 1.0

    async def run(self) -> None:
        """Returns when every job begun has ended and all is confirmed."""
        async with self._reporter as reporter, asyncio.TaskGroup() as tasks:
            for _ in range(self._jobs):
                tasks.create_task(self._work(reporter))

    async def _work(self, reporter: Reporter) -> None:
        while not self._stopping:
            life = self._lives.next()
            self._book.open(life)
            if life.number % 2:
                await self._tell(reporter, life)
            else:
                await self._execute(reporter, life)

    async def _pause(self, life: Life) -> None:
        await self._bucket.take()
        if not self._stopping:
            await asyncio.sleep(life.pause_s)

    async def _tell(self, reporter: Reporter, life: Life) -> None:
        """Every event awaits its confirm."""
        for event in life.events:
            await self._pause(life)
            await reporter.deliver(event, operation=life.operation)
            self._book.confirm(life, [event])

    async def _execute(self, reporter: Reporter, life: Life) -> None:
        """As a program would: only the end awaits its confirm, and all before it went before."""
        owner, job_id = life.key
        named: Any = {"owner": owner, "operation": life.operation}
        events = list(life.events)
        if isinstance(events[0], Queued):
            await reporter.queued(job_id, message="waits", **named)
            del events[0]
        async with reporter.job(job_id, message="attempt 1", **named) as job:
            for event in events[1:]:
                await self._pause(life)
                await _report(job, event)
        self._book.confirm_all(life)


async def _report(job: JobReport, event: Event) -> None:
    match event:
        case Started():
            await job.next_attempt(event.message)
        case Progressed():
            await job.progress(event.percent, message=event.message)
        case Recorded():
            await job.record(event.target, event.code, event.message)
        case Failed():
            job.fail("error", event.message or "")
        case Canceled():
            job.cancel(event.message)
        case _:
            job.succeed(result={"n": 1}, message=getattr(event, "message", None))
