"""HTTP errors as RFC 9457 problems: the one place for their names, statuses and bodies.

A body holds nothing of the single request, so that two answers to the same question are equal byte
for byte; the request's id is in the header `X-Request-Id`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ExceptionHandler

from api.manners import refuse
from api.secret import CannotTell
from broker.errors import BrokerUnavailable, Refused
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound

MEDIA_TYPE: Final = "application/problem+json"
RETRY_S: Final = 5
METHOD_NOT_ALLOWED: Final = 405
BEARER: Final = 'Bearer realm="jobcast"'


class Kind(NamedTuple):
    """What a problem's name stands for."""

    status: int
    title: str


KINDS: Final[Mapping[str, Kind]] = {
    "bad-request": Kind(400, "The request cannot be read"),
    "malformed-event": Kind(400, "An event cannot be accepted"),
    "unauthorized": Kind(401, "A valid credential is wanted"),
    "forbidden": Kind(403, "Your roles do not allow this"),
    "cross-origin": Kind(403, "A session acts for its own origin only"),
    "not-found": Kind(404, "There is nothing here"),
    "job-not-found": Kind(404, "There is no such job"),
    "method-not-allowed": Kind(405, "This method is not served here"),
    "too-slow": Kind(408, "The request took too long to come"),
    "not-cancelable": Kind(409, "The job cannot be canceled"),
    "already-ended": Kind(409, "The job has already ended"),
    "cancel-pending": Kind(409, "The job is already to be canceled"),
    "not-ended": Kind(409, "The job has not ended"),
    "too-many-records": Kind(409, "The job has as many records as a job may have"),
    "job-expired": Kind(410, "The job has expired"),
    "job-deleted": Kind(410, "The job has been deleted"),
    "too-large": Kind(413, "The body is too large"),
    "url-too-long": Kind(414, "The URL is too long"),
    "unsupported-media-type": Kind(415, "This content type is not read here"),
    "invalid-parameter": Kind(422, "A parameter has a value that is not allowed"),
    "head-too-large": Kind(431, "The headers are too large"),
    "too-many-requests": Kind(429, "Too many requests"),
    "too-many-streams": Kind(429, "Too many open streams"),
    "too-many-waits": Kind(429, "Too many waiting requests"),
    "internal-error": Kind(500, "Something went wrong here"),
    "unavailable": Kind(503, "A part of the service is away"),
}

BY_STATUS: Final = {404: "not-found", 413: "too-large"}


class Problem(Exception):
    """Raised anywhere below the app, answered as `/problems/<name>`.

    `detail`: one sentence that names the field; `members`: further members of the body.
    """

    def __init__(
        self,
        name: str,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, detail)
        self.name = name
        self.detail = detail
        self.headers = headers or {}
        self.members = members or {}

    def response(self) -> Response:
        status, title = KINDS[self.name]
        body = {"type": f"/problems/{self.name}", "title": title, "status": status}
        if self.detail is not None:
            body["detail"] = self.detail
        return Response(
            msgspec.json.encode(body | dict(self.members)),
            status,
            # 404, 405 and 410 may be cached unless it is said that they must not be.
            {"Cache-Control": "no-store", **self.headers},
            MEDIA_TYPE,
        )


def invalid(field: str, wanted: str) -> Problem:
    """422, naming the field."""
    return Problem("invalid-parameter", f"{field}: {wanted} is wanted")


def unavailable(detail: str, members: Mapping[str, Any] | None = None) -> Problem:
    """503 with `Retry-After`."""
    headers = {"Retry-After": str(RETRY_S)}
    return Problem("unavailable", detail, headers=headers, members=members)


def unauthorized(detail: str | None = None, *, challenge: str = BEARER) -> Problem:
    """401 with `WWW-Authenticate`."""
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})


async def _problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == METHOD_NOT_ALLOWED:
        error = Problem("method-not-allowed", headers={"Allow": _allowed(request)})
    problem = translated(error)
    refuse(request.scope, problem.name)
    return problem.response()


async def _internal(_: Request, __: Exception) -> Response:
    return Problem("internal-error").response()  # uvicorn logs the traceback


def translated(error: Exception) -> Problem:
    """The problem that an expected exception is answered with."""
    match error:
        case Problem():
            return error
        case StoreUnavailable() | BrokerUnavailable() | Refused():
            redis = isinstance(error, StoreUnavailable)
            return unavailable("redis is away" if redis else "rabbitmq is away or refuses messages")
        case CannotTell():
            return unavailable(str(error))
        case JobNotFound():
            return Problem("job-not-found")
        case JobGone(deleted=deleted):
            return Problem("job-deleted" if deleted else "job-expired")
        case HTTPException(status_code=status, headers=headers):
            return Problem(BY_STATUS.get(status, "bad-request"), headers=headers)
        case _:
            raise error


def _allowed(request: Request) -> str:
    """What all routes of the path allow; Starlette names those of the first alone."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))


HANDLERS: Final[Mapping[Any, ExceptionHandler]] = {
    Problem: _problem,
    JobNotFound: _problem,
    JobGone: _problem,
    CannotTell: _problem,
    StoreUnavailable: _problem,
    BrokerUnavailable: _problem,
    Refused: _problem,
    HTTPException: _problem,
    Exception: _internal,
}
