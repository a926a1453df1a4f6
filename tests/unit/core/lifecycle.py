"""Events by the dozen, and folding them by hand."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, TypeVar

from jobcast.change import Change, State, Touch, Verdict
from jobcast.events import Event
from jobcast.fold import advance

NOW = 1_800_000_000_000
E = TypeVar("E", bound=Event)
_numbers = count(1)


def say(kind: type[E], **fields: Any) -> E:
    """An event of its own id about alice's job `j`."""
    named = {"id": f"e{next(_numbers)}", "source": "/tests", "owner": "alice", "job_id": "j"}
    return kind(**(named | fields))


def next_state(state: State | None, verdict: Verdict) -> State | None:
    return verdict.state if isinstance(verdict, Change | Touch) else state


def told(
    events: Iterable[Event], state: State | None = None
) -> Iterator[tuple[State | None, Verdict]]:
    """What becomes of the job, event by event, one second apart."""
    for at, event in enumerate(events):
        verdict = advance(state, event, NOW + 1000 * at)
        state = next_state(state, verdict)
        yield state, verdict


def after(*events: Event, state: State | None = None) -> State:
    """The job after the events; there must be one."""
    for at, event in enumerate(events):
        state = next_state(state, advance(state, event, NOW + 1000 * at))
    assert state is not None
    return state


def changes(*events: Event, state: State | None = None) -> list[Change]:
    """The versions that the events have made."""
    return [verdict for _, verdict in told(events, state) if isinstance(verdict, Change)]


def words(*events: Event, state: State | None = None) -> list[str]:
    """How those versions are announced."""
    return [change.event for change in changes(*events, state=state)]
