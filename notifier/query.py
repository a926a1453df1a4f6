"""Answering queries: how does this job stand (docs/protocol.md § 6).

Owns what is answered, and to whom. Promises: whose job it is follows from the `user_id` that
RabbitMQ has checked, and from nothing else; another's job and an unknown one get the same bytes;
an answer goes to a queue of the asker's own, or by the way that RabbitMQ has made for it. Never
writes to Redis, never lets one query keep others from being answered.
"""

import asyncio
import logging
import time
from collections.abc import Container, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from jobcast.bounds import Identifier, Owner
from jobcast.message import Incoming, Reply
from jobcast.names import DIRECT, is_id, is_own_subscription, is_owner
from jobcast.reasons import UNREADABLE, explain
from notifier.connection import StoreUnavailable
from notifier.store import Gone, Snapshot

log = logging.getLogger(__name__)
audit = logging.getLogger("jobcast.audit")

BODY_MAX: Final = 4_096
SAY_S: Final = 1.0
"""Between two lines of the audit log for the same reason."""
DEATHS: Final = ("x-death", "x-first-death-", "x-last-death-")
UNREAD: Final = frozenset({"not-json", "not-cloudevent", "too-deep"})

STATUSES: Final = {
    "bad-request": 400,
    "forbidden": 403,
    "job-not-found": 404,
    "job-expired": 410,
    "job-deleted": 410,
    "invalid-parameter": 422,
    "internal-error": 500,
    "unavailable": 503,
}
"""Errors, by the names and statuses that HTTP has for them."""


class Query(Struct):
    """The body of a question. `owner` is for admins."""

    job: Identifier
    owner: Owner | None = None


class Problem(Exception):
    """An error to be answered; `detail` names the field."""

    def __init__(self, name: str, detail: str | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.detail = detail

    @property
    def body(self) -> bytes:
        error: dict[str, Any] = {"status": STATUSES[self.name], "type": self.name}
        if self.detail is not None:
            error["detail"] = self.detail
        return msgspec.json.encode({"error": error})


class Reading(Protocol):
    """Where jobs are read."""

    async def read(self, owner: str, job_id: str) -> Snapshot | Gone | None: ...


class Counting(Protocol):
    """Counts what became of queries."""

    def asked(self, answer: str) -> None: ...


class Answerer:
    """`admins` may ask for others' jobs; `user` is the service's own name at RabbitMQ."""

    def __init__(
        self, store: Reading, admins: Container[str], user: str, figures: Counting
    ) -> None:
        self._store = store
        self._admins = admins
        self._user = user
        self._figures = figures
        self._said: dict[str, float] = {}

    async def answer(self, batch: Sequence[Incoming]) -> list[Reply]:
        """The answers to all that may be answered, in their order. A `reply_to` of the broker's
        own kind must have been looked at before."""
        replies = await asyncio.gather(*map(self._reply, batch))
        return [reply for reply in replies if reply is not None]

    async def _reply(self, message: Incoming) -> Reply | None:
        asker, to = message.user_id or "", message.reply_to or ""
        if why := unanswerable(message, self._user):
            self._refused(asker, why)
            self._figures.asked(why)
            return None
        name, kind = "job", "job.status"
        try:
            body = await self._read(asker, message.body)
        except Problem as problem:
            name, kind, body = problem.name, "error", problem.body
        self._figures.asked(name)
        return Reply(to=to, body=body, type=kind, correlation_id=message.correlation_id)

    async def _read(self, asker: str, body: bytes) -> bytes:
        """The representation of the job that is asked for. Raises Problem."""
        query = read(body)
        owner = query.owner or asker
        if owner != asker and asker not in self._admins:
            self._refused(asker, "forbidden")
            raise Problem("forbidden", "owner: your role does not allow it")
        try:
            found = await self._store.read(owner, query.job)
        except StoreUnavailable as error:
            log.debug("a query cannot be answered: %s", error)  # the service says it louder
            raise Problem("unavailable") from error
        except Exception as error:
            # The notifier goes on, whatever this one query was.
            log.exception("a query could not be answered")
            raise Problem("internal-error") from error
        if isinstance(found, Snapshot):
            return found.body
        if found is None:
            raise Problem("job-not-found")
        raise Problem("job-deleted" if found.deleted else "job-expired")

    def _refused(self, who: str, why: str) -> None:
        now = time.monotonic()
        if now - self._said.get(why, now - SAY_S) >= SAY_S:
            self._said[why] = now
            named = who if is_owner(who) else "-"
            audit.warning("refused who=%s door=amqp action=query why=%s", named, why)


def unanswerable(message: Incoming, service: str) -> str | None:
    """Why the message is not answered, if it is not.

    What RabbitMQ has dead-lettered keeps its `user_id`, and anybody may have own dead letters sent
    to `job.query`: it is nobody's question.
    """
    user, to = message.user_id or "", message.reply_to or ""
    if not is_owner(user):
        return "no-user"
    if user == service:
        return "service"
    if any(name.startswith(DEATHS) for name in message.headers):
        return "dead-lettered"
    if not (to.startswith(DIRECT) or is_own_subscription(to, user)):
        return "reply-to"
    return None


def read(body: bytes) -> Query:
    """Raises Problem."""
    if len(body) > BODY_MAX:
        raise Problem("bad-request", f"body: more than {BODY_MAX} bytes")
    try:
        query = msgspec.json.decode(body, type=Query)
    except UNREADABLE as error:
        reason, detail = explain(error, "")
        if reason in UNREAD:
            raise Problem("bad-request", 'body: {"job": "<id>"} in JSON is wanted') from None
        raise Problem("invalid-parameter", detail) from None
    if not is_id(query.job):
        raise Problem("invalid-parameter", "job: too long, percent-encoded")
    if query.owner is not None and not is_owner(query.owner):
        raise Problem("invalid-parameter", "owner: too long, percent-encoded")
    return query
