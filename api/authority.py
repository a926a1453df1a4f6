"""RabbitMQ's authority: the four questions of its plugin `rabbitmq_auth_backend_http`.

Owns: POST `/user`, `/vhost`, `/resource` and `/topic` (form bodies), each answered 200 `allow` or
`deny`. It has a listener of its own (JOBCAST_AUTHORITY_HOST and _PORT, loopback by default), so
that the public port never tells anybody whether a password is right; off loopback the paths begin
with a secret as well, and all others are 404. Promises: a question that is malformed, too long, or
about what nobody has thought of, is answered `deny`; the same policy as on the other doors, read
anew for every question: RabbitMQ keeps an `allow` for 5 s, and on an open channel that is in use
for longer, which is why `api.revocation` closes connections. Never: answers for the service's own
account, which RabbitMQ holds itself, or for `guest`; logs a password, or the id of a logon session
(`api.logon`), by which whoever logs in goes as a user name.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from api import audit
from api.identity import FOLLOWS, Identity, by_password
from api.logon import Logons, is_session_id
from api.policy import LISTENER, may_route, may_use, must_be_transient, roles_of, tags_of
from api.secret import CannotTell
from api.settings import Settings

BODY_MAX: Final = 65_536
FIELDS_MAX: Final = 64
BODY_TIMEOUT_S: Final = 5.0

Question = Mapping[str, str]

log = logging.getLogger(__name__)


class Unreadable(ValueError):
    """The body is not a form of ours."""


class Expiries(Protocol):
    """Remembers until when the credentials of a user hold, in seconds since 1970."""

    def note(self, user: str, expires_at: float) -> None: ...
    def over(self, user: str, now: float) -> bool: ...


class Queues(Protocol):
    """Knows RabbitMQ's queues."""

    async def is_transient(self, queue: str) -> bool: ...


class Authority:
    """Answers the questions, as text. Without `queues` STOMP's own queues are of no use."""

    def __init__(
        self,
        settings: Settings,
        logons: Logons,
        expiries: Expiries,
        queues: Queues | None,
    ) -> None:
        self._vhost = vhost_of(settings.amqp_url)
        self._logons = logons
        self._credentials = credentials = logons.by
        self._users = credentials.users
        self._may_be = credentials.users.may_be_called  # not the service, nor `guest`
        self._expiries = expiries
        self._queues = queues

    async def user(self, question: Question) -> str:
        """A login. Users of the file get no tags, so that these never outlive a change there. A JWT
        with the name of one is refused: the later questions name the user alone, and are answered
        by the file, whose roles the issuer has not given."""
        name, password = question["username"], question["password"]
        if is_session_id(name):
            return self._session(name, password)
        identity = await self._identity(name, password) if self._may_be(name) else None
        in_file = self._users.by_name(name) is not None
        if identity is None or (in_file and identity.by != "token"):
            audit.refused(None, "amqp", "login", "unauthorized")
            return "deny"
        if in_file:
            return "allow"
        if identity.expires_at is not None:
            self._expiries.note(name, identity.expires_at)
        tags = tags_of(identity.roles)
        return f"allow {tags}" if tags else "deny"

    def _session(self, session_id: str, credential: str) -> str:
        """The login of a logon session: a user name and a password of its own."""
        try:
            who = self._logons.listener(session_id, credential, time.time())
        except CannotTell as error:
            log.warning("a login by a session is refused for now: %s", error)
            who = None
        if who is None or not who.has(FOLLOWS):
            audit.refused(None, "amqp", "login", "unauthorized")
            return "deny"
        return "allow"

    async def vhost(self, question: Question) -> str:
        user, roles = self._who(question)
        good = bool(roles) and question["vhost"] == self._vhost
        return _said(good, user, f"vhost {question['vhost']}")

    async def resource(self, question: Question) -> str:
        kind, name, permission = (question[field] for field in ("resource", "name", "permission"))
        user, roles = self._who(question)
        good = question["vhost"] == self._vhost and may_use(user, roles, kind, name, permission)
        if good and "admin" not in roles and must_be_transient(kind, name, permission):
            good = self._queues is not None and await self._queues.is_transient(name)
        return _said(good, user, f"{permission} {kind} {name}")

    async def topic(self, question: Question) -> str:
        name, key, permission = (question[field] for field in ("name", "routing_key", "permission"))
        user, roles = self._who(question)
        good = question["vhost"] == self._vhost and may_route(user, roles, name, permission, key)
        return _said(good, user, f"{permission} key {key} of {name}")

    async def _identity(self, name: str, password: str) -> Identity | None:
        issuer = self._credentials.issuer
        try:
            identity = by_password(name, password, self._credentials, time.time())
            if identity is None and issuer is not None and await issuer.settled():
                identity = by_password(name, password, self._credentials, time.time())
        except CannotTell as error:
            log.warning("a login over AMQP is refused for now: %s", error)
            return None
        return identity

    def _who(self, question: Question) -> tuple[str, Collection[str]]:
        """The user whom a question is about, and their roles: none for nobody."""
        name = question["username"]
        if not is_session_id(name):
            return name, self._roles(question)
        try:
            who = self._logons.identity(name, time.time())
        except CannotTell:
            who = None
        if who is None:
            return "", ()
        return who.user, {LISTENER} if who.has(FOLLOWS) else ()

    def _roles(self, question: Question) -> Collection[str]:
        """The file's word first: who stands there has no other roles, whatever a tag says."""
        name = question["username"]
        if not self._may_be(name):
            return ()
        user = self._users.by_name(name)
        if user is not None:
            return user.roles
        if self._credentials.issuer is None or self._expiries.over(name, time.time()):
            return ()
        return roles_of(question.get("tags", ""))


def _said(good: bool, user: str, action: str) -> str:
    if not good:
        audit.refused(user or None, "amqp", action, "forbidden")
    return "allow" if good else "deny"


def asked(authority: Authority, secret: str | None) -> ASGIApp:
    """The app of the listener."""
    answers: dict[str, Callable[[Question], Awaitable[str]]] = {
        "user": authority.user,
        "vhost": authority.vhost,
        "resource": authority.resource,
        "topic": authority.topic,
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = answers.get(_name(scope["path"], secret))
        if answer is None or scope["method"] != "POST":
            await _send(send, 404, b"")
            return
        try:
            said = await answer(await _form(receive))
        except (Unreadable, KeyError):
            said = "deny"
        except Exception:
            # Without an answer RabbitMQ would keep the login waiting, and ask again.
            log.exception("a question of RabbitMQ could not be answered")
            said = "deny"
        await _send(send, 200, said.encode())

    return app


def _name(path: str, secret: str | None) -> str:
    """The question of a path, empty where the secret is wrong."""
    given, _, name = path.removeprefix("/").rpartition("/")
    good = secrets.compare_digest(given.encode(), (secret or "").encode())
    return name if good and path.startswith("/") else ""


async def _form(receive: Receive) -> Question:
    """The fields of the body. Raises Unreadable."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            more = True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message["type"] == "http.request" and message.get("more_body", False)
                if len(body) > BODY_MAX or message["type"] == "http.disconnect":
                    raise Unreadable("body")
        # One name twice would let two readers see two questions.
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except (ValueError, TimeoutError):
        raise Unreadable("body") from None
    question = dict(pairs)
    if len(question) != len(pairs):
        raise Unreadable("a field twice")
    return question


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def vhost_of(amqp_url: str) -> str:
    """The vhost that a URL names; without one it is `/`."""
    return unquote(urlsplit(amqp_url).path.removeprefix("/")) or "/"
