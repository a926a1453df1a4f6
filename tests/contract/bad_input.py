"""The bad-input table: what a broken executor may send, and the reason and field that it gets.

A row is one event that is good but for one thing, or one whole message (`alone`). `OWNER` and `JOB`
stand where the test puts its own. Both tests/unit/core and the real service are held to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from tests.contract.bad_messages import MESSAGES, Row

ABSENT: Final = ""
WRONG: Final = "wrong-type"
BOUNDS: Final = "out-of-bounds"
LONG: Final = "too-long"
MANY: Final = "too-many"
FORMAT: Final = "bad-format"
MISSING: Final = "missing"
SYNTAX: Final = "not-json"
DEEP: Final = "too-deep"

EVENT: Final = "event"
"""The field that a detail names where the event cannot be read at all."""


class Bad(Struct, frozen=True):
    """A value, as JSON text or what should be; `field` where it is not the path itself."""

    value: str | bytes
    reason: str
    field: str = ""


Table = Mapping[str, Sequence[Bad]]


def text(length: int, letter: str = "x") -> str:
    return f'"{letter * length}"'


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def pair(name: str, value: str) -> str:
    return "{" + name + ":" + value + "}"


def members(count: int, value: str) -> str:
    return "{" + ",".join(f'"m{number}":{value}' for number in range(count)) + "}"


DIGITS_30: Final = "9" * 30
INVALID_UTF8: Final = (b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"')

NUMBERS: Final = (
    Bad("1e400", BOUNDS),
    Bad("NaN", SYNTAX, EVENT),
    Bad("Infinity", SYNTAX, EVENT),
    Bad("-Infinity", SYNTAX, EVENT),
    Bad("0x10", SYNTAX, EVENT),
    Bad("01", SYNTAX, EVENT),
)
INTEGERS: Final = (
    Bad('"7"', WRONG),
    Bad("1.5", WRONG),
    Bad("true", WRONG),
    Bad(DIGITS_30, BOUNDS),
    Bad("-" + DIGITS_30, BOUNDS),
    Bad("1e400", BOUNDS),
)
INT32: Final = (*INTEGERS, Bad("2147483648", BOUNDS), Bad("-2147483649", BOUNDS))
STATUS_CODE: Final = (*INTEGERS, Bad("99", BOUNDS), Bad("1000", BOUNDS))
MESSAGE: Final = (Bad("5", WRONG), Bad(text(1025), LONG))
GROUP: Final = (Bad("5", WRONG), Bad(text(129), LONG))
RESULT: Final = (
    Bad("NaN", SYNTAX, EVENT),
    Bad("1e400", BOUNDS),
    Bad(nested(101), DEEP),
    Bad(nested(5_000), DEEP, EVENT),
    Bad(text(262_143), LONG),
    Bad('"\\ud800"', SYNTAX, EVENT),
    Bad(b'{"a":"\xff"}', SYNTAX),
)

ATTRIBUTES: Final[Table] = {
    "specversion": (Bad(ABSENT, MISSING), Bad("1", WRONG), Bad('"0.3"', "not-cloudevent")),
    "id": (Bad(ABSENT, MISSING), Bad("null", MISSING), Bad("5", WRONG), Bad('""', BOUNDS),
           Bad(text(1025), LONG), Bad(INVALID_UTF8[0], SYNTAX, EVENT)),
    "source": (Bad(ABSENT, MISSING), Bad("[]", WRONG), Bad('""', BOUNDS), Bad(text(1025), LONG)),
    "type": (Bad(ABSENT, MISSING), Bad("7", WRONG), Bad('""', "unknown-type"),
             Bad('"job.paused"', "unknown-type"), Bad('"Job.Started"', "unknown-type"),
             Bad(text(100_000), "unknown-type")),
    "subject": (Bad(ABSENT, MISSING), Bad("3", WRONG), Bad('""', BOUNDS), Bad('"a b"', FORMAT),
                Bad('"a/b"', FORMAT), Bad('"a\\n"', FORMAT), Bad('"*"', FORMAT), Bad('"ä"', FORMAT),
                Bad(text(101), LONG), Bad(text(34, "."), LONG)),
    "owner": (Bad(ABSENT, MISSING), Bad("{}", WRONG), Bad('""', BOUNDS), Bad('"a b"', FORMAT),
              Bad('"#"', FORMAT), Bad('"a{b}"', FORMAT), Bad(text(65), LONG),
              Bad(text(22, "@"), LONG)),
    "time": (Bad("5", WRONG), Bad('"yesterday"', FORMAT), Bad('"2026-13-01T00:00:00Z"', FORMAT),
             Bad('"2026-01-01T00:00:00"', FORMAT), Bad('""', FORMAT)),
    "attempt": (*INT32, Bad("0", BOUNDS), Bad("-1", BOUNDS)),
    "sequence": (Bad("7", WRONG), Bad('""', BOUNDS), Bad('"-1"', FORMAT), Bad('"1.5"', FORMAT),
                 Bad('"٣"', FORMAT), Bad(text(101, "9"), LONG)),
    "traceparent": (Bad("5", WRONG),),
    "data": (Bad("5", WRONG), Bad('"text"', WRONG), Bad("[]", WRONG), Bad("true", WRONG)),
    "data_base64": (Bad("5", WRONG), Bad('"***"', FORMAT), Bad('"AAAA"', SYNTAX, "data"),
                    Bad('"é"', FORMAT), Bad('"W10="', WRONG, "data")),
    "unknown": (Bad(nested(5_000), DEEP, EVENT), Bad("NaN", SYNTAX, EVENT),
                Bad("{'a':1}", SYNTAX, EVENT)),
}  # fmt: skip

DESCRIPTION: Final[Table] = {
    "data.operation": (Bad("5", WRONG), Bad('""', BOUNDS), Bad('"a b"', FORMAT),
                       Bad(text(65), LONG), Bad(text(22, "."), LONG)),
    "data.group": GROUP,
    "data.name": (Bad("[]", WRONG), Bad(text(257), LONG)),
    "data.resource": (Bad('"v1"', WRONG), Bad("{}", MISSING, "data.resource.type"),
                      Bad('{"type":"v"}', MISSING, "data.resource.id")),
    "data.resource.type": (Bad("5", WRONG), Bad("null", MISSING), Bad(text(257), LONG)),
    "data.resource.id": (Bad("5", WRONG), Bad(text(257), LONG)),
    "data.cancelable": (Bad('"yes"', WRONG), Bad("1", WRONG)),
    "data.labels": (Bad("[]", WRONG), Bad('{"a":5}', WRONG), Bad('{"a":{}}', WRONG),
                    Bad('{"":"x"}', BOUNDS), Bad(pair('"a"', text(257)), LONG),
                    Bad(pair(text(129), '"x"'), LONG), Bad(members(17, '"x"'), MANY)),
    "data.lease_s": (*NUMBERS, Bad('"60"', WRONG), Bad("0", BOUNDS), Bad("-1", BOUNDS),
                     Bad("1e10", BOUNDS)),
    "data.message": MESSAGE,
}  # fmt: skip

PROGRESSED: Final[Table] = {
    "data.percent": (*NUMBERS, Bad('"40"', WRONG), Bad("true", WRONG), Bad("[]", WRONG),
                     Bad("-0.01", BOUNDS), Bad("100.01", BOUNDS), Bad(DIGITS_30, BOUNDS),
                     Bad("9" * 400, BOUNDS)),
    "data.targets": (Bad("[]", WRONG), Bad('{"a":"1"}', WRONG), Bad('{"a":101}', BOUNDS),
                     Bad('{"a":-1}', BOUNDS), Bad('{"":1}', BOUNDS),
                     Bad('{"a":NaN}', SYNTAX, EVENT),
                     Bad(pair(text(101), "1"), LONG), Bad(members(1001, "1"), MANY)),
    "data.message": (*MESSAGE, Bad('"\\ud800"', SYNTAX, EVENT),
                     *(Bad(letters, SYNTAX, "data") for letters in INVALID_UTF8)),
    "data.unknown": (Bad(nested(5_000), DEEP, EVENT),),
}  # fmt: skip

RECORDED: Final[Table] = {
    "data": (Bad(ABSENT, MISSING, "data.target"),),
    "data.target": (Bad(ABSENT, MISSING), Bad("null", MISSING), Bad("5", WRONG), Bad('""', BOUNDS),
                    Bad(text(101), LONG)),
    "data.code": (*INT32, Bad(ABSENT, MISSING), Bad("null", MISSING)),
    "data.message": MESSAGE,
    "data.group": GROUP,
}  # fmt: skip

SUCCEEDED: Final[Table] = {
    "data.outcome": (Bad('"error"', BOUNDS), Bad('"NORMAL"', BOUNDS), Bad("5", WRONG)),
    "data.status_code": STATUS_CODE,
    "data.result": RESULT,
    "data.message": MESSAGE,
}

FAILED: Final[Table] = {
    "data.outcome": (Bad('"normal"', BOUNDS), Bad('"warning"', BOUNDS), Bad("{}", WRONG)),
    "data.status_code": STATUS_CODE,
    "data.reason_code": INT32,
    "data.error": (Bad('"disk full"', WRONG), Bad("[]", WRONG)),
    "data.error.code": (Bad("5", WRONG), Bad('""', BOUNDS), Bad(text(129), LONG)),
    "data.error.message": (Bad("5", WRONG), Bad(text(4097), LONG)),
    "data.result": RESULT,
    "data.message": MESSAGE,
}

CANCELED: Final[Table] = {
    "data.status_code": STATUS_CODE,
    "data.result": RESULT,
    "data.message": MESSAGE,
}

DESCRIBED: Final[Mapping[str, Any]] = {
    "operation": "backup",
    "group": "g",
    "name": "n",
    "resource": {"type": "volume", "id": "v1"},
    "cancelable": True,
    "labels": {"a": "b"},
    "lease_s": 60,
    "message": "m",
}

GOOD: Final[Mapping[str, Mapping[str, Any]]] = {
    "job.queued": DESCRIBED,
    "job.started": DESCRIBED,
    "job.progressed": {"percent": 40, "targets": {"a": 40}, "message": "m"},
    "job.heartbeat": {},
    "job.recorded": {"target": "t", "code": 7, "message": "m", "group": "g"},
    "job.succeeded": {"outcome": "normal", "status_code": 200, "result": [1], "message": "m"},
    "job.failed": {
        "outcome": "error",
        "status_code": 500,
        "reason_code": 7,
        "error": {"code": "E", "message": "m"},
        "result": [1],
        "message": "m",
    },
    "job.canceled": {"status_code": 499, "result": [1], "message": "m"},
    "job.cancel-requested": {},
    "job.commented": {"comment": "c"},
    "job.deleted": {},
    "job.lost": {"version": 1, "heard_at": 1},
}
"""Data of each type, every field of it, all good."""

OWN: Final[Mapping[str, Table]] = {
    "job.commented": {"data.comment": (Bad("5", WRONG), Bad(text(1025), LONG))},
    "job.lost": {
        "data.version": (Bad(ABSENT, MISSING), Bad('"1"', WRONG), Bad("-1", BOUNDS)),
        "data.heard_at": (Bad(ABSENT, MISSING), Bad("1.5", WRONG), Bad(DIGITS_30, BOUNDS)),
    },
}


def cloudevent(type_: str, name: str) -> dict[str, Any]:
    """A good event of the type."""
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/tests/bad-input",
        "type": type_,
        "subject": "JOB",
        "owner": "OWNER",
        "data": dict(GOOD[type_]),
    }


def _patched(type_: str, path: str, bad: Bad, name: str) -> bytes:
    event = cloudevent(type_, name)
    *outer, last = path.split(".")
    into = event
    for part in outer:
        into[part] = dict(into[part])
        into = into[part]
    into.pop(last, None)
    if bad.value != ABSENT:
        value = bad.value
        into[last] = Raw(value if isinstance(value, bytes) else value.encode())
    return msgspec.json.encode(event)


def _rows(type_: str, table: Table, *, trusted: bool = False) -> Iterator[Row]:
    for path, bads in table.items():
        for bad in bads:
            shown = (
                str(bad.value) if len(bad.value) < 24 else f"{str(bad.value)[:8]}… {len(bad.value)}"
            )
            name = f"{type_} {path} {shown or 'absent'}"
            yield Row(
                name=name,
                body=_patched(type_, path, bad, name),
                reason=bad.reason,
                field=bad.field or path,
                trusted=trusted,
            )


def _reserved() -> Iterator[Row]:
    for type_ in ("job.cancel-requested", "job.commented", "job.deleted", "job.lost"):
        body = msgspec.json.encode(cloudevent(type_, f"reserved {type_}"))
        yield Row(name=f"{type_} of a stranger", body=body, reason="reserved-type", field="type")


ODD: Final = (
    Row(name="a number in a batch", body=b"5", reason="not-cloudevent", field=EVENT),
    Row(name="null in a batch", body=b"null", reason="not-cloudevent", field=EVENT),
    Row(name="a string in a batch", body=b'"JOB"', reason="not-cloudevent", field=EVENT),
    Row(name="a batch in a batch", body=b"[]", reason="not-cloudevent", field=EVENT),
    Row(name="an empty object in a batch", body=b"{}", reason=MISSING, field="specversion"),
    Row(name="a word in a batch", body=b"hello", reason=SYNTAX, field=EVENT),
    Row(name="a BOM in a batch", body=b"\xef\xbb\xbf{}", reason=SYNTAX, field=EVENT),
    Row(name="wrong brackets in a batch", body=b'{"a":[}]', reason=SYNTAX, field=EVENT),
)

MERGED: Final = Row(
    name="a 1,001st target over two events",
    body=_patched("job.progressed", "data.targets", Bad(members(600, "1"), MANY), "merged"),
    reason=MANY,
    field="data.targets",
    before={"targets": {f"t{number}": 1 for number in range(401)}},
)
"""Reads well; the fold refuses it."""

ROWS: Final[tuple[Row, ...]] = (
    *_rows("job.progressed", ATTRIBUTES),
    *_rows("job.queued", DESCRIPTION),
    *_rows("job.started", DESCRIPTION),
    *_rows("job.progressed", PROGRESSED),
    *_rows("job.heartbeat", {"data": (Bad("5", WRONG),)}),
    *_rows("job.recorded", RECORDED),
    *_rows("job.succeeded", SUCCEEDED),
    *_rows("job.failed", FAILED),
    *_rows("job.canceled", CANCELED),
    *(row for type_, table in OWN.items() for row in _rows(type_, table, trusted=True)),
    *_reserved(),
    *ODD,
    MERGED,
    *MESSAGES,
)
