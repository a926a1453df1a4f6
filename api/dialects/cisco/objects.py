"""The guide's data objects as JSON, and what of the native model each of their members is.

Pure values and mappings, field for field as docs/dialects.md has them. Cisco's own error codes are
not published: those here are ours.
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from msgspec import Raw, Struct

from jobcast import job as native
from jobcast.change import Record


class Code(IntEnum):
    """What an operation came to. 3 (NOT_OWNER) is never said: it would tell that the job exists."""

    SUCCESS = 0
    JOB_ID_NOT_FOUND = 1
    JOB_ID_MISSING = 2
    JOB_ALREADY_COMPLETE = 4
    KILL_NOT_SUPPORTED = 5
    INVALID_PAGINATION = 6
    DUPLICATE_ID = 7
    JOB_RUNNING = 8
    TOO_MANY_RECORDS = 9
    INTERNAL = 99


TEXTS: Final[Mapping[Code, str]] = {
    Code.SUCCESS: "",
    Code.JOB_ID_NOT_FOUND: "there is no such job",
    Code.JOB_ID_MISSING: "the id of a job is wanted",
    Code.JOB_ALREADY_COMPLETE: "the job has already ended",
    Code.KILL_NOT_SUPPORTED: "the job cannot be killed",
    Code.INVALID_PAGINATION: "offset: 0 or more, max: -1 or more is wanted",
    Code.DUPLICATE_ID: "the id was given before",
    Code.JOB_RUNNING: "the job has not ended",
    Code.TOO_MANY_RECORDS: "the job has as many records as a job may have",
    Code.INTERNAL: "it could not be done",
}

PROBLEMS: Final[Mapping[str, Code]] = {
    "job-not-found": Code.JOB_ID_NOT_FOUND,
    "job-deleted": Code.JOB_ID_NOT_FOUND,
    "job-expired": Code.JOB_ID_NOT_FOUND,
    "already-ended": Code.JOB_ALREADY_COMPLETE,
    "cancel-pending": Code.SUCCESS,  # what is wanted is so already
    "not-cancelable": Code.KILL_NOT_SUPPORTED,
    "not-ended": Code.JOB_RUNNING,
    "too-many-records": Code.TOO_MANY_RECORDS,
}
"""Problems of `api.problems` that are operation errors; all others are no results."""

STATES: Final[Mapping[native.Status, str]] = {
    native.Status.QUEUED: "running",
    native.Status.RUNNING: "running",
    native.Status.CANCEL_PENDING: "running",
    native.Status.SUCCEEDED: "complete",
    native.Status.FAILED: "incomplete",
    native.Status.CANCELED: "incomplete",
}

SUCCESSES: Final = range(200, 300)
FAILURE: Final = 500


class Status(Struct, frozen=True, kw_only=True, rename="camel"):
    """A code, its name, and a text, empty for SUCCESS but where a list was cut short."""

    error_code: Code = Code.SUCCESS
    error_name: str = Code.SUCCESS.name
    error_message: str = ""


class UserToken(Struct, frozen=True, kw_only=True, rename="camel"):
    """`timeout`: seconds for which the token is good."""

    token: str
    username: str
    timeout: int
    ssl_enabled: bool


class IDStatusItem(Status, frozen=True, kw_only=True, rename="camel"):
    id: str


class IDStatus(Status, frozen=True, kw_only=True, rename="camel"):
    items: list[IDStatusItem]


class ProgressStatus(Status, frozen=True, kw_only=True, rename="camel"):
    """Percentages are whole numbers, rounded down: 100 is the whole of it."""

    job_id: str | None
    overall_percentage: int = 0
    target_ids: list[str] = []
    target_progress: list[int] = []


class ClmJob(Struct, frozen=True, kw_only=True, rename="camel"):
    """`error_code` and `error_message` are the job's own: 0 unless it is incomplete."""

    job_id: str
    user_name: str
    operation: str
    job_group: str | None
    state: str
    submit_time: str
    start_time: str | None
    complete_time: str | None
    comment: str | None
    error_code: int
    error_message: str
    result: Raw


class ClmJobStatusItem(Struct, frozen=True):
    job: ClmJob


class ClmJobStatus(Status, frozen=True, kw_only=True, rename="camel"):
    """`items`: ClmJobStatusItems, encoded."""

    items: list[Raw]


class PersistentIDStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """`error_code` and `error_message` are the target's own."""

    job_id: str
    job_group: str | None
    id: str
    error_code: int
    error_message: str
    timestamp: str | None


class PersistentIDStatusPagingInfo(Status, frozen=True, kw_only=True, rename="camel"):
    """`total`: how many there are, whatever part of them is here."""

    total: int
    offset: int
    max: int
    items: list[PersistentIDStatus]


def said(code: Code, message: str | None = None) -> dict[str, Any]:
    """The members of a Status with this code."""
    text = TEXTS[code] if message is None else message
    return {"error_code": code, "error_name": code.name, "error_message": text}


def status(code: Code, message: str | None = None) -> Status:
    return Status(**said(code, message))


def clm_job(job: native.Job) -> ClmJob:
    code, message = verdict(job)
    return ClmJob(
        job_id=job.id,
        user_name=job.owner,
        operation=job.operation,
        job_group=job.group,
        state=STATES[job.status],
        submit_time=job.created_at,
        start_time=job.started_at,
        complete_time=job.ended_at,
        comment=job.comment,
        error_code=code,
        error_message=message,
        result=job.result,
    )


def verdict(job: native.Job) -> tuple[int, str]:
    """How the job came out. A code that speaks of success is none of a failure."""
    if STATES[job.status] != "incomplete":
        return Code.SUCCESS, (job.message or "") if job.outcome == "warning" else ""
    code = FAILURE if job.status_code is None or job.status_code in SUCCESSES else job.status_code
    text = job.error.message if job.error is not None else ""
    return code, text or job.message or job.status.value


def progress(job: native.Job) -> ProgressStatus:
    """Of one that has ended: all of it is done, whatever became of it."""
    percent = 100 if job.ended else math.floor(job.percent or 0)
    return ProgressStatus(
        job_id=job.id,
        overall_percentage=percent,
        target_ids=list(job.targets),
        target_progress=[math.floor(done) for done in job.targets.values()],
    )


def persistent(record: Record) -> PersistentIDStatus:
    return PersistentIDStatus(
        job_id=record.job,
        job_group=record.group,
        id=record.target,
        error_code=record.code,
        error_message=record.message or "",
        timestamp=record.at,
    )
