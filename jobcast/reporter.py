"""What an executor uses to report on its jobs over RabbitMQ.

    async with Reporter("amqp://…", owner="alice") as reporter:
        async with reporter.job(operation="backup") as job:
            await job.progress(40, message="copying")

Owns the connection and a bounded buffer. Promises that every event taken is sent until the broker
has confirmed it, in order within its job and under the same id, or named in `Undelivered`; that
each job block reports exactly one end; that a job learns that it is to be canceled, whenever that
was said. Never lets the broker's absence disturb the work itself, except that a full buffer makes
the caller wait.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlsplit
from uuid import uuid4

from jobcast.dispatch import Dispatcher
from jobcast.errors import JobcastError
from jobcast.events import End, Event, Heartbeat, Queued, Started
from jobcast.holdings import Holdings, Tell, operation_of
from jobcast.job import DEFAULT_OPERATION, Resource
from jobcast.outbox import checked
from jobcast.report import JobReport

log = logging.getLogger(__name__)

EVENTS_MAX: Final = 10_000
CLOSE_S: Final = 30.0

E = TypeVar("E", bound=Event)


class Undelivered(JobcastError):
    """The broker has not confirmed these events in time; they may or may not have arrived."""

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__(f"{len(events)} event(s) could not be delivered to the broker")
        self.events = tuple(events)


class Description(TypedDict, total=False):
    """What may be said of a job when it is queued or started (docs/protocol.md § 2)."""

    owner: str
    operation: str
    group: str
    name: str
    resource: Resource
    cancelable: bool
    labels: dict[str, str]
    lease_s: float
    message: str


class Reporter:
    """`async with Reporter(amqp_url, owner=…)`: returns at once, connects in the background.

    `source` names this executor in its events, by default by host and process. At most
    `buffer_max` events (and each open job's end) wait for the broker. Leaving the block waits at
    most `close_s` seconds for the confirms, then raises Undelivered; if the block is left with an
    exception, that one goes on, with a note. Raises ValueError for a URL that is not AMQP.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        owner: str,
        source: str | None = None,
        buffer_max: int = EVENTS_MAX,
        close_s: float = CLOSE_S,
    ) -> None:
        if urlsplit(amqp_url).scheme not in {"amqp", "amqps"}:
            raise ValueError("an amqp:// or amqps:// URL is wanted")
        self.owner = owner
        self.source = source or f"/executors/{quote(socket.gethostname(), safe='')}/{os.getpid()}"
        self.close_s = close_s
        self._holdings = Holdings()
        self._dispatcher = Dispatcher(amqp_url, self._holdings, events_max=buffer_max)
        self._group = asyncio.TaskGroup()
        self._gave_up = False  # on a confirm, and nothing has been said since: do not wait twice

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._sending = self._group.create_task(self._dispatcher.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Order: wait for the confirms → stop sending, close the connection → tell what is left."""
        try:
            async with asyncio.timeout(0 if self._gave_up else self.close_s):
                await self._dispatcher.drained()
        except TimeoutError:
            pass  # told below
        finally:
            self._sending.cancel()
            # Without the block's exception: the group would wrap it into an ExceptionGroup.
            await self._group.__aexit__(None, None, None)
        if self.undelivered:
            undelivered = Undelivered(self.undelivered)
            if error is None:
                raise undelivered
            error.add_note(str(undelivered))

    @property
    def undelivered(self) -> list[Event]:
        """What the broker has not confirmed at this moment."""
        return self._dispatcher.undelivered

    def job(
        self,
        job_id: str | None = None,
        *,
        attempt: int = 1,
        grace_s: float | None = 0.0,
        **description: Unpack[Description],
    ) -> JobReport:
        """A job that begins and ends with an `async with` block; see JobReport.

        The id is used once per owner; by default it is random. With `lease_s` (seconds) heartbeats
        are sent for it as long as the block is open. A job that was queued is given the operation
        that it was queued with: its commands are routed by it. When the job is to be canceled the
        block has `grace_s` seconds to end by itself; with None it is never cancelled.
        """
        facts = dict(description)
        return JobReport(self, job_id or str(uuid4()), facts, attempt=attempt, grace_s=grace_s)

    async def queued(
        self, job_id: str | None = None, *, attempt: int = 1, **description: Unpack[Description]
    ) -> str:
        """Says that the job waits for its execution. Answers its id, to be given to `job`."""
        job_id = job_id or str(uuid4())
        facts: dict[str, Any] = dict(description)
        facts.setdefault("operation", DEFAULT_OPERATION)
        event = self.event(Queued, job_id, attempt=attempt, sequence=1, **facts)
        self._dispatcher.listen_for(facts["operation"])
        await self.send(event, operation=facts["operation"])
        return job_id

    def event(self, kind: type[E], job_id: str, **fields: Any) -> E:
        """A new event of this executor, now. Nothing is sent."""
        named: dict[str, Any] = {
            "id": str(uuid4()),
            "source": self.source,
            "owner": self.owner,
            "time": datetime.now(UTC),
        }
        return kind(job_id=job_id, **(named | fields))

    async def send(
        self, event: Event, *, operation: str = DEFAULT_OPERATION, on_cancel: Tell | None = None
    ) -> None:
        """Takes the event over; waits only while the buffer is full.

        With a Started, for jobs without a block: `on_cancel` is called in the event loop, at most
        once, if the job is to be canceled before its end is sent.
        Raises InvalidEvent if the service would refuse it.
        """
        entry = checked(event, operation)
        self._gave_up = False
        if on_cancel is not None:
            self._dispatcher.listen_for(operation_of(entry))
        await self._dispatcher.put(entry)
        if on_cancel is not None and isinstance(event, Started):
            self._holdings.take(entry, on_cancel)
        elif isinstance(event, End):
            self._holdings.drop(entry.lane, event.attempt)

    async def deliver(self, event: Event, *, operation: str = DEFAULT_OPERATION) -> None:
        """As `send`, and waits for the broker's confirm, at most `close_s` seconds.

        After that the event stays in the buffer and is still sent.
        """
        entry = checked(event, operation)
        self._gave_up = False
        if isinstance(event, End):
            self._holdings.drop(entry.lane, event.attempt)
        try:
            async with asyncio.timeout(self.close_s):
                await self._dispatcher.deliver(entry)
        except TimeoutError:
            self._gave_up = True
            log.info("%s of job %s is not confirmed yet", event.type, event.job_id)

    def release(self, job: "JobReport") -> None:
        """The job's commands are nobody's any more."""
        self._holdings.drop((job.owner, job.id), job.attempt)

    def beat(self, event: Heartbeat, *, operation: str) -> None:
        """Sends a heartbeat, unless something of the job waits: that says as much."""
        entry = checked(event, operation)
        if not self._dispatcher.holds(entry.lane):
            self._dispatcher.put_now(entry)

    def in_background(self, job: "JobReport") -> asyncio.Task[None]:
        """Runs the job's heartbeats until the answer is cancelled."""
        return self._group.create_task(job.beat())
