"""The rules 1 to 8 of docs/protocol.md § 3, one by one."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from jobcast.change import Change, Touch, reference
from jobcast.errors import Refusal
from jobcast.events import (
    Canceled,
    CancelRequested,
    Commented,
    Deleted,
    Event,
    Failed,
    Heartbeat,
    Lost,
    Progressed,
    Queued,
    Recorded,
    Started,
    Succeeded,
)
from jobcast.fold import LOST_MESSAGE, RECENT_MAX, advance
from jobcast.job import NO_RESULT, RECORDS_MAX, JobError, Resource, Status, timestamp
from tests.unit.core.lifecycle import NOW, after, changes, say, told, words

TIME = datetime(2027, 1, 1, tzinfo=UTC)
LATER = TIME + timedelta(seconds=1)


@dataclass(frozen=True)
class Birth:
    event: Event
    status: Status
    word: str


BIRTHS = [
    Birth(say(Queued), Status.QUEUED, "queued"),
    Birth(say(Started), Status.RUNNING, "started"),
    Birth(say(Progressed), Status.RUNNING, "started"),
    Birth(say(Recorded, target="t", code=1), Status.RUNNING, "started"),
    Birth(say(Succeeded), Status.SUCCEEDED, "succeeded"),
    Birth(say(Failed), Status.FAILED, "failed"),
    Birth(say(Canceled), Status.CANCELED, "canceled"),
]
ENDS = [say(Succeeded), say(Failed), say(Canceled)]


def by_type(event: Event | Birth) -> str:
    return event.event.type if isinstance(event, Birth) else event.type


# Rule 1


@pytest.mark.parametrize("birth", BIRTHS, ids=by_type)
def test_an_unknown_job_is_created_by_any_event_that_says_something(birth: Birth) -> None:
    change = advance(None, birth.event, NOW)
    assert isinstance(change, Change)
    job = change.state.job
    assert (job.status, change.event, change.status) == (birth.status, birth.word, True)
    assert (job.id, job.owner, job.version, job.attempt) == ("j", "alice", 1, 1)
    assert job.created_at == job.updated_at == timestamp(NOW)


@pytest.mark.parametrize(
    "event",
    [
        say(Heartbeat),
        say(CancelRequested),
        say(Commented, comment="hello"),
        say(Deleted),
        say(Lost, version=0, heard_at=0),
    ],
    ids=by_type,
)
def test_an_unknown_job_is_not_created_by_a_heartbeat_or_the_services_own(event: Event) -> None:
    assert advance(None, event, NOW) is None


def test_a_job_is_created_at_the_attempt_of_its_first_event() -> None:
    assert after(say(Progressed, attempt=3)).job.attempt == 3


def test_an_end_may_overtake_its_start_and_leaves_no_start() -> None:
    job = after(say(Succeeded), say(Started), say(Queued)).job
    assert (job.status, job.started_at, job.version) == (Status.SUCCEEDED, None, 1)


# Rule 2


@pytest.mark.parametrize("end", ENDS, ids=by_type)
@pytest.mark.parametrize("later", [*BIRTHS, Birth(say(Heartbeat), Status.RUNNING, "")], ids=by_type)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_final_status_never_changes(end: Event, later: Birth, attempt: int) -> None:
    fields = {f: getattr(later.event, f) for f in later.event.__struct_fields__}
    again = type(later.event)(**(fields | {"attempt": attempt, "id": "again"}))
    ended = after(end)
    job = after(again, state=ended).job
    assert (job.status, job.attempt, job.ended_at, job.expires_at) == (
        ended.job.status,
        1,
        ended.job.ended_at,
        ended.job.expires_at,
    )


@pytest.mark.parametrize("end", ENDS, ids=by_type)
@pytest.mark.parametrize(
    "before",
    [[say(Queued)], [say(Started)], [say(Started), say(CancelRequested)]],
    ids=["queued", "running", "cancel-pending"],
)
def test_an_end_is_accepted_in_every_status_that_is_not_final(
    end: Event, before: list[Event]
) -> None:
    assert words(*before, end)[-1] == end.type.removeprefix("job.")


def test_an_end_sets_when_it_ended_and_when_it_expires() -> None:
    change = advance(after(say(Started)), say(Succeeded), NOW + 5000, retention_s=60)
    assert isinstance(change, Change)
    job = change.state.job
    assert job.ended_at == job.updated_at == timestamp(NOW + 5000)
    assert job.expires_at == timestamp(NOW + 65_000)
    assert job.started_at == timestamp(NOW)


# Rule 3

RUNNING = [
    say(Started, message="on it"),
    say(Progressed, percent=40, targets={"a": 40}, sequence=9, time=LATER),
]


@pytest.mark.parametrize(
    "event",
    [
        say(Started, attempt=2),
        say(Progressed, attempt=2),
        say(Heartbeat, attempt=2),
        say(Recorded, attempt=2, target="t", code=1),
    ],
    ids=by_type,
)
def test_an_event_of_a_higher_attempt_begins_it(event: Event) -> None:
    change = changes(*RUNNING, event)[-1]
    job = change.state.job
    assert (change.event, change.status) == ("started", True)
    assert (job.attempt, job.percent, job.targets, job.message) == (2, None, {}, None)
    assert job.status is Status.RUNNING
    assert job.started_at == timestamp(NOW)


def test_a_higher_attempt_may_begin_queued() -> None:
    change = changes(*RUNNING, say(Queued, attempt=2))[-1]
    assert (change.event, change.status, change.state.job.status) == ("queued", True, "queued")


def test_a_higher_attempt_of_a_job_to_be_canceled_stays_to_be_canceled() -> None:
    change = changes(*RUNNING, say(CancelRequested), say(Progressed, attempt=2, percent=3))[-1]
    assert (change.event, change.status) == ("started", True)
    assert (change.state.job.status, change.state.job.percent) == ("cancel-pending", 3)


def test_a_queued_attempt_of_a_job_to_be_canceled_is_queued() -> None:
    assert after(*RUNNING, say(CancelRequested), say(Queued, attempt=2)).job.status == "queued"


def test_the_end_of_a_higher_attempt_is_one_change() -> None:
    assert words(*RUNNING, say(Failed, attempt=4)) == ["started", "progressed", "failed"]
    assert after(*RUNNING, say(Failed, attempt=4)).job.attempt == 4


def test_sequences_count_anew_in_every_attempt() -> None:
    job = after(*RUNNING, say(Progressed, attempt=2, percent=5, sequence=1, time=TIME)).job
    assert job.percent == 5


# Rule 4


@pytest.mark.parametrize(
    "event",
    [birth.event for birth in BIRTHS] + [say(Heartbeat)],
    ids=by_type,
)
def test_an_older_attempt_is_never_listened_to(event: Event) -> None:
    assert advance(after(say(Started, attempt=2)), event, NOW + 9000) is None


def test_a_repeat_without_sequence_changes_nothing() -> None:
    first, second = say(Progressed, percent=10), say(Progressed, percent=20)
    assert after(first, second, first).job.percent == 20
    assert words(first, second, first, second) == ["started", "progressed"]


def test_a_repeat_is_known_by_source_and_id_together() -> None:
    first = say(Progressed, percent=10, id="1", source="/a")
    other = say(Progressed, percent=20, id="1", source="/b")
    assert after(first, other).job.percent == 20


def test_a_line_break_in_a_source_makes_no_repeat_of_another_event() -> None:
    one = say(Progressed, percent=10, source="a\nb", id="c")
    other = say(Progressed, percent=20, source="a", id="b\nc")
    assert reference(one) != reference(other)


def test_heartbeats_do_not_crowd_out_the_memory_of_repeats() -> None:
    first, second = say(Progressed, percent=10), say(Progressed, percent=20)
    beats = [say(Heartbeat) for _ in range(RECENT_MAX + 1)]
    assert after(first, second, *beats, first).job.percent == 20


def test_the_memory_of_repeats_is_bounded() -> None:
    state = after(*(say(Progressed, percent=n) for n in range(100)))
    assert len(state.memory.recent) == RECENT_MAX


def test_a_record_is_kept_once() -> None:
    record = say(Recorded, target="t", code=1)
    state = after(say(Started), record)
    verdict = advance(state, record, NOW, seen=True)
    assert not isinstance(verdict, Change)
    assert advance(after(say(Succeeded), record), record, NOW, seen=True) is None


def test_a_comment_is_kept_once() -> None:
    comment = say(Commented, comment="mine")
    state = after(say(Started), comment, say(Commented, comment="other"))
    assert advance(state, comment, NOW, seen=True) is None


@pytest.mark.parametrize(
    "event",
    [
        say(Queued),
        say(Started),
        say(Progressed),
        say(Progressed, percent=40),
        say(Progressed, targets={"a": 40}),
        say(Progressed, message="on it"),
        say(Heartbeat),
    ],
    ids=by_type,
)
def test_an_event_that_says_nothing_new_is_no_version(event: Event) -> None:
    state = after(*RUNNING)
    verdict = advance(state, event, NOW + 9000)
    assert isinstance(verdict, Touch)
    assert verdict.state.job == state.job
    assert verdict.state.heard_at == NOW + 9000


# Rule 5


def test_of_two_sequences_the_higher_counts() -> None:
    late = say(Progressed, percent=10, message="late", targets={"a": 1}, sequence=4)
    state = after(say(Progressed, percent=50, sequence=5))
    assert after(late, state=state).job == state.job


def test_an_equal_sequence_changes_no_progress() -> None:
    assert after(*(say(Progressed, percent=p, sequence=5) for p in (50, 60))).job.percent == 50


def test_a_sequence_is_compared_as_a_number_and_beats_the_time() -> None:
    first = say(Progressed, percent=50, sequence=9, time=LATER)
    assert after(first, say(Progressed, percent=60, sequence=10, time=TIME)).job.percent == 60


def test_without_sequence_a_strictly_older_time_changes_no_progress() -> None:
    first = say(Progressed, percent=50, time=LATER)
    assert after(first, say(Progressed, percent=60, time=TIME)).job.percent == 50


def test_of_equal_times_the_order_of_arrival_counts() -> None:
    assert after(*(say(Progressed, percent=p, time=TIME) for p in (50, 60))).job.percent == 60


def test_with_neither_the_order_of_arrival_counts() -> None:
    first = say(Progressed, percent=50, time=LATER, sequence=3)
    assert after(first, say(Progressed, percent=10)).job.percent == 10


def test_a_sequence_of_a_hundred_digits_is_a_number_like_others() -> None:
    job = after(*(say(Progressed, percent=p, sequence=10**99 + p) for p in (2, 1))).job
    assert job.percent == 2


def test_the_first_start_is_never_refused_for_age() -> None:
    early = say(Progressed, sequence=5, time=LATER)
    queued = say(Queued, sequence=6, time=LATER, message="soon")
    assert after(queued, say(Started, sequence=1, time=TIME)).job.status is Status.RUNNING
    assert after(early, say(Started, sequence=1, message="old")).job.message is None


@pytest.mark.parametrize("end", [Succeeded, Failed, Canceled])
def test_an_end_is_never_refused_for_age(end: type[Event]) -> None:
    first = say(Progressed, message="busy", sequence=5, time=LATER)
    job = after(first, say(end, sequence=1, time=TIME, message="over")).job
    assert (job.ended, job.message) == (True, "over")


def test_a_record_is_never_refused_for_age() -> None:
    first = say(Progressed, sequence=5, time=LATER)
    record = say(Recorded, target="t", code=1, sequence=1, time=TIME)
    assert words(first, record) == ["started", "recorded"]


# Rule 6


def test_a_late_start_still_describes_the_job() -> None:
    described = say(
        Queued,
        operation="backup",
        group="g",
        name="n",
        resource=Resource("volume", "v1"),
        cancelable=False,
        labels={"a": "b"},
        lease_s=30,
        sequence=1,
        message="old words",
    )
    job = after(say(Progressed, message="new words", sequence=7), described).job
    assert (job.operation, job.group, job.name, job.cancelable) == ("backup", "g", "n", False)
    assert (job.resource, job.labels, job.lease_s) == (Resource("volume", "v1"), {"a": "b"}, 30)
    assert (job.status, job.message) == (Status.RUNNING, "new words")


def test_what_was_set_is_never_overwritten() -> None:
    first = say(Queued, operation="job", cancelable=True, labels={}, group="g")
    second = say(Started, operation="x", cancelable=False, labels={"a": "b"}, group="h", name="n")
    job = after(first, second).job
    assert (job.operation, job.cancelable, job.labels, job.group) == ("job", True, {}, "g")
    assert job.name == "n"


def test_a_description_outlives_its_attempt() -> None:
    assert after(say(Queued, group="g"), say(Started, attempt=2, group="h")).job.group == "g"


def test_an_ended_job_is_not_described_any_more() -> None:
    assert after(say(Succeeded), say(Queued, group="g")).job.group is None


# Rule 7


def test_after_the_end_records_comments_and_deletion_count() -> None:
    record = say(Recorded, target="t", code=7, message="m")
    events = [say(Succeeded), record, say(Commented, comment="c"), say(Deleted)]
    made = changes(*events)
    assert [change.event for change in made] == ["succeeded", "recorded", "commented", "deleted"]
    assert [change.state.job.version for change in made] == [1, 2, 3, 4]
    assert len({change.state.job.expires_at for change in made}) == 1
    assert [change.status for change in made] == [True, False, False, False]


def test_a_job_that_has_not_ended_is_not_deleted() -> None:
    assert advance(after(say(Started)), say(Deleted), NOW) is None


# Records, comments, cancel, the lost verdict


def test_a_record_takes_the_jobs_group_unless_it_has_its_own() -> None:
    own = say(Recorded, target="t", code=-3, group="own", message="m")
    made = changes(say(Queued, group="jobs"), say(Recorded, target="s", code=1), own)
    first, second = (change.record for change in made[1:])
    assert first is not None
    assert second is not None
    assert (first.group, first.target, first.code, first.at) == (
        "jobs",
        "s",
        1,
        timestamp(NOW + 1000),
    )
    assert (second.group, second.job, second.message) == ("own", "j", "m")


@pytest.mark.parametrize("before", [say(Started), say(Succeeded)], ids=by_type)
def test_records_are_bounded(before: Event) -> None:
    full = say(Recorded, target="t", code=1)
    state = after(before, *(say(Recorded, target="t", code=n) for n in range(RECORDS_MAX)))
    assert state.memory.records == RECORDS_MAX
    verdict = advance(state, full, NOW)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "too-many"
    assert "record" in verdict.detail


def test_a_comment_replaces_and_clears() -> None:
    comments = [say(Commented, comment=text) for text in ("a", "a", "b", None, None)]
    seen = [state.job.comment for state, _ in told(comments, after(say(Started))) if state]
    assert seen == ["a", "a", "b", None, None]
    assert words(say(Started), *comments) == ["started", *["commented"] * 3]


def test_a_cancel_request_is_a_status_and_a_command() -> None:
    change = changes(say(Started), say(CancelRequested))[-1]
    assert (change.event, change.status, change.command) == ("cancel-pending", True, True)
    assert change.state.job.status is Status.CANCEL_PENDING


@pytest.mark.parametrize(
    "before",
    [
        [say(Started, cancelable=False)],
        [say(Started), say(CancelRequested)],
        [say(Succeeded)],
    ],
    ids=["not cancelable", "pending", "ended"],
)
def test_a_cancel_request_that_cannot_be_met_changes_nothing(before: list[Event]) -> None:
    assert advance(after(*before), say(CancelRequested), NOW) is None


def test_a_start_of_a_job_to_be_canceled_repeats_the_command() -> None:
    pending = after(say(Queued), say(CancelRequested))
    start = say(Started)
    change = advance(pending, start, NOW)
    assert isinstance(change, Change)
    assert (change.command, change.status, change.event) == (True, False, "progressed")
    assert change.state.job.started_at == timestamp(NOW)
    again = advance(change.state, say(Started, attempt=1), NOW)
    assert isinstance(again, Touch)
    assert again.command
    repeat = advance(change.state, start, NOW)
    assert isinstance(repeat, Touch)
    assert repeat.command


def test_a_start_of_a_higher_attempt_repeats_the_command_too() -> None:
    change = changes(say(Started), say(CancelRequested), say(Started, attempt=2))[-1]
    assert (change.event, change.status, change.command) == ("started", True, True)


def test_other_events_do_not_repeat_the_command() -> None:
    pending = after(say(Started), say(CancelRequested))
    verdict = advance(pending, say(Progressed, percent=1), NOW)
    assert isinstance(verdict, Change)
    assert not verdict.command


def lost(version: int, heard_at: int) -> Lost:
    return say(Lost, version=version, heard_at=heard_at)


def test_the_lost_verdict_fails_the_job() -> None:
    state = after(say(Started), say(Progressed, percent=40))
    change = advance(state, lost(2, NOW + 1000), NOW + 60_000)
    assert isinstance(change, Change)
    job = change.state.job
    assert (change.event, change.status) == ("failed", True)
    assert (job.status, job.outcome, job.status_code) == (Status.FAILED, "error", 500)
    assert (job.error, job.result, job.percent) == (JobError("lost", LOST_MESSAGE), NO_RESULT, 40)
    assert job.ended_at == timestamp(NOW + 60_000)


@pytest.mark.parametrize("verdict", [lost(1, NOW + 1000), lost(2, NOW), lost(3, NOW + 1000)])
def test_the_lost_verdict_is_void_if_the_job_has_moved_or_was_heard_of(verdict: Lost) -> None:
    assert advance(after(say(Started), say(Progressed, percent=40)), verdict, NOW) is None


def test_the_lost_verdict_on_an_ended_job_is_void() -> None:
    assert advance(after(say(Succeeded)), lost(1, NOW), NOW) is None


def test_a_heartbeat_is_heard_and_the_larger_time_wins() -> None:
    state = after(say(Started))
    for now, heard in [(NOW + 9, NOW + 9), (NOW - 9, NOW)]:
        verdict = advance(state, say(Heartbeat), now)
        assert isinstance(verdict, Touch)
        assert verdict.state.heard_at == heard


def test_what_the_service_does_itself_is_not_hearing_of_the_executor() -> None:
    state = after(say(Started))
    for event in (say(CancelRequested), say(Commented, comment="c")):
        verdict = advance(state, event, NOW + 9000)
        assert isinstance(verdict, Change)
        assert verdict.state.heard_at == NOW
