import json

import pytest
from starlette.exceptions import HTTPException

from api.problems import KINDS, Problem, invalid, translated, unavailable
from broker.errors import BrokerUnavailable, Refused
from notifier.connection import StoreUnavailable
from notifier.follow import JobGone, JobNotFound


@pytest.mark.parametrize("name", KINDS)
def test_every_problem_is_one_of_rfc_9457(name: str) -> None:
    response = Problem(name, "a: b", headers={"X-Y": "z"}, members={"more": 1}).response()
    body = json.loads(bytes(response.body))
    assert response.media_type == "application/problem+json"
    assert body["type"] == f"/problems/{name}"
    assert body["status"] == response.status_code
    assert (body["detail"], body["more"], response.headers["x-y"]) == ("a: b", 1, "z")
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (JobNotFound("j"), "job-not-found"),
        (JobGone(deleted=True), "job-deleted"),
        (JobGone(deleted=False), "job-expired"),
        (StoreUnavailable("secret"), "unavailable"),
        (BrokerUnavailable("secret"), "unavailable"),
        (Refused("secret"), "unavailable"),
        (HTTPException(404), "not-found"),
        (HTTPException(418), "bad-request"),
        (invalid("limit", "more"), "invalid-parameter"),
    ],
)
def test_expected_exceptions_have_their_problem(error: Exception, name: str) -> None:
    problem = translated(error)
    assert problem.name == name
    assert b"secret" not in bytes(problem.response().body)


def test_unavailable_says_when_to_come_again() -> None:
    assert int(unavailable("redis").response().headers["retry-after"]) > 0


def test_a_surprise_stays_one() -> None:
    with pytest.raises(ZeroDivisionError):
        translated(ZeroDivisionError())
