"""One path of the HMC dialect: its methods, who asks, and the HMC's error body for all else.

Promises: whatever is asked, the answer is `application/json` or has no body. An error never repeats
what the request's headers, query or body have said: those hold session ids and passwords.
"""

import time
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.body import SMALL, bounded
from api.dialects.answering import Handler, answering
from api.dialects.hmc.mapping import Refusal, error
from api.facility import Facility
from api.problems import Problem

MEDIA_TYPE: Final = "application/json;charset=UTF-8"
NO_CACHE: Final = {"Cache-Control": "no-cache"}
KEPT: Final = frozenset({"Retry-After", "Allow", "Connection"})


def answer(body: Any) -> Response:
    return Response(msgspec.json.encode(body), 200, NO_CACHE, MEDIA_TYPE)


def words(scope: Scope, problem: Problem) -> Response:
    """The standard error body."""
    told, identity = error(problem), scope.get("identity")
    body = {
        "http-status": told.status,
        "reason": told.reason,
        "message": told.message,
        "request-method": scope["method"],
        "request-uri": scope["path"],
        "request-authenticated-as": None if identity is None else identity.user,
    }
    kept = {name: value for name, value in problem.headers.items() if name in KEPT}
    return Response(msgspec.json.encode(body), told.status, NO_CACHE | kept, MEDIA_TYPE)


def entered(facility: Facility, scope: Scope) -> None:
    """Puts who asks into the scope, by their session. Raises Problem, CannotTell."""
    session_id = Headers(scope=scope).get("x-api-session")
    if session_id is None:
        raise Refusal("unauthorized", 403, 4, "X-API-Session: a session is wanted")
    who = facility.logons.identity(session_id, time.time())
    if who is None:
        raise Problem("unauthorized")
    scope["identity"] = who
    facility.admit(who)


class Endpoint:
    """An ASGI app. `handlers` by method; without any there is nothing here. Each is entered by a
    session if there is a `facility`; none has parameters in its query, and POST alone a body, where
    nobody enters."""

    def __init__(self, facility: Facility | None = None, **handlers: Handler) -> None:
        self._facility = facility
        self._handlers = handlers
        self._answer = answering(
            self._handled, lambda request, problem: words(request.scope, problem)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _handled(self, request: Request) -> Response:
        if not self._handlers:
            raise Problem("not-found")
        handler = self._handlers.get(request.method)
        if handler is None:
            raise Problem("method-not-allowed", headers={"Allow": ", ".join(self._handlers)})
        if self._facility is not None:
            entered(self._facility, request.scope)
        if request.scope["query_string"]:
            raise Refusal("bad-request", 400, 1, "The URI has no query parameters")
        wants_body = self._facility is None and request.method == "POST"
        if not wants_body and await bounded(request, SMALL):
            raise Refusal("bad-request", 400, 4, "The request has no body")
        return await handler(request)
