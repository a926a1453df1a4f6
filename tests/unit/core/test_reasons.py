"""A row for each complaint of msgspec: a version that words one differently is caught here."""

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Raw

from jobcast.reasons import UNREADABLE, explain


class Inner(msgspec.Struct):
    id: str


class Color(Enum):
    RED = "red"


class Everything(msgspec.Struct):
    number: Annotated[float, Meta(ge=0, le=100)] = 0
    above: Annotated[float, Meta(gt=0)] = 1
    integer: Annotated[int, Meta(ge=1, le=9)] = 1
    optional: int | None = None
    text: Annotated[str, Meta(min_length=1, max_length=3)] = "x"
    name: Annotated[str, Meta(pattern="^[a-z]*$")] = ""
    flag: bool = False
    time: Annotated[datetime, Meta(tz=True)] | None = None
    word: Literal["a", "b"] = "a"
    color: Color = Color.RED
    items: Annotated[list[int], Meta(max_length=2)] = []
    members: Annotated[
        dict[Annotated[str, Meta(max_length=3)], Annotated[float, Meta(le=1)]], Meta(max_length=2)
    ] = {}
    inner: Inner | None = None
    raw: Raw = Raw(b"null")


def complaint(text: str | bytes, kind: Any = Everything) -> Exception:
    try:
        msgspec.json.decode(text, type=kind)
    except UNREADABLE as error:
        return error
    raise AssertionError(f"msgspec reads {text!r}")


ROWS = [
    ('{"number": "1"}', "wrong-type", "data.number"),
    ('{"number": true}', "wrong-type", "data.number"),
    ('{"number": []}', "wrong-type", "data.number"),
    ('{"number": -1}', "out-of-bounds", "data.number"),
    ('{"number": 101}', "out-of-bounds", "data.number"),
    ('{"number": 1e400}', "out-of-bounds", "data.number"),
    ('{"above": 0}', "out-of-bounds", "data.above"),
    ('{"integer": 1.5}', "wrong-type", "data.integer"),
    ('{"integer": 0}', "out-of-bounds", "data.integer"),
    ('{"integer": 10}', "out-of-bounds", "data.integer"),
    ('{"integer": %s}' % ("9" * 30), "out-of-bounds", "data.integer"),
    ('{"integer": null}', "missing", "data.integer"),
    ('{"optional": "x"}', "wrong-type", "data.optional"),
    ('{"text": 5}', "wrong-type", "data.text"),
    ('{"text": ""}', "out-of-bounds", "data.text"),
    ('{"text": "xxxx"}', "too-long", "data.text"),
    ('{"text": null}', "missing", "data.text"),
    ('{"name": "A"}', "bad-format", "data.name"),
    ('{"flag": 1}', "wrong-type", "data.flag"),
    ('{"time": 1}', "wrong-type", "data.time"),
    ('{"time": "now"}', "bad-format", "data.time"),
    ('{"time": "2026-01-01T00:00:00"}', "bad-format", "data.time"),
    ('{"word": "c"}', "out-of-bounds", "data.word"),
    ('{"word": 1}', "wrong-type", "data.word"),
    ('{"color": "blue"}', "out-of-bounds", "data.color"),
    ('{"items": {}}', "wrong-type", "data.items"),
    ('{"items": [1, 2, 3]}', "too-many", "data.items"),
    ('{"items": ["x"]}', "wrong-type", "data.items[0]"),
    ('{"members": []}', "wrong-type", "data.members"),
    ('{"members": {"a": 2}}', "out-of-bounds", "data.members"),
    ('{"members": {"aaaa": 1}}', "too-long", "data.members"),
    ('{"members": {"a": 1, "b": 1, "c": 1}}', "too-many", "data.members"),
    ('{"inner": {}}', "missing", "data.inner.id"),
    ('{"inner": {"id": 5}}', "wrong-type", "data.inner.id"),
    ('{"inner": "x"}', "wrong-type", "data.inner"),
    ("[]", "wrong-type", "data"),
    ("5", "wrong-type", "data"),
    ("", "not-json", "data"),
    ("{", "not-json", "data"),
    ("{} x", "not-json", "data"),
    ('{"number": NaN}', "not-json", "data"),
    ('{"text": "\\ud800"}', "not-json", "data"),
    ('{"text": "\n"}', "not-json", "data"),
    (b'{"text": "\xff"}', "not-json", "data"),
    ('{"raw": ' + "[" * 9_999 + "]" * 9_999 + "}", "too-deep", "data"),
]


@pytest.mark.parametrize(("text", "reason", "field"), ROWS, ids=range(len(ROWS)))
def test_every_complaint_has_its_reason_and_field(
    text: str | bytes, reason: str, field: str
) -> None:
    given, detail = explain(complaint(text), "data")
    assert (given, detail.partition(": ")[0]) == (reason, field)
    assert detail.partition(": ")[2]


def test_a_field_of_the_event_itself_has_no_prefix() -> None:
    assert explain(complaint('{"integer": 0}'), "") == (
        "out-of-bounds",
        "integer: Expected `int` >= 1",
    )


def test_what_is_no_object_is_no_cloudevent() -> None:
    assert explain(complaint("[]"), "")[0] == "not-cloudevent"
    assert explain(complaint("[]"), "")[1].startswith("event: ")


def test_what_cannot_be_read_at_all_is_the_event() -> None:
    assert explain(complaint("{"), "") == ("not-json", "event: not JSON in UTF-8")
    assert explain(RecursionError(), "") == ("too-deep", "event: nested too deep")


def test_a_member_in_a_list_is_named_by_its_place() -> None:
    reason, detail = explain(complaint('{"a": [1, "x"]}', dict[str, list[int]]), "data")
    assert (reason, detail.partition(":")[0]) == ("wrong-type", "data[1]")


def test_a_complaint_that_is_new_is_still_a_reason() -> None:
    error = msgspec.ValidationError("Something else - at `$.a`")
    assert explain(error, "data") == ("wrong-type", "data.a: Something else")
