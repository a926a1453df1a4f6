"""What the three ends make of a job. Pure; the fold decides whether an end counts."""

from msgspec.structs import replace

from jobcast.change import State
from jobcast.events import Canceled, End, Event, Failed, Succeeded
from jobcast.job import OUTCOMES, Job, JobError, Status, timestamp


def succeeded(state: State, event: Succeeded) -> State:
    outcome = event.outcome or OUTCOMES[Status.SUCCEEDED][0]
    job = replace(state.job, status=Status.SUCCEEDED, outcome=outcome, percent=100.0)
    return _end(state, event, job, 200)


def failed(state: State, event: Failed) -> State:
    outcome = event.outcome or OUTCOMES[Status.FAILED][0]
    job = replace(state.job, status=Status.FAILED, outcome=outcome, reason_code=event.reason_code)
    state = _end(state, event, job, 500)
    error = event.error or JobError()
    error = replace(error, message=error.message or state.job.message or "")
    return replace(state, job=replace(state.job, error=error))


def canceled(state: State, event: Canceled) -> State:
    return _end(state, event, replace(state.job, status=Status.CANCELED, outcome=None), 499)


def _end(state: State, event: End, job: Job, status_code: int) -> State:
    job = replace(
        job,
        status_code=status_code if event.status_code is None else event.status_code,
        result=event.result,
        message=job.message if event.message is None else event.message,
    )
    return replace(state, job=job)


def ended(state: State, event: Event, now: int, retention_s: int) -> State:
    expires_at = timestamp(now + retention_s * 1000)
    return replace(state, job=replace(state.job, ended_at=timestamp(now), expires_at=expires_at))
