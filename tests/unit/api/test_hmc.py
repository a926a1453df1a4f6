"""What the HMC dialect says of a job in each state, and of each problem; without a server."""

from typing import Any

import msgspec
import pytest

from api.dialects.hmc.mapping import Refusal, error, job_status
from api.dialects.hmc.stream import completion
from api.problems import KINDS, Problem
from jobcast.job import ANNOUNCED, FINAL, Job, JobError, Status
from notifier.listener import Item

TIMES: Any = {"created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z"}


def job(status: Status, **more: Any) -> Job:
    if "result" in more:
        more["result"] = msgspec.Raw(msgspec.json.encode(more["result"]))
    return Job(id="j", owner="alice", status=status, **TIMES, **more)


def told(status: Status, **more: Any) -> dict[str, Any]:
    """As a client reads it."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(job_status(job(status, **more))))
    return read


ENDS: list[tuple[Status, dict[str, Any], dict[str, Any]]] = [
    (Status.SUCCEEDED, {"status_code": 200}, {"job-status-code": 200}),
    (Status.SUCCEEDED, {"status_code": 204, "outcome": "warning"}, {"job-status-code": 204}),
    (Status.SUCCEEDED, {}, {"job-status-code": 200}),
    (Status.SUCCEEDED, {"status_code": 303}, {"job-status-code": 303, "job-reason-code": 0}),
    (
        Status.FAILED,
        {"status_code": 500, "reason_code": 7, "error": JobError("e", "no space")},
        {"job-status-code": 500, "job-reason-code": 7, "job-results": {"message": "no space"}},
    ),
    (
        Status.FAILED,
        {"status_code": 200, "outcome": "partial-failures", "result": {"bad": 1}},
        {"job-status-code": 500, "job-reason-code": 0, "job-results": {"bad": 1}},
    ),
    (
        Status.FAILED,
        {},
        {"job-status-code": 500, "job-reason-code": 0, "job-results": {"message": ""}},
    ),
    (
        Status.FAILED,
        {"result": []},
        {
            "job-status-code": 500,
            "job-reason-code": 0,
            "job-results": {"value": []},
        },
    ),
    (
        Status.CANCELED,
        {"status_code": 499, "reason_code": 2},
        {"job-status-code": 499, "job-reason-code": 2},
    ),
    (Status.CANCELED, {"status_code": 200}, {"job-status-code": 200}),
    (Status.CANCELED, {}, {"job-status-code": 499, "job-reason-code": 0}),
]


@pytest.mark.parametrize(("status", "fields", "codes"), ENDS)
def test_an_end_is_told_with_its_codes(
    status: Status, fields: dict[str, Any], codes: dict[str, Any]
) -> None:
    word = "canceled" if status is Status.CANCELED else "complete"
    assert told(status, **fields) == {"status": word, **codes}


@pytest.mark.parametrize(
    ("result", "results"),
    [
        ({"a": 1}, {"a": 1}),
        ({}, {}),
        ([1], {"value": [1]}),
        ("x", {"value": "x"}),
        (0, {"value": 0}),
    ],
)
def test_results_are_an_object_whatever_the_result_is(result: Any, results: Any) -> None:
    assert told(Status.SUCCEEDED, result=result)["job-results"] == results
    assert told(Status.CANCELED, result=result)["job-results"] == results


def test_no_result_is_no_field() -> None:
    assert "job-results" not in told(Status.SUCCEEDED, result=None)


@pytest.mark.parametrize("status", set(Status) - FINAL)
def test_nothing_but_the_status_is_told_before_the_end(status: Status) -> None:
    word = "cancel-pending" if status is Status.CANCEL_PENDING else "running"
    assert told(status, result={"a": 1}, status_code=200, reason_code=1) == {"status": word}


@pytest.mark.parametrize("status", FINAL)
def test_a_failure_is_never_told_by_a_good_code(status: Status) -> None:
    for code in (None, 0, 100, 200, 201, 204, 299, 300, 404, 599):
        said = told(status, status_code=code)
        good = 200 <= said["job-status-code"] < 300
        assert ("job-reason-code" in said) != good
        assert not (good and status is Status.FAILED)


@pytest.mark.parametrize("name", KINDS)
def test_every_problem_has_a_status_a_reason_and_a_message(name: str) -> None:
    status, reason, message = error(Problem(name))
    assert 400 <= status < 600
    assert reason >= 0
    assert message
    assert (status, reason) != (403, 4)  # said by a refusal alone
    assert (status == 401) is False


def test_a_refusal_says_itself() -> None:
    assert error(Refusal("unauthorized", 403, 0, "no")) == (403, 0, "no")


def test_unknown_deleted_and_expired_are_one_answer() -> None:
    names = ("job-not-found", "job-deleted", "job-expired")
    (said,) = {error(Problem(name)) for name in names}
    assert (said.status, said.reason) == (404, 1)


def item(event: str | None, status: Status = Status.RUNNING, cursor: str | None = "5-1") -> Item:
    return Item(event, msgspec.json.encode(job(status)), cursor)


@pytest.mark.parametrize("status", Status)
def test_an_end_is_the_only_change_that_a_stream_tells(status: Status) -> None:
    said = completion(item(ANNOUNCED[status], status))
    assert said.cursor == "5-1"
    if status not in FINAL:
        assert (said.event, said.body) == (None, b"")
        return
    assert said.event == "job-completion"
    assert msgspec.json.decode(said.body) == {
        "headers": {"notification-type": "job-completion", "job-uri": "/api/jobs/j"},
        "body": None,
    }


@pytest.mark.parametrize("event", ["recorded", "commented", "deleted", "progressed"])
def test_of_all_else_the_place_alone_stays(event: str) -> None:
    said = completion(item(event, Status.FAILED))
    assert (said.event, said.body, said.cursor) == (None, b"", "5-1")


@pytest.mark.parametrize("event", [None, "stream", "live"])
def test_the_framing_of_the_native_stream_stays(event: str | None) -> None:
    framing = item(event)
    assert completion(framing) is framing


def test_an_ended_job_of_an_opening_is_told_without_a_place() -> None:
    said = completion(item("snapshot", Status.CANCELED, None))
    assert (said.event, said.cursor) == ("job-completion", None)
