"""Who asks: authentication before routing, on every path below /v1 and for /metrics.

Owns: credentials (Bearer, Basic with the token as password, session cookie), the same-origin check
of cookies, the rate per user, the request's id. Promises: no handler behind it runs without an
`Identity` in the scope. Never: asks Redis or RabbitMQ, logs a credential.
"""

import base64
import math
import secrets
import time
from collections.abc import Callable, Collection
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits import Rate
from api.problems import Problem, invalid
from api.session import COOKIE, sealed_by, user_of
from api.users import User, Users, digest
from jobcast.names import is_owner

CHALLENGE: Final = 'Bearer realm="jobcast"'
BASIC: Final = 'Basic realm="jobcast", charset="UTF-8"'
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Identity(msgspec.Struct, frozen=True):
    """Who asks, and by what. `token_sha256` is the hash of the token behind the credential."""

    user: str
    roles: Collection[str]
    by: Literal["token", "cookie"]
    token_sha256: str

    def has(self, role: str) -> bool:
        return role in self.roles or "admin" in self.roles


def identity_of(scope: Scope) -> Identity:
    identity: Identity = scope["identity"]
    return identity


def require(scope: Scope, role: str) -> Identity:
    """Raises Problem `forbidden`. An admin has every role."""
    identity = identity_of(scope)
    if not identity.has(role):
        raise Problem("forbidden", f"the role {role} is wanted")
    return identity


def read_owner(scope: Scope, query: QueryParams) -> str:
    """Whose jobs are read: one's own, or for an admin those of `owner=NAME`. Raises Problem."""
    identity = require(scope, "subscriber")
    owner = query.get("owner", identity.user)
    if owner == identity.user:
        return owner
    if "admin" not in identity.roles:
        raise Problem("forbidden", "owner: the role admin is wanted to read for another owner")
    if not is_owner(owner):
        raise invalid("owner", "the name of an owner")
    return owner


def authenticate(headers: Headers, users: Users, now: float) -> Identity | None:
    """`now` in seconds since 1970. An `Authorization` header is never rescued by a cookie."""
    authorization = headers.get("authorization")
    if authorization is None:
        return _by_cookie(headers, users, now)
    scheme, _, credential = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return _by_token(users.by_token(credential.strip()), credential.strip())
        case "basic":
            return _by_password(credential, users)
        case _:
            return None


def _by_token(user: User | None, token: str) -> Identity | None:
    return None if user is None else Identity(user.name, user.roles, "token", digest(token))


def _by_password(credential: str, users: Users) -> Identity | None:
    try:
        text = base64.b64decode(credential.strip(), validate=True).decode()
    except ValueError:
        return None
    # A name may hold colons, against RFC 7617, and a token made by hand may as well.
    for name, _, token in (text.rpartition(":"), text.partition(":")):
        user = users.by_token(token)
        if user is not None and user.name == name:
            return _by_token(user, token)
    return None


def _by_cookie(headers: Headers, users: Users, now: float) -> Identity | None:
    value = cookie_parser(headers.get("cookie", "")).get(COOKIE)
    user = users.by_name(user_of(value)) if value else None
    if value is None or user is None:
        return None
    hash_ = sealed_by(value, user.token_sha256, now)
    return None if hash_ is None else Identity(user.name, user.roles, "cookie", hash_)


def same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of ours. Silence is a no."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}  # none: the person's own doing
    origin = headers.get("origin", "")
    return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get("host")


class Gate:
    """Pure ASGI middleware: request id on every answer; below /v1 identity and rate.

    `streams` answers with the app for a request that opens a stream. Such a request goes there
    directly: the layers of `app` would cost every open stream 3 KB and every event three calls.
    `counted` is told of every other answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        streams: Callable[[Scope], ASGIApp | None],
        counted: Callable[[Scope, Send], Send],
        users: Users,
        rate: Rate,
    ) -> None:
        self._app = app
        self._counted = counted
        self._streams = streams
        self._users = users
        self._rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = secrets.token_hex(8)
        stream = self._streams(scope)
        refusal = self._refusal(scope, limited=stream is None) if _closed(scope["path"]) else None
        if stream is not None and refusal is None:
            await stream(scope, receive, send)
            return
        app = self._app if refusal is None else refusal.response()
        await app(scope, receive, self._counted(scope, tagged(scope, send)))

    def _refusal(self, scope: Scope, *, limited: bool) -> Problem | None:
        headers = Headers(scope=scope)
        identity = authenticate(headers, self._users, time.time())
        if identity is None:
            return _unauthorized(headers)
        changes = scope["method"] not in SAFE_METHODS
        if changes and identity.by == "cookie" and not same_origin(headers):
            return Problem("cross-origin", "Sec-Fetch-Site or Origin: the same origin is wanted")
        scope["identity"] = identity
        # EventSource gives up on 429: streams keep count of themselves.
        delay = self._rate.delay(identity.user) if limited else 0
        return too_many(delay) if delay else None


def _closed(path: str) -> bool:
    return path in {"/v1", "/metrics"} or path.startswith("/v1/")


def tagged(scope: Scope, send: Send) -> Send:
    """`send` with the header `X-Request-Id`."""

    async def send_tagged(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Request-Id"] = scope["request_id"]
        await send(message)

    return send_tagged


def _unauthorized(headers: Headers) -> Problem:
    # A Basic challenge to a script makes the browser open its own password dialogue.
    script = headers.get("sec-fetch-mode", "navigate") != "navigate"
    challenge = CHALLENGE if script else f"{CHALLENGE}, {BASIC}"
    return Problem("unauthorized", headers={"WWW-Authenticate": challenge})


def too_many(delay_s: float) -> Problem:
    headers = {"Retry-After": str(max(1, math.ceil(delay_s)))}
    return Problem("too-many-requests", headers=headers)
