"""The bad-input table against the decoder and the fold."""

from collections import Counter

import msgspec
import pytest

from jobcast.errors import Refusal
from jobcast.events import BY_TYPE, Event
from jobcast.fold import advance
from jobcast.malformed import Malformed
from jobcast.wire import MESSAGE_MAX, decode
from tests.contract.bad_input import GOOD, MERGED, ROWS, cloudevent
from tests.contract.bad_messages import BATCH, STRUCTURED, TOO_LARGE, Row
from tests.unit.core.lifecycle import NOW, after

READ_BADLY = [row for row in ROWS if row is not MERGED]
IN_A_BATCH = [row for row in READ_BADLY if not row.alone]


def named(row: Row) -> str:
    return row.name.encode("ascii", "replace").decode()


def malformed(row: Row) -> Malformed:
    kind = row.content_type if row.alone else STRUCTURED
    events = decode(row.text("alice", "j"), kind, row.headers, trusted=row.trusted)
    assert len(events) == 1
    assert isinstance(events[0], Malformed)
    return events[0]


def good(type_: str, name: str) -> bytes:
    return msgspec.json.encode(cloudevent(type_, name))


def test_the_table_is_long_and_names_each_row_once() -> None:
    assert len(ROWS) >= 100
    assert [name for name, times in Counter(row.name for row in ROWS).items() if times > 1] == []


@pytest.mark.parametrize("type_", BY_TYPE)
def test_what_the_rows_spoil_was_good_and_held_every_field(type_: str) -> None:
    (event,) = decode(good(type_, "good"), STRUCTURED, {}, trusted=True)
    assert isinstance(event, BY_TYPE[type_])
    own = set(event.__struct_fields__) - set(Event.__struct_fields__)
    assert set(GOOD[type_]) == own


@pytest.mark.parametrize("row", READ_BADLY, ids=named)
def test_a_bad_event_is_told_by_reason_and_field(row: Row) -> None:
    letter = malformed(row)
    assert letter.reason == row.reason
    assert letter.detail.startswith(f"{row.field}:")
    assert letter.body == row.text("alice", "j")
    assert letter.message_id == malformed(row).message_id


@pytest.mark.parametrize("row", IN_A_BATCH, ids=named)
def test_a_bad_event_leaves_its_neighbours_alone(row: Row) -> None:
    texts = [good("job.queued", "1"), row.text("alice", "j"), good("job.progressed", "2")]
    body = b"[" + b" , ".join(texts) + b"]"
    first, bad, second = decode(body, BATCH, {}, trusted=row.trusted)
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert (first.id, second.id) == ("1", "2")
    assert isinstance(bad, Malformed)
    assert (bad.reason, bad.body.strip()) == (row.reason, row.text("alice", "j"))
    assert bad.message_id == malformed(row).message_id


def test_a_1001st_target_over_two_events_is_refused_by_the_fold() -> None:
    before = msgspec.json.encode(cloudevent("job.progressed", "1") | {"data": MERGED.before})
    first, second = (
        event
        for body in (before, MERGED.text("OWNER", "JOB"))
        for event in decode(body, STRUCTURED, {}, trusted=False)
        if isinstance(event, Event)
    )
    refusal = advance(after(first), second, NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == MERGED.reason
    assert refusal.detail.startswith(f"{MERGED.field}:")


def test_more_than_a_mib_is_too_large_and_a_mib_is_not() -> None:
    assert len(TOO_LARGE.body) == MESSAGE_MAX + 1
    letter = malformed(TOO_LARGE)
    assert (letter.reason, letter.detail.partition(":")[0]) == ("too-large", "message")
    fits = TOO_LARGE.body.replace(b" ", b"", 1)
    (event,) = decode(fits, STRUCTURED, {}, trusted=False)
    assert isinstance(event, Event)
