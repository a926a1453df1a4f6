"""What holds for every history of a job, whatever its order."""

from statistics import fmean
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from jobcast import events as e
from jobcast.bounds import TARGETS_MAX
from jobcast.change import Change, State, Touch
from jobcast.errors import Refusal
from jobcast.events import BY_TYPE, Event, Progressed
from jobcast.fold import advance
from jobcast.job import FINAL, NEXT, Status
from tests.unit.core.lifecycle import NOW, after, next_state, say
from tests.unit.core.strategies import ANY_EVENT, ENDS, PERCENTS, one_job

END_OF: dict[type[Event], Status] = {
    e.Succeeded: Status.SUCCEEDED,
    e.Failed: Status.FAILED,
    e.Canceled: Status.CANCELED,
}
BEFORE_THE_END = (e.Queued, e.Started, e.Progressed, e.Heartbeat, e.Recorded)
CLOCKS = st.integers(0, 2 * NOW)
HISTORIES = st.lists(st.tuples(one_job(*BY_TYPE.values()), CLOCKS), max_size=12)


def walk(history: list[tuple[Event, int]]) -> list[tuple[State | None, Any, State | None]]:
    """(before, verdict, after) for every event."""
    steps: list[tuple[State | None, Any, State | None]] = []
    state: State | None = None
    for event, now in history:
        verdict = advance(state, event, now)
        steps.append((state, verdict, next_state(state, verdict)))
        state = steps[-1][2]
    return steps


@given(st.data())
def test_the_final_status_is_that_of_the_end_in_any_order(data: st.DataObject) -> None:
    end = data.draw(one_job(*ENDS))
    others = data.draw(st.lists(one_job(*BEFORE_THE_END, e.CancelRequested, e.Commented)))
    history = [end] + [
        event for event in others if event.attempt <= end.attempt or isinstance(event, e.Own)
    ]
    repeats = data.draw(st.lists(st.sampled_from(history)))
    told = data.draw(st.permutations(history + repeats))
    job = after(*told).job
    assert (job.status, job.attempt) == (END_OF[type(end)], end.attempt)


@given(st.lists(st.tuples(ANY_EVENT | one_job(*BY_TYPE.values()), CLOCKS), max_size=12))
def test_advance_is_total(history: list[tuple[Event, int]]) -> None:
    for _, verdict, _ in walk(history):
        assert verdict is None or isinstance(verdict, Change | Touch | Refusal)


@given(HISTORIES)
def test_the_version_rises_by_one_with_every_change_and_never_otherwise(
    history: list[tuple[Event, int]],
) -> None:
    for before, verdict, state in walk(history):
        if isinstance(verdict, Change):
            assert verdict.state.job.version == (before.job.version if before else 0) + 1
        elif state is not None:
            assert before is not None
            assert state.job == before.job


@given(HISTORIES)
def test_every_change_changes_what_is_seen(history: list[tuple[Event, int]]) -> None:
    for before, verdict, state in walk(history):
        if isinstance(verdict, Change) and before is not None:
            assert state is not None
            old, new = before.job, state.job
            same = replace(new, version=old.version, updated_at=old.updated_at) == old
            assert same == (verdict.event in {"recorded", "deleted"})
            assert verdict.status == ((new.status, new.attempt) != (old.status, old.attempt))


@given(HISTORIES)
def test_final_is_final(history: list[tuple[Event, int]]) -> None:
    for before, _, state in walk(history):
        if before is not None and before.job.status in FINAL:
            assert state is not None
            free = {"version": 0, "updated_at": "", "comment": None}
            assert replace(state.job, **free) == replace(before.job, **free)


@given(HISTORIES)
def test_times_never_go_back_whatever_the_clocks(history: list[tuple[Event, int]]) -> None:
    for before, _, state in walk(history):
        if before is not None and state is not None:
            assert state.job.updated_at >= before.job.updated_at
            assert state.heard_at >= before.heard_at
            assert state.job.created_at == before.job.created_at


@given(HISTORIES)
def test_within_an_attempt_the_status_moves_as_the_table_says(
    history: list[tuple[Event, int]],
) -> None:
    for before, _, state in walk(history):
        if before is None or state is None or state.job.attempt != before.job.attempt:
            continue
        old, new = before.job.status, state.job.status
        assert new is old or new in NEXT[old]


@given(HISTORIES)
def test_attempts_only_rise(history: list[tuple[Event, int]]) -> None:
    for before, _, state in walk(history):
        if before is not None and state is not None:
            assert state.job.attempt >= before.job.attempt


@given(HISTORIES)
def test_a_job_has_ended_exactly_if_it_says_when(history: list[tuple[Event, int]]) -> None:
    for _, _, state in walk(history):
        if state is not None:
            job = state.job
            assert job.ended == (job.ended_at is not None) == (job.expires_at is not None)
            assert job.ended == (job.status_code is not None)
            assert (job.status is Status.FAILED) == (job.error is not None)
            if job.status is Status.RUNNING:
                assert job.started_at is not None


PROGRESS = st.builds(
    lambda **fields: say(Progressed, **fields),
    percent=st.none() | PERCENTS,
    targets=st.none() | st.dictionaries(st.sampled_from("xyz"), PERCENTS),
    message=st.sampled_from([None, "a", "b"]),
)


def expected_progress(events: list[Progressed]) -> tuple[float | None, dict[str, float]]:
    """The words of the protocol: its own word counts, else the mean of the targets."""
    targets: dict[str, float] = {}
    for event in events:
        targets |= {name: round(percent, 2) for name, percent in (event.targets or {}).items()}
    words = [event.percent for event in events if event.percent is not None]
    if words:
        return round(words[-1], 2), targets
    return (round(fmean(targets.values()), 2) if targets else None), targets


@given(st.lists(PROGRESS, min_size=1), st.randoms(use_true_random=False))
def test_progress_is_what_the_highest_sequences_have_said(
    events: list[Progressed], shuffle: Any
) -> None:
    numbered = [replace(event, sequence=number) for number, event in enumerate(events)]
    shuffle.shuffle(numbered)
    applied: list[Progressed] = []
    for event in numbered:
        if not applied or (event.sequence or 0) > (applied[-1].sequence or 0):
            applied.append(event)
    job = after(*numbered).job
    assert (job.percent, job.targets) == expected_progress(applied)
    assert job.message == next((p.message for p in reversed(applied) if p.message), None)


@given(st.lists(PROGRESS, min_size=1), st.randoms(use_true_random=False))
def test_repeats_of_progress_change_nothing(events: list[Progressed], random: Any) -> None:
    told: list[Progressed] = []
    for event in events[:20]:
        told += [event, *random.sample(told, min(len(told), 2))]
    assert after(*told).job == replace(
        after(*events[:20]).job, updated_at=after(*told).job.updated_at
    )


SPANS = st.tuples(st.integers(0, 900), st.integers(100, 400)).map(
    lambda span: range(span[0], sum(span))
)


@given(st.lists(SPANS, min_size=1, max_size=5))
def test_targets_never_exceed_their_bound(spans: list[range]) -> None:
    state: State | None = None
    known: set[int] = set()
    for span in spans:
        event = say(Progressed, targets={str(number): 1.0 for number in span})
        verdict = advance(state, event, NOW)
        fits = len(known | set(span)) <= TARGETS_MAX
        assert isinstance(verdict, Refusal) != fits
        known |= set(span) if fits else set()
        state = next_state(state, verdict)
