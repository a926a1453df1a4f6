"""A job as Active IQ Unified Manager shows it."""

from typing import Any

import msgspec
import pytest

from api.dialects.netapp.shape import guide, product, shown
from jobcast.job import OUTCOMES, Job, JobError, Status

SPEC = {
    "key",
    "name",
    "type",
    "state",
    "status",
    "submit_time",
    "complete_time",
    "parent_job_key",
    "spawned_job_summary",
    "job_results",
    "task_reports",
    "_links",
}
TASK = {
    "key",
    "name",
    "type",
    "description",
    "state",
    "status",
    "start_time",
    "complete_time",
    "failure_reason",
}
WORDS = [
    (Status.QUEUED, None, ("queued", "normal"), ("RUNNING", "NORMAL")),
    (Status.RUNNING, None, ("running", "normal"), ("RUNNING", "NORMAL")),
    (Status.CANCEL_PENDING, None, ("running", "normal"), ("RUNNING", "NORMAL")),
    (Status.SUCCEEDED, "normal", ("completed", "normal"), ("NORMAL", "NORMAL")),
    (Status.SUCCEEDED, "warning", ("completed", "warning"), ("NORMAL", "WARNING")),
    (
        Status.FAILED,
        "partial-failures",
        ("completed", "partial_failures"),
        ("PARTIAL_FAILURES", "PARTIAL_FAILURES"),
    ),
    (Status.FAILED, "error", ("completed", "error"), ("ERROR", "ERROR")),
    (Status.CANCELED, None, ("completed", "error"), ("ERROR", "ERROR")),
]


def job(status: Status, outcome: str | None = None, **fields: Any) -> Job:
    ended = "2026-11-21T10:00:05.250Z" if status in OUTCOMES or status == "canceled" else None
    return Job(
        id="db40:e6f:-7fbd",
        owner="alice",
        operation="backup",
        status=status,
        outcome=outcome,
        created_at="2026-11-21T10:00:00.000Z",
        started_at="2026-11-21T10:00:01.000Z",
        updated_at="2026-11-21T10:00:05.250Z",
        ended_at=ended,
        **fields,
    )


def test_every_status_and_outcome_is_in_the_table() -> None:
    ends = {(status, outcome) for status, words in OUTCOMES.items() for outcome in words}
    under_way = {(status, None) for status in Status if status not in OUTCOMES}
    assert {(status, outcome) for status, outcome, _, _ in WORDS} == ends | under_way


@pytest.mark.parametrize(("status", "outcome", "by_product", "by_guide"), WORDS)
def test_a_job_stands_as_the_table_says(
    status: Status, outcome: str | None, by_product: tuple[str, str], by_guide: tuple[str, str]
) -> None:
    for form, words in ((product, by_product), (guide, by_guide)):
        told = shown(job(status, outcome), form, "/x")
        assert (told["state"], told["status"]) == words
        (task,) = told["task_reports"]
        assert (task["state"], task["status"]) == words


@pytest.mark.parametrize(("status", "outcome", "_p", "_g"), WORDS)
@pytest.mark.parametrize("form", [product, guide])
def test_every_field_is_there_and_four_of_them_are_never_null(
    status: Status, outcome: str | None, _p: object, _g: object, form: Any
) -> None:
    told = shown(job(status, outcome, targets={"vol1": 100, "vol2": 3.5}), form, "/x")
    assert set(told) == SPEC
    assert all(isinstance(told[name], str) for name in ("key", "name", "state", "status"))
    assert all(set(task) == TASK for task in told["task_reports"])
    assert all(isinstance(count, int) for count in told["spawned_job_summary"].values())


def test_the_whole_object() -> None:
    error = JobError("disk-full", "no space left")
    result = msgspec.Raw(b'{"svmKey":"1:2","n":3.50,"list":[1,null],"deep":{"a":"b"}}')
    failed = job(
        Status.FAILED,
        "partial-failures",
        name="Backup",
        targets={"vol1": 100, "vol2": 40.5},
        message="gave up",
        error=error,
        result=result,
    )
    end = "2026-11-21T10:00:05.250+00:00"
    task = {"type": "backup", "start_time": "2026-11-21T10:00:01.000+00:00", "complete_time": end}
    task |= {"state": "completed"}
    good = {"key": "vol1", "name": "vol1", "description": "100 %", "status": "normal"}
    bad = {"key": "vol2", "name": "vol2", "description": "40.5 %", "status": "error"}
    assert shown(failed, product, "/api/x") == {
        "key": "db40:e6f:-7fbd",
        "name": "Backup",
        "type": "backup",
        "state": "completed",
        "status": "partial_failures",
        "submit_time": "2026-11-21T10:00:00.000+00:00",
        "complete_time": end,
        "parent_job_key": None,
        "spawned_job_summary": {
            "total_jobs": 2,
            "running_jobs": 0,
            "completed_jobs": 2,
            "successful_jobs": 1,
            "failed_jobs": 1,
            "aborted_jobs": 0,
        },
        "job_results": [
            {"name": "svmKey", "value": "1:2"},
            {"name": "n", "value": "3.50"},
            {"name": "list", "value": "[1,null]"},
            {"name": "deep", "value": '{"a":"b"}'},
        ],
        "task_reports": [
            task | good | {"failure_reason": None},
            task | bad | {"failure_reason": "no space left"},
        ],
        "_links": {"self": {"href": "/api/x"}},
    }


@pytest.mark.parametrize(
    ("result", "wanted"), [(b"null", []), (b"[1]", ["[1]"]), (b'"a\\n"', ["a\n"]), (b"{}", [])]
)
def test_a_result_that_is_no_object_has_one_name(result: bytes, wanted: list[str]) -> None:
    told = shown(job(Status.SUCCEEDED, "normal", result=msgspec.Raw(result)), product, "/x")
    assert told["job_results"] == [{"name": "result", "value": value} for value in wanted]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": JobError("disk-full", "no space left")}, "no space left"),
        ({"error": JobError("disk-full")}, "disk-full"),
        ({"message": "gave up"}, "gave up"),
        ({}, "failed"),
    ],
)
def test_the_reason_of_a_failure_is_always_told_in_a_task(
    fields: dict[str, Any], reason: str
) -> None:
    for targets in ({}, {"vol1": 100.0}, {"vol1": 1.0}):
        told = shown(job(Status.FAILED, "error", targets=targets, **fields), guide, "/x")
        reasons = [task["failure_reason"] for task in told["task_reports"]]
        assert [one for one in reasons if one] == [reason]


def test_targets_count_as_what_the_job_has_spawned() -> None:
    targets = {"a": 100, "b": 99.9, "c": 0}
    counts = {
        Status.RUNNING: (3, 2, 1, 1, 0, 0),
        Status.SUCCEEDED: (3, 0, 3, 3, 0, 0),
        Status.FAILED: (3, 0, 3, 1, 2, 0),
        Status.CANCELED: (3, 0, 3, 1, 0, 2),
    }
    for status, wanted in counts.items():
        outcome = OUTCOMES[status][0] if status in OUTCOMES else None
        told = shown(job(status, outcome, targets=targets), product, "/x")
        assert tuple(told["spawned_job_summary"].values()) == wanted
