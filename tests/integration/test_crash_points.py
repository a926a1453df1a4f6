"""The notifier killed between every two of its steps, twice in a row with new events in between.

Real processes that die by SIGKILL (mortal.py), on a real RabbitMQ and Redis. What must hold after
any of it: the state is right, every notification and command that is owed is there, a repeat is
the same to the byte, first deliveries come in the order of the versions, each change is in the feed
once, no message is left and none is a dead letter.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Final

import msgspec
import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from jobcast.events import Canceled, CancelRequested, Event, Progressed, Queued, Recorded, Started
from jobcast.events import Succeeded as Done
from jobcast.names import COMMANDS, EVENTS
from notifier.settings import Settings
from tests.integration.lab import Lab
from tests.integration.mortal import ANSWER_LOST, POINTS, SURVIVED, source_of
from tests.integration.stand import Shape, Stand, Told, singly, standing, together

RESULT: Final = msgspec.Raw(b'{"files":[1,2,3]}')


def life(lab: Lab, name: str, first: str, second: str) -> tuple[list[Event], ...]:
    """Three jobs, in three parts; a process dies at `first` with the first part in hand, the next
    at `second` with the second."""
    a, b, c = (f"{name}-{letter}" for letter in "abc")
    trace = f"00-{'4b' * 16}-{'c7' * 8}-01"
    return (
        [
            lab.say(Queued, a, source=source_of(first), group="g", traceparent=trace),
            lab.say(Queued, b, operation="backup"),
            lab.say(Queued, c),
        ],
        [
            lab.say(Started, a, source=source_of(second)),
            lab.say(Started, b),
            lab.say(Started, c),
            lab.say(Progressed, a, percent=40),
            lab.say(Recorded, a, target="t", code=7),
            lab.say(CancelRequested, c),
        ],
        [
            lab.say(Done, a, result=RESULT, traceparent=trace),
            lab.say(Done, b, outcome="warning"),
            lab.say(Canceled, c),
        ],
    )


EXPECTED: Final = {
    # status, version; versions told, commanded, in the feed
    "a": ("succeeded", 5, {1, 2, 5}, set[int](), [1, 2, 4, 5]),
    "b": ("succeeded", 3, {1, 2, 3}, set[int](), [1, 2, 3]),
    "c": ("canceled", 4, {1, 2, 3, 4}, {3}, [1, 2, 3, 4]),
}


async def survived(lab: Lab) -> int:
    """How many answers were lost until now."""
    found: Any = await lab.redis.get(SURVIVED)
    return int(found or 0)


async def check(stand: Stand, names: Sequence[str]) -> Told:
    """All that must hold when everything is over; what does not is named by its crash points."""
    told, entries = await stand.told(), await stand.lab.entries()
    in_feed: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        in_feed[entry.job_id].append(entry.version)
    assert [after.prev for after in entries[1:]] == [before.cursor for before in entries[:-1]]
    wrong: list[object] = []
    for name, letter in product(names, "abc"):
        job_id = f"{name}-{letter}"
        job = await stand.lab.job(job_id)
        events, commands = told.versions(EVENTS, job_id), told.versions(COMMANDS, job_id)
        found = (job.status.value, job.version, events, commands, in_feed[job_id])
        if found != EXPECTED[letter]:
            wrong.append((job_id, found, EXPECTED[letter]))
        records = await stand.lab.redis.llen(stand.lab.keys.records(job_id))
        if records != (letter == "a"):
            wrong.append((job_id, "records", records))
    assert wrong == []
    unlike = [named for named, copies in told.copies.items() if copies != [copies[0]] * len(copies)]
    assert unlike == []
    assert [job_id for job_id, found in told.firsts.items() if found != sorted(found)] == []
    assert len(told.firsts) == 3 * len(names)
    assert set((await stand.left()).values()) == {0}
    return told


@pytest.mark.parametrize("shape", [singly, together])
@pytest.mark.parametrize("partitions", [1, 2])
async def test_killed_at_any_two_points_with_new_events_in_between_it_loses_nothing(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab, partitions: int, shape: Shape
) -> None:
    settings = Settings(spare_rabbitmq.url, redis_server.url, partitions=partitions)
    pairs = list(product(POINTS, POINTS))
    async with standing(settings, lab, shape) as stand:
        for first, second in pairs:
            begun, moved, ended = life(lab, f"{first}-{second}", first, second)
            stand.start()
            await stand.say(*begun)
            await stand.died()
            await stand.say(*moved)
            stand.start()
            await stand.died()
            await stand.say(*ended)
            stand.start()
            await stand.ended(event.job_id for event in ended)
        await stand.stop()
        told = await check(stand, ["-".join(pair) for pair in pairs])
    assert stand.deaths == 2 * len(pairs)
    assert told.repeats > len(pairs) // 3  # or the crashes have come too early or too late


async def test_killed_at_every_point_of_a_batch_in_several_portions_it_loses_nothing(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab
) -> None:
    settings = Settings(spare_rabbitmq.url, redis_server.url)
    async with standing(settings, lab, together) as stand:
        for point, last in pairwise((*POINTS, "taken")):
            jobs = [f"{point}-{number}" for number in range(160)]
            begun: list[Event] = [lab.say(Started, job) for job in jobs[1:]]
            begun.insert(70, lab.say(Started, jobs[0], source=source_of(point)))
            stand.start()
            await stand.say(*begun)
            await stand.died()
            ends: list[Event] = [lab.say(Done, job, result=RESULT) for job in jobs[1:]]
            await stand.say(*ends, lab.say(Done, jobs[0], source=source_of(last)))
            stand.start()
            await stand.died()
            stand.start()
            await stand.ended(jobs)
        await stand.stop()
        told = await stand.told()
        assert set((await stand.left()).values()) == {0}
    words = await lab.words()
    assert (words.count("started"), words.count("succeeded"), len(words)) == (960, 960, 1920)
    assert set(told.firsts) == set(await lab.members("jobs"))
    assert {tuple(found) for found in told.firsts.values()} == {(1, 2)}
    assert all(copies == [copies[0]] * len(copies) for copies in told.copies.values())


@pytest.mark.parametrize("shape", [singly, together])
@pytest.mark.parametrize("partitions", [1, 2])
async def test_who_is_not_told_what_became_of_a_commit_goes_on_and_loses_nothing(
    spare_rabbitmq: RabbitMQNode, redis_server: RedisNode, lab: Lab, partitions: int, shape: Shape
) -> None:
    settings = Settings(spare_rabbitmq.url, redis_server.url, partitions=partitions)
    names = [f"{ANSWER_LOST}-{number}" for number in range(8)]
    before = await survived(lab)
    async with standing(settings, lab, shape) as stand:
        stand.start()
        for name in names:
            begun, moved, ended = life(lab, name, ANSWER_LOST, ANSWER_LOST)
            await stand.say(*begun)
            await stand.stored(f"{name}-a", 1)
            await stand.say(*moved)
            await stand.stored(f"{name}-a", 4)
            await stand.say(*ended)
            await stand.ended(event.job_id for event in ended)
        await stand.stop()
        await check(stand, names)
    assert await survived(lab) - before >= 2 * len(names)
