"""Lifecycle events over HTTP: `POST /v1/events` (docs/protocol.md § 3).

Promises: 202 only after RabbitMQ has confirmed everything; with one bad event nothing of the
request is published; a body is bounded while it is read. Never applies an event itself: it goes the
way of all others.
"""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import audit
from api.body import bounded
from api.identity import require
from api.problems import Problem
from broker.outlet import Outlet
from jobcast.events import Event
from jobcast.job import DEFAULT_OPERATION
from jobcast.malformed import Malformed
from jobcast.message import Message
from jobcast.names import LIFECYCLE, lifecycle_key
from jobcast.wire import (
    BATCH,
    BATCH_MAX,
    MESSAGE_MAX,
    STRUCTURED,
    decode,
    encode_batch,
    encode_event,
)

CE: Final = "ce-"


class Ingest:
    """The handler, on an outlet to RabbitMQ."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def routes(self) -> list[Route]:
        return [Route("/v1/events", self.accept, methods=["POST"])]

    async def accept(self, request: Request) -> Response:
        user = require(request.scope, "executor").user
        try:
            body = await bounded(request, MESSAGE_MAX)
        except ClientDisconnect:
            return Response()  # to nobody
        events = read(body, request.headers)
        await self._outlet.publish(list(messages(events, int(time.time()))))
        audit.controlled(user, "report", told_of(events))
        return JSONResponse({"accepted": len(events)}, 202)


def told_of(events: Sequence[Event]) -> str:
    """What was reported on: the job, or of a batch how many."""
    jobs = {(event.owner, event.job_id) for event in events}
    if len(jobs) == 1:
        return "/".join(*jobs)
    return f"{len(events)} events of {len(jobs)} jobs"


def read(body: bytes, headers: Headers) -> list[Event]:
    """The events of a request, in any of the three encodings. Raises Problem at the first bad."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "Content-Encoding: none is read here")
    attributes = {
        f"cloudEvents_{name[len(CE) :]}": unquote(value)
        for name, value in headers.items()
        if name.startswith(CE)
    }
    events: list[Event] = []
    for place, event in enumerate(
        decode(body, headers.get("content-type"), attributes, trusted=False)
    ):
        if isinstance(event, Malformed):
            raise _refused(event, place)
        events.append(event)
    return events


def _refused(event: Malformed, place: int) -> Problem:
    if event.reason == "unsupported-content-type":
        return Problem("unsupported-media-type", event.detail)
    members = {"reason": event.reason, "index": place}
    return Problem("malformed-event", event.detail, members=members)


def messages(events: Sequence[Event], now: int, user_id: str | None = None) -> Iterator[Message]:
    """One message per job, in order; more where one would be too large. `now` in seconds.

    `user_id`: the service's own AMQP user, for events of its own types.
    """
    jobs: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        jobs[event.owner, event.job_id].append(event)
    for some in jobs.values():
        for start in range(0, len(some), BATCH_MAX):
            yield from _fitting(some[start : start + BATCH_MAX], now, user_id)


def _fitting(events: Sequence[Event], now: int, user_id: str | None) -> Iterator[Message]:
    one = len(events) == 1
    body = encode_event(events[0]) if one else encode_batch(events)
    if len(body) > MESSAGE_MAX and not one:
        middle = len(events) // 2
        yield from _fitting(events[:middle], now, user_id)
        yield from _fitting(events[middle:], now, user_id)
        return
    first = events[0]
    operation = getattr(first, "operation", None) or DEFAULT_OPERATION
    yield Message(
        exchange=LIFECYCLE,
        routing_key=lifecycle_key(operation, first.type),
        body=body,
        message_id=uuid.uuid4().hex,
        content_type=STRUCTURED if one else BATCH,
        correlation_id=first.job_id,
        type=first.type,
        timestamp=now,
        user_id=user_id,
        mandatory=True,
    )
