"""Every native state as CloudStack tells of it, and the messages of its event bus."""

from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from broker.cloudstack import (
    JOB_STATUS,
    error_text,
    id_of,
    job_result,
    process_status,
    result_code,
)
from broker.cloudstack_events import body, event_of, routing_key, told_on
from jobcast.job import Job, JobError, Resource, Status
from jobcast.notification import Notice

AT: Final = "2026-11-21T01:00:00.250Z"
RUNNING: Final = Job(
    id="j", owner="alice", operation="deploy", status=Status.RUNNING, created_at=AT, updated_at=AT
)


def job(status: Status, **more: Any) -> Job:
    return replace(RUNNING, status=status, **more)


SUCCEEDED: Final = job(Status.SUCCEEDED, outcome="normal", status_code=200, version=3)
FAILED: Final = job(Status.FAILED, status_code=431, error=JobError("full", "no space"), version=3)
CANCELED: Final = job(Status.CANCELED, status_code=499, version=3)


def test_every_status_has_a_number() -> None:
    assert set(JOB_STATUS) == set(Status)


@pytest.mark.parametrize(
    ("told", "numbers"),
    [
        (job(Status.QUEUED), (0, 1, 0)),
        (RUNNING, (0, 1, 0)),
        (job(Status.CANCEL_PENDING), (0, 1, 0)),
        (SUCCEEDED, (1, 0, 0)),
        (replace(SUCCEEDED, outcome="warning", status_code=299), (1, 0, 0)),
        (FAILED, (2, 0, 431)),
        (replace(FAILED, outcome="partial-failures", status_code=551), (2, 0, 551)),
        (replace(FAILED, status_code=None), (2, 0, 530)),
        (CANCELED, (2, 0, 530)),
    ],
)
def test_status_process_status_and_result_code(told: Job, numbers: tuple[int, int, int]) -> None:
    assert (JOB_STATUS[told.status], process_status(told), result_code(told)) == numbers


@pytest.mark.parametrize(
    ("told", "result"),
    [
        (RUNNING, None),
        (SUCCEEDED, ("object", {"success": True})),
        (replace(SUCCEEDED, result=Raw(b'{"vm":{}}')), ("object", Raw(b'{"vm":{}}'))),
        (replace(SUCCEEDED, result=Raw(b"[1]")), ("object", Raw(b"[1]"))),
        (replace(SUCCEEDED, result=Raw(b'"done"')), ("text", Raw(b'"done"'))),
        (replace(SUCCEEDED, result=Raw(b"7")), ("text", Raw(b"7"))),
        (FAILED, ("object", {"errorcode": 431, "errortext": "no space"})),
        (replace(FAILED, result=Raw(b'{"left":0}')), job_result(FAILED)),
        (CANCELED, ("object", {"errorcode": 530, "errortext": "The job was canceled"})),
    ],
)
def test_the_result(told: Job, result: Any) -> None:
    assert job_result(told) == result


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (replace(FAILED, error=JobError("full", "")), "full"),
        (replace(FAILED, error=None, message="alas"), "alas"),
        (replace(FAILED, error=None), "The job failed"),
        (replace(CANCELED, message="by hand"), "by hand"),
    ],
)
def test_a_failure_always_has_a_text(told: Job, text: str) -> None:
    assert error_text(told) == text


def test_an_owner_has_one_id_for_ever() -> None:
    assert UUID(id_of("alice")).version == 5
    assert id_of("alice") == "aa526683-779f-522b-ae24-96aea0b66c24"
    assert id_of("alice") != id_of("Alice")


@pytest.mark.parametrize(
    ("told", "event"),
    [
        (job(Status.QUEUED), "submit"),
        (RUNNING, "submit"),
        (replace(RUNNING, version=2), "update"),
        (job(Status.CANCEL_PENDING, version=2), "update"),
        (SUCCEEDED, "complete"),
        (FAILED, "complete"),
        (CANCELED, "complete"),
        (replace(SUCCEEDED, version=1), "complete"),
    ],
)
def test_the_event(told: Job, event: str) -> None:
    assert event_of(told) == event


@pytest.mark.parametrize(
    ("resource", "parts"),
    [
        (None, "unknown.*"),
        (Resource("VirtualMachine", "v1"), "VirtualMachine.v1"),
        (Resource("a.b", "c.d.e"), "a-b.c-d-e"),
        (Resource("", ""), "*.*"),
        (Resource("x" * 256, "é" * 256), f"{'x' * 100}.{'é' * 50}"),
        (Resource("€" * 256, "x"), f"{'€' * 33}.x"),
    ],
)
def test_the_routing_key_can_be_carried(resource: Resource | None, parts: str) -> None:
    key = routing_key(replace(SUCCEEDED, resource=resource))
    assert key == f"management-server.AsyncJobEvent.complete.{parts}"
    assert len(key.encode()) <= 255


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (b"null", {"success": True, "object": None}),
        (b'{"vm":{"id":"v1"}}', {"id": "v1", "class": "deploy", "object": "vm"}),
        (b'{"a":1,"b":2}', {"a": 1, "b": 2, "class": "deploy", "object": None}),
        (b'{"a":1}', {"a": 1, "class": "deploy", "object": None}),
        (b"{}", {"class": "deploy", "object": None}),
        (b"[1]", None),
        (b'"x"', None),
    ],
)
def test_the_result_on_the_bus(result: bytes, told: dict[str, Any] | None) -> None:
    found = body(replace(SUCCEEDED, result=Raw(result)))["jobResult"]
    if result == b"null":
        assert found.pop("class").endswith("SuccessResponse")
    assert found == told


def whose(owner: str, machine: str) -> dict[str, Any]:
    """What a message says of the owner of a job that deploys a machine, and of the machine."""
    account = id_of(owner)
    return {
        "command": "deploy",
        "commandEventType": "unknown",
        "cmdInfo": {},
        "user": account,
        "account": account,
        "instanceType": "VirtualMachine",
        "instanceUuid": machine,
        "username": owner,
        "accountname": owner,
        "domainname": "ROOT",
    }


def test_the_body_of_a_failure() -> None:
    told = body(replace(FAILED, resource=Resource("VirtualMachine", "v1")))
    assert told == {
        "jobId": "j",
        "status": "FAILED",
        "resultCode": "431",
        "processStatus": "0",
        "jobResult": {
            "errorcode": 431,
            "errortext": "no space",
            "class": "org.apache.cloudstack.api.response.ExceptionResponse",
            "object": None,
        },
    } | whose("alice", "v1")


def test_a_message_is_the_same_whenever_it_is_told() -> None:
    notice = Notice(
        job=RUNNING, snapshot=msgspec.json.encode(RUNNING), event="started", cursor="1-0"
    )
    first, again = (told_on("bus")(notice) for _ in range(2))
    assert first == again
    assert (first.exchange, first.content_type, first.headers) == ("bus", "text/plain", {})
    assert first.message_id == "alice/j/1"
    assert msgspec.json.decode(first.body)["status"] == "IN_PROGRESS"
