"""The ledger itself: whatever is wrong with a record, on whatever channel, it finds."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from msgspec.structs import replace

from tests.chaos.good_record import JOBS, OWNER, STORY, frame, good, telling
from tests.chaos.ledger import Ledger, judge
from tests.chaos.record import (
    Change,
    Connection,
    Delivery,
    Frame,
    Record,
    Stored,
    Told,
)


def row(ledger: Ledger, channel: str) -> dict[str, int]:
    """What a channel is blamed for."""
    (found,) = [row for row in ledger.rows if row.channel == channel]
    blamed = ("lost", "duplicated", "reordered", "unexpected", "wrong")
    return {what: count for what in blamed if (count := getattr(found, what))}


def blamed(record: Record) -> dict[str, dict[str, int]]:
    ledger = judge(record)
    found = {one.channel: row(ledger, one.channel) for one in ledger.rows}
    found = {channel: what for channel, what in found.items() if what}
    assert ledger.ok == (not found)
    return found


def _altered(one: Told) -> Told:
    return replace(one, digest=one.digest ^ 1)


def test_a_good_record_has_nothing_to_blame() -> None:
    assert blamed(good()) == {}


Harm = Callable[[Record], None]


def _drop_delivery(record: Record) -> None:
    del record.deliveries[OWNER][7]


def _double_delivery_under_another_id(record: Record) -> None:
    one = record.deliveries[OWNER][3].told
    record.deliveries[OWNER].append(Delivery(f"{OWNER}/{one.key[1]}/7", replace(one, version=7)))


def _swap_deliveries(record: Record) -> None:
    messages = record.deliveries[OWNER]
    messages[0], messages[4] = messages[4], messages[0]


def _alter_delivery(record: Record) -> None:
    first = record.deliveries[OWNER][5]
    record.deliveries[OWNER][5] = Delivery(first.message_id, _altered(first.told))


def _alter_repeat(record: Record) -> None:
    first = record.deliveries[OWNER][5]
    record.deliveries[OWNER].append(Delivery(first.message_id, _altered(first.told)))


def _drop_entry(record: Record) -> None:
    del record.stored[JOBS[3]][1]


def _double_entry(record: Record) -> None:
    last = record.stored[JOBS[3]][-1]
    record.stored[JOBS[3]].append(replace(last, version=7))


def _swap_entries(record: Record) -> None:
    entries = record.stored[JOBS[3]]
    entries[1], entries[2] = entries[2], entries[1]


def _alter_entry(record: Record) -> None:
    record.stored[JOBS[3]][0] = Stored(1, Change(1, "started"), 1)


def _frames(record: Record) -> list[Frame]:
    return record.feeds[0].connections[1].frames


def _drop_frame(record: Record) -> None:
    del _frames(record)[4]


def _double_frame(record: Record) -> None:
    frames = _frames(record)
    frames.insert(5, frames[4])


def _double_frame_over_a_resume(record: Record) -> None:
    first, second = record.feeds[0].connections
    second.frames.insert(0, first.frames[-2])


def _swap_frames(record: Record) -> None:
    frames = _frames(record)
    frames[3], frames[7] = frames[7], frames[3]


def _alter_frame(record: Record) -> None:
    frames = _frames(record)
    one = frames[6].told
    assert one is not None
    frames[6] = replace(frames[6], told=_altered(one))


def _rename_frame(record: Record) -> None:
    frames = _frames(record)
    one = frames[4].told
    assert one is not None
    frames[4] = replace(frames[4], told=replace(one, word="canceled"))


def _drop_end_of_job_stream(record: Record) -> None:
    record.streams[0].connections[1].frames.pop()


def _double_in_job_stream(record: Record) -> None:
    frames = record.streams[0].connections[1].frames
    frames.insert(0, record.streams[0].connections[0].frames[2])


def _swap_in_job_stream(record: Record) -> None:
    record.streams[0].connections[1].frames.reverse()


def _alter_in_job_stream(record: Record) -> None:
    frames = record.streams[0].connections[0].frames
    one = frames[1].told
    assert one is not None
    # Progress is not in the feed: it is compared with what others were told under this version.
    frames[1] = replace(frames[1], told=_altered(one))


def _drop_end_of_poll(record: Record) -> None:
    record.polls[0].answers.pop()


def _forget_job_of_poll(record: Record) -> None:
    record.polls[0].forgotten = 1


def _forget_job_of_stream(record: Record) -> None:
    record.streams[0].connections.insert(1, Connection("40-0", 404))


def _swap_answers(record: Record) -> None:
    record.polls[0].answers.insert(0, telling(JOBS[0], 4, "answer"))


def _alter_answer(record: Record) -> None:
    record.polls[0].answers[0] = _altered(record.polls[0].answers[0])


def _wrong_end_of_poll(record: Record) -> None:
    last = record.polls[0].answers[-1]
    record.polls[0].answers[-1] = replace(last, final=replace(last.final, status="failed"))


def _drop_final(record: Record) -> None:
    del record.finals[JOBS[2]]


def _wrong_final(record: Record) -> None:
    last = record.finals[JOBS[2]]
    record.finals[JOBS[2]] = replace(last, final=replace(last.final, message="other"))


HARMS: list[tuple[Harm, str, dict[str, int]]] = [
    (_drop_delivery, "AMQP", {"lost": 1}),
    (_double_delivery_under_another_id, "AMQP", {"duplicated": 1, "unexpected": 1}),
    (_swap_deliveries, "AMQP", {"reordered": 1}),
    (_alter_delivery, "AMQP", {"unexpected": 1}),
    (_alter_repeat, "AMQP", {"unexpected": 1}),
    (_drop_entry, "store", {"lost": 1}),
    (_double_entry, "store", {"duplicated": 1}),
    (_swap_entries, "store", {"reordered": 1}),
    (_alter_entry, "store", {"lost": 1, "duplicated": 1}),
    (_drop_frame, "SSE feed", {"lost": 1}),
    (_double_frame, "SSE feed", {"duplicated": 1}),
    (_double_frame_over_a_resume, "SSE feed", {"duplicated": 1}),
    (_swap_frames, "SSE feed", {"reordered": 5}),
    (_alter_frame, "SSE feed", {"unexpected": 1}),
    (_rename_frame, "SSE feed", {"lost": 1, "unexpected": 1}),
    (_drop_end_of_job_stream, "SSE job", {"lost": 1}),
    (_double_in_job_stream, "SSE job", {"duplicated": 1}),
    (_swap_in_job_stream, "SSE job", {"reordered": 2}),
    (_alter_in_job_stream, "SSE job", {"unexpected": 1}),
    (_drop_end_of_poll, "long poll", {"lost": 1}),
    (_forget_job_of_poll, "long poll", {"lost": 1}),
    (_forget_job_of_stream, "SSE job", {"lost": 1}),
    (_swap_answers, "long poll", {"reordered": 1}),
    (_alter_answer, "long poll", {"unexpected": 1}),
    (_wrong_end_of_poll, "long poll", {"wrong": 1}),
    (_drop_final, "GET", {"lost": 1}),
    (_wrong_final, "GET", {"wrong": 1}),
]


@pytest.mark.parametrize(
    ("harm", "channel", "what"), HARMS, ids=lambda one: getattr(one, "__name__", "")
)
def test_every_harm_is_found_on_its_channel(harm: Harm, channel: str, what: dict[str, int]) -> None:
    record = deepcopy(good())
    harm(record)
    assert blamed(record)[channel] == what


def test_a_repeat_under_the_same_id_is_counted_and_is_no_failure() -> None:
    record = good()
    record.deliveries[OWNER].append(record.deliveries[OWNER][2])
    ledger = judge(record)
    assert ledger.ok
    assert [one.repeats for one in ledger.rows if one.channel == "AMQP"] == [1]


def test_after_a_reset_the_opening_may_repeat_and_covers_what_was_missed() -> None:
    record = good()
    second = record.feeds[0].connections[1]
    second.answer = "reset"
    shown = [telling(key, len(STORY), "snapshot") for key in JOBS]
    second.frames = [Frame("snapshot", None, one) for one in shown]
    assert blamed(record) == {}


def test_progress_told_again_after_a_resume_is_a_repeat_and_no_failure() -> None:
    record = good()
    stream = record.streams[0]
    stream.connections[0].frames.pop()
    stream.connections[1].frames[:0] = [frame(JOBS[0], 3), frame(JOBS[0], 4)]
    ledger = judge(record)
    assert ledger.ok
    assert [one.repeats for one in ledger.rows if one.channel == "SSE job"] == [1]


def test_progress_that_goes_back_is_found() -> None:
    record = good()
    record.streams[0].connections[1].frames.insert(0, frame(JOBS[0], 3))
    assert row(judge(record), "SSE job")["reordered"]


def test_an_end_that_was_never_confirmed_is_found() -> None:
    record = good()
    record.expected[JOBS[1]].final = None
    ledger = judge(record)
    assert not ledger.ok
    assert ledger.unconfirmed == 1
