"""The mappings of the Cisco dialect, over everything that the native model can say."""

import asyncio
from itertools import product
from typing import cast

import msgspec
import pytest

from api.dialects.cisco import rpc
from api.dialects.cisco.deletion import AT_ONCE, Deletion
from api.dialects.cisco.functions import FUNCTIONS
from api.dialects.cisco.mount import CODES
from api.dialects.cisco.objects import (
    PROBLEMS,
    STATES,
    TEXTS,
    Code,
    clm_job,
    persistent,
    progress,
    status,
)
from api.dialects.cisco.turn import Turn
from api.facility import Facility
from api.identity import Identity
from api.problems import KINDS, Problem, unavailable
from jobcast.change import Record
from jobcast.job import FINAL, OUTCOMES, Job, JobError, Status

AT = "2026-01-01T00:00:00.000Z"
BARE = Job(id="j", owner="alice", status=Status.QUEUED, created_at=AT, updated_at=AT)


def job(status: Status = Status.RUNNING, **fields: object) -> Job:
    return msgspec.structs.replace(BARE, status=status, **fields)


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("queued", "running"),
        ("running", "running"),
        ("cancel-pending", "running"),
        ("succeeded", "complete"),
        ("failed", "incomplete"),
        ("canceled", "incomplete"),
    ],
)
def test_the_state_of_every_status(native: str, state: str) -> None:
    assert clm_job(job(Status(native))).state == state
    assert set(STATES) == set(Status)


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (job(message="copying"), (0, "")),
        (job(Status.CANCEL_PENDING, message="stopping"), (0, "")),
        (job(Status.SUCCEEDED, outcome="normal", status_code=201, message="done"), (0, "")),
        (job(Status.SUCCEEDED, outcome="warning", message="two skipped"), (0, "two skipped")),
        (job(Status.SUCCEEDED, outcome="warning"), (0, "")),
        (job(Status.FAILED, status_code=507, error=JobError("x", "full")), (507, "full")),
        (job(Status.FAILED, status_code=200, error=JobError("x", "")), (500, "failed")),
        (job(Status.FAILED, message="no"), (500, "no")),
        (job(Status.FAILED, outcome="partial-failures", status_code=500), (500, "failed")),
        (job(Status.CANCELED, status_code=499), (499, "canceled")),
        (job(Status.CANCELED, status_code=204, message="stopped"), (500, "stopped")),
    ],
)
def test_how_a_job_came_out(of: Job, told: tuple[int, str]) -> None:
    found = clm_job(of)
    assert (found.error_code, found.error_message) == told


def test_only_what_is_incomplete_has_an_error_code() -> None:
    codes: list[int | None] = [None, 100, 200, 299, 300, 404, 999]
    for one, code in product(Status, codes):
        for outcome in OUTCOMES.get(one, (None,)):
            found = clm_job(job(one, status_code=code, outcome=outcome))
            assert (found.error_code != 0) is (found.state == "incomplete")


def test_a_job_has_the_members_of_the_contract() -> None:
    full = job(
        Status.SUCCEEDED,
        operation="deploy",
        group="g",
        comment="c",
        started_at="s",
        ended_at="e",
        result=msgspec.Raw(b'{"a":[1]}'),
    )
    assert msgspec.json.decode(msgspec.json.encode(clm_job(full))) == {
        "jobId": "j",
        "userName": "alice",
        "operation": "deploy",
        "jobGroup": "g",
        "state": "complete",
        "submitTime": AT,
        "startTime": "s",
        "completeTime": "e",
        "comment": "c",
        "errorCode": 0,
        "errorMessage": "",
        "result": {"a": [1]},
    }


@pytest.mark.parametrize(("percent", "whole"), [(None, 0), (0.0, 0), (99.99, 99), (100.0, 100)])
def test_progress_is_whole_and_100_only_when_it_is_all(percent: float | None, whole: int) -> None:
    found = progress(job(percent=percent, targets={"a": 99.9, "b": 0.4, "c": 100.0}))
    assert found.overall_percentage == whole
    assert found.target_ids == ["a", "b", "c"]
    assert found.target_progress == [99, 0, 100]


@pytest.mark.parametrize("end", FINAL)
def test_of_an_ended_job_all_is_done(end: Status) -> None:
    assert progress(job(end, percent=30.0)).overall_percentage == 100


def test_a_record_is_a_persistent_id_status() -> None:
    record = Record("j", "g", "device", 7, None, AT)
    assert msgspec.json.decode(msgspec.json.encode(persistent(record))) == {
        "jobId": "j",
        "jobGroup": "g",
        "id": "device",
        "errorCode": 7,
        "errorMessage": "",
        "timestamp": AT,
    }


def test_every_code_has_its_number_its_name_and_a_text() -> None:
    assert {code.value for code in Code} == {0, 1, 2, 4, 5, 6, 7, 8, 9, 99}
    assert set(TEXTS) == set(Code)
    told = msgspec.json.decode(msgspec.json.encode(status(Code.JOB_RUNNING)))
    text = "the job has not ended"
    assert told == {"errorCode": 8, "errorName": "JOB_RUNNING", "errorMessage": text}


def test_problems_are_results_or_errors_and_all_have_names() -> None:
    assert not set(PROBLEMS) & set(CODES)
    assert set(PROBLEMS) | set(CODES) <= set(KINDS)
    assert set(CODES.values()) <= set(rpc.TITLES)


def test_the_signatures_are_those_of_the_guide() -> None:
    assert {name: function.names for name, function in FUNCTIONS.items()} == {
        "login": ["username", "password"],
        "addPersistentIDStatus": ["token", "pidStatus"],
        "deleteAsyncOperationJobRecords": ["token", "job_ids"],
        "getAsyncOperationJobRecords": ["token", "job_id"],
        "getAsyncOperationStatus": ["token", "taskID"],
        "killAsyncOperation": ["token", "job_id"],
        "listAllAsyncOperationJobRecords": ["token", "include_all_user"],
        "listRunningAsyncOperationJobRecords": ["token", "include_all_user"],
        "listPersistentIDStatus": ["token", "id", "pageinfo"],
        "listPersistentIDStatusByGroup": ["token", "jobGroup", "pageinfo"],
        "setAsyncOperationJobComment": ["token", "job_id", "comment"],
    }


class Failing:
    """A facility that can delete nothing: RabbitMQ is away."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def carry_out(self, _: Identity, __: str, job_id: str, ___: object) -> None:
        self.asked.append(job_id)
        await asyncio.sleep(0)
        raise unavailable("rabbitmq is away") if job_id != "unknown" else Problem("job-not-found")


def turn(left_s: float) -> Turn:
    found = Turn(ends=asyncio.get_running_loop().time() + left_s, bearer=None, tls=False)
    found.by = Identity("alice", ("subscriber",), "token", "")
    return found


async def test_what_keeps_one_job_from_being_deleted_keeps_the_rest_from_being_tried() -> None:
    facility = Failing()
    names = ["unknown", *(f"j-{n}" for n in range(100))]
    deletion = Deletion(cast("Facility", facility), turn(60))
    await deletion.run(names)
    assert len(facility.asked) <= AT_ONCE + 1
    items = deletion.items(names)
    assert [item.id for item in items] == names
    assert items[0].error_code is Code.JOB_ID_NOT_FOUND
    assert {item.error_code for item in items[1:]} == {Code.INTERNAL}
    with pytest.raises(Problem, match="unavailable"):
        await Deletion(cast("Facility", facility), turn(60)).run(names[1:])


async def test_nothing_is_deleted_once_the_time_of_the_request_is_over() -> None:
    facility = Failing()
    deletion = Deletion(cast("Facility", facility), turn(0))
    await deletion.run(["a", "b"])
    assert [item.error_code for item in deletion.items(["a", "b"])] == [Code.INTERNAL] * 2
    assert "too long" in deletion.items(["a"])[0].error_message
    assert not facility.asked
