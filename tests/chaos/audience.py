"""Everybody who listens during a run: subscribers, feed readers, and for a share of the jobs a
reader of the job's own stream or a long poll."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.chaos.book import Book
from tests.chaos.polls import LongPoller
from tests.chaos.record import JobKey
from tests.chaos.streams import Doors, Manner, StreamReader
from tests.chaos.subscriber import Subscriber
from tests.chaos.world import World

SHARE: Final = 9
"""Of so many jobs one is followed by its stream, and one by long poll."""
AT_ONCE: Final = 80
LOOK_EVERY_S: Final = 0.05
OPEN_S: Final = 15.0


class Audience:
    """`run` listens until it is cancelled."""

    def __init__(self, world: World, book: Book, doors: Doors, manner: Manner, seed: int) -> None:
        self._book = book
        self._doors = doors
        self._manner = manner
        self._seed = seed
        owners = [login.name for login in world.owners]
        self.subscribers = [
            Subscriber(
                world.amqp_url("subscriber-amqp", login), login.name, quorum=bool(number % 2)
            )
            for number, login in enumerate(world.owners)
        ]
        self.feeds = [
            StreamReader(doors, owner, None, manner, f"{seed} feed {number}")
            for number, owner in enumerate(owners)
        ]
        self.readers: list[StreamReader] = []
        self.pollers: list[LongPoller] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for listening in [one.run() for one in self.subscribers] + [
                one.run() for one in self.feeds
            ]:
                tasks.create_task(listening)
            await self._follow(tasks)

    async def opened(self) -> None:
        """Every queue is bound, and every feed's opening is over: nothing can be missed now."""
        async with asyncio.timeout(OPEN_S):
            for subscriber in self.subscribers:
                await subscriber.ready.wait()
            for feed in self.feeds:
                await feed.opened.wait()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Give a share of the jobs a reader of their own, often before their first event."""
        at = 0
        active: Counter[str] = Counter()
        while True:
            for life in self._book.opened[at:]:
                at += 1
                share = life.number % SHARE
                seed = f"{self._seed} {life.number}"
                if share == 3 and active["stream"] < AT_ONCE:
                    reader = StreamReader(self._doors, life.key[0], life.key[1], self._manner, seed)
                    self.readers.append(reader)
                    _counted(tasks.create_task(reader.run()), active, "stream")
                elif share == 6 and active["poll"] < AT_ONCE:
                    poller = LongPoller(self._doors, life.key, seed)
                    self.pollers.append(poller)
                    _counted(tasks.create_task(poller.run()), active, "poll")
            await asyncio.sleep(LOOK_EVERY_S)

    def missing(self, ended: set[JobKey]) -> dict[str, int]:
        """How many ends each channel still has to tell; only those that have any."""
        return {channel: count for channel, count in self._missing(ended) if count}

    def _missing(self, ended: set[JobKey]) -> Iterator[tuple[str, int]]:
        told = set[JobKey]().union(*(subscriber.ended for subscriber in self.subscribers))
        yield "AMQP", len(ended - told)
        told = set[JobKey]().union(*(feed.ended for feed in self.feeds))
        yield "SSE feed", len(ended - told)
        yield "SSE job", sum(not reader.done for reader in self.readers)
        yield "long poll", sum(not poller.done for poller in self.pollers)


def _counted(task: "asyncio.Task[None]", active: Counter[str], what: str) -> None:
    active[what] += 1

    def done(_: object) -> None:
        active[what] -= 1

    task.add_done_callback(done)
