"""What progress and ends make of the fields: percentages, defaults, bounds."""

from typing import Any

import msgspec
import pytest

from jobcast.bounds import TARGETS_MAX
from jobcast.errors import Refusal
from jobcast.events import Canceled, Failed, Progressed, Queued, Recorded, Started, Succeeded
from jobcast.fold import advance
from jobcast.job import JobError, Status
from tests.unit.core.lifecycle import NOW, after, changes, say, words

# Percent and targets


def test_the_percentage_is_the_mean_of_the_targets_while_nobody_says_otherwise() -> None:
    job = after(say(Progressed, targets={"a": 10, "b": 20}), say(Progressed, targets={"c": 70})).job
    assert job.targets == {"a": 10, "b": 20, "c": 70}
    assert job.percent == 33.33


def test_targets_are_merged_by_name() -> None:
    job = after(say(Progressed, targets={"a": 10}), say(Progressed, targets={"a": 30, "b": 0})).job
    assert (job.targets, job.percent) == ({"a": 30, "b": 0}, 15)


def test_once_the_executor_gives_the_percentage_its_word_counts() -> None:
    job = after(
        say(Progressed, targets={"a": 10}),
        say(Progressed, percent=5),
        say(Progressed, targets={"a": 90}),
    ).job
    assert (job.percent, job.targets) == (5, {"a": 90})


def test_the_executors_word_counts_beside_its_own_targets() -> None:
    assert after(say(Progressed, percent=5, targets={"a": 90})).job.percent == 5


def test_the_executors_word_is_forgotten_with_its_attempt() -> None:
    job = after(say(Progressed, percent=5), say(Progressed, attempt=2, targets={"a": 90})).job
    assert job.percent == 90


def test_percentages_have_two_decimals() -> None:
    job = after(say(Progressed, percent=33.33333, targets={"a": 66.66666})).job
    assert (job.percent, job.targets) == (33.33, {"a": 66.67})


def test_a_percentage_that_differs_only_beyond_two_decimals_is_no_version() -> None:
    assert words(say(Progressed, percent=33.331), say(Progressed, percent=33.332)) == ["started"]


def test_a_percentage_may_go_back() -> None:
    assert after(say(Progressed, percent=50), say(Progressed, percent=20)).job.percent == 20


def test_success_is_a_hundred_percent() -> None:
    assert after(say(Progressed, percent=5), say(Succeeded)).job.percent == 100


@pytest.mark.parametrize("end", [Failed, Canceled])
def test_any_other_end_leaves_the_percentage(end: type[Failed | Canceled]) -> None:
    assert after(say(Progressed, percent=5), say(end)).job.percent == 5


def test_the_message_is_the_last_words_of_the_executor() -> None:
    assert after(say(Started, message="a"), say(Progressed, message="b")).job.message == "b"
    assert after(say(Started, message="a"), say(Progressed, percent=1)).job.message == "a"
    assert after(say(Started, message="a"), say(Progressed, message="")).job.message == ""


def test_progress_makes_a_queued_job_run() -> None:
    change = changes(say(Queued), say(Progressed))[-1]
    assert (change.event, change.status) == ("started", True)
    assert change.state.job.started_at is not None


def test_a_record_leaves_a_queued_job_queued() -> None:
    assert after(say(Queued), say(Recorded, target="t", code=1)).job.status is Status.QUEUED


def many(first: int, count: int) -> dict[str, float]:
    return {f"t{number}": 1.0 for number in range(first, first + count)}


def test_a_thousand_targets_fit() -> None:
    job = after(*(say(Progressed, targets=many(at, 500)) for at in (0, 500, 0))).job
    assert len(job.targets) == TARGETS_MAX


def test_the_next_target_is_refused_and_leaves_no_trace() -> None:
    state = after(say(Progressed, targets=many(0, 600)))
    verdict = advance(state, say(Progressed, targets=many(600, 401), percent=9), NOW)
    assert isinstance(verdict, Refusal)
    assert verdict.reason == "too-many"
    assert "data.targets" in verdict.detail


def test_too_many_targets_of_a_late_event_are_not_an_error() -> None:
    state = after(say(Progressed, targets=many(0, 600), sequence=5))
    late = say(Progressed, targets=many(600, 401), sequence=4)
    assert not isinstance(advance(state, late, NOW), Refusal)


def test_a_new_attempt_counts_its_targets_anew() -> None:
    job = after(
        say(Progressed, targets=many(0, 600)), say(Progressed, targets=many(600, 600), attempt=2)
    ).job
    assert len(job.targets) == 600


# Ends


def test_a_success_has_defaults() -> None:
    job = after(say(Succeeded)).job
    assert (job.outcome, job.status_code, job.reason_code, job.error) == ("normal", 200, None, None)


def test_a_failure_has_defaults_and_its_error_the_message() -> None:
    job = after(say(Started, message="busy"), say(Failed, message="disk full")).job
    assert (job.outcome, job.status_code, job.reason_code) == ("error", 500, None)
    assert job.error == JobError("error", "disk full")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, JobError("error", "busy")),
        ({"error": JobError("E7")}, JobError("E7", "busy")),
        ({"error": JobError("E7", "why")}, JobError("E7", "why")),
        ({"error": JobError("E7"), "message": "over"}, JobError("E7", "over")),
        ({"message": ""}, JobError("error", "")),
    ],
)
def test_the_error_of_a_failure(fields: dict[str, Any], error: JobError) -> None:
    assert after(say(Started, message="busy"), say(Failed, **fields)).job.error == error


def test_a_failure_without_any_words_has_an_error_without_words() -> None:
    assert after(say(Failed)).job.error == JobError("error", "")


def test_a_cancellation_has_no_outcome() -> None:
    job = after(say(Canceled)).job
    assert (job.outcome, job.status_code, job.error) == (None, 499, None)


def test_what_an_end_says_is_kept() -> None:
    result = msgspec.Raw(b'{"rows":3}')
    success = after(say(Succeeded, outcome="warning", status_code=204, result=result)).job
    assert (success.outcome, success.status_code, success.result) == ("warning", 204, result)
    failure = after(say(Failed, outcome="partial-failures", reason_code=-7, status_code=409)).job
    assert (failure.outcome, failure.reason_code, failure.status_code) == (
        "partial-failures",
        -7,
        409,
    )


def test_updated_at_never_goes_back() -> None:
    state = after(say(Started))
    earlier = changes(say(Progressed, percent=1), state=state)[-1].state
    verdict = advance(earlier, say(Progressed, percent=2), NOW - 60_000)
    assert verdict is not None
    assert not isinstance(verdict, Refusal)
    assert verdict.state.job.updated_at == earlier.job.updated_at
