"""What the service says of a job over AMQP: notifications and commands (docs/protocol.md § 4, 5).

The body is built around the stored snapshot's bytes, so that a repeat is the same to the byte.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from jobcast.bounds import Time
from jobcast.job import Job, milliseconds
from jobcast.message import Message
from jobcast.names import COMMANDS, EVENTS, command_key, events_key

CONTENT_TYPE: Final = "application/cloudevents+json"
APP_ID: Final = "jobcast"
SOURCE: Final = "/jobcast"
PRIORITY: Final = 4
CANCEL: Final = "job.cancel"


class Notice(Struct, frozen=True, kw_only=True):
    """One change of one job, ready to be told: `snapshot` is the representation after it."""

    job: Job
    snapshot: bytes
    event: str
    cursor: str
    traceparent: str | None = None


def message_id(job: Job) -> str:
    """`<owner>/<job id>/<version>`, the same on every repeat."""
    return f"{job.owner}/{job.id}/{job.version}"


def notification(notice: Notice) -> Message:
    """The message for `job.events`."""
    job = notice.job
    named = message_id(job)
    type_ = f"job.{notice.event}"
    return Message(
        exchange=EVENTS,
        routing_key=events_key(job.owner, job.operation, notice.event, job.id),
        body=_cloudevent(notice, named, type_, notice.snapshot),
        message_id=named,
        content_type=CONTENT_TYPE,
        correlation_id=job.id,
        type=type_,
        timestamp=milliseconds(job.updated_at) // 1000,
        headers=_headers(notice),
        priority=PRIORITY,
        app_id=APP_ID,
    )


def command(notice: Notice) -> Message:
    """The message for `job.commands` that asks the executor to cancel."""
    job = notice.job
    named = message_id(job)
    data = msgspec.json.encode({"operation": job.operation})
    return Message(
        exchange=COMMANDS,
        routing_key=command_key(job.operation, "cancel", job.id),
        body=_cloudevent(notice, named, CANCEL, data),
        message_id=named,
        content_type=CONTENT_TYPE,
        correlation_id=job.id,
        type=CANCEL,
        timestamp=milliseconds(job.updated_at) // 1000,
        headers={
            "owner": job.owner,
            "operation": job.operation,
            "job_id": job.id,
            "attempt": job.attempt,
        },
        priority=PRIORITY,
        app_id=APP_ID,
    )


def _cloudevent(notice: Notice, named: str, type_: str, data: bytes) -> bytes:
    job = notice.job
    trace = f'"traceparent":"{notice.traceparent}",' if notice.traceparent else ""
    # Every value here is of an alphabet that JSON needs no escapes for.
    head = (
        f'{{"specversion":"1.0","id":"{named}","source":"{SOURCE}","type":"{type_}",'
        f'"subject":"{job.id}","owner":"{job.owner}","attempt":{job.attempt},'
        f'"sequence":"{job.version}","time":"{job.updated_at}",{trace}'
        f'"datacontenttype":"application/json","data":'
    )
    return b"".join((head.encode(), data, b"}"))


def _headers(notice: Notice) -> dict[str, Any]:
    """Flat, legal JMS property names, strings and integers; absent where null."""
    job = notice.job
    headers = {
        "owner": job.owner,
        "operation": job.operation,
        "event": notice.event,
        "job_group": job.group,
        "job_id": job.id,
        "status": job.status.value,
        "outcome": job.outcome,
        "status_code": job.status_code,
        "reason_code": job.reason_code,
        "attempt": job.attempt,
        "version": job.version,
        "cursor": notice.cursor or None,
    }
    return {name: value for name, value in headers.items() if value is not None}


class Notification(Struct, frozen=True):
    """A notification as its receiver reads it: what happened, and the job after it.

    `event`: `queued`, `started`, `succeeded` …; `cursor`: where it stands in the owner's feed, to
    go on from over SSE; `timestamp`: when the change was stored.
    """

    message_id: str
    event: str
    job: Job
    timestamp: datetime
    cursor: str | None = None
    traceparent: str | None = None

    @property
    def owner(self) -> str:
        return self.job.owner

    @property
    def version(self) -> int:
        return self.job.version


def oldest_cursor(cursors: Iterable[str]) -> str:
    """Where to go on over SSE for several jobs of one owner, each with its last cursor.

    Raises ValueError for none, or one that no notification has had.
    """
    return min(cursors, key=lambda cursor: [int(part) for part in cursor.split("-")])


class _Body(Struct):
    id: str
    type: str
    time: Time
    data: Raw
    traceparent: str | None = None


_BODY: Final = msgspec.json.Decoder(_Body)
_JOB: Final = msgspec.json.Decoder(Job)


def decode_notification(body: bytes, cursor: str | None = None) -> Notification:
    """Read the body of a message from `job.events`; `cursor` stands in a header.

    Raises one of `jobcast.reasons.UNREADABLE`.
    """
    read = _BODY.decode(body)
    return Notification(
        message_id=read.id,
        event=read.type.removeprefix("job."),
        job=_JOB.decode(read.data),
        timestamp=read.time,
        cursor=cursor,
        traceparent=read.traceparent,
    )


class Command(Struct, frozen=True):
    """Somebody wants the job canceled; `attempt` is the one that ran when it was said."""

    owner: str
    job_id: str
    attempt: int = 1


class _CommandBody(Struct):
    type: str
    owner: str
    subject: str
    attempt: int = 1


_COMMAND: Final = msgspec.json.Decoder(_CommandBody)


def decode_command(body: bytes) -> Command | None:
    """Read the body of a message from `job.commands`; None for what is no `job.cancel`."""
    try:
        read = _COMMAND.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Command(read.owner, read.subject, read.attempt) if read.type == CANCEL else None
