"""The routes of event streams: what each follows, and how a request for one is recognised."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from api.filters import filters_of
from api.identity import read_owner
from api.streams import StreamEndpoint, Streams
from jobcast.names import is_id
from notifier.follow import JobNotFound, follow_feed, follow_job
from notifier.stream import Items

ENDINGS: Final = ("/events", "/sse")
"""The last words of all their paths, to tell other requests apart at once."""


class StreamRoute(Route):
    """A route whose app is a stream, to which `api.gate` goes directly."""


def routes(streams: Streams) -> list[Route]:
    return [
        StreamRoute("/v1/jobs/{id}/events", job_stream(streams), methods=["GET"]),
        StreamRoute("/v1/events", feed_stream(streams), methods=["GET"]),
    ]


def find_stream(scope: Scope, routes: Sequence[Route]) -> ASGIApp | None:
    """The app of a request that opens a stream, with its path parameters put into the scope."""
    if scope["path"].endswith(ENDINGS):
        for route in routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child, route=route)
                return route.app
    return None


def job_stream(streams: Streams) -> StreamEndpoint:
    def follow(scope: Scope, max_age_s: float) -> Items:
        query = QueryParams(scope["query_string"])
        owner, job_id = read_owner(scope, query), scope["path_params"]["id"]
        if not is_id(job_id):
            raise JobNotFound(job_id)
        return follow_job(
            streams.reader, owner, job_id, cursor=cursor_of(scope, query), max_age_s=max_age_s
        )

    return StreamEndpoint(streams, follow, of_one_job=True)


def feed_stream(streams: Streams) -> StreamEndpoint:
    def follow(scope: Scope, max_age_s: float) -> Items:
        query = QueryParams(scope["query_string"])
        filters = filters_of(query)
        return follow_feed(
            streams.reader,
            read_owner(scope, query),
            cursor=cursor_of(scope, query),
            wanted=None if filters.every else filters,
            max_age_s=max_age_s,
        )

    return StreamEndpoint(streams, follow, of_one_job=False)


def cursor_of(scope: Scope, query: QueryParams) -> str | None:
    """Where the client wants to go on: the header before the query; empty counts as none."""
    header = Headers(scope=scope).get("last-event-id")
    return header or query.get("last_event_id") or query.get("lastEventId") or None
