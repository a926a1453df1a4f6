"""The part of the bad-input table that breaks a whole message: its encoding, or binary mode."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"


class Row(Struct, frozen=True, kw_only=True):
    """One bad event, or one bad message if `alone`, and what its dead letter says.

    `trusted`: sent by the service's own user. `before`: data of a good event that goes before.
    """

    name: str
    body: bytes
    reason: str
    field: str
    alone: bool = False
    content_type: str | None = None
    headers: Mapping[str, Any] = {}
    trusted: bool = False
    before: Mapping[str, Any] | None = None

    def text(self, owner: str, job_id: str) -> bytes:
        """The body, speaking of this job."""
        return self.body.replace(b"OWNER", owner.encode()).replace(b"JOB", job_id.encode())


EVENT: Final = (
    b'{"specversion":"1.0","id":"whole","source":"/tests/bad-input","type":"job.progressed",'
    b'"subject":"JOB","owner":"OWNER"}'
)
Broken = tuple[str, str | None, bytes, str, str]
BROKEN: Final[tuple[Broken, ...]] = (
    # name, content type, body, reason, field
    ("an empty body", None, b"", "not-json", "event"),
    ("an empty body, said to be JSON", JSON, b"", "not-json", "event"),
    ("an empty structured event", STRUCTURED, b"", "not-json", "event"),
    ("an empty batch body", BATCH, b"", "not-json", "message"),
    ("nothing but space", None, b" \r\n\t ", "not-json", "event"),
    ("plain words", None, b"hello", "not-json", "event"),
    ("a brace", JSON, b"{", "not-json", "event"),
    ("half an event", STRUCTURED, EVENT[:60], "not-json", "event"),
    ("an event and a brace", STRUCTURED, EVENT + b"}", "not-json", "event"),
    ("two events without a batch", JSON, EVENT + b"\n" + EVENT, "not-json", "event"),
    ("a byte order mark", JSON, b"\xef\xbb\xbf" + EVENT, "not-json", "event"),
    ("UTF-16", JSON, EVENT.decode().encode("utf-16"), "not-json", "event"),
    ("zero bytes", None, b"\x00" * 64, "not-json", "event"),
    ("null", JSON, b"null", "not-cloudevent", "event"),
    ("a number", JSON, b"5", "not-cloudevent", "event"),
    ("a string", JSON, b'"hello"', "not-cloudevent", "event"),
    ("an empty object", None, b"{}", "missing", "specversion"),
    ("a batch, said to be structured", STRUCTURED, b"[%b]" % EVENT, "not-cloudevent", "event"),
    ("an event, said to be a batch", BATCH, EVENT, "wrong-type", "message"),
    ("a number, said to be a batch", BATCH, b"5", "wrong-type", "message"),
    ("a bracket", BATCH, b"[", "not-json", "message"),
    ("a batch without an end", None, b"[" + EVENT, "not-json", "message"),
    ("a batch with two ends", None, b"[%b]]" % EVENT, "not-json", "message"),
    ("a batch and more", None, b"[%b]x" % EVENT, "not-json", "message"),
    ("a batch with a last comma", JSON, b"[%b,]" % EVENT, "not-json", "message"),
    ("a batch with two commas", JSON, b"[%b,,%b]" % (EVENT, EVENT), "not-json", "message"),
    ("a batch with an open string", BATCH, b'[%b,{"a":"]' % EVENT, "not-json", "message"),
    ("1,001 events", BATCH, b"[" + b",".join([EVENT] * 1001) + b"]", "too-many", "message"),
    ("1,001 events, one broken", None, b"[" + b"{NaN}," * 1000 + b"{}]", "too-many", "message"),
    ("plain text", "text/plain", EVENT, "unsupported-content-type", "content_type"),
    ("XML", "application/xml", b"<event/>", "unsupported-content-type", "content_type"),
    ("Avro", "application/cloudevents+avro", EVENT, "unsupported-content-type", "content_type"),
    ("nearly JSON", "application/jsonx", EVENT, "unsupported-content-type", "content_type"),
    ("a long content type", "x" * 200, EVENT, "unsupported-content-type", "content_type"),
)  # fmt: skip

REQUIRED: Final[Mapping[str, Any]] = {
    "specversion": "1.0",
    "id": "binary",
    "source": "/tests/bad-input",
    "type": "job.progressed",
    "subject": "binary",
    "owner": "nobody",
}
PROGRESS: Final = b'{"percent":40}'
Patch = tuple[str, Any, str]
PATCHES: Final[tuple[Patch, ...]] = (
    # attribute, value (None: absent), reason; bytes are what AMQP libraries give for invalid UTF-8
    *((name, None, "missing") for name in REQUIRED),
    ("specversion", "0.3", "not-cloudevent"),
    ("id", 5, "wrong-type"),
    ("id", True, "wrong-type"),
    ("id", "", "out-of-bounds"),
    ("id", "x" * 1025, "too-long"),
    ("source", {"a": 1}, "wrong-type"),
    ("source", "x" * 1025, "too-long"),
    ("type", "job.paused", "unknown-type"),
    ("type", "job.deleted", "reserved-type"),
    ("type", ["job.started"], "wrong-type"),
    ("subject", "a b", "bad-format"),
    ("subject", b"\xff\xfe", "bad-format"),
    ("subject", "." * 34, "too-long"),
    ("owner", "a#b", "bad-format"),
    ("owner", [1], "wrong-type"),
    ("owner", "@" * 22, "too-long"),
    ("time", "yesterday", "bad-format"),
    ("time", "2026-01-01T00:00:00", "bad-format"),
    ("time", 5, "wrong-type"),
    ("attempt", 0, "out-of-bounds"),
    ("attempt", "0", "out-of-bounds"),
    ("attempt", 2**31, "out-of-bounds"),
    ("attempt", "-1", "wrong-type"),
    ("attempt", "9" * 30, "wrong-type"),
    ("attempt", "", "wrong-type"),
    ("sequence", "x", "bad-format"),
    ("sequence", 7, "wrong-type"),
)
Data = tuple[str, str | None, bytes, str, str]
DATA: Final[tuple[Data, ...]] = (
    # name, content type, body, reason, field
    ("that is not JSON", JSON, b"hello", "not-json", "data"),
    ("that is an array", JSON, b"[]", "wrong-type", "data"),
    ("that is a number", None, b"5", "wrong-type", "data"),
    ("that is NaN", None, b'{"percent":NaN}', "not-json", "data"),
    ("that is invalid UTF-8", None, b'{"message":"\xff"}', "not-json", "data"),
    ("that has a byte order mark", JSON, b"\xef\xbb\xbf{}", "not-json", "data"),
    ("that is too deep", None, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "too-deep", "data"),
    ("that is out of bounds", JSON, b'{"percent":101}', "out-of-bounds", "data.percent"),
    ("that is of the wrong type", JSON, b'{"percent":"4"}', "wrong-type", "data.percent"),
    ("that is plain text", "text/plain", PROGRESS, "unsupported-content-type", "content_type"),
    ("that is XML", "application/xml", b"<a/>", "unsupported-content-type", "content_type"),
)


def _headers(prefix: str, patch: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {**REQUIRED, **patch}
    return {prefix + name: value for name, value in attributes.items() if value is not None}


def _binary() -> Iterator[Row]:
    for at, (attribute, value, reason) in enumerate(PATCHES):
        prefix = ("cloudEvents_", "cloudEvents:")[at % 2]
        shown = "absent" if value is None else repr(value)[:12]
        yield Row(
            name=f"binary {prefix}{attribute} {shown} {at}",
            body=PROGRESS,
            content_type=JSON,
            headers=_headers(prefix, {attribute: value}),
            reason=reason,
            field=attribute,
            alone=True,
        )
    for name, content_type, body, reason, field in DATA:
        yield Row(
            name=f"binary data {name}",
            body=body,
            content_type=content_type,
            headers=_headers("cloudEvents_", {"id": name}),
            reason=reason,
            field=field,
            alone=True,
        )
    yield Row(
        name="a binary record without data",
        body=b"",
        headers=_headers("cloudEvents_", {"type": "job.recorded"}),
        reason="missing",
        field="data.target",
        alone=True,
    )


MESSAGES: Final[tuple[Row, ...]] = (
    *(
        Row(name=name, body=body, content_type=kind, reason=reason, field=field, alone=True)
        for name, kind, body, reason, field in BROKEN
    ),
    *_binary(),
)

_SMALL: Final = EVENT.replace(b"JOB", b"j").replace(b"OWNER", b"nobody")

TOO_LARGE: Final = Row(
    name="more than a MiB",
    body=_SMALL[:-1] + b" " * (1_048_577 - len(_SMALL)) + b"}",
    content_type=STRUCTURED,
    reason="too-large",
    field="message",
    alone=True,
)
"""A broker with the bound of ours refuses it; others may let it through."""
