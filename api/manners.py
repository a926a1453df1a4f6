"""What every answer carries, and what pages of other origins may do (docs/protocol.md § 7).

Owns the headers for security and CORS, the request's id, and the audit line of a refusal: they are
put together once per request, so that an event on a stream costs nothing. CORS is an allow-list of
origins, none by default: an origin not on it gets no header at all, and no answer repeats what was
asked. Pages of other origins bring a token or a ticket: credentials that a browser adds by itself
(cookies) are not allowed to them.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from api import audit

SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; connect-src 'self'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
VARY: Final = b"vary"
HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
EXPOSED: Final = (b"access-control-expose-headers", b"ETag, Retry-After, X-Request-Id")
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, If-None-Match, Last-Event-ID, Prefer, traceparent"
    ),
    "Access-Control-Max-Age": "600",
    "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
}
REFUSALS: Final = {
    401: "unauthorized",
    403: "forbidden",
    429: "too-many-requests",
    531: "forbidden",  # in CloudStack's words
}
WORDS: Final = frozenset(
    {"v1", "jobs", "events", "session", "tickets", "records", "cancel", "metrics"}
    | {"api", "v2", "management-server", "netapp-guide"}
    | {"version", "sessions", "this-session", "operations", "get-notification-topics"}
    | {"console", "sse", "client", "clm", "rpc"}
)

Pairs = tuple[tuple[bytes, bytes], ...]


class Cors:
    """`origins`: `https://host[:port]`, compared whole."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = {origin: origin.encode() for origin in origins}

    def headers(self, headers: Headers) -> Pairs:
        """Those of any answer to this request."""
        if not self._origins:
            return ()
        vary = (VARY, b"Origin")
        origin = self._origins.get(headers.get("origin", ""))
        if origin is None:
            return (vary,)
        return (vary, (b"access-control-allow-origin", origin), EXPOSED)

    def preflight(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a browser that asks whether a page of an allowed origin may ask: it has
        no credential yet."""
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        if headers.get("origin") not in self._origins:
            return None
        return Response(status_code=204, headers=PREFLIGHT)


def under_tls(scope: Scope, headers: Headers) -> bool:
    """A proxy in front of us may speak TLS for us. Who lies about it harms only themselves."""
    return scope["scheme"] == "https" or headers.get("x-forwarded-proto") == "https"


def manners(scope: Scope, headers: Headers, cors: Cors) -> Pairs:
    """The headers of any answer to this request."""
    pairs: Pairs = (*SECURITY, (b"x-request-id", scope["request_id"].encode()))
    if under_tls(scope, headers) and not headers.get("host", "").startswith("localhost"):
        pairs = (*pairs, HSTS)  # on localhost it would bind all that runs there
    return pairs + cors.headers(headers)


def mannered(scope: Scope, send: Send, counted: Callable[[Scope, int], None]) -> Send:
    """`send` with the request's manners, where an answer has not said otherwise itself; the answer
    is counted, and a refusal written down."""

    def send_mannered(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            own = message.get("headers", ())
            names = dict(own)
            more = [pair for pair in scope["manners"] if pair[0] not in names or pair[0] == VARY]
            message["headers"] = [*own, *more]
            status = message["status"]
            counted(scope, status)
            if status in REFUSALS:
                written_down(scope, status)
        return send(message)

    return send_mannered


def refuse(scope: Scope, name: str) -> None:
    """Remembers the name of the problem with which the request is being answered."""
    scope["refused"] = name


def written_down(scope: Scope, status: int) -> None:
    identity = scope.get("identity")
    who = None if identity is None else identity.user
    audit.refused(who, "http", action_of(scope), scope.get("refused", REFUSALS[status]))


def action_of(scope: Scope) -> str:
    """Method and form of the path. What is not a word of ours is left out: it may be a secret that
    somebody has put in the wrong place."""
    parts = scope["path"].split("/")[1:6]
    form = "/".join(part if part in WORDS else "*" for part in parts)
    method = scope["method"] if len(scope["method"]) <= len("OPTIONS") else "*"
    return f"{method} /{form}"
