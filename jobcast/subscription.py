"""A durable subscription: a queue of one's own that keeps notifications while one is away.

Owns one connection at a time, and brings it back for ever. Promises: a notification is acknowledged
after its handler, that is when the next one is asked for or the loop is left normally; what was not
acknowledged comes again; each job's notifications come in the order of its versions, and what is
not newer than what was handled is dropped. Never removes the queue when it is left.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Final, Self

from aiormq.abc import DeliveredMessage
from msgspec import Struct

from jobcast.backoff import CAP_S, delay_after
from jobcast.filters import Interest
from jobcast.inlet import Inlet, InletLost, InletRefused, QueueDiffers, Wanted, opened_inlet
from jobcast.notification import Notification, decode_notification
from jobcast.problems import Forbidden, Rejected
from jobcast.reasons import UNREADABLE

log = logging.getLogger(__name__)

JOBS_MAX: Final = 10_000
"""Of so many jobs the last version is remembered; a repeat of an older one is not noticed."""


class Terms(Struct, frozen=True):
    """What is subscribed to. `url` is asked for anew for each connection."""

    url: Callable[[], str]
    queue: str
    interest: Interest
    refused_s: float


class Subscription:
    """`async for notification in subscription`, by one task at a time; see `Client.subscribe`.

    `repeated`, `unwanted` and `misunderstood` count what was acknowledged without being shown.
    """

    def __init__(self, terms: Terms, earlier: "Subscription | None" = None) -> None:
        self.queue = terms.queue
        self.repeated = self.unwanted = self.misunderstood = 0
        self._terms = terms
        self._earlier = earlier  # of the same queue, which has one active consumer
        self._stack = AsyncExitStack()
        self._inlet: Inlet | None = None
        self._shown: tuple[DeliveredMessage, Notification] | None = None
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._closed = self._failed = False
        self._failures = 0
        self._refused_at: float | None = None
        self._opened_at = math.inf

    def __aiter__(self) -> Self:
        # A loop over it was left before: perhaps by an exception, so what it had comes again.
        self._failed = self._shown is not None
        return self

    async def __anext__(self) -> Notification:
        """Raises Forbidden when RabbitMQ refuses for long, Rejected when the queue is another."""
        if self._failed:
            await self._let_go()
        await self._settle()
        await self._supersede()
        while not self._closed:
            try:
                message = await (await self._open()).next()
                notification = self._read(message)
                if notification is not None:
                    self._shown = message, notification
                    return notification
                await (await self._open()).settle(message)
            except InletLost as error:
                if not self._closed:
                    await self._wait_after(error)
            except QueueDiffers as error:
                raise Rejected(str(error)) from error
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose(handled=kind is None)

    async def aclose(self, *, handled: bool = True) -> None:
        """Ends the loop, and leaves the queue in place; `handled`: the last one shown is done."""
        self._closed = True
        await self._supersede()
        if handled and not self._failed:
            await self._settle()
        if self._inlet is not None:
            self._inlet.lose("closed")
        await self._let_go()

    async def _settle(self) -> None:
        """What was shown is handled."""
        if self._shown is None:
            return
        (message, notification), self._shown = self._shown, None
        job = notification.job
        self._known.pop((job.owner, job.id), None)
        self._known[job.owner, job.id] = job.version
        if len(self._known) > JOBS_MAX:
            self._known.popitem(last=False)
        if self._inlet is not None:
            with suppress(InletLost):  # it comes again, and is known
                await self._inlet.settle(message)

    async def _supersede(self) -> None:
        """Nobody knows how the loop over the earlier one was left: what it had comes again."""
        if self._earlier is not None:
            await self._earlier.aclose(handled=False)
            self._earlier = None

    async def _let_go(self) -> None:
        """Without settling: what was shown comes again."""
        self._shown, self._inlet, self._failed = None, None, False
        await self._stack.aclose()

    async def _open(self) -> Inlet:
        if self._inlet is None:
            terms = self._terms
            wanted = Wanted(terms.url(), terms.queue, terms.interest.keys)
            self._inlet = await self._stack.enter_async_context(opened_inlet(wanted))
            if self._closed:  # meanwhile, by another task
                await self._let_go()
                raise InletLost("closed")
            self._opened_at = asyncio.get_running_loop().time()
            self._refused_at = None
            if self._failures:
                log.warning("subscription %s is there again", self.queue)
        return self._inlet

    async def _wait_after(self, error: InletLost) -> None:
        """Until the next try. Raises Forbidden."""
        await self._let_go()
        now = asyncio.get_running_loop().time()
        if now - self._opened_at > CAP_S:
            self._failures = 0  # it was in order for a while
        self._opened_at = math.inf
        if isinstance(error, InletRefused):
            self._refused_at = now if self._refused_at is None else self._refused_at
            if now - self._refused_at >= self._terms.refused_s:
                raise Forbidden(f"RabbitMQ refuses queue {self.queue}: {error}") from error
        level = logging.DEBUG if self._failures else logging.WARNING  # once per outage
        log.log(level, "subscription %s is interrupted, and tried again: %s", self.queue, error)
        self._failures += 1
        await asyncio.sleep(delay_after(self._failures))

    def _read(self, message: DeliveredMessage) -> Notification | None:
        """None for what is to be acknowledged without being shown."""
        properties = message.header.properties
        cursor = (properties.headers or {}).get("cursor")
        try:
            found = decode_notification(message.body, cursor if isinstance(cursor, str) else None)
        except UNREADABLE as error:
            level = logging.DEBUG if self.misunderstood else logging.WARNING
            log.log(level, "in %s is what is no notification: %s", self.queue, error)
            self.misunderstood += 1
            return None
        if not self._terms.interest.matches(found):
            self.unwanted += 1
            return None
        if found.version <= self._known.get((found.owner, found.job.id), 0):
            self.repeated += 1
            return None
        return found
