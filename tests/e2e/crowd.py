"""Clients that know one address and behave by the book: EventSource, long poll, JMS-style queue.

Built on the chaos run's readers, which note every frame for the ledger. These stay until the server
lets them go, and come back exactly when it has told them to.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple

import httpx

from jobcast.sse import EventStream
from tests.chaos.book import Book
from tests.chaos.polls import RETRY_S, LongPoller
from tests.chaos.record import Connection, JobKey
from tests.chaos.streams import Doors, Manner, StreamReader
from tests.chaos.subscriber import Subscriber

MANNER: Final = Manner(quiet_s=20, stays_s=3_600, retry_max_s=15)
FEEDS: Final = 20
STREAMS: Final = 20
POLLS: Final = 10
LOOK_EVERY_S: Final = 0.02


class Gap(NamedTuple):
    """Between two connections: how long the server had asked to wait, and how long it took."""

    asked_s: float
    took_s: float


class Browser(StreamReader):
    """An EventSource: waits as long as it was last told, resumes with the last id, obeys 204."""

    def __init__(self, doors: Doors, owner: str, job_id: str | None = None) -> None:
        super().__init__(doors, owner, job_id, MANNER, f"{owner} {job_id}")
        self.gaps: list[Gap] = []
        self._retry_s = 3.0
        self._ended_at: float | None = None

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self.done:
            parser, connection = EventStream(), Connection(self._cursor)
            self.record.connections.append(connection)
            try:
                await self._connect(connection, parser)
                connection.ended_by = "server"
            except httpx.TransportError as error:
                connection.ended_by = type(error).__name__
            if parser.last_event_id is not None:
                self._cursor = parser.last_event_id
            if parser.retry_ms is not None:
                self._retry_s = parser.retry_ms / 1000
            if not self.done:
                self._ended_at = clock()
                await asyncio.sleep(self._retry_s)

    def _take(self, connection: Connection, event: Any) -> None:
        if self._ended_at is not None and event.event == "stream":
            took_s = asyncio.get_running_loop().time() - self._ended_at
            self.gaps.append(Gap(self._retry_s, took_s))
            self._ended_at = None
        super()._take(connection, event)


class Poller(LongPoller):
    """Counts the connections that broke under it; every answer counts as one."""

    def __init__(self, doors: Doors, key: JobKey) -> None:
        super().__init__(doors, key, str(key))
        self.broken: list[str] = []

    async def run(self) -> None:
        while not self.done:
            try:
                await self._ask(self._doors.urls[0])
            except httpx.TransportError as error:
                self.broken.append(repr(error))
                await asyncio.sleep(self._chance.uniform(0, RETRY_S))


class Crowd:
    """20 feeds and a queue per owner from the start; 20 streams and 10 long polls of single jobs at
    a time, of jobs as they begin. `run` listens until it is cancelled."""

    def __init__(self, amqp_url: str, book: Book, doors: Doors) -> None:
        owners = list(doors.tokens)
        self._book = book
        self._doors = doors
        self.subscribers = [Subscriber(amqp_url, owner, quorum=True) for owner in owners]
        self.feeds = [Browser(doors, owners[number % len(owners)]) for number in range(FEEDS)]
        self.streams: list[Browser] = []
        self.polls: list[Poller] = []

    @property
    def browsers(self) -> list[Browser]:
        return [*self.feeds, *self.streams]

    async def opened(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            for subscriber in self.subscribers:
                await subscriber.ready.wait()
            for feed in self.feeds:
                await feed.opened.wait()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for running in [one.run() for one in self.subscribers] + [
                one.run() for one in self.feeds
            ]:
                tasks.create_task(running)
            await self._follow(tasks.create_task)

    async def _follow(self, start: Callable[[Coroutine[Any, Any, None]], Any]) -> None:
        at = 0
        while True:
            for life in self._book.opened[at:]:
                at += 1
                if sum(not one.done for one in self.streams) < STREAMS:
                    self.streams.append(Browser(self._doors, *life.key))
                    start(self.streams[-1].run())
                elif sum(not one.done for one in self.polls) < POLLS:
                    self.polls.append(Poller(self._doors, life.key))
                    start(self.polls[-1].run())
            await asyncio.sleep(LOOK_EVERY_S)

    def missing(self, ended: set[JobKey]) -> Iterator[str]:
        """Who has still something to hear."""
        told = set[JobKey]().union(*(one.ended for one in self.subscribers))
        if ended - told:
            yield f"AMQP: {len(ended - told)}"
        for feed in self.feeds:
            mine = {key for key in ended if key[0] == feed.record.owner}
            if mine - feed.ended:
                yield f"a feed: {len(mine - feed.ended)}"
        yield from (f"a stream of {one.record.job_id}" for one in self.streams if not one.done)
        yield from (f"a long poll of {one.record.key}" for one in self.polls if not one.done)
