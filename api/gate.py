"""The one way in: authentication before routing, on every path below /v1 and for /metrics.

Owns the order of the questions: may this page's origin ask → who are you → does a session act for
its own origin → is a ticket for this job → is the user's rate kept. Promises: no handler behind it
runs without an `Identity` in the scope; what it refuses costs no call to Redis or RabbitMQ. Never
logs a credential. It keeps no count of those it does not know: a wrong token costs it one hash, a
wrong JWT at most one check of a signature (0.1 ms), which is not more than the request itself.
"""

import math
import secrets
import time
from collections.abc import Callable
from random import uniform
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.identity import Credentials, Identity, authenticate
from api.limits import Rate
from api.manners import Cors, mannered, manners, refuse
from api.problems import BEARER, Problem, unauthorized, unavailable
from api.secret import CannotTell
from api.sse import HEADERS, later

LATER_MS: Final = (5_000, 15_000)
BASIC: Final = 'Basic realm="jobcast", charset="UTF-8"'
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Rules(NamedTuple):
    """By what one may come in, how often, and from which pages."""

    by: Credentials
    rate: Rate
    cors: Cors


class Gate:
    """Pure ASGI middleware.

    `streams` answers with the app for a request that opens a stream. Such a request goes there
    directly: the layers of `app` would cost every open stream 3 KB and every event three calls.
    `counted` is told the status of every other answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        streams: Callable[[Scope], ASGIApp | None],
        counted: Callable[[Scope, int], None],
        rules: Rules,
    ) -> None:
        self._app = app
        self._counted = counted
        self._streams = streams
        self._by, self._rate, self._cors = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = secrets.token_hex(8)
        stream = self._streams(scope)
        # In a function of its own: what this frame holds, every open stream does.
        answer = self._answer(scope, stream is not None)
        if answer is not None and await self._may_know_more(scope):
            answer = self._answer(scope, stream is not None)
        if stream is not None and answer is None:
            await stream(scope, receive, send)
            return
        app = self._app if answer is None else answer
        await app(scope, receive, mannered(scope, send, self._counted))

    def _answer(self, scope: Scope, is_stream: bool) -> Response | None:
        """What is to be said without asking the app."""
        headers = Headers(scope=scope)
        scope["manners"] = manners(scope, headers, self._cors)
        answer = self._cors.preflight(scope, headers) if scope["method"] == "OPTIONS" else None
        if answer is None and _closed(scope["path"]):
            answer = self._refusal(scope, headers, is_stream)
        return answer

    async def _may_know_more(self, scope: Scope) -> bool:
        """Of somebody unknown: whether keys of the issuer that were missing may have come."""
        issuer = self._by.issuer
        if issuer is None or "identity" in scope or scope["method"] == "OPTIONS":
            return False
        return await issuer.settled()

    def _refusal(self, scope: Scope, headers: Headers, is_stream: bool) -> Response | None:
        try:
            identity = authenticate(headers, ticket_of(scope), self._by, time.time())
        except CannotTell as error:
            # EventSource gives up for good on 503, and the credential may be good.
            return _later(str(error)) if is_stream else unavailable(str(error)).response()
        problem = _unauthorized(headers) if identity is None else None
        if identity is not None:
            scope["identity"] = identity
            problem = _forbidden(scope, headers, identity)
            # EventSource gives up on 429 too: streams keep count of themselves.
            if problem is None and not is_stream and (delay := self._rate.delay(identity.user)):
                problem = too_many(delay)
        if problem is None:
            return None
        refuse(scope, problem.name)
        return problem.response()


def ticket_of(scope: Scope) -> str | None:
    """The one credential that is read from a URL."""
    query: bytes = scope["query_string"]
    if b"ticket=" not in query:
        return None
    given = parse_qs(query.decode("latin-1"), max_num_fields=None).get("ticket")
    return given[0] if given else None


def same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of ours. Silence is a no."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}  # none: the person's own doing
    origin = headers.get("origin", "")
    return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get("host")


def too_many(delay_s: float) -> Problem:
    headers = {"Retry-After": str(max(1, math.ceil(delay_s)))}
    return Problem("too-many-requests", headers=headers)


def _closed(path: str) -> bool:
    return path in {"/v1", "/metrics"} or path.startswith("/v1/")


def _forbidden(scope: Scope, headers: Headers, identity: Identity) -> Problem | None:
    if identity.by == "ticket":
        path = f"/v1/jobs/{identity.job}"
        follows = scope["method"] in {"GET", "HEAD"} and scope["path"] in {path, f"{path}/events"}
        return None if follows else Problem("forbidden", "ticket: it opens one job, to read it")
    changes = scope["method"] not in SAFE_METHODS
    if changes and identity.by == "cookie" and not same_origin(headers):
        return Problem("cross-origin", "Sec-Fetch-Site or Origin: the same origin is wanted")
    return None


def _unauthorized(headers: Headers) -> Problem:
    # A Basic challenge to a script makes the browser open its own password dialogue.
    script = headers.get("sec-fetch-mode", "navigate") != "navigate"
    return unauthorized(challenge=BEARER if script else f"{BEARER}, {BASIC}")


def _later(why: str) -> Response:
    """A whole stream that says: come again."""
    response = Response(later(uniform(*LATER_MS), why))  # noqa: S311 - jitter
    response.raw_headers = [*response.raw_headers, *HEADERS]
    return response
