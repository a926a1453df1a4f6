"""Following an event stream of the service through any number of connections.

Owns one HTTP response at a time. Promises to resume from the last cursor it has read, to notice a
dead connection, and to wait before it comes back as long as the server wants and longer after each
failure. Ends on 204 only.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import httpx
import msgspec

from jobcast.backoff import delay_after
from jobcast.job import Job
from jobcast.problems import Rejected, Unavailable, error_of, unreachable
from jobcast.sse import EventStream, ServerSentEvent, StreamTooLong

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
CONNECT_S: Final = 10.0


class Change(msgspec.Struct, frozen=True):
    """What a stream has told of a job.

    `event` is `snapshot` for the job as it stood, else the change (`started`, `progressed`, …,
    docs/protocol.md § 8). `cursor`, where there is one, is the position to resume from.
    """

    event: str
    job: Job
    cursor: str | None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. The server comments on a quiet stream every 15 s."""

    quiet_s: float = 45.0
    """A stream that says nothing for so long is dead."""
    poll_s: float = 50.0
    """How long the server may hold one long poll, at most 60."""
    unknown_s: float = 50.0
    """How long a job may stay unknown before a watcher gives up."""
    refused_s: float = 60.0
    """How long RabbitMQ may refuse a subscription: it does so too while the API is away."""


class Source(msgspec.Struct, frozen=True):
    """Where a stream comes from."""

    http: httpx.AsyncClient
    path: str
    params: tuple[tuple[str, str], ...]
    patience: Patience


async def follow(
    source: Source, cursor: str | None
) -> AsyncGenerator[ServerSentEvent | None, None]:
    """The events of all connections; None each time one has ended and another follows.

    Raises what `error_of` says of an answer that trying again does not change.
    """
    failures, retry_s = 0, RETRY_S
    while True:
        stream, pause_s = EventStream(), 0.0
        try:
            async with aclosing(_events(source, stream, cursor)) as events:
                async for event in events:
                    failures = 0
                    yield event
            failures += stream.last_event_id is None and stream.retry_ms is None
        except StopFollowing:
            return
        except Unavailable as error:
            level = logging.DEBUG if failures else logging.WARNING  # once per outage
            log.log(level, "the stream is interrupted and will be resumed: %s", error)
            failures += 1
            pause_s = error.retry_after_s or 0.0
        if stream.last_event_id is not None:
            cursor = stream.last_event_id
        if stream.retry_ms is not None:
            retry_s = stream.retry_ms / 1000
        yield None
        await asyncio.sleep(max(pause_s, retry_s) + (delay_after(failures) if failures else 0.0))


class StopFollowing(Exception):
    """204: there is nothing to come."""


async def _events(
    source: Source, stream: EventStream, cursor: str | None
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events of one connection."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if cursor:
        headers["Last-Event-ID"] = cursor
    timeout = httpx.Timeout(CONNECT_S, read=source.patience.quiet_s)
    try:
        async with source.http.stream(
            "GET", source.path, params=source.params, headers=headers, timeout=timeout
        ) as response:
            await _admit(response)
            async for chunk in response.aiter_bytes():
                for event in stream.feed(chunk):
                    yield event
    except httpx.TransportError as error:
        raise unreachable(error) from error
    except StreamTooLong as error:
        raise Rejected(str(error)) from error


async def _admit(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.NO_CONTENT:
        raise StopFollowing
    if response.status_code != httpx.codes.OK:
        await response.aread()
        raise error_of(response)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise Rejected("the answer is not an event stream: is this the address of a jobcast API?")
