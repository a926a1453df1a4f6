"""A job as Active IQ Unified Manager shows it: the table of states, and the job object.

Promises: every field that the product documents is in every answer, null where the native job has
nothing for it; `key`, `name`, `state` and `status` never are. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from jobcast.job import Job, Status

COMPLETED: Final = "completed"
FULL: Final = 100


class Said(NamedTuple):
    """The two words by which a client knows where a job stands, and how it has ended."""

    state: str
    status: str

    @property
    def failed(self) -> bool:
        """In the product's words."""
        return self.status in {"partial_failures", "error"}


Form = Callable[[Said], Said]
"""From the product's words to those of a form."""

UNDER_WAY: Final[Mapping[Status, str]] = {
    Status.QUEUED: "queued",
    Status.RUNNING: "running",
    Status.CANCEL_PENDING: "running",
}
ENDED: Final[Mapping[tuple[Status, str | None], str]] = {
    (Status.SUCCEEDED, "normal"): "normal",
    (Status.SUCCEEDED, "warning"): "warning",
    (Status.FAILED, "partial-failures"): "partial_failures",
    (Status.FAILED, "error"): "error",
    (Status.CANCELED, None): "error",
}


def said(job: Job) -> Said:
    """In the product's words."""
    if job.ended:
        return Said(COMPLETED, ENDED[job.status, job.outcome])
    return Said(UNDER_WAY[job.status], "normal")


def product(words: Said) -> Said:
    """As the product and its Ansible modules have it: `state` is the life cycle, `status` the
    outcome, in lower case."""
    return words


def guide(words: Said) -> Said:
    """As the guides for 9.7 and 9.8 have it: `state` is the outcome. WARNING is none of the states
    at which their clients stop, so that it is told in `status` alone."""
    status = words.status.upper()
    if words.state != COMPLETED:
        return Said("RUNNING", status)
    return Said("NORMAL" if status == "WARNING" else status, status)


def facts(job: Job, form: Form) -> dict[str, str | None]:
    """The fields by which lists are filtered and ordered."""
    words = form(said(job))
    return {
        "key": job.id,
        "name": job.name or job.operation,
        "type": job.operation,
        "state": words.state,
        "status": words.status,
        "submit_time": _time(job.created_at),
        "complete_time": _time(job.ended_at),
        "parent_job_key": None,
    }


def shown(job: Job, form: Form, href: str) -> dict[str, Any]:
    """The whole job object."""
    return facts(job, form) | {
        "spawned_job_summary": summary(job),
        "job_results": results(job.result),
        "task_reports": task_reports(job, form),
        "_links": {"self": {"href": href}},
    }


def summary(job: Job) -> dict[str, int]:
    """How its targets stand: the parts of the work that a job has spawned."""
    tasks = [_of_target(job, percent) for percent in job.targets.values()]
    good = sum(task == Said(COMPLETED, "normal") for task in tasks)
    bad = sum(task == Said(COMPLETED, "error") for task in tasks)
    canceled = job.status is Status.CANCELED
    return {
        "total_jobs": len(tasks),
        "running_jobs": len(tasks) - good - bad,
        "completed_jobs": good + bad,
        "successful_jobs": good,
        "failed_jobs": 0 if canceled else bad,
        "aborted_jobs": bad if canceled else 0,
    }


def results(result: msgspec.Raw) -> list[dict[str, str]]:
    """The members of the result as names and values, both strings; another value as `result`."""
    text = bytes(result)
    if text == b"null":
        return []
    members = {"result": msgspec.Raw(text)}
    if text.startswith(b"{"):
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return [{"name": name, "value": _text(bytes(value))} for name, value in members.items()]


def task_reports(job: Job, form: Form) -> list[dict[str, Any]]:
    """One for each target. A job that has none, or whose failure none of them shows, has one for
    itself: only there can the start and the reason of a failure be told."""
    reports = [
        _task(job, _of_target(job, percent), form)
        | {"key": target, "name": target, "description": f"{percent:g} %"}
        for target, percent in job.targets.items()
    ]
    own = said(job)
    if not reports or (own.failed and not any(one["failure_reason"] for one in reports)):
        reports.insert(0, _task(job, own, form))
    return reports


def _task(job: Job, words: Said, form: Form) -> dict[str, Any]:
    return {
        "key": job.id,
        "name": job.name or job.operation,
        "description": job.message,
        "type": job.operation,
        "state": form(words).state,
        "status": form(words).status,
        "start_time": _time(job.started_at),
        "complete_time": _time(job.ended_at),
        "failure_reason": _reason(job) if words.failed else None,
    }


def _of_target(job: Job, percent: float) -> Said:
    if percent >= FULL or job.status is Status.SUCCEEDED:
        return Said(COMPLETED, "normal")
    if job.ended:
        return Said(COMPLETED, "error")
    return Said(UNDER_WAY[job.status], "normal")


def _reason(job: Job) -> str:
    if job.error is not None:
        return job.error.message or job.error.code
    return job.message or job.status.value


def _time(text: str | None) -> str | None:
    """The product writes the offset, never `Z`."""
    return None if text is None else f"{text[:-1]}+00:00"


def _text(value: bytes) -> str:
    return str(msgspec.json.decode(value)) if value.startswith(b'"') else value.decode()
