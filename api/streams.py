"""Open event streams: their limits, their opening, their end (docs/protocol.md § 8).

Owns the responses of all SSE routes (`api.stream_routes`), lean ones of our own: one encoding
shared per event, one timer for all. Promises: first bytes at once; a stuck reader is cut after a
minute; after authentication only a user's own limit (429) and an answer about the job are not 200,
because native EventSource gives up for good on anything else. Never waits for a slow reader.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from random import uniform
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.figures import ApiFigures
from api.identity import Identity, identity_of
from api.limits import Rate
from api.manners import mannered, refuse
from api.presence import ClientGone, Cut, Presence
from api.problems import Problem, translated, unauthorized
from api.settings import Settings
from api.sse import HEADERS, frames, later, retry
from api.stream import Stream, expiring
from api.tenure import WARNING_S, Tenure
from api.waits import left_s
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound, NothingLeft
from notifier.listener import Item
from notifier.reader import Reader
from notifier.stream import Items

AGE_S: Final = (540.0, 660.0)
RETRY_MS: Final = (1_000, 5_000)
RESUME_MS: Final = (0, 1_000)
LATER_MS: Final = (5_000, 15_000)
LATER: Final = {
    "draining": "shutting down",
    "process-limit": "too many streams here",
    "rate": "too many new streams",
}
STUCK_S: Final = 60.0
SWEEP_S: Final = 5.0

Follow = Callable[[Scope, float], Items]
InWords = Callable[[Scope, Problem], Response]

log = logging.getLogger(__name__)


class Streams:
    """All open streams of this process."""

    def __init__(
        self, reader: Reader, settings: Settings, figures: ApiFigures, tenure: Tenure
    ) -> None:
        self.reader = reader
        self.figures = figures
        self.tenure = tenure
        self.rate = Rate(settings.requests_per_s)
        self._per_user = settings.streams_per_user
        self._max = settings.streams_max
        self._open: set[Stream] = set()
        self._users: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def put_off(self, user: str) -> str | None:
        """Why a new stream must come later, if so. Raises Problem at the user's own limit."""
        if self._users[user] >= self._per_user:
            self.figures.put_off("user-limit")
            raise Problem("too-many-streams", headers={"Retry-After": "10"})
        cause = self._hindrance(user)
        if cause is None:
            return None
        self.figures.put_off(cause)
        return LATER[cause]

    def _hindrance(self, user: str) -> str | None:
        if self.reader.hub.draining:
            return "draining"
        if len(self._open) >= self._max:
            return "process-limit"
        return "rate" if self.rate.delay(user) else None

    def enter(self, stream: Stream) -> None:
        """Counts the stream, from before its opening."""
        self._open.add(stream)
        self.tenure.enter(stream)
        self._users[stream.identity.user] += 1

    def leave(self, stream: Stream) -> None:
        user = stream.identity.user
        self._open.discard(stream)
        self.tenure.leave(stream)
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    def cut_all(self) -> None:
        """Ends what has not ended by itself after a drain."""
        self.figures.cut("shutdown", len(self._open))
        for stream in list(self._open):
            stream.presence.cut()

    async def sweep(self) -> None:
        """Cuts stuck readers, for ever. One timer for all streams."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.cut_stuck(asyncio.get_running_loop().time())

    def cut_stuck(self, now: float) -> None:
        limit = now - STUCK_S
        stuck = [s for s in self._open if s.blocked_since and s.blocked_since < limit]
        for stream in stuck:
            stream.presence.cut()
        if stuck:
            self.figures.cut("stuck", len(stuck))
            log.warning("%d streams cut: nothing read for %.0f s", len(stuck), STUCK_S)


def plain_words(_: Scope, problem: Problem) -> Response:
    return problem.response()


class StreamEndpoint:
    """An ASGI app that answers with a stream of what `follow` yields.

    `of_one_job`: the stream is over after the job's end, and not to be resumed. `words`: how a
    problem is answered, where no stream can be.
    """

    def __init__(
        self, streams: Streams, follow: Follow, *, of_one_job: bool, words: InWords = plain_words
    ) -> None:
        self._streams = streams
        self._figures = streams.figures
        self._follow = follow
        self._of_one_job = of_one_job
        self._words = words
        self._kind = "job" if of_one_job else "feed"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            follow = self._follow(scope, _age_s(identity_of(scope)))
            why = self._streams.put_off(identity_of(scope).user)
            if scope["method"] == "HEAD":
                await self._whole(scope, send, b"")
            elif why is not None:
                await self._whole(scope, send, later(_random(LATER_MS), why))
            else:
                await self._stream(scope, receive, send, follow)
        except (ClientGone, Cut):
            pass  # nobody is there any more, or nobody who reads
        except NothingLeft:
            self._figures.answered("none")
            await self._plain(scope, receive, send, Response(status_code=204))
        except StoreUnavailable:
            self._figures.put_off("unavailable")
            await self._whole(scope, send, later(_random(LATER_MS), "unavailable"))
        except (Problem, JobNotFound, JobGone) as error:
            problem = translated(error)
            refuse(scope, problem.name)
            await self._plain(scope, receive, send, self._words(scope, problem))

    async def _whole(self, scope: Scope, send: Send, body: bytes) -> None:
        """A stream that is over at once."""
        self._figures.request(scope, 200)
        await send(_start(scope))
        await send({"type": "http.response.body", "body": body})

    async def _plain(self, scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
        await answer(scope, receive, mannered(scope, send, self._figures.request))

    async def _stream(self, scope: Scope, receive: Receive, send: Send, follow: Items) -> None:
        """Raises what `follow` raises before its first items, ClientGone, Cut, and Problem where
        the credential has ended before that."""
        presence, begun = Presence(receive), False
        stream = Stream(identity_of(scope), presence, send)
        self._streams.enter(stream)
        self._figures.entered(self._kind)
        try:
            async with presence, aclosing(follow):
                first = await anext(follow)
                self._figures.request(scope, 200)
                self._figures.began(self._kind, first[0].body)
                begun = True
                await send(_start(scope))
                await self._begin(stream, first)
                await stream.write(await self._copy(stream, follow), more=False)
        except Cut:
            if stream.ending is None:
                if begun:
                    raise
                # Shut down while it was being opened, which may wait for Redis: not an error.
                await self._whole(scope, send, later(_random(LATER_MS), LATER["draining"]))
                return
            self._figures.cut(stream.ending)
            if not begun:
                raise unauthorized() from None
            if stream.blocked_since is not None:
                raise  # in the middle of a write: the connection is closed as it is
            await stream.write(b": %b\n\n" % stream.ending.encode(), more=False)
        finally:
            self._streams.leave(stream)
            self._figures.left(self._kind)

    async def _begin(self, stream: Stream, first: list[Item]) -> None:
        """The first bytes, with word of an expiry that is near already."""
        opening = retry(_random(RETRY_MS)) + frames(first)
        left = left_s(stream.identity, time.time())
        if left <= WARNING_S:
            await stream.write(opening + expiring(left))
        else:
            await stream.write(opening)
            stream.warned = False

    async def _copy(self, stream: Stream, items: Items) -> bytes:
        """Sends until there is no more; answers what is to be said at the end."""
        figures, last = self._figures, None
        try:
            async for some in items:
                if some:
                    figures.frames += len(some)
                    await stream.write(frames(some))
                    last = some[-1]
        except StoreUnavailable:
            figures.cut("unavailable")
            return later(_random(LATER_MS), "unavailable")
        ended = self._of_one_job and last is not None and _ends(last)
        return b"" if ended else retry(_random(RESUME_MS)) + b"\n"


def _ends(item: Item) -> bool:
    return item.last or (item.event == "snapshot" and item.job.ended)


def _start(scope: Scope) -> Message:
    headers = (*HEADERS, *scope["manners"])
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _age_s(identity: Identity) -> float:
    """How long a stream may last: some minutes, or as long as its credential."""
    return min(_random(AGE_S), left_s(identity, time.time()))


def _random(bounds: tuple[float, float]) -> float:
    return uniform(*bounds)  # noqa: S311 - jitter
