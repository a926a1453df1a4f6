"""Which commands reach which job."""

from collections.abc import Callable

import msgspec
import pytest

from jobcast.events import Progressed, Started
from jobcast.holdings import Holdings, operation_of
from jobcast.notification import Command, decode_command
from jobcast.outbox import Entry, checked
from tests.unit.core.golden import golden


def entry(owner: str = "alice", job_id: str = "j", attempt: int = 1) -> Entry:
    start = Started(
        id=f"{job_id}-{attempt}",
        source="/tests",
        owner=owner,
        job_id=job_id,
        attempt=attempt,
        sequence=2,
        operation="backup",
        message="go",
    )
    return checked(start, "backup")


def body(owner: str = "alice", job_id: str = "j", attempt: int = 1, type_: str = "cancel") -> bytes:
    said = {"type": f"job.{type_}", "owner": owner, "subject": job_id, "attempt": attempt}
    return msgspec.json.encode(said | {"specversion": "1.0", "data": {"operation": "backup"}})


class Told:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.tell: Callable[[Command], None] = self.commands.append


def test_a_held_job_is_told_once() -> None:
    told, holdings = Told(), Holdings()
    holdings.take(entry(attempt=2), told.tell)
    for _ in range(3):
        holdings.heard(body(attempt=2))
    assert told.commands == [Command("alice", "j", 2)]


@pytest.mark.parametrize(
    "other",
    [
        body(owner="bob"),
        body(job_id="k"),
        body(attempt=1),
        body(type_="pause"),
        b"",
        b"[]",
        b'{"type":"job.cancel"}',
        b'{"type":"job.cancel","owner":"alice","subject":7}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_for_it_changes_nothing(other: bytes) -> None:
    told, holdings = Told(), Holdings()
    holdings.take(entry(attempt=2), told.tell)
    holdings.heard(other)
    assert told.commands == []


def test_the_next_attempt_is_told_anew_and_an_old_one_does_not_end_it() -> None:
    told, holdings = Told(), Holdings()
    holdings.take(entry(), told.tell)
    holdings.heard(body())
    holdings.take(entry(attempt=2), told.tell)
    holdings.drop(("alice", "j"), 1)
    holdings.heard(body())
    holdings.heard(body(attempt=2))
    assert [command.attempt for command in told.commands] == [1, 2]
    holdings.drop(("alice", "j"), 2)
    holdings.heard(body(attempt=3))
    assert len(told.commands) == 2
    assert holdings.starts() == []


def test_what_a_listener_raises_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(_: Command) -> None:
        raise LookupError("mine")

    holdings = Holdings()
    holdings.take(entry(), fails)
    holdings.heard(body())
    assert "LookupError: mine" in caplog.text


def test_a_start_said_again_is_the_same_event_and_says_nothing_new() -> None:
    holdings = Holdings()
    holdings.take(entry(), Told().tell)
    (again,) = holdings.starts()
    assert again.event == msgspec.structs.replace(entry().event, message=None)
    assert again.operation == "backup"


def test_commands_are_routed_by_the_operation_that_the_event_names() -> None:
    start = entry()
    assert operation_of(msgspec.structs.replace(start, operation="job")) == "backup"
    bare = msgspec.structs.replace(start.event, operation=None)
    assert operation_of(checked(bare, "restore")) == "restore"
    progressed = Progressed(id="1", source="/tests", owner="alice", job_id="j")
    assert operation_of(checked(progressed, "restore")) == "restore"


def test_the_services_own_command_is_read() -> None:
    message = msgspec.json.decode(golden("command"))
    assert decode_command(msgspec.json.encode(message["body"])) == Command("alice", "j", 1)
