import logging

import pytest

from api.audit import Audit, fields
from api.limits import Rate


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "jobcast.audit"]


def test_a_refusal_and_a_control_action_are_one_line_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "jobcast.audit")
    Audit().refused("alice", "http", "GET /v1/jobs/*", "forbidden")
    Audit().refused(None, "amqp", "login", "unauthorized")
    Audit().controlled("bob", "ticket", "bob/job-1")
    assert lines(caplog) == [
        'refused who=alice door=http action="GET /v1/jobs/*" why=forbidden',
        "refused who=- door=amqp action=login why=unauthorized",
        "controlled who=bob action=ticket target=bob/job-1",
    ]


@pytest.mark.parametrize(
    "value",
    ["a\nrefused who=bob", "a b=c", 'x" y="z', "\u2028new", "\x1b[2J", "ü", "", "a=b", "\\"],
)
def test_no_value_begins_a_line_or_a_field_of_its_own(value: str) -> None:
    line = fields(who=value, why="x")
    assert line.isprintable()
    assert line.isascii()
    assert line.startswith('who="')
    assert line.endswith('" why=x')
    assert "\n" not in line


def test_a_value_without_an_end_is_cut_short() -> None:
    assert len(fields(who="x" * 100_000)) < 250


def test_a_flood_is_counted_and_hides_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    audit = Audit(Rate(20, clock), Rate(5, clock))
    for _ in range(1_000):
        audit.refused(None, "http", "GET /v1/jobs", "unauthorized")
    audit.refused("alice", "http", "GET /v1/jobs", "forbidden")
    said = lines(caplog)
    assert len(said) == 5 + 2
    assert said[-2:] == [
        "refused unwritten=995",
        'refused who=alice door=http action="GET /v1/jobs" why=forbidden',
    ]
    for number in range(1_000):
        audit.refused(f"user{number}", "http", "GET /v1/jobs", "forbidden")
    assert len(lines(caplog)) <= 30
    clock.now = 1
    audit.flush()
    assert "unwritten" in lines(caplog)[-1]


def test_control_actions_are_never_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jobcast.audit")
    audit = Audit(Rate(1), Rate(1))
    for _ in range(100):
        audit.controlled("bob", "report", "alice/job-1")
    assert len(lines(caplog)) == 100
