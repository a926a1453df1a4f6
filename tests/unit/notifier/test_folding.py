"""Folding a batch: what is committed, owed, told again and left for later. No I/O."""

from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

import msgspec

from jobcast.change import State, Verdict
from jobcast.events import (
    Commented,
    Deleted,
    Event,
    Heartbeat,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.fold import advance
from jobcast.job import Job
from notifier.folding import HELD_MAX, Folded, LiveJobs, applied, fold
from notifier.plan import OWED_MAX, Plan, parse_owed
from notifier.store import Held

NOW = 1_800_000_000_000
E = TypeVar("E", bound=Event)
_numbers = count(1)


def say(kind: type[E], **fields: Any) -> E:
    named = {"id": f"e{next(_numbers)}", "source": "/t", "owner": "alice", "job_id": "j"}
    return kind(**(named | fields))


def judge(state: State | None, event: Event, seen: bool) -> Verdict:
    return advance(state, event, NOW, seen=seen)


def folded(held: Held, *events: Event) -> Folded:
    return fold(("alice", "j"), held, events, judge)


def nothing() -> Held:
    return Held(None, b"", {})


def committed(held: Held, *events: Event) -> Held:
    """What is held after the events, each cursor named for its place."""
    plan = folded(held, *events).plan
    assert plan is not None
    return applied(held, plan, cursors_of(plan))


def cursors_of(plan: Plan) -> Sequence[str]:
    return [f"{at}-0" for at, step in enumerate(plan.steps, 1) if step.change.in_feed]


def test_several_events_fold_into_one_plan_with_a_step_for_each_change() -> None:
    result = folded(
        nothing(), say(Queued), say(Started), say(Heartbeat), say(Progressed, percent=1)
    )
    assert result.plan is not None
    assert result.plan.expected is None
    assert [step.change.event for step in result.plan.steps] == ["queued", "started", "progressed"]
    assert result.plan.state.job.version == 3
    assert msgspec.json.decode(result.plan.snapshot, type=Job) == result.plan.state.job


def test_only_what_others_see_by_itself_is_written_down_by_itself() -> None:
    plan = folded(nothing(), say(Started), say(Progressed, percent=1)).plan
    assert plan is not None
    assert [step.snapshot is not None for step in plan.steps] == [True, False]


def test_an_event_that_says_nothing_makes_no_plan() -> None:
    assert folded(nothing(), say(Heartbeat)).plan is None
    held = committed(nothing(), say(Started), say(Succeeded))
    assert folded(held, say(Started), say(Heartbeat), say(Progressed, percent=3)).plan is None


def test_a_job_that_was_only_heard_of_is_a_plan_without_steps() -> None:
    held = committed(nothing(), say(Started))
    result = fold(
        ("alice", "j"), held, [say(Heartbeat)], lambda s, e, _: advance(s, e, NOW + 5_000)
    )
    assert result.plan is not None
    assert (result.plan.steps, result.plan.snapshot) == ([], b"")
    after = applied(held, result.plan, [])
    assert after.state is not None
    assert (after.state.heard_at, after.snapshot, after.owed) == (
        NOW + 5_000,
        held.snapshot,
        held.owed,
    )


def test_for_a_gone_id_every_event_is_late() -> None:
    gone = Held(None, b"", {}, gone=True)
    result = folded(gone, say(Started), say(Succeeded))
    assert (result.plan, result.repeats, list(result.left)) == (None, [], [])


def test_the_current_version_owes_the_snapshot_and_older_ones_a_body_of_their_own() -> None:
    held = committed(nothing(), say(Queued), say(Started))
    assert held.owed[2].body is None
    assert msgspec.json.decode(held.owed[1].body or b"", type=Job).status == "queued"


def test_a_commit_that_replaces_the_snapshot_moves_it_into_what_is_owed() -> None:
    held = committed(nothing(), say(Started))
    plan = folded(held, say(Progressed, percent=5)).plan
    assert plan is not None
    assert (list(plan.moves), list(plan.drops)) == ([1], [])
    after = applied(held, plan, [])
    assert after.owed[1].body == held.snapshot


def test_what_is_settled_is_dropped_and_not_moved() -> None:
    held = committed(nothing(), say(Started))
    held.owed[1].settled = True
    plan = folded(held, say(Progressed, percent=5)).plan
    assert plan is not None
    assert (list(plan.moves), list(plan.drops)) == ([], [1])
    assert applied(held, plan, []).owed == {}


def test_a_repeat_of_what_is_owed_asks_for_it_again_until_it_is_settled() -> None:
    started = say(Started)
    held = committed(nothing(), say(Queued), started)
    assert folded(held, started).repeats == [2]
    held.owed[2].settled = True
    assert folded(held, started).repeats == []


def test_one_commit_owes_at_most_so_many_and_leaves_the_rest() -> None:
    events = [say(Started, attempt=number) for number in range(1, OWED_MAX + 5)]
    result = folded(nothing(), *events)
    assert result.plan is not None
    assert len(result.plan.steps) == OWED_MAX
    assert list(result.left) == events[OWED_MAX:]


def test_of_too_many_owed_the_oldest_are_dropped() -> None:
    held = nothing()
    for attempt in range(1, OWED_MAX + 4):
        held = committed(held, say(Started, attempt=attempt))
    assert len(held.owed) <= OWED_MAX + 1
    assert max(held.owed) == OWED_MAX + 3


def test_a_deletion_comes_alone_and_what_follows_it_later() -> None:
    ended, deleted, late = say(Succeeded), say(Deleted), say(Started)
    first = folded(nothing(), ended, deleted, late)
    assert list(first.left) == [deleted, late]
    held = committed(nothing(), ended)
    second = folded(held, deleted, late)
    assert second.plan is not None
    assert second.plan.deleted
    assert list(second.left) == [late]
    assert applied(held, second.plan, ["9-0"]).gone


def test_a_deletion_that_may_not_be_stops_nothing() -> None:
    result = folded(committed(nothing(), say(Queued)), say(Deleted), say(Started))
    assert result.plan is not None
    assert [step.change.event for step in result.plan.steps] == ["started"]
    assert list(result.left) == []


def test_records_and_comments_of_one_batch_count_once_by_reference() -> None:
    record, comment = say(Recorded, target="t", code=1), say(Commented, comment="c")
    result = folded(nothing(), record, comment, record, comment)
    assert result.plan is not None
    assert len(result.plan.references) == 2
    assert len(result.plan.records) == 1


def test_the_group_is_joined_when_it_is_first_named() -> None:
    first = folded(nothing(), say(Queued)).plan
    held = committed(nothing(), say(Queued))
    named = folded(held, say(Started, group="g")).plan
    after = committed(held, say(Started, group="g"))
    later = folded(after, say(Progressed, percent=1)).plan
    assert [plan is not None and plan.join_group for plan in (first, named, later)] == [
        False,
        True,
        False,
    ]


def test_an_owed_entry_is_read_as_it_was_written() -> None:
    held = committed(nothing(), say(Started, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))
    owed = held.owed[1]
    stored = f"1-0 {owed.head}\n".encode()
    assert parse_owed(stored) == owed
    assert parse_owed(stored + b'{"a":"x\\ny"}').body == b'{"a":"x\\ny"}'


def test_the_memory_of_live_jobs_is_bounded_by_number_and_by_size() -> None:
    live = LiveJobs(2)
    for name in "abc":
        live.put(("o", name), Held(None, b"x", {}))
    assert [live.get(("o", name)) is not None for name in "abc"] == [False, True, True]
    live.put(("o", "b"), Held(None, b"x" * (HELD_MAX + 1), {}))
    live.put(("o", "c"), Held(None, b"", {}, gone=True))
    assert [live.get(("o", name)) for name in "bc"] == [None, None]
