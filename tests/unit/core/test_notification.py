"""What goes out over AMQP, to the byte."""

import re
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import asdict, replace

from jobcast.events import CancelRequested, Failed, Progressed, Queued, Started
from jobcast.job import Job, JobError, Resource
from jobcast.message import Message
from jobcast.names import COMMANDS, EVENTS
from jobcast.notification import (
    Notice,
    command,
    decode_notification,
    message_id,
    notification,
    oldest_cursor,
)
from tests.unit.core.golden import golden
from tests.unit.core.lifecycle import after, say

TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
JMS_NAME: Final = re.compile(r"^[A-Za-z_$][A-Za-z0-9_$]*\Z")
JMS_WORDS: Final = {"null", "true", "false", "not", "and", "or", "between", "like", "in", "is"}
JMS_WORDS_TOO: Final = {"escape"}

FAILED: Final = after(
    say(
        Queued,
        owner="alice@example.org",
        job_id="job.7",
        operation="vm.deploy",
        group="nightly",
        resource=Resource("vm", "v1"),
        labels={"site": "Zürich"},
    ),
    say(Progressed, percent=12.5, targets={"a": 25, "b": 0}, attempt=2),
    say(
        Failed,
        attempt=2,
        outcome="partial-failures",
        reason_code=28,
        error=JobError("disk-full", 'no "space"\n'),
        result=msgspec.Raw(b'{"left":0}'),
    ),
).job
PENDING: Final = after(say(Started, operation="vm.deploy"), say(CancelRequested)).job


def notice(job: Job, event: str, **more: Any) -> Notice:
    return Notice(job=job, snapshot=msgspec.json.encode(job), event=event, cursor="17-0", **more)


def shown(message: Message) -> dict[str, Any]:
    """A message as the golden files show it, with the body read."""
    return asdict(message) | {"body": msgspec.json.decode(message.body)}


NOTIFIED: Final = notification(notice(FAILED, "failed", traceparent=TRACE))
COMMANDED: Final = command(notice(PENDING, "cancel-pending"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("notification", NOTIFIED), ("command", COMMANDED)],
    ids=["event", "command"],
)
def test_a_message_is_as_the_golden_file_says(name: str, message: Message) -> None:
    assert msgspec.json.encode(shown(message)) == golden(name)


@pytest.mark.parametrize("message", [NOTIFIED, COMMANDED], ids=["event", "command"])
def test_headers_are_flat_and_legal_for_jms(message: Message) -> None:
    for name, value in message.headers.items():
        assert JMS_NAME.match(name)
        assert not name.startswith("JMS")
        assert name.lower() not in JMS_WORDS | JMS_WORDS_TOO
        assert type(value) in {str, int}


def test_properties_are_those_of_the_protocol() -> None:
    assert (NOTIFIED.exchange, NOTIFIED.priority, NOTIFIED.app_id) == (EVENTS, 4, "jobcast")
    assert NOTIFIED.message_id == "alice@example.org/job.7/3"
    assert (NOTIFIED.correlation_id, NOTIFIED.type) == ("job.7", "job.failed")
    assert NOTIFIED.routing_key == "alice%40example%2Eorg.vm%2Edeploy.failed.job%2E7"
    assert NOTIFIED.content_type == "application/cloudevents+json"
    assert (COMMANDED.exchange, COMMANDED.routing_key) == (COMMANDS, "vm%2Edeploy.cancel.j")


def test_what_is_null_has_no_header() -> None:
    job = after(say(Queued)).job
    headers = notification(notice(job, "queued")).headers
    assert headers.keys() == {
        "owner",
        "operation",
        "event",
        "job_id",
        "status",
        "attempt",
        "version",
        "cursor",
    }


def test_the_body_holds_the_snapshot_to_the_byte() -> None:
    snapshot = msgspec.json.encode(FAILED)
    assert NOTIFIED.body.endswith(b'"data":' + snapshot + b"}")
    assert b'"links"' not in NOTIFIED.body


def test_a_repeat_is_the_same_to_the_byte() -> None:
    stored = msgspec.json.decode(msgspec.json.encode(FAILED), type=Job)
    again = Notice(
        job=stored,
        snapshot=msgspec.json.encode(FAILED),
        event="failed",
        cursor="17-0",
        traceparent=TRACE,
    )
    assert notification(again) == NOTIFIED
    assert command(notice(PENDING, "cancel")) == COMMANDED


def test_every_version_has_a_message_id_of_its_own() -> None:
    assert message_id(replace(FAILED, version=4)) == "alice@example.org/job.7/4"


def test_a_receiver_reads_what_was_sent() -> None:
    read = decode_notification(NOTIFIED.body)
    assert (read.message_id, read.event, read.traceparent) == (NOTIFIED.message_id, "failed", TRACE)
    assert read.job == FAILED


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"id":"a","type":"job.failed","data":5}'])
def test_a_receiver_says_what_it_cannot_read(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_notification(body)


def test_the_oldest_cursor_is_the_least_by_its_numbers() -> None:
    assert oldest_cursor(["10-2", "9-10", "9-9", "10-0"]) == "9-9"
    with pytest.raises(ValueError, match="empty"):
        oldest_cursor([])
    with pytest.raises(ValueError, match="invalid"):
        oldest_cursor(["1-0", "x"])
