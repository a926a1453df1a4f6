"""Crashes between the steps: what was stored and not yet told is told when its event comes again.

A crash is a publisher that fails, then a new process that is given the same messages again.
"""

from collections.abc import Sequence

import msgspec
import pytest

from broker.errors import BrokerUnavailable
from jobcast.events import (
    CancelRequested,
    Commented,
    Deleted,
    Event,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.message import Message
from notifier.plan import OWED_MAX
from notifier.telling import TRIES
from tests.integration.lab import Lab


async def crash_before_telling(lab: Lab, *events: Event) -> None:
    """Everything is committed and nothing published; then the process is another one."""
    lab.told.broken = True
    with pytest.raises(BrokerUnavailable):
        await lab.tell(*events)
    lab.restart()


async def crash_before_settling(lab: Lab, *events: Event) -> list[Message]:
    """Everything is published and nothing acknowledged; the answer is what was published."""
    await lab.tell(*events)
    told = lab.told.messages
    lab.restart()
    return told


def said(messages: Sequence[Message]) -> dict[str, tuple[bytes, object, str]]:
    """What a receiver compares: a repeat must not differ in a byte."""
    return {m.message_id + m.exchange: (m.body, m.headers, m.routing_key) for m in messages}


async def owed(lab: Lab) -> set[int]:
    """The versions whose notification the job still owes."""
    [held] = await lab.store.hold([(lab.owner, "j")])
    return set(held.owed)


async def test_what_was_committed_and_not_told_is_told_by_the_next(lab: Lab) -> None:
    started = lab.say(Started)
    await crash_before_telling(lab, started)
    stored = await lab.job()
    await lab.tell(started)
    assert lab.told.ids == ["j/1"]
    assert await lab.job() == stored
    assert lab.told.notifications[0].headers["cursor"] == (await lab.entries())[0].cursor


async def test_what_was_told_and_not_settled_is_told_again_to_the_byte(lab: Lab) -> None:
    events = [lab.say(Queued, group="g"), lab.say(Started), lab.say(Progressed, percent=7)]
    ends = [lab.say(CancelRequested), lab.say(Succeeded, result=msgspec.Raw(b"[1]"))]
    first = await crash_before_settling(lab, *events, *ends)
    await lab.tell(*events, *ends)
    assert said(lab.told.messages) == said(first)
    assert lab.told.ids == ["j/1", "j/2", "j/4", "j/5"]
    assert len(lab.told.commands) == 1
    assert (await lab.job()).version == 5
    assert len(await lab.entries()) == 4


async def test_a_repeat_of_one_change_of_many_tells_that_one_alone(lab: Lab) -> None:
    queued, started = lab.say(Queued), lab.say(Started)
    first = await crash_before_settling(lab, queued, started)
    await lab.tell(started)
    assert lab.told.ids == ["j/2"]
    assert said(lab.told.messages).items() <= said(first).items()


async def test_a_second_crash_with_new_events_in_between_loses_neither(lab: Lab) -> None:
    first, second, third = lab.say(Queued), lab.say(Started), lab.say(Succeeded)
    told = await crash_before_settling(lab, first)
    await crash_before_telling(lab, first, second)
    await crash_before_telling(lab, first, second, third)
    await lab.tell(first, second, third)
    assert sorted(lab.told.ids) == ["j/1", "j/2", "j/3"]
    assert said(told).items() <= said(lab.told.messages).items()
    assert (await lab.job()).version == 3


async def test_progress_that_replaces_the_snapshot_keeps_what_is_owed_as_it_was(
    lab: Lab,
) -> None:
    started = lab.say(Started)
    told = await crash_before_settling(lab, started)
    for percent in (10, 20):
        await lab.tell(lab.say(Progressed, percent=percent))
    lab.restart()
    await lab.tell(started)
    assert said(lab.told.messages) == said(told)
    assert (await lab.job()).percent == 20


async def test_only_what_was_confirmed_is_dropped_by_the_next_commit(lab: Lab) -> None:
    started = lab.say(Started)
    await lab.tell(lab.say(Queued), started)
    assert await owed(lab) == {1, 2}
    await lab.tell(lab.say(Progressed, percent=5))
    assert await owed(lab) == set()
    await crash_before_telling(lab, lab.say(Started, attempt=2))
    await lab.tell(lab.say(Progressed, attempt=2, percent=5))
    assert await owed(lab) == {4}


async def test_forty_status_changes_of_one_job_survive_crashes_at_every_commit(
    lab: Lab,
) -> None:
    events = [lab.say(Started, attempt=number) for number in range(1, 41)]
    told: list[str] = []
    for _ in range(5):
        lab.told.broken = True
        with pytest.raises(BrokerUnavailable):
            await lab.tell(*events)
        lab.restart()
        lab.told.broken = False
    await lab.tell(*events)
    told += lab.told.ids
    assert set(told) == {f"j/{number}" for number in range(1, 41)}
    assert (await lab.job()).version == 40


async def test_the_owed_entries_of_a_job_are_bounded(lab: Lab) -> None:
    for attempt in range(1, 60):
        await crash_before_telling(lab, lab.say(Started, attempt=attempt))
    assert len(await owed(lab)) <= OWED_MAX + 1


async def test_an_end_and_its_deletion_never_lose_the_end_to_a_crash(lab: Lab) -> None:
    events = [lab.say(Started), lab.say(Succeeded), lab.say(Deleted)]
    await crash_before_telling(lab, *events)
    assert await lab.gone() is None  # the deletion waits until the end is told
    await lab.tell(*events)
    assert lab.told.ids == ["j/1", "j/2"]
    assert await lab.gone() is not None
    await lab.tell(*events)
    assert lab.told.ids == ["j/1", "j/2"]


async def test_what_is_owed_of_an_ended_job_is_told_after_records_and_comments_too(
    lab: Lab,
) -> None:
    ended = lab.say(Succeeded)
    told = await crash_before_settling(lab, ended)
    await lab.tell(lab.say(Recorded, target="t", code=1), lab.say(Commented, comment="c"))
    lab.restart()
    await lab.tell(ended)
    assert said(lab.told.messages) == said(told)


async def test_a_job_created_by_a_record_is_told_again_when_the_record_comes_again(
    lab: Lab,
) -> None:
    record = lab.say(Recorded, target="t", code=1)
    await crash_before_telling(lab, record)
    await lab.tell(record)
    assert lab.told.ids == ["j/1"]
    assert await lab.redis.llen(lab.keys.records("j")) == 1


async def test_a_repeat_is_told_once_by_a_process_however_often_it_comes(lab: Lab) -> None:
    started = lab.say(Started)
    await crash_before_telling(lab, started)
    for _ in range(3):
        await lab.tell(started)
    assert lab.told.ids == ["j/1"]


async def test_what_is_refused_is_tried_three_times_and_then_given_up(lab: Lab) -> None:
    lab.told.refused = TRIES
    await lab.tell(lab.say(Started))
    assert lab.told.ids == ["j/1"] * TRIES
    await lab.tell(lab.say(Succeeded))
    assert lab.told.ids[TRIES:] == ["j/2"]


async def test_what_is_refused_once_is_told_the_second_time(lab: Lab) -> None:
    lab.told.refused = 1
    await lab.tell(lab.say(Started), lab.say(Started, "k"))
    assert lab.told.ids == ["j/1", "k/1"] * 2


async def test_an_end_too_long_for_the_feed_is_told_again_whole(lab: Lab) -> None:
    result = msgspec.Raw(msgspec.json.encode("x" * 200_000))
    ended = lab.say(Succeeded, result=result)
    told = await crash_before_settling(lab, lab.say(Started), ended)
    await lab.tell(lab.say(Commented, comment="c"))
    lab.restart()
    await lab.tell(ended)
    assert said(lab.told.messages).items() <= said(told).items()
    assert lab.told.ids == ["j/2"]
