"""Bytes to lifecycle events and back: the one place for the AMQP body and its CloudEvents forms.

`decode` is total: whatever the bytes are, it answers a list of events and `Malformed` values, in
order, so that a bad event never takes its neighbours with it. Contract: docs/protocol.md § 3.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from jobcast.bounds import Attempt, Digits, EventName, Identifier, Owner, Time
from jobcast.elements import elements
from jobcast.errors import Refusal
from jobcast.events import BY_TYPE, OWN, Event
from jobcast.job import NO_RESULT, Job
from jobcast.malformed import Malformed, binary_attributes, malformed
from jobcast.names import ID_MAX, OPERATION_MAX, OWNER_MAX, encoded_length
from jobcast.reasons import UNREADABLE, explain
from jobcast.result import compact

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"
MESSAGE_MAX: Final = 1_048_576
BATCH_MAX: Final = 1_000
ATTEMPT: Final = re.compile(r"[0-9]{1,11}", re.ASCII)
RESERVED: Final = frozenset(kind.type for kind in OWN)
TRACEPARENT: Final = re.compile(r"^(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Envelope(Struct):
    """The CloudEvent around the data."""

    specversion: str
    id: EventName
    source: EventName
    type: str
    subject: Identifier
    owner: Owner
    time: Time | None = None
    attempt: Attempt | None = None
    sequence: Digits | None = None
    traceparent: str | None = None
    data: Raw = NO_RESULT
    data_base64: str | None = None


class _Bad(Exception):
    """Carries a Refusal out of the reading of one event."""

    def __init__(self, reason: str, detail: str) -> None:
        self.refusal = Refusal(reason, detail)


def _own_fields(kind: type[Event]) -> list[tuple[str, Any, Any]]:
    common = {field.name for field in msgspec.structs.fields(Event)}
    return [
        (field.name, field.type, field)
        for field in msgspec.structs.fields(kind)
        if field.name not in common
    ]


def _data_decoder(kind: type[Event]) -> msgspec.json.Decoder[Any]:
    """A decoder for the `data` member: the fields that the event has beyond those of all."""
    fields: list[Any] = [
        (name, type_) if field.required else (name, type_, field.default)
        for name, type_, field in _own_fields(kind)
    ]
    return msgspec.json.Decoder(msgspec.defstruct(f"{kind.__name__}Data", fields, kw_only=True))


ENVELOPE: Final = msgspec.json.Decoder(Envelope)
ITEMS: Final = msgspec.json.Decoder(list[Raw])
JOB: Final = msgspec.json.Decoder(Job)
DATA: Final = {kind.type: _data_decoder(kind) for kind in BY_TYPE.values()}
FIELDS: Final = {
    kind.type: tuple(name for name, *_ in _own_fields(kind)) for kind in BY_TYPE.values()
}


def decode(
    body: bytes, content_type: str | None, headers: Mapping[str, Any], *, trusted: bool
) -> list[Event | Malformed]:
    """The events of one message: binary mode, structured mode or a batch.

    `trusted` says that the broker has validated the message's `user_id` as the service's own;
    only then do the service's own types count.
    """
    try:
        if len(body) > MESSAGE_MAX:
            raise _Bad("too-large", f"message: more than {MESSAGE_MAX} bytes")
        attributes = binary_attributes(headers)
        if attributes:
            return [_event(_binary_envelope(attributes, body, content_type), trusted)]
        items = _items(body, media_type(content_type))
    except _Bad as bad:
        return [malformed(bad.refusal, body, headers, content_type)]
    return [_read(item, trusted) for item in items]


def _items(body: bytes, kind: str) -> Sequence[Raw | bytes]:
    if kind not in {STRUCTURED, BATCH, JSON, ""}:
        raise _Bad("unsupported-content-type", f"content_type: {kind[:100]} is not read here")
    array = body.lstrip()[:1] == b"["
    if kind == STRUCTURED or (kind != BATCH and not array):
        return [body]
    try:
        items: Sequence[Raw | bytes] = ITEMS.decode(body)
    except UNREADABLE as error:
        items = elements(body)
        if not items:
            raise _Bad(*explain(error, "message")) from None
    if len(items) > BATCH_MAX:
        raise _Bad("too-many", f"message: a batch of more than {BATCH_MAX} events")
    return items


def media_type(content_type: str | None) -> str:
    """Without parameters, in lower case; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


def _read(item: Raw | bytes, trusted: bool) -> Event | Malformed:
    try:
        return _event(ENVELOPE.decode(item), trusted)
    except UNREADABLE as error:
        refusal = Refusal(*explain(error, ""))
    except _Bad as bad:
        refusal = bad.refusal
    return malformed(refusal, bytes(item), {}, STRUCTURED)


def _event(envelope: Envelope, trusted: bool) -> Event:
    kind = BY_TYPE.get(envelope.type)
    if envelope.specversion != "1.0":
        raise _Bad("not-cloudevent", "specversion: 1.0 is wanted")
    if kind is None:
        raise _Bad("unknown-type", "type: not one of the lifecycle types")
    if envelope.type in RESERVED and not trusted:
        raise _Bad("reserved-type", f"type: {envelope.type} is the service's own")
    _measure("subject", envelope.subject, ID_MAX)
    _measure("owner", envelope.owner, OWNER_MAX)
    return kind(
        id=envelope.id,
        source=envelope.source,
        owner=envelope.owner,
        job_id=envelope.subject,
        attempt=envelope.attempt or 1,
        sequence=None if envelope.sequence is None else int(envelope.sequence),
        time=envelope.time,
        traceparent=_traceparent(envelope.traceparent),
        **_data(envelope),
    )


def _data(envelope: Envelope) -> dict[str, Any]:
    raw = _data_bytes(envelope)
    try:
        data = DATA[envelope.type].decode(raw)
    except UNREADABLE as error:
        raise _Bad(*explain(error, "data")) from None
    values = {name: getattr(data, name) for name in FIELDS[envelope.type]}
    if values.get("operation"):
        _measure("data.operation", values["operation"], OPERATION_MAX)
    if "result" in values:
        values["result"] = _result(values["result"])
    return values


def _data_bytes(envelope: Envelope) -> Raw | bytes:
    if envelope.data_base64 is not None:
        try:
            return base64.b64decode(envelope.data_base64, validate=True)
        except ValueError:  # of binascii, or for letters beyond ASCII
            raise _Bad("bad-format", "data_base64: not base64") from None
    return b"{}" if bytes(envelope.data) in {b"null", b""} else envelope.data


def _result(raw: Raw) -> Raw:
    read = compact(raw)
    if isinstance(read, Refusal):
        raise _Bad(read.reason, read.detail)
    return read


def _measure(name: str, text: str, limit: int) -> None:
    if encoded_length(text) > limit:
        raise _Bad("too-long", f"{name}: more than {limit} characters, percent-encoded")


def _traceparent(text: str | None) -> str | None:
    """One that is not well-formed is ignored, as W3C Trace Context wants it."""
    return text if text and TRACEPARENT.match(text) else None


def _binary_envelope(attributes: dict[str, Any], body: bytes, content_type: str | None) -> Envelope:
    kind = media_type(content_type)
    if kind not in {JSON, ""} and not kind.endswith("+json"):
        raise _Bad("unsupported-content-type", f"content_type: {kind[:100]} is not read here")
    attempt = attributes.get("attempt")
    if isinstance(attempt, str) and re.fullmatch(ATTEMPT, attempt):
        attributes["attempt"] = int(attempt)
    attributes.pop("data_base64", None)
    try:
        return msgspec.convert(attributes | {"data": Raw(body.strip() or b"{}")}, Envelope)
    except msgspec.ValidationError as error:
        raise _Bad(*explain(error, "")) from None


def encode_event(event: Event) -> bytes:
    """One event in structured mode."""
    return msgspec.json.encode(_cloudevent(event))


def encode_batch(events: Sequence[Event]) -> bytes:
    """Up to 1,000 events in batch mode."""
    return msgspec.json.encode([_cloudevent(event) for event in events])


def _cloudevent(event: Event) -> dict[str, Any]:
    data = {
        name: value
        for name in FIELDS[event.type]
        if (value := getattr(event, name)) is not None and value is not NO_RESULT
    }
    optional = {
        "time": event.time,
        "attempt": None if event.attempt == 1 else event.attempt,
        "sequence": None if event.sequence is None else str(event.sequence),
        "traceparent": event.traceparent,
        "data": data or None,
    }
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.job_id,
        "owner": event.owner,
        **{name: value for name, value in optional.items() if value is not None},
    }


def decode_job(body: bytes) -> Job:
    """A job representation, as HTTP, SSE and AMQP carry it. Unknown fields are ignored."""
    return JOB.decode(body)
