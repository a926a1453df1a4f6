"""The load: events of made-up jobs as executors send them, and what must become of them.

Each job: queued, started, seven times progressed, an end (every tenth fails). That is ten events,
ten versions and three changes of status, about 330 bytes an event.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

from jobcast.events import Event, Failed, Heartbeat, Progressed, Queued, Started, Succeeded
from jobcast.job import JobError, Resource, Status
from jobcast.message import Message
from jobcast.names import LIFECYCLE
from jobcast.wire import BATCH, STRUCTURED, encode_batch, encode_event

EVENTS_PER_JOB: Final = 10
NOTIFIED: Final = (1, 2, EVENTS_PER_JOB)
"""The versions that are changes of status."""

SOURCE: Final = "/executors/bench/1"
TAIL_OWNER: Final = "bench-tail"


class Spec(msgspec.Struct, frozen=True):
    """One job of the load."""

    owner: str
    job_id: str
    fails: bool

    @property
    def status(self) -> Status:
        return Status.FAILED if self.fails else Status.SUCCEEDED


def specs(jobs: int, owners: int) -> list[Spec]:
    """So many new jobs, of so many new owners."""
    run = uuid4().hex[:8]
    return [
        Spec(f"bench-{run}-{number % owners}", str(uuid4()), number % 10 == 9)
        for number in range(jobs)
    ]


def event(spec: Spec, number: int) -> Event:
    """The job's event of that number, from 0."""
    common: dict[str, Any] = {
        "id": str(uuid4()),
        "source": SOURCE,
        "owner": spec.owner,
        "job_id": spec.job_id,
        "sequence": number + 1,
        "time": datetime.now(UTC),
    }
    if number == 0:
        return Queued(
            operation="backup",
            name="nightly backup of the file server",
            resource=Resource("volume", "vol-17"),
            labels={"site": "north", "tier": "gold"},
            **common,
        )
    if number == 1:
        return Started(message="reading the catalogue", **common)
    if number < EVENTS_PER_JOB - 1:
        percent = 12.5 * (number - 1)
        return Progressed(percent=percent, message=f"copying, part {number - 1} of 7", **common)
    if spec.fails:
        return Failed(error=JobError("no-space", "the target is full"), **common)
    result = msgspec.Raw(b'{"files":18231,"bytes":734003200,"seconds":341}')
    return Succeeded(result=result, message="done", **common)


def singles(jobs: Sequence[Spec], live: int) -> Iterator[Message]:
    """One event a message; about `live` jobs are open at any time and take turns."""
    step = live / (EVENTS_PER_JOB - 1)
    turns = sorted(
        (at + number * step, at, number)
        for at in range(len(jobs))
        for number in range(EVENTS_PER_JOB)
    )
    return (single(event(jobs[at], number)) for _, at, number in turns)


def batches(jobs: Sequence[Spec], size: int) -> Iterator[Message]:
    """`size` events a message, whole jobs each."""
    per_message = size // EVENTS_PER_JOB
    for start in range(0, len(jobs), per_message):
        some = jobs[start : start + per_message]
        yield batch([event(spec, number) for spec in some for number in range(EVENTS_PER_JOB)])


def single(one: Event) -> Message:
    return Message(
        exchange=LIFECYCLE,
        routing_key=f"backup.{one.type.rpartition('.')[2]}",
        body=encode_event(one),
        message_id=one.id,
        content_type=STRUCTURED,
        correlation_id=one.job_id,
    )


def batch(events: Sequence[Event]) -> Message:
    return Message(
        exchange=LIFECYCLE,
        routing_key="backup.batch",
        body=encode_batch(events),
        message_id=events[0].id,
        content_type=BATCH,
    )


def tail(prefetch: int) -> tuple[Spec, list[Message]]:
    """A prefetch of messages whose last makes a job: once that is stored, all before is acked.

    The broker hands the last one out only when what is unacknowledged is less than the prefetch.
    Those before it are heartbeats of an unknown job, which change nothing.
    """
    spec = Spec(TAIL_OWNER, str(uuid4()), fails=False)
    beats = [
        Heartbeat(id=str(uuid4()), source=SOURCE, owner=TAIL_OWNER, job_id="nobody")
        for _ in range(prefetch - 1)
    ]
    return spec, [*map(single, beats), single(event(spec, 0))]
