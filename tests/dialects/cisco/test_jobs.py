"""Cisco License Manager's functions, by a client of them, on the running service."""

from contextlib import closing
from typing import Any

import httpx
import pytest

from deploy.stack import Stack
from examples import clm_client as clm
from examples.clm_client import LicenseManager
from tests.dialects.cisco.clm import FIRST, UNKNOWN, Clm, ok
from tests.eventually import eventually
from tests.logins import Logins


def test_a_login_gives_a_token_for_half_a_day_at_every_replica(
    session_stack: Stack, alice: Clm
) -> None:
    token = alice.manager.token
    assert token is not None
    assert (token.username, token.sslEnabled) == (alice.login.name, False)
    assert 12 * 3600 - 60 < token.timeout <= 12 * 3600
    assert alice.login.token not in token.token
    with closing(LicenseManager(session_stack.urls[1], "", "")) as other:
        other.token = token
        ok(other.listAllAsyncOperationJobRecords(include_all_user=False))


@pytest.mark.parametrize("wrong", ["name", "password", "another's", "token again", "executor"])
def test_a_login_that_is_none_is_refused(
    session_stack: Stack, logins: Logins, alice: Clm, wrong: str
) -> None:
    token = alice.manager.token
    assert token is not None
    name, password = {
        "name": ("somebody", alice.login.token),
        "password": (alice.login.name, "wrong"),
        "another's": (alice.login.name, logins.bob.token),
        "token again": (alice.login.name, token.token),
        "executor": logins.executor,
    }[wrong]
    with pytest.raises(clm.AuthenticationException):
        alice.manager.login(name, password)


async def test_a_job_is_followed_to_its_success(alice: Clm, job: str) -> None:
    alice.executor.report("queued", job, operation="deploy", group="g-1")
    queued = await alice.until(job)
    assert (queued.state, queued.startTime, queued.completeTime) == ("running", None, None)
    assert alice.manager.getAsyncOperationStatus(job).overallPercentage == 0
    alice.executor.report("started", job)
    alice.executor.report("progressed", job, targets={"d-1": 100, "d-2": 49.9})

    def halfway() -> clm.ProgressStatus | None:
        found = alice.manager.getAsyncOperationStatus(job)
        return found if found.targetIds else None

    progress = await eventually(halfway)
    ok(progress)
    assert progress.jobId == job
    assert progress.overallPercentage == 74
    assert dict(zip(progress.targetIds, progress.targetProgress, strict=True)) == {
        "d-1": 100,
        "d-2": 49,
    }
    alice.executor.report("succeeded", job, result={"licenses": [1, 2]})
    record = await alice.until(job, state="complete")
    assert (record.jobId, record.userName, record.operation) == (job, alice.login.name, "deploy")
    assert (record.jobGroup, record.comment) == ("g-1", None)
    assert (record.errorCode, record.errorMessage) == (0, "")
    assert record.result == {"licenses": [1, 2]}
    assert record.startTime is not None
    assert record.completeTime is not None
    assert record.submitTime <= record.startTime <= record.completeTime


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
async def test_the_progress_of_an_ended_job_is_that_of_an_unknown_one(
    alice: Clm, job: str, end: str
) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.getAsyncOperationStatus(job))
    alice.executor.report(end, job)
    await eventually(lambda: alice.manager.getAsyncOperationStatus(job).errorCode != 0)
    found = vars(alice.manager.getAsyncOperationStatus(job))
    assert found | {"jobId": UNKNOWN} == vars(alice.manager.getAsyncOperationStatus(UNKNOWN))
    assert (found["errorCode"], found["errorName"]) == (clm.JOB_ID_NOT_FOUND, "JOB_ID_NOT_FOUND")
    assert (await alice.until(job)).state == ("complete" if end == "succeeded" else "incomplete")


async def test_a_failed_job_is_incomplete_and_tells_why(alice: Clm, job: str) -> None:
    error = {"code": "no-space", "message": "the disk is full"}
    alice.executor.report("failed", job, error=error, status_code=507)
    record = await alice.until(job, state="incomplete")
    assert (record.errorCode, record.errorMessage) == (507, "the disk is full")


async def test_a_killed_job_is_incomplete_once_its_executor_has_ended_it(
    session_stack: Stack, alice: Clm, job: str
) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.killAsyncOperation(job))
    async with httpx.AsyncClient(headers=alice.login.headers) as client:
        native = await client.get(f"{session_stack.urls[1]}/v1/jobs/{job}")
    assert native.json()["status"] == "cancel-pending"  # at once, at every replica
    ok(alice.manager.killAsyncOperation(job))  # it is being killed already
    ok(alice.manager.getAsyncOperationStatus(job))
    alice.executor.report("canceled", job, message="stopped")
    record = await alice.until(job, state="incomplete")
    assert (record.errorCode, record.errorMessage) == (499, "stopped")
    assert alice.manager.killAsyncOperation(job).errorCode == clm.JOB_ALREADY_COMPLETE


async def test_what_cannot_be_killed_says_so(alice: Clm, job: str) -> None:
    alice.executor.report("started", job, cancelable=False)
    await alice.until(job)
    assert alice.manager.killAsyncOperation(job).errorCode == clm.KILL_NOT_SUPPORTED
    assert (await alice.until(job)).state == "running"


def asked_of(manager: LicenseManager, job: str) -> dict[str, Any]:
    """What every function that names a job answers, without the name."""
    added = clm.PersistentIDStatus(job, "t")
    found = {
        "record": manager.getAsyncOperationJobRecords(job),
        "progress": manager.getAsyncOperationStatus(job),
        "kill": manager.killAsyncOperation(job),
        "comment": manager.setAsyncOperationJobComment(job, "mine"),
        "delete": manager.deleteAsyncOperationJobRecords([job]),
        "records": manager.listPersistentIDStatus(job, FIRST),
        "add": manager.addPersistentIDStatus(added),
    }
    return {name: repr(said).replace(job, "-") for name, said in found.items()}


async def test_a_foreign_job_is_an_unknown_one_for_admins_as_well(
    alice: Clm, bob: Clm, admin: Clm, job: str
) -> None:
    alice.executor.report("recorded", job, target="t", code=0)
    alice.executor.report("succeeded", job)
    before = await alice.until(job, state="complete")
    for stranger in (bob, admin):
        foreign = asked_of(stranger.manager, job)
        assert foreign == asked_of(stranger.manager, UNKNOWN)
        assert foreign.pop("record") == "None"
        assert all("JOB_ID_NOT_FOUND" in said for said in foreign.values()), foreign
    assert alice.manager.getAsyncOperationJobRecords(job) == before
    assert alice.manager.listPersistentIDStatus(job, FIRST).total == 1


async def test_a_comment_can_be_read_at_once_also_after_the_end(alice: Clm, job: str) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    ok(alice.manager.setAsyncOperationJobComment(job, "ünter way"))
    found = alice.manager.getAsyncOperationJobRecords(job)
    assert found is not None
    assert found.comment == "ünter way"
    alice.executor.report("succeeded", job)
    await alice.until(job, state="complete")
    ok(alice.manager.setAsyncOperationJobComment(job, ""))
    await alice.until(job, comment="")
    with pytest.raises(clm.ClmError, match="comment: ") as caught:
        alice.manager.setAsyncOperationJobComment(job, "x" * 1025)
    assert caught.value.code == -32602


async def test_a_batch_is_carried_out_in_its_order(alice: Clm, job: str) -> None:
    alice.executor.report("started", job)
    await alice.until(job)
    named = {"job_id": job}
    before, set_, after, killed, unknown, missing = alice.manager.batch(
        ("getAsyncOperationJobRecords", named),
        ("setAsyncOperationJobComment", {**named, "comment": "seen"}),
        ("getAsyncOperationJobRecords", named),
        ("killAsyncOperation", {"job_id": UNKNOWN}),
        ("noSuchFunction", {}),
        ("killAsyncOperation", {}),
    )
    assert (before["comment"], set_["errorCode"], after["comment"]) == (None, 0, "seen")
    assert killed["errorCode"] == clm.JOB_ID_NOT_FOUND
    assert (unknown.code, missing.code) == (-32601, -32602)
