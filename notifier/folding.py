"""Folding a batch: what its events make of each job, as plans to commit. Decides, does no I/O."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from jobcast.change import Change, State, Touch, Verdict, reference
from jobcast.errors import Refusal
from jobcast.events import Commented, Deleted, Event, Recorded
from jobcast.job import NO_RESULT
from notifier.plan import FEED_BODY_MAX, OWED_MAX, Owed, Plan, Step
from notifier.store import Held

HELD_MAX: Final = 32_768
"""Bytes: a job with a longer representation is read again rather than kept in memory."""

encode = msgspec.json.Encoder().encode

JobKey = tuple[str, str]
"""(owner, job id)"""


class Rejected(Struct, frozen=True):
    """An event that the fold refuses: a dead letter."""

    event: Event
    refusal: Refusal


class Folded(Struct):
    """What came of one job's events: a plan, what is owed again, what is refused, what is left.

    `repeats` are versions whose notification an event asks for again; `left` are events that must
    wait for the next commit, because one commit owes a bounded number of notifications.
    """

    key: JobKey
    held: Held
    plan: Plan | None
    repeats: list[int]
    rejected: list[Rejected]
    left: Sequence[Event]
    command: bool = False


Judge = Callable[[State | None, Event, bool], Verdict]
"""`advance` at one moment. The flag says that the record or comment came in this batch already."""


def fold(key: JobKey, held: Held, events: Sequence[Event], judge: Judge) -> Folded:
    """Fold one job's events onto what is held of it."""
    folded = Folded(key, held, None, [], [], ())
    if held.gone and held.state is None:
        return folded  # every event for it is late
    state, touched, owing = held.state, False, 0
    steps: list[Step] = []
    last: type[Event] = Event
    kept: dict[str, None] = {}
    for at, event in enumerate(events):
        if owing == OWED_MAX or (steps and Deleted in (type(event), last)):
            folded.left = events[at:]  # a deletion takes what is owed with it: it comes alone
            break
        last = type(event)
        noted = isinstance(event, Recorded | Commented)
        verdict = judge(state, event, noted and reference(event) in kept)
        if isinstance(verdict, Change):
            steps.append(_step(verdict, event))
            state = steps[-1].change.state
            owing += verdict.status
            if noted:
                kept[steps[-1].reference] = None
        elif isinstance(verdict, Refusal):
            folded.rejected.append(Rejected(event, verdict))
        else:
            if isinstance(verdict, Touch):
                state, touched = verdict.state, True
                folded.command = folded.command or verdict.command
            folded.repeats += _owed(held, event)
    if state is not None and (steps or touched):
        folded.plan = _plan(held, state, steps, tuple(kept))
    return folded


def _step(change: Change, event: Event) -> Step:
    """Only a change that others see by itself needs its representation written down, and the name
    of its event; progress is most of what comes."""
    if not change.in_feed:
        return Step(change, "", event.traceparent, None)
    if change.event == "deleted":
        change = _slim(change)
    return Step(change, reference(event), event.traceparent, encode(change.state.job))


def _slim(change: Change) -> Change:
    """A deleted job cannot be looked up: its last entry must hold it, without a long result."""
    job = change.state.job
    if len(bytes(job.result)) <= FEED_BODY_MAX // 2:
        return change
    state = replace(change.state, job=replace(job, result=NO_RESULT))
    return replace(change, state=state)


def _owed(held: Held, event: Event) -> Iterable[int]:
    if not held.owed:
        return ()
    named = reference(event)
    return (
        version
        for version, owed in held.owed.items()
        if owed.reference == named and not owed.settled
    )


def _plan(held: Held, state: State, steps: list[Step], references: Sequence[str]) -> Plan:
    before = held.state
    old_version = None if before is None else before.job.version
    open_ = sorted(version for version, owed in held.owed.items() if not owed.settled)
    surplus = open_[: max(0, len(open_) - OWED_MAX)] if steps else []
    drops = [version for version, owed in held.owed.items() if owed.settled or version in surplus]
    moves = [
        version
        for version, owed in held.owed.items()
        if version == old_version and not owed.settled and owed.body is None
    ]
    group_before = None if before is None else before.job.group
    job = state.job
    last = steps[-1].snapshot if steps else None
    return Plan(
        owner=job.owner,
        job_id=job.id,
        expected=old_version,
        state=state,
        steps=steps,
        before=None if before is None else before.job,
        snapshot=b"" if not steps else last or encode(job),
        drops=drops if steps else (),
        moves=moves if steps else (),
        references=references,
        join_group=bool(job.group) and group_before is None,
    )


def applied(held: Held, plan: Plan, cursors: Sequence[str]) -> Held:
    """What is held of the job once the plan is committed."""
    owed = {version: owed for version, owed in held.owed.items() if version not in plan.drops}
    for version in plan.moves:
        owed[version].body = held.snapshot
    current = plan.state.job.version
    in_feed = [step for step in plan.steps if step.change.in_feed]
    for step, cursor in zip(in_feed, cursors, strict=True):
        if step.change.status:
            version = step.change.state.job.version
            body = None if version == current else step.snapshot
            owed[version] = Owed(
                step.reference,
                step.change.event,
                step.change.command,
                cursor,
                step.traceparent,
                body,
            )
    if plan.deleted:
        return Held(None, b"", {}, gone=True)
    return Held(plan.state, plan.snapshot or held.snapshot, owed)


class LiveJobs:
    """A bounded memory of what was held last; right as long as one notifier has the queue."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._held: OrderedDict[JobKey, Held] = OrderedDict()

    def get(self, key: JobKey) -> Held | None:
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
        return held

    def put(self, key: JobKey, held: Held) -> None:
        if held.gone or len(held.snapshot) > HELD_MAX:
            self.forget(key)
            return
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > self._size:
            self._held.popitem(last=False)

    def forget(self, key: JobKey) -> None:
        self._held.pop(key, None)
