import msgspec
import pytest
from starlette.datastructures import Headers

from api.ingest import messages, read
from api.problems import Problem
from jobcast.events import Progressed, Started, Succeeded
from jobcast.wire import BATCH, BATCH_MAX, MESSAGE_MAX, STRUCTURED, decode


def started(job_id: str, number: int = 1, operation: str | None = None) -> Started:
    return Started(
        id=f"{job_id}-{number}", source="/t", owner="alice", job_id=job_id, operation=operation
    )


def test_each_job_gets_a_message_of_its_own_and_keeps_its_order() -> None:
    one, two = started("a", 1, "back.up"), started("b")
    end = Succeeded(id="e", source="/t", owner="alice", job_id="a")
    first, second = messages([one, two, end], 7)
    assert (first.correlation_id, second.correlation_id) == ("a", "b")
    assert (first.content_type, second.content_type) == (BATCH, STRUCTURED)
    assert first.routing_key == "back%2Eup.started"
    assert first.mandatory
    assert first.timestamp == 7
    assert decode(first.body, first.content_type, {}, trusted=False) == [one, end]
    assert decode(second.body, second.content_type, {}, trusted=False) == [two]


def test_the_same_id_of_two_owners_is_two_jobs() -> None:
    two = [started("a"), msgspec.structs.replace(started("a"), owner="bob")]
    assert len(list(messages(two, 0))) == 2


def test_what_does_not_fit_one_message_is_split_in_order() -> None:
    text = "x" * 1024
    many = [
        Progressed(id=f"e{n}", source="/t", owner="alice", job_id="a", message=text)
        for n in range(BATCH_MAX + 500)
    ]
    sent = list(messages(many, 0))
    assert all(len(message.body) <= MESSAGE_MAX for message in sent)
    back = [event for m in sent for event in decode(m.body, m.content_type, {}, trusted=False)]
    assert back == many


def test_binary_mode_takes_percent_encoded_headers() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "e%201",
        "ce-source": "/t",
        "ce-type": "job.progressed",
        "ce-subject": "a",
        "ce-owner": "alice",
        "ce-attempt": "2",
        "content-type": "application/json",
    }
    assert read(b'{"percent": 5}', Headers(headers)) == [
        Progressed(id="e 1", source="/t", owner="alice", job_id="a", attempt=2, percent=5)
    ]


def test_the_first_bad_event_is_named() -> None:
    with pytest.raises(Problem, match="malformed-event") as caught:
        read(b"[{}]", Headers({"content-type": BATCH}))
    assert caught.value.members["index"] == 0
    assert caught.value.members["reason"]
    assert caught.value.detail


def test_other_content_types_and_compressed_bodies_are_not_read() -> None:
    for headers in ({"content-type": "text/plain"}, {"content-encoding": "gzip"}):
        with pytest.raises(Problem, match="unsupported-media-type"):
            read(b"{}", Headers(headers))
