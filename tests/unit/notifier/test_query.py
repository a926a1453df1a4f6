"""Which messages are questions, and what errors are called."""

import pytest

from api.problems import KINDS
from jobcast.message import Incoming
from notifier.figures import QUERIES
from notifier.query import STATUSES, unanswerable

GOOD = Incoming(body=b"{}", user_id="a", reply_to="sub.a.c.n")
UNANSWERED = {
    "no-user": [
        Incoming(body=b"", reply_to="sub.a.c.n"),
        Incoming(body=b"", user_id="", reply_to="sub.a.c.n"),
        Incoming(body=b"", user_id="a b", reply_to="sub.a b.c.n"),
    ],
    "service": [Incoming(body=b"", user_id="jobcast", reply_to="sub.jobcast.c.n")],
    "dead-lettered": [
        Incoming(body=b"", user_id="a", reply_to="sub.a.c.n", headers={header: None})
        for header in ("x-death", "x-first-death-queue", "x-last-death-reason")
    ],
    "reply-to": [
        Incoming(body=b"", user_id="a", reply_to=name)
        for name in (
            *(None, "", "q", "sub.b.c.n", "sub.a%2Eb.c.n", "sub.a.c", "cmd.a.c.n", "amq.x"),
            *("amq.rabbitmq.reply-to", "amq.gen-x", "sub.a.c.n.m"),
        )
    ],
}


def test_a_question_of_a_user_who_hears_the_answer_is_answered() -> None:
    assert unanswerable(GOOD, "jobcast") is None
    direct = Incoming(body=b"", user_id="a", reply_to="amq.rabbitmq.reply-to.x.y")
    assert unanswerable(direct, "jobcast") is None


@pytest.mark.parametrize("why", UNANSWERED)
def test_all_else_is_not(why: str) -> None:
    for message in UNANSWERED[why]:
        assert unanswerable(message, "jobcast") == why, message


def test_errors_have_the_names_and_statuses_of_http() -> None:
    assert {name: KINDS[name].status for name in STATUSES} == STATUSES


def test_every_answer_is_counted_by_a_name_of_its_own() -> None:
    assert {"job", *STATUSES, *UNANSWERED} == QUERIES
