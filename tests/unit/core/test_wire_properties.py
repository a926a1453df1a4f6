"""Whatever comes, the decoder answers; whatever is written, it reads back."""

from datetime import UTC
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from jobcast.bounds import RESULT_MAX
from jobcast.elements import elements
from jobcast.events import Event
from jobcast.malformed import Malformed
from jobcast.wire import decode, encode_batch, encode_event
from tests.contract.bad_messages import BATCH, JSON, REQUIRED, STRUCTURED
from tests.unit.core.strategies import ANY_EVENT, VALUES

KINDS = st.sampled_from([None, "", JSON, STRUCTURED, BATCH, "text/plain"]) | st.text(max_size=5)
FIELD_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.just(Decimal("1.5"))
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)
NAMES = st.sampled_from([*REQUIRED, "time", "attempt", "sequence", "data", "data_base64", ""])
HEADERS = st.dictionaries(
    st.builds(str.__add__, st.sampled_from(["cloudEvents_", "cloudEvents:", "x-"]), NAMES),
    FIELD_VALUES,
    max_size=4,
)


def unexplained(answers: list[Event | Malformed]) -> list[Malformed]:
    """What is no event and does not say why."""
    refused = [answer for answer in answers if isinstance(answer, Malformed)]
    return [
        one
        for one in refused
        if not (one.reason and ": " in one.detail and len(one.message_id) == 40)
    ]


@given(ANY_EVENT)
def test_what_is_written_is_read_back(event: Event) -> None:
    assert decode(encode_event(event), STRUCTURED, {}, trusted=True) == [event]


@given(st.lists(ANY_EVENT, max_size=4))
def test_a_batch_is_read_back_in_order(events: list[Event]) -> None:
    assert decode(encode_batch(events), BATCH, {}, trusted=True) == events


@given(st.binary(max_size=60), KINDS, HEADERS, st.booleans())
@example(b"[" * 100_000, None, {}, False)
@example(b"[" * 500_000 + b"]" * 500_000, BATCH, {}, False)
@example(b'{"a":' * 100_000, None, {}, False)
@example(b"{}", None, {"cloudEvents_id": "\ud800"}, False)
def test_decode_answers_any_bytes(
    body: bytes, kind: str | None, headers: dict[str, Any], trusted: bool
) -> None:
    assert unexplained(decode(body, kind, headers, trusted=trusted)) == []


@given(HEADERS, st.sampled_from([b"", b"{}", b'{"percent":1}', b"[", b"\xff"]))
def test_decode_answers_any_headers(headers: dict[str, Any], body: bytes) -> None:
    full = {f"cloudEvents_{name}": value for name, value in REQUIRED.items()} | headers
    assert unexplained(decode(body, None, full, trusted=False)) == []


@given(ANY_EVENT, st.data())
def test_decode_answers_events_that_were_damaged(event: Event, data: st.DataObject) -> None:
    body = encode_event(event)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 8)))
    damaged = body[:start] + data.draw(st.binary(max_size=3)) + body[end:]
    assert unexplained(decode(damaged, None, {}, trusted=True)) == []


@given(ANY_EVENT, st.data())
def test_decode_answers_events_with_any_value_anywhere(event: Event, data: st.DataObject) -> None:
    whole = msgspec.json.decode(encode_event(event))
    into = data.draw(st.sampled_from([whole, whole.get("data") or whole]))
    into[data.draw(st.sampled_from(sorted(into)))] = data.draw(VALUES)
    assert unexplained(decode(msgspec.json.encode(whole), None, {}, trusted=True)) == []


@given(st.lists(ANY_EVENT, min_size=2, max_size=4), st.sampled_from([b"{NaN}", b"x", b'"\\ud800"']))
def test_a_bad_event_never_takes_its_neighbours_with_it(events: list[Event], bad: bytes) -> None:
    texts = list(map(encode_event, events))
    body = b"[" + b",".join([*texts[:1], bad, *texts[1:]]) + b"]"
    first, malformed, *rest = decode(body, BATCH, {}, trusted=True)
    assert isinstance(malformed, Malformed)
    assert malformed.body == bad
    assert [first, *rest] == events


@given(st.lists(VALUES.map(msgspec.json.encode), min_size=1), st.sampled_from([b",", b" ,\n"]))
def test_an_array_is_cut_where_a_reader_would_cut_it(texts: list[bytes], comma: bytes) -> None:
    assert elements(b"[" + comma.join(texts) + b"]\n") == texts


@given(st.text(st.sampled_from('[]{},"\\a '), max_size=12).map(str.encode))
def test_what_is_no_array_is_not_cut(text: bytes) -> None:
    found = elements(text)
    if found:
        assert text.strip()[:1] == b"["
        assert b"".join(found).count(b'"') == text.count(b'"')
    try:
        whole = msgspec.json.decode(text, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return
    assert found == [bytes(item).strip() for item in whole]


@given(VALUES)
def test_a_result_survives_as_it_is(value: object) -> None:
    event = {**REQUIRED, "type": "job.canceled", "data": {"result": value}}
    (read,) = decode(msgspec.json.encode(event), None, {}, trusted=False)
    text = bytes(getattr(read, "result"))  # noqa: B009 - of one type, read from bytes
    assert msgspec.json.decode(text) == value
    assert len(text) <= RESULT_MAX
