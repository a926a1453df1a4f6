"""Lifecycle events as frozen values: what executors, and the service itself, say of a job.

`jobcast.wire` makes them from messages and messages from them. An event is named by `source` and
`id`: the same pair again is a repeat. Times are aware datetimes; `result` is compact JSON text.
"""

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from jobcast.bounds import (
    Counter,
    Group,
    Integer,
    Labels,
    Name,
    Operation,
    Percent,
    Seconds,
    StatusCode,
    Target,
    Targets,
    Text,
)
from jobcast.job import NO_RESULT, JobError, Resource


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every lifecycle event has (docs/protocol.md § 3)."""

    type: ClassVar[str]

    id: str
    source: str
    owner: str
    job_id: str
    attempt: int = 1
    sequence: int | None = None
    time: datetime | None = None
    traceparent: str | None = None


class Described(Event, frozen=True, kw_only=True):
    """An event that may describe its job. What is None is not said."""

    operation: Operation | None = None
    group: Group | None = None
    name: Name | None = None
    resource: Resource | None = None
    cancelable: bool | None = None
    labels: Labels | None = None
    lease_s: Seconds | None = None
    message: Text | None = None


class Queued(Described, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.queued"


class Started(Described, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.started"


class Progressed(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.progressed"

    percent: Percent | None = None
    targets: Targets | None = None
    message: Text | None = None


class Heartbeat(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.heartbeat"


class Recorded(Event, frozen=True, kw_only=True):
    """A line about one target, kept with the job. `group` None means the job's."""

    type: ClassVar[str] = "job.recorded"

    target: Target
    code: Integer
    message: Text | None = None
    group: Group | None = None


class Succeeded(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.succeeded"

    outcome: Literal["normal", "warning"] | None = None
    status_code: StatusCode | None = None
    result: msgspec.Raw = NO_RESULT
    message: Text | None = None


class Failed(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.failed"

    outcome: Literal["error", "partial-failures"] | None = None
    status_code: StatusCode | None = None
    reason_code: Integer | None = None
    error: JobError | None = None
    result: msgspec.Raw = NO_RESULT
    message: Text | None = None


class Canceled(Event, frozen=True, kw_only=True):
    type: ClassVar[str] = "job.canceled"

    status_code: StatusCode | None = None
    message: Text | None = None
    result: msgspec.Raw = NO_RESULT


class CancelRequested(Event, frozen=True, kw_only=True):
    """The service's own: somebody who may wants the job canceled."""

    type: ClassVar[str] = "job.cancel-requested"


class Commented(Event, frozen=True, kw_only=True):
    """The service's own: the owner's comment; None clears it."""

    type: ClassVar[str] = "job.commented"

    comment: Text | None = None


class Deleted(Event, frozen=True, kw_only=True):
    """The service's own: the owner wants an ended job gone."""

    type: ClassVar[str] = "job.deleted"


class Lost(Event, frozen=True, kw_only=True):
    """The service's own verdict on a silent executor; void if the job has moved since.

    `version` and `heard_at` (milliseconds since 1970) are what the watch saw.
    """

    type: ClassVar[str] = "job.lost"

    version: Counter
    heard_at: Counter


End = Succeeded | Failed | Canceled
Own = CancelRequested | Commented | Deleted | Lost

EXECUTORS: tuple[type[Event], ...] = (
    Queued,
    Started,
    Progressed,
    Heartbeat,
    Recorded,
    Succeeded,
    Failed,
    Canceled,
)
OWN: tuple[type[Event], ...] = (CancelRequested, Commented, Deleted, Lost)
BY_TYPE: dict[str, type[Event]] = {kind.type: kind for kind in (*EXECUTORS, *OWN)}
