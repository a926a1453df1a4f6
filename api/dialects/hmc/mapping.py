"""The native model in the HMC's words: Query Job Status, and errors with their reason codes.

Pure. Promises: what is told of a job is what `zhmcclient` needs, which deletes a complete job
before it looks at the codes: `job-reason-code` wherever the status code is not 2xx, and
`job-results` an object.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from api.problems import KINDS, Problem
from broker.notices import COMPLETION, job_uri
from jobcast.job import NO_RESULT, Job, Status

STATUS: Final[Mapping[Status, str]] = {
    Status.QUEUED: "running",
    Status.RUNNING: "running",
    Status.CANCEL_PENDING: "cancel-pending",
    Status.SUCCEEDED: "complete",
    Status.FAILED: "complete",
    Status.CANCELED: "canceled",
}
CODES: Final[Mapping[Status, int]] = {
    Status.SUCCEEDED: 200,
    Status.FAILED: 500,
    Status.CANCELED: 499,
}
"""Of an end that names none."""
GOOD: Final = range(200, 300)


def job_status(job: Job) -> dict[str, Any]:
    """The answer to Query Job Status."""
    told: dict[str, Any] = {"status": STATUS[job.status]}
    if not job.ended:
        return told
    code = told["job-status-code"] = _code(job)
    if code not in GOOD:
        told["job-reason-code"] = job.reason_code or 0
    results = _results(job)
    return told if results is None else told | {"job-results": results}


def _code(job: Job) -> int:
    code = CODES[job.status] if job.status_code is None else job.status_code
    # A failure is told from a success by its code alone.
    return CODES[job.status] if job.status is Status.FAILED and code in GOOD else code


def _results(job: Job) -> Any:
    if bytes(job.result) != bytes(NO_RESULT):
        return job.result if bytes(job.result).startswith(b"{") else {"value": job.result}
    if job.status is Status.FAILED:
        return {"message": job.error.message if job.error else ""}
    return None


def notice(job_id: str) -> dict[str, Any]:
    """The completion notice as JSON: its properties, and its body, which says nothing."""
    return {
        "headers": {"notification-type": COMPLETION, "job-uri": job_uri(job_id)},
        "body": None,
    }


class Told(NamedTuple):
    """An error. `reason` 0: there is nothing finer to say."""

    status: int
    reason: int
    message: str


NO_JOB: Final = Told(404, 1, "There is no such job of this user")
ERRORS: Final[Mapping[str, Told]] = {
    "job-not-found": NO_JOB,
    "job-expired": NO_JOB,
    "job-deleted": NO_JOB,
    "not-found": Told(404, 1, "There is nothing at this URI"),
    "unauthorized": Told(403, 5, "The session is not known, or has ended"),
    "forbidden": Told(403, 1, "The user's roles do not allow this"),
    "method-not-allowed": Told(405, 1, "The URI does not have this method"),
    "not-cancelable": Told(404, 4, "The job's operation cannot be canceled"),
    "not-ended": Told(409, 40, "The job has not ended"),
    "already-ended": Told(409, 41, "The job has already ended"),
    "cancel-pending": Told(409, 42, "The job is already to be canceled"),
}
"""By the name of the native problem; what is not here has the native status and title."""


class Refusal(Problem):
    """A problem that only the HMC has a reason for; `name` is its native relative."""

    def __init__(self, name: str, status: int, reason: int, message: str) -> None:
        super().__init__(name, message)
        self.told = Told(status, reason, message)


def error(problem: Problem) -> Told:
    if isinstance(problem, Refusal):
        return problem.told
    status, title = KINDS[problem.name]
    return ERRORS.get(problem.name, Told(status, 0, problem.detail or title))
