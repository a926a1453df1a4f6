"""The job: its representation, its statuses, and the machine they form. Pure values.

The field names, types and bounds are those of docs/protocol.md § 2; the struct encodes to exactly
that JSON object (without `links`, which only HTTP answers have).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from jobcast.bounds import ErrorCode, ErrorText, Name


class Status(StrEnum):
    """Where a job stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCEL_PENDING = "cancel-pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})

NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    Status.QUEUED: FINAL | {Status.RUNNING, Status.CANCEL_PENDING},  # an end may overtake its start
    Status.RUNNING: FINAL | {Status.CANCEL_PENDING},
    Status.CANCEL_PENDING: FINAL,
    **dict.fromkeys(FINAL, frozenset[Status]()),
}
"""Within one attempt. A higher attempt begins again at running, queued or cancel-pending."""

ANNOUNCED: Final[Mapping[Status, str]] = {status: status.value for status in Status} | {
    Status.RUNNING: "started"
}
"""The event word that announces a change to a status, on AMQP and SSE."""

OUTCOMES: Final[Mapping[Status, tuple[str, ...]]] = {
    Status.SUCCEEDED: ("normal", "warning"),
    Status.FAILED: ("error", "partial-failures"),
}
"""The outcomes of each end that has one; the first is the default."""

DEFAULT_OPERATION: Final = "job"
RECORDS_MAX: Final = 10_000

NO_RESULT: Final = msgspec.Raw(b"null")


class Resource(msgspec.Struct, frozen=True):
    """What a job works on or creates."""

    type: Name
    id: Name


class JobError(msgspec.Struct, frozen=True):
    """Why a job failed; code `lost` is the service's own verdict."""

    code: ErrorCode = "error"
    message: ErrorText = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as everybody sees it. `result` is compact JSON text, `null` for none."""

    id: str
    owner: str
    operation: str = DEFAULT_OPERATION
    group: str | None = None
    name: str | None = None
    comment: str | None = None
    status: Status
    outcome: str | None = None
    attempt: int = 1
    version: int = 1
    percent: float | None = None
    targets: dict[str, float] = {}
    message: str | None = None
    status_code: int | None = None
    reason_code: int | None = None
    result: msgspec.Raw = NO_RESULT
    error: JobError | None = None
    resource: Resource | None = None
    cancelable: bool = True
    labels: dict[str, str] = {}
    lease_s: float | None = None
    created_at: str
    started_at: str | None = None
    updated_at: str
    ended_at: str | None = None
    expires_at: str | None = None

    @property
    def ended(self) -> bool:
        return self.status in FINAL


@lru_cache(maxsize=8)  # a batch is folded at one moment
def timestamp(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds and `Z`, from milliseconds since 1970."""
    return (
        datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
    )


def milliseconds(text: str) -> int:
    """The inverse of `timestamp`."""
    whole = datetime.fromisoformat(text[:19] + "+00:00")
    return int(whole.timestamp()) * 1000 + int(text[20:23])
