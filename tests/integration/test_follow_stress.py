"""Many readers that come and go while everything moves: each status change exactly once."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from jobcast.events import Event, Progressed, Queued, Recorded, Started, Succeeded
from notifier.feed import Entry, position
from notifier.follow import NothingLeft, follow_feed, follow_job
from notifier.listener import Item
from notifier.reader import Reader
from tests.integration.lab import Lab, in_order, resume_of, versions_rise

FOLLOWERS = 20
ROUNDS = 120
LAST = "the-last"


class Follower:
    """Follows the owner's feed, loses the connection at random, and resumes with its cursor."""

    def __init__(self, reader: Reader, owner: str, seed: int) -> None:
        self._reader = reader
        self._owner = owner
        self._random = random.Random(seed)
        self.cursor: str | None = None
        self.opened_at: str | None = None
        self.known: dict[str, int] = {}
        self.told: list[Item] = []
        self.sessions = 0

    async def run(self) -> None:
        while not (self.told and self.told[-1].job_id == LAST):
            await self._session()

    async def _session(self) -> None:
        items: list[Item] = []
        resume = "resumed" if self.cursor else "fresh"
        patience = self._random.choice([0, 1, 3, 10, 40, 1_000])
        stream = follow_feed(
            self._reader, self._owner, cursor=self.cursor, wanted=None, max_age_s=20
        )
        self.sessions += 1
        async with aclosing(stream):
            async for some in stream:
                self._note(some)
                items += some
                if len(items) > patience or any(item.job_id == LAST for item in some):
                    break
        assert resume_of(items[0]) == resume
        assert versions_rise(items)

    def _note(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.event == "stream":
                self.known = self.known if self.cursor else {}
            elif item.event == "snapshot":
                self.known[item.job.id] = item.job.version
            elif item.event == "live":
                self.opened_at = item.cursor
            elif item.event not in {None, "progressed"}:
                self.told.append(item)
            self.cursor = item.cursor or self.cursor

    def expected(self, feed: Sequence[Entry]) -> list[str]:
        """The feed after the opening, less what the opening's snapshots have told."""
        assert self.opened_at is not None
        after = position(self.opened_at)
        return [
            entry.cursor
            for entry in feed
            if position(entry.cursor) > after and entry.version > self.known.get(entry.job_id, 0)
        ]


async def write(lab: Lab, seed: int) -> None:
    """Lives of many jobs at once, with progress in between."""
    chance = random.Random(seed)
    for number in range(ROUNDS):
        jobs = [f"{number - back}" for back in range(min(number + 1, 6))]
        events: list[Event] = [lab.say(Queued, jobs[0])]
        events += [lab.say(Started, jobs[len(jobs) // 2])]
        events += [lab.say(Progressed, job, percent=chance.randrange(100)) for job in jobs[1:4]]
        events += [lab.say(Recorded, chance.choice(jobs), target="t", code=number)]
        if number > 6:
            events.append(lab.say(Succeeded, jobs[-1]))
        chance.shuffle(events)
        await lab.tell(*events[: len(events) // 2])
        await lab.tell(*events[len(events) // 2 :])


async def test_every_follower_is_told_every_status_change_exactly_once_and_in_order(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(*(lab.say(Started, f"early-{number}") for number in range(120)))
    followers = [Follower(reader, lab.owner, seed) for seed in range(FOLLOWERS)]
    async with asyncio.TaskGroup() as tasks:
        for follower in followers:
            tasks.create_task(follower.run())
        await write(lab, seed=7)
        await lab.tell(lab.say(Succeeded, LAST))
    feed = await lab.entries()
    for follower in followers:
        told = [item.cursor or "" for item in follower.told]
        assert told == follower.expected(feed)
        assert in_order(told)
    assert sum(follower.sessions for follower in followers) > 5 * FOLLOWERS


async def test_followers_of_one_job_are_told_its_whole_story(lab: Lab, reader: Reader) -> None:
    async def follow(seed: int) -> list[Item]:
        chance, cursor, told = random.Random(seed), None, list[Item]()
        while not (told and told[-1].last):
            items: list[Item] = []
            stream = follow_job(reader, lab.owner, "one", cursor=cursor, max_age_s=20)
            patience = chance.randrange(1, 12)
            async with aclosing(stream):
                async for some in stream:
                    items += some
                    cursor = next((i.cursor for i in reversed(some) if i.cursor), cursor)
                    if len(items) >= patience:
                        break
            assert versions_rise(items)
            told += [item for item in items if item.event not in {None, "stream", "progressed"}]
            if items[-1].event == "snapshot" and items[-1].job.ended:
                break
        return told

    await lab.tell(lab.say(Started, "one"))
    async with asyncio.TaskGroup() as tasks:
        readings = [tasks.create_task(follow(seed)) for seed in range(10)]
        for number in range(100):
            await lab.tell(
                lab.say(Started, "one", attempt=number + 2),
                lab.say(Progressed, "one", attempt=number + 2, percent=number % 100),
                lab.say(Started, f"other-{number}"),
            )
            await lab.tell(lab.say(Recorded, "one", attempt=number + 2, target="t", code=number))
        await lab.tell(lab.say(Succeeded, "one", attempt=101))
    story = [(e.event, e.version) for e in await lab.entries() if e.job_id == "one"]
    for reading in readings:
        told = [(item.event, item.job.version) for item in reading.result()]
        first = told[0][1]
        assert told[1:] == [(event, version) for event, version in story if version > first]


async def test_a_follower_that_has_seen_the_end_is_told_that_nothing_is_left(
    lab: Lab, reader: Reader
) -> None:
    await lab.tell(lab.say(Started), lab.say(Succeeded))
    cursor = (await lab.entries())[-1].cursor
    stream = follow_job(reader, lab.owner, "j", cursor=cursor, max_age_s=5)
    with pytest.raises(NothingLeft):
        await anext(stream)
