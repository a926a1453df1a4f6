"""The fold: what one event makes of one job. Pure; one function per kind of event, one table.

`advance` is total: every event of every type, in any order, any number of times, gives a `Change`,
a `Touch`, a `Refusal` or None (the event is late, repeated or says nothing new). The rules are
those of docs/protocol.md § 3; their numbers stand where they are applied.
"""

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any, Final

from msgspec.structs import replace

from jobcast.bounds import TARGETS_MAX
from jobcast.change import Change, Memory, Record, State, Touch, Verdict, reference
from jobcast.ends import canceled, ended, failed, succeeded
from jobcast.errors import Refusal
from jobcast.events import (
    Canceled,
    CancelRequested,
    Commented,
    Deleted,
    Described,
    End,
    Event,
    Failed,
    Heartbeat,
    Lost,
    Own,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.job import (
    ANNOUNCED,
    NEXT,
    RECORDS_MAX,
    Job,
    JobError,
    Status,
    timestamp,
)

RECENT_MAX: Final = 32
"""Repeats are recognised among this many events that carry no `sequence`."""

DESCRIPTION: Final = ("operation", "group", "name", "resource", "cancelable", "labels", "lease_s")
LOST_MESSAGE: Final = "the executor has not been heard of for too long"


def advance(
    state: State | None, event: Event, now: int, *, retention_s: int = 14_400, seen: bool = False
) -> Verdict:
    """What `event`, stored at `now` (ms since 1970), makes of the job.

    `state` None: no such job. `seen`: this record or comment is stored already.
    """
    if isinstance(event, Own):
        return None if state is None or seen else _own(state, event, now, retention_s)
    if state is None:
        return _created(event, now, retention_s)
    if event.attempt < state.job.attempt:
        return None  # rule 4
    if state.job.ended:  # rule 7
        return _recorded(state, event, now) if isinstance(event, Recorded) and not seen else None
    if seen or (event.sequence is None and reference(event) in state.memory.recent):
        return _repeated(state, event, now)
    return _applied(state, event, now, retention_s)


def _repeated(state: State, event: Event, now: int) -> Touch | None:
    """A start told again asks again whether to cancel: its first answer may not have gone out."""
    command = isinstance(event, Started) and state.job.status is Status.CANCEL_PENDING
    return _touched(state, now, command=command) if command or state.heard_at < now else None


def _created(event: Event, now: int, retention_s: int) -> Verdict:
    """Rule 1: a heartbeat creates nothing, everything else does."""
    if isinstance(event, Heartbeat):
        return None
    stored = timestamp(now)
    job = Job(
        id=event.job_id,
        owner=event.owner,
        status=Status.QUEUED if isinstance(event, Queued) else Status.RUNNING,
        attempt=event.attempt,
        version=0,
        created_at=stored,
        updated_at=stored,
        started_at=None if isinstance(event, Queued | End) else stored,
    )
    return _applied(State(job, Memory(), now), event, now, retention_s, begun=True)


def _applied(
    state: State, event: Event, now: int, retention_s: int, *, begun: bool = False
) -> Verdict:
    old = state.job
    if event.attempt > old.attempt:
        state, begun = _begun(state, event), True
    if event.sequence is None and not isinstance(event, Heartbeat):
        recent = (*state.memory.recent, reference(event))[-RECENT_MAX:]
        state = replace(state, memory=replace(state.memory, recent=recent))
    effect = EFFECTS[type(event)](state, event)
    if isinstance(effect, Refusal):
        return effect
    if isinstance(event, End):
        effect = ended(effect, event, now, retention_s)
    elif (effect.job.started_at is None and effect.job.status is Status.RUNNING) or (
        isinstance(event, Started) and effect.job.started_at is None
    ):
        effect = replace(effect, job=replace(effect.job, started_at=timestamp(now)))
    command = isinstance(event, Started) and effect.job.status is Status.CANCEL_PENDING
    moved = begun or effect.job.status is not old.status
    record = _record(effect.job, event, now) if isinstance(event, Recorded) else None
    if not moved and record is None and effect.job == old:
        return _touched(effect, now, command=command)
    word = _word(effect.job, event, moved=moved, recorded=record is not None)
    return Change(_versioned(effect, now), word, status=moved, command=command, record=record)


def _word(job: Job, event: Event, *, moved: bool, recorded: bool) -> str:
    if not moved:
        return "recorded" if recorded else "progressed"
    if job.status is Status.CANCEL_PENDING:
        return "started"  # rule 3: a new attempt of a job that is to be canceled
    return ANNOUNCED[job.status]


def _begun(state: State, event: Event) -> State:
    """Rule 3: a higher attempt begins."""
    job, memory = state.job, state.memory
    status = Status.RUNNING
    if isinstance(event, Queued):
        status = Status.QUEUED
    elif job.status is Status.CANCEL_PENDING:
        status = Status.CANCEL_PENDING
    fresh = replace(
        job, attempt=event.attempt, percent=None, targets={}, message=None, status=status
    )
    return replace(state, job=fresh, memory=replace(memory, sequence=None, time=None, spoke=False))


def _described(state: State, event: Described) -> State:
    """Rule 6: descriptive fields fill what was never set; the message is progress."""
    given = {
        name: value
        for name in DESCRIPTION
        if name not in state.memory.described and (value := getattr(event, name)) is not None
    }
    if given:
        memory = replace(state.memory, described=(*state.memory.described, *given))
        state = replace(state, job=replace(state.job, **given), memory=memory)
    return _progress(state, event, {"message": event.message})


def _started(state: State, event: Started) -> State:
    state = _described(state, event)
    if Status.RUNNING in NEXT[state.job.status]:
        state = replace(state, job=replace(state.job, status=Status.RUNNING))
    return state


def _progressed(state: State, event: Progressed) -> State | Refusal:
    """Work is being done: a job that was queued runs, even if its start was overtaken."""
    if Status.RUNNING in NEXT[state.job.status]:
        state = replace(state, job=replace(state.job, status=Status.RUNNING))
    said: dict[str, Any] = {"message": event.message, "percent": event.percent}
    if event.targets and not _older(event, state.memory):
        rounded = {target: round(percent, 2) for target, percent in event.targets.items()}
        said["targets"] = state.job.targets | rounded
        if len(said["targets"]) > TARGETS_MAX:
            return Refusal("too-many", f"data.targets: more than {TARGETS_MAX} targets of one job")
    return _progress(state, event, said)


def _progress(state: State, event: Event, said: dict[str, Any]) -> State:
    """Apply the progress fields that are said, unless the event is too old (rule 5)."""
    memory = state.memory
    said = {name: value for name, value in said.items() if value is not None}
    if _older(event, memory):
        return state
    spoke = memory.spoke or "percent" in said
    if "percent" in said:
        said["percent"] = round(said["percent"], 2)
    elif "targets" in said and not spoke:
        said["percent"] = round(fmean(said["targets"].values()), 2)
    sequence = memory.sequence if event.sequence is None else event.sequence
    time = memory.time if event.time is None else event.time.timestamp()
    memory = replace(memory, sequence=sequence, time=time, spoke=spoke)
    return replace(state, job=replace(state.job, **said) if said else state.job, memory=memory)


def _older(event: Event, memory: Memory) -> bool:
    if event.sequence is not None and memory.sequence is not None:
        return event.sequence <= memory.sequence
    if event.time is not None and memory.time is not None:
        return event.time.timestamp() < memory.time
    return False


def _unchanged(state: State, event: Event) -> State:
    return state


def _counted(state: State, event: Event) -> State | Refusal:
    if state.memory.records >= RECORDS_MAX:
        return Refusal("too-many", f"the job has {RECORDS_MAX} records already")
    return replace(state, memory=replace(state.memory, records=state.memory.records + 1))


EFFECTS: Final[Mapping[type[Event], Callable[[State, Any], State | Refusal]]] = {
    Queued: _described,
    Started: _started,
    Progressed: _progressed,
    Heartbeat: _unchanged,
    Recorded: _counted,
    Succeeded: succeeded,
    Failed: failed,
    Canceled: canceled,
}


def _own(state: State, event: Own, now: int, retention_s: int) -> Verdict:
    """The service's own events: attempts and age do not govern them."""
    job = state.job
    match event:
        case CancelRequested():
            if not job.cancelable or Status.CANCEL_PENDING not in NEXT[job.status]:
                return None
            job = replace(job, status=Status.CANCEL_PENDING)
            pending = _versioned(replace(state, job=job), now, heard=False)
            return Change(pending, ANNOUNCED[job.status], status=True, command=True)
        case Commented():
            if event.comment == job.comment:
                return None
            state = replace(state, job=replace(job, comment=event.comment))
            return Change(_versioned(state, now, heard=False), "commented")
        case Deleted():
            return Change(_versioned(state, now, heard=False), "deleted") if job.ended else None
        case Lost():
            return _lost(state, event, now, retention_s)


def _lost(state: State, event: Lost, now: int, retention_s: int) -> Verdict:
    if state.job.ended or (event.version, event.heard_at) != (state.job.version, state.heard_at):
        return None
    verdict = Failed(
        id=event.id,
        source=event.source,
        owner=event.owner,
        job_id=event.job_id,
        error=JobError("lost", LOST_MESSAGE),
    )
    lost = ended(failed(state, verdict), verdict, now, retention_s)
    return Change(_versioned(lost, now, heard=False), ANNOUNCED[Status.FAILED], status=True)


def _recorded(state: State, event: Recorded, now: int) -> Verdict:
    effect = _counted(state, event)
    if isinstance(effect, Refusal):
        return effect
    record = _record(effect.job, event, now)
    return Change(_versioned(effect, now), "recorded", record=record)


def _record(job: Job, event: Recorded, now: int) -> Record:
    group = job.group if event.group is None else event.group
    return Record(job.id, group, event.target, event.code, event.message, timestamp(now))


def _versioned(state: State, now: int, *, heard: bool = True) -> State:
    """The next version; `updated_at` never goes back."""
    job = state.job
    updated_at = max(timestamp(now), job.updated_at)
    job = replace(job, version=job.version + 1, updated_at=updated_at)
    return State(job, state.memory, max(state.heard_at, now) if heard else state.heard_at)


def _touched(state: State, now: int, *, command: bool = False) -> Touch:
    return Touch(replace(state, heard_at=max(state.heard_at, now)), command)
