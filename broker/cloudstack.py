"""A job as Apache CloudStack tells of it: what its API and its event bus have in common.

Owns the words and numbers of both (docs/dialects.md). Pure: a job in, values out.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

from msgspec import Raw

from jobcast.job import NO_RESULT, Job, Status

NAMESPACE: Final = uuid5(NAMESPACE_DNS, "cloudstack.jobcast")
DOMAIN: Final = "ROOT"
DOMAIN_ID: Final = str(uuid5(NAMESPACE, "/"))
"""All accounts are in one domain. No owner can have a slash in the name."""
INTERNAL_ERROR: Final = 530


class JobStatus(IntEnum):
    """Clients know of no fourth."""

    IN_PROGRESS = 0
    SUCCEEDED = 1
    FAILED = 2


JOB_STATUS: Final[Mapping[Status, JobStatus]] = {
    Status.QUEUED: JobStatus.IN_PROGRESS,
    Status.RUNNING: JobStatus.IN_PROGRESS,
    Status.CANCEL_PENDING: JobStatus.IN_PROGRESS,
    Status.SUCCEEDED: JobStatus.SUCCEEDED,
    Status.FAILED: JobStatus.FAILED,
    Status.CANCELED: JobStatus.FAILED,
}


@lru_cache(maxsize=1_000)
def id_of(owner: str) -> str:
    """The UUID of the owner as a user and as an account, which are one here."""
    return str(uuid5(NAMESPACE, owner))


def process_status(job: Job) -> int:
    return 0 if job.ended else 1


def result_code(job: Job) -> int:
    """0 for what has not failed, and never 0 for what has."""
    if JOB_STATUS[job.status] is not JobStatus.FAILED:
        return 0
    if job.status is Status.CANCELED:
        return INTERNAL_ERROR
    return job.status_code or INTERNAL_ERROR


def error_text(job: Job) -> str:
    """Why it has failed; never empty."""
    if job.status is Status.CANCELED:
        return job.message or "The job was canceled"
    told = job.error.message or job.error.code if job.error is not None else job.message
    return told or "The job failed"


def job_result(job: Job) -> tuple[str, Any] | None:
    """What has come of it, and its kind, `object` or `text`; None while it is under way."""
    if not job.ended:
        return None
    if JOB_STATUS[job.status] is JobStatus.FAILED:
        return "object", {"errorcode": result_code(job), "errortext": error_text(job)}
    if job.result == NO_RESULT:
        return "object", {"success": True}
    return ("object" if _is_container(job.result) else "text"), job.result


def _is_container(result: Raw) -> bool:
    """Whether it is an object or a list, in compact JSON."""
    return bytes(result)[:1] in {b"{", b"["}
