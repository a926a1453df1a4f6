"""What an HTTP answer of the service means when it is not what was asked for."""

from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

from jobcast.errors import JobcastError


class ServiceError(JobcastError):
    """The base of what `Client` raises about the service's answers."""


class JobNotFound(ServiceError):
    """No such job, as far as this user may know."""


class JobGone(ServiceError):
    """The job has been, and is no more; `deleted` by its owner, or else expired."""

    def __init__(self, text: str, *, deleted: bool) -> None:
        super().__init__(text)
        self.deleted = deleted


class Unauthorized(ServiceError):
    """No token, or one that is not valid (any more)."""


class Forbidden(ServiceError):
    """The user's roles do not allow it."""


class Rejected(ServiceError):
    """The request is wrong, or the server is not what it was taken for. Trying again is no use."""


class Conflict(ServiceError):
    """The job does not stand where this can be done to it."""


class NotCancelable(Conflict):
    """Its executor has said that it cannot be canceled."""


class AlreadyEnded(Conflict):
    """It has ended: there is nothing to cancel."""


class CancelPending(Conflict):
    """Somebody has asked for that before; the executor has not answered yet."""


class NotEnded(Conflict):
    """Only an ended job can be deleted."""


class TooManyRecords(Conflict):
    """It has as many records as a job may have."""


class Unavailable(ServiceError):
    """Not now: unreachable, overloaded or starting. `retry_after_s` if the service has said so."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


BY_STATUS: Final[Mapping[int, type[ServiceError]]] = {
    httpx.codes.UNAUTHORIZED: Unauthorized,
    httpx.codes.FORBIDDEN: Forbidden,
}

CONFLICTS: Final[Mapping[str, type[Conflict]]] = {
    "not-cancelable": NotCancelable,
    "already-ended": AlreadyEnded,
    "cancel-pending": CancelPending,
    "not-ended": NotEnded,
    "too-many-records": TooManyRecords,
}


class Problem(msgspec.Struct):
    """RFC 9457, the members that are read here."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""


def error_of(response: httpx.Response) -> ServiceError:
    """The exception for an answer that is not 2xx; its body must have been read."""
    problem = _problem(response)
    name = problem.type.rpartition("/")[2]
    text = problem.detail or problem.title or f"{response.status_code} {response.reason_phrase}"
    status = response.status_code
    if status == httpx.codes.GONE:
        return JobGone(text, deleted=name == "job-deleted")
    if status == httpx.codes.CONFLICT:
        return CONFLICTS.get(name, Conflict)(text)
    if status == httpx.codes.NOT_FOUND and name == "job-not-found":
        return JobNotFound(text)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Unavailable(text, retry_after_s(response))
    return BY_STATUS.get(status, Rejected)(text)


def unreachable(error: httpx.TransportError) -> Unavailable:
    return Unavailable(f"cannot reach the service: {str(error) or type(error).__name__}")


def retry_after_s(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds; the form with a date is not used by the service."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _problem(response: httpx.Response) -> Problem:
    if "json" not in response.headers.get("content-type", ""):
        return Problem()
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return Problem()
