"""The three encodings, both ways. What is refused, and how, stands in test_bad_input.py."""

import base64
from typing import Any

import msgspec
import pytest

from jobcast.events import BY_TYPE, OWN, Event, Heartbeat, Progressed, Started
from jobcast.job import NO_RESULT
from jobcast.malformed import HEADER_MAX, HEADERS_MAX, Malformed
from jobcast.result import DEPTH_MAX
from jobcast.wire import decode, decode_job, encode_batch, encode_event
from tests.contract.bad_messages import BATCH, JSON, REQUIRED, STRUCTURED
from tests.unit.core.examples import EXAMPLES
from tests.unit.core.golden import golden
from tests.unit.core.lifecycle import after, say

EVENT = say(Progressed, percent=40)
BODY = encode_event(EVENT)


def one(
    body: bytes, kind: str | None = None, headers: dict[str, Any] | None = None, **options: Any
) -> Event:
    """The one good event of a message."""
    (event,) = decode(body, kind, headers or {}, **({"trusted": False} | options))
    assert isinstance(event, Event), event
    return event


def attributes(prefix: str = "cloudEvents_", **more: Any) -> dict[str, Any]:
    return {prefix + name: value for name, value in {**REQUIRED, **more}.items()}


# Golden files


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.type)
def test_an_event_is_on_the_wire_as_the_golden_file_says(event: Event) -> None:
    line = golden(f"events/{event.type}")
    assert encode_event(event) == line
    assert one(line, STRUCTURED, trusted=True) == event


def test_every_type_has_a_golden_file() -> None:
    assert [event.type for event in EXAMPLES] == list(BY_TYPE)


def test_a_batch_is_the_array_of_its_events() -> None:
    body = encode_batch(EXAMPLES)
    assert body == b"[" + b",".join(map(encode_event, EXAMPLES)) + b"]"
    assert tuple(decode(body, BATCH, {}, trusted=True)) == EXAMPLES


def test_what_is_the_default_is_left_out() -> None:
    event = msgspec.json.decode(encode_event(say(Started)))
    assert event.keys() == {"specversion", "id", "source", "type", "subject", "owner"}


def test_the_example_of_the_protocol_is_read() -> None:
    event = one(golden("protocol-example"))
    assert event == Progressed(
        id="6f1c",
        source="/executors/backup-7",
        owner="alice",
        job_id="86e44546-107f-11e1-bde0-0010184c8334",
        time=event.time,
        percent=40,
        targets={"vol1": 80, "vol2": 0},
        message="copying",
    )


# Structured and batch mode


@pytest.mark.parametrize(
    "kind",
    [STRUCTURED, JSON, None, "", f"{STRUCTURED}; charset=utf-8", "Application/JSON ;charset=UTF-8"],
)
def test_an_object_is_one_event(kind: str | None) -> None:
    assert one(BODY, kind) == EVENT
    assert one(b" \r\n" + BODY + b"\n", kind) == EVENT


@pytest.mark.parametrize(
    "kind", [BATCH, JSON, None, f"{BATCH.upper()};charset=utf-8", "application/json; x=y"]
)
def test_an_array_is_a_batch(kind: str | None) -> None:
    assert decode(b"\n [" + BODY + b" , " + BODY + b"]", kind, {}, trusted=False) == [EVENT] * 2


def test_an_empty_batch_is_no_event() -> None:
    assert decode(b"[]", BATCH, {}, trusted=False) == []


def test_a_thousand_events_are_a_batch() -> None:
    assert len(decode(encode_batch([EVENT] * 1000), BATCH, {}, trusted=False)) == 1000


def test_headers_of_others_do_not_make_binary_mode() -> None:
    headers = {"traceparent": "00-x", "x-death": [{"count": 1}], "cloudevents": "1.0"}
    assert one(BODY, STRUCTURED, headers) == EVENT


def test_unknown_attributes_and_fields_are_ignored() -> None:
    event = msgspec.json.decode(BODY)
    event |= {"datacontenttype": "application/json", "extra": {"a": [1]}, "dataschema": "urn:x"}
    event["data"] |= {"extra": [None], "result": 5}
    assert one(msgspec.json.encode(event)) == EVENT


@pytest.mark.parametrize("data", [None, {}])
def test_data_may_be_null_empty_or_absent(data: object) -> None:
    event = msgspec.json.decode(encode_event(say(Heartbeat, id="e")))
    assert "data" not in event
    assert one(msgspec.json.encode(event | {"data": data})) == say(Heartbeat, id="e")
    assert one(msgspec.json.encode(event)) == say(Heartbeat, id="e")


def test_a_null_is_as_good_as_nothing() -> None:
    event = msgspec.json.decode(encode_event(say(Started, id="e")))
    event |= dict.fromkeys(("time", "attempt", "sequence", "traceparent", "data_base64"))
    event["data"] = dict.fromkeys(("operation", "group", "resource", "cancelable", "labels"))
    assert one(msgspec.json.encode(event)) == say(Started, id="e")


def test_data_may_be_base64() -> None:
    event = msgspec.json.decode(BODY)
    del event["data"]
    event["data_base64"] = base64.b64encode(b'{"percent":40}').decode()
    assert one(msgspec.json.encode(event)) == EVENT


def test_a_traceparent_that_is_not_one_is_ignored() -> None:
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = msgspec.json.decode(BODY)
    for text, read in [(good, good), ("00-x", None), ("ff" + good[2:], None), (good + "\n", None)]:
        assert one(msgspec.json.encode(event | {"traceparent": text})).traceparent == read


def test_a_sequence_is_a_number_whatever_its_zeros() -> None:
    event = msgspec.json.decode(BODY) | {"sequence": "0" * 90 + "42"}
    assert one(msgspec.json.encode(event)).sequence == 42


# Binary mode


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
@pytest.mark.parametrize("kind", [JSON, None, "application/json;charset=utf-8", "text/x+json"])
def test_cloudevents_headers_make_binary_mode(prefix: str, kind: str | None) -> None:
    headers = attributes(prefix, attempt=3, sequence="7", time="2026-11-21T10:00:00Z")
    event = one(b' {"percent":40} ', kind, headers)
    assert isinstance(event, Progressed)
    assert (event.id, event.job_id, event.attempt, event.sequence) == ("binary", "binary", 3, 7)
    assert (event.percent, event.time is None) == (40, False)


def test_binary_attributes_may_be_bytes_and_an_attempt_digits() -> None:
    headers = attributes(attempt="3", subject=b"j7", OWNER=None)
    event = one(b"", JSON, {name.replace("owner", "Owner"): v for name, v in headers.items() if v})
    assert (event.attempt, event.job_id, event.owner) == (3, "j7", "nobody")


def test_in_binary_mode_the_body_is_data_even_if_it_looks_like_a_batch() -> None:
    (event,) = decode(b"[" + BODY + b"]", BATCH, attributes(), trusted=False)
    assert isinstance(event, Malformed)
    assert event.reason == "wrong-type"


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b" \n"])
def test_a_binary_event_may_have_no_data(body: bytes) -> None:
    assert isinstance(one(body, None, attributes(type="job.heartbeat")), Heartbeat)


# Trust


@pytest.mark.parametrize("kind", OWN)
def test_the_services_own_types_need_its_own_user(kind: type[Event]) -> None:
    body = next(encode_event(event) for event in EXAMPLES if isinstance(event, kind))
    (refused,) = decode(body, STRUCTURED, {}, trusted=False)
    assert isinstance(refused, Malformed)
    assert refused.reason == "reserved-type"
    assert isinstance(one(body, STRUCTURED, trusted=True), kind)


# Results


def result_of(text: bytes) -> bytes:
    body = encode_event(say(Progressed, id="e")).replace(b"job.progressed", b"job.canceled")
    event = one(body.removesuffix(b"}") + b',"data":{"result":' + text + b"}}")
    return bytes(getattr(event, "result"))  # noqa: B009 - of one type, read from bytes


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"null", b"null"),
        (b" { \"a\" : [ 1 , 2.50 ] }\n", b'{"a":[1,2.5]}'),
        (b'"\\u00fc"', '"ü"'.encode()),
        (b"9" * 30, b"9" * 30),
        (b"18446744073709551616", b"18446744073709551616"),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, b"[" * DEPTH_MAX + b"]" * DEPTH_MAX),
        (b'"' + b"x" * 262_142 + b'"', b'"' + b"x" * 262_142 + b'"'),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_result_is_any_json_as_one_compact_line(text: bytes, kept: bytes) -> None:
    assert result_of(text) == kept


def test_no_result_is_the_same_as_null() -> None:
    assert bytes(NO_RESULT) == result_of(b"null")


# Malformed events


def test_a_message_id_depends_on_the_event_alone() -> None:
    bad = b'{"specversion":"1.0"}'
    (alone,) = decode(bad, STRUCTURED, {"x": 1}, trusted=False)
    _, among, _ = decode(b"[" + BODY + b", " + bad + b"," + BODY + b"]", None, {}, trusted=True)
    other = decode(bad[:-1], STRUCTURED, {}, trusted=False)[0]
    assert isinstance(alone, Malformed)
    assert isinstance(among, Malformed)
    assert isinstance(other, Malformed)
    assert alone.message_id == among.message_id != other.message_id


def test_a_message_id_of_binary_mode_depends_on_the_attributes() -> None:
    named = [
        bad.message_id
        for headers in (attributes(id=""), attributes(owner=""), attributes(id="", x=[1, b"\xff"]))
        for bad in decode(b"{}", JSON, headers, trusted=False)
        if isinstance(bad, Malformed)
    ]
    assert len(set(named)) == 3


def test_a_malformed_binary_event_keeps_its_attributes_within_bounds() -> None:
    many = {f"x{number}": "y" * 10_000 for number in range(100)}
    headers = attributes(owner=None, attempt=0, table={"a": 1}, **many) | {"other": "x"}
    (bad,) = decode(b"{}", JSON, headers, trusted=False)
    assert isinstance(bad, Malformed)
    assert bad.headers["cloudEvents_subject"] == "binary"
    assert bad.headers["cloudEvents_attempt"] == 0
    assert len(bad.headers) == HEADERS_MAX
    assert {len(value) for value in bad.headers.values() if isinstance(value, str)} >= {HEADER_MAX}
    assert all(name.startswith("cloudEvents_") for name in bad.headers)
    assert not {"cloudEvents_table", "cloudEvents_owner", "other"} & bad.headers.keys()


# Jobs


def test_a_job_is_read_as_it_was_written_and_unknown_fields_are_ignored() -> None:
    job = after(*EXAMPLES[:7]).job
    body = msgspec.json.encode(job)
    assert decode_job(body) == job
    assert decode_job(body[:-1] + b',"links":{"self":"x"},"new":1}') == job
