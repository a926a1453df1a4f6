"""What Active IQ Unified Manager's clients are told of waits and errors."""

import json

import pytest
from starlette.datastructures import QueryParams
from starlette.requests import Request

from api.dialects.netapp.served import error, held_s
from api.problems import KINDS, Problem, unavailable

DOCUMENTED = {400, 401, 403, 404, 405, 429, 500, 503}
ELSEWHERE = {"not-cancelable", "already-ended", "cancel-pending", "not-ended", "too-many-records"}
ELSEWHERE |= {"too-slow", "too-large", "url-too-long", "unsupported-media-type", "head-too-large"}
"""Of routes that change a job, and of requests that never come so far."""


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", 0),
        ("return_timeout=", 0),
        ("return_timeout=0", 0),
        ("return_timeout=1.5", 1.5),
        ("return_timeout=60", 60),
        ("return_timeout=61", 60),
        ("return_timeout=120", 60),
    ],
)
def test_an_answer_is_held_a_minute_at_most(query: str, wanted: float) -> None:
    assert held_s(QueryParams(query)) == wanted


@pytest.mark.parametrize("name", sorted(KINDS.keys() - ELSEWHERE))
def test_every_problem_has_a_documented_status_and_three_strings(name: str) -> None:
    answer = error(Request({"type": "http"}), Problem(name))
    assert answer.status_code in DOCUMENTED
    assert answer.headers["content-type"] == "application/json"
    told = json.loads(bytes(answer.body))["error"]
    assert set(told) == {"code", "message", "target"}
    assert all(isinstance(text, str) for text in told.values())
    assert told["code"] == name
    assert told["message"]


def test_what_a_client_may_do_next_is_kept() -> None:
    answer = error(Request({"type": "http"}), unavailable("redis is away"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert json.loads(bytes(answer.body))["error"]["message"] == "redis is away"
