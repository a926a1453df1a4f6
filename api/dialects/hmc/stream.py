"""`GET /api/sse`: the ends of the session's user's jobs, as they come.

A design of our own, on the native stream of the owner's feed, with its cursors, limits and end. The
HMC has such a stream too, since 2.16; how it looks is not in public text.
"""

from contextlib import aclosing
from typing import Final

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from api.dialects.hmc.endpoint import entered, words
from api.dialects.hmc.mapping import notice
from api.facility import Facility
from api.identity import identity_of
from api.manners import refuse
from api.problems import Problem, translated
from api.secret import CannotTell
from api.stream_routes import cursor_of
from api.streams import StreamEndpoint
from broker.notices import COMPLETION
from jobcast.job import FINAL, Job
from notifier.follow import follow_feed
from notifier.listener import Item
from notifier.stream import Items

FRAMING: Final = frozenset({None, "stream", "live"})
ENDS: Final = frozenset({"snapshot", *(status.value for status in FINAL)})
METHODS: Final = ("GET", "HEAD")


class Completions(StreamEndpoint):
    """An ASGI app of a stream's route: nobody has asked yet who it is."""

    def __init__(self, facility: Facility) -> None:
        super().__init__(facility.streams, self._completions, of_one_job=False, words=words)
        self._facility = facility

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] not in METHODS:
                raise Problem("method-not-allowed", headers={"Allow": ", ".join(METHODS)})
            entered(self._facility, scope)
        except (Problem, CannotTell) as error:
            problem = translated(error)
            refuse(scope, problem.name)
            await self._plain(scope, receive, send, words(scope, problem))
        else:
            await super().__call__(scope, receive, send)

    def _completions(self, scope: Scope, max_age_s: float) -> Items:
        cursor = cursor_of(scope, QueryParams(scope["query_string"]))
        reader, owner = self._facility.streams.reader, identity_of(scope).user
        return told(follow_feed(reader, owner, cursor=cursor, wanted=_ended, max_age_s=max_age_s))


async def told(items: Items) -> Items:
    """The same run of items, of which the ends alone speak; the places of others stay."""
    async with aclosing(items):
        async for some in items:
            yield [completion(item) for item in some]


def completion(item: Item) -> Item:
    if item.event in FRAMING:
        return item
    if item.event in ENDS:
        return Item(COMPLETION, msgspec.json.encode(notice(item.job.id)), item.cursor)
    return Item(None, b"", item.cursor)


def _ended(job: Job) -> bool:
    return job.ended
