"""The HMC dialect with `zhmcclient` as it is, over TLS: jobs, from their beginning to their end."""

import threading
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import zhmcclient

from tests.dialects.hmc.world import PATIENCE_S, World, name_of, refused
from tests.logins import Login

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's fixed pause of 10 s between two looks, shortened."""
    clock = SimpleNamespace(time=time.time, sleep=lambda _: time.sleep(0.1))
    monkeypatch.setattr("zhmcclient._session.time", clock)


def test_a_success_is_told_with_its_results_and_deleted(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    assert job.check_for_completion() == ("running", None)
    world.ended(job, alice, "succeeded", result={"answer": 42})
    assert job.query_status() == ("complete", 200, None, {"answer": 42})
    assert job.check_for_completion() == ("complete", {"answer": 42})
    assert refused(job.check_for_completion) == (404, 1)
    with world.http() as http:
        gone = http.get(f"/v1/jobs/{name_of(job)}", headers=alice.headers)
    assert gone.status_code == 410


@pytest.mark.parametrize(
    ("result", "results"),
    [(None, None), ([1], {"value": [1]}), ("text", {"value": "text"}), ({}, {})],
)
def test_a_result_of_any_form_reaches_the_client(
    world: World, session: zhmcclient.Session, alice: Login, result: object, results: object
) -> None:
    job = world.job(session, alice)
    world.ended(job, alice, "succeeded", result=result)
    assert job.wait_for_completion() == results


def test_a_failure_is_raised_with_code_reason_and_message(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    data = {"status_code": 409, "reason_code": 7, "error": {"code": "x", "message": "no space"}}
    world.ended(job, alice, "failed", **data)
    with pytest.raises(zhmcclient.HTTPError) as caught:
        job.wait_for_completion()
    told = caught.value
    assert (told.http_status, told.reason, told.message) == (409, 7, "no space")


def test_waiting_ends_with_the_job(
    world: World, session: zhmcclient.Session, alice: Login, hurried: None
) -> None:
    job = world.job(session, alice)
    threading.Timer(0.5, world.report, (alice, name_of(job), "succeeded")).start()
    assert job.wait_for_completion(operation_timeout=PATIENCE_S) is None


def test_a_cancellation_is_pending_and_then_done(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice)
    job.cancel()
    assert job.check_for_completion() == ("cancel-pending", None)
    assert refused(job.cancel) == (409, 42)
    assert refused(job.delete) == (409, 40)
    world.ended(job, alice, "canceled")
    assert job.query_status() == ("canceled", 499, 0, None)
    assert refused(job.cancel) == (409, 41)
    job.delete()
    assert refused(job.delete) == (404, 1)
    assert refused(job.cancel) == (404, 1)


def test_what_cannot_be_canceled_or_deleted_yet(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    job = world.job(session, alice, cancelable=False)
    assert refused(job.cancel) == (404, 4)
    assert refused(job.delete) == (409, 40)


def test_a_job_that_is_not_ones_own_is_answered_as_one_that_is_not_there(
    world: World, session: zhmcclient.Session, alice: Login
) -> None:
    bob = world.fresh()
    foreign, deleted = world.job(world.session(bob), bob), world.job(session, alice)
    world.ended(deleted, alice, "succeeded")
    deleted.delete()
    session.logon()
    ids = [name_of(foreign), name_of(deleted), "unknown", "no id!", "x" * 300]
    told = set()
    with world.http() as http:
        http.headers["X-API-Session"] = session.session_id
        for method, path in (
            ("GET", "/api/jobs/{}"),
            ("DELETE", "/api/jobs/{}"),
            ("POST", "/api/jobs/{}/operations/cancel"),
        ):
            for one in ids:
                answer = http.request(method, path.format(quote(one)))
                assert (answer.status_code, answer.json()["reason"]) == (404, 1)
                body = answer.text.replace(one, "-").replace(method, "-")
                told.add(body.replace("/operations/cancel", ""))
    assert len(told) == 1
    assert world.job(session, bob).uri  # bob's is still there
    other = zhmcclient.Job(world.session(bob), foreign.uri, "", "")
    assert other.query_status()[0] == "running"
