from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.bounds import RESULT_MAX, TARGETS_MAX
from jobcast.events import Event, Heartbeat, Progressed, Recorded, Started, Succeeded
from jobcast.outbox import IN_FLIGHT_MAX, Entry, InvalidEvent, Outbox, Parcel, checked
from jobcast.wire import BATCH, BATCH_MAX, MESSAGE_MAX, STRUCTURED


def event(kind: type[Event], number: int, job_id: str = "j1", **fields: Any) -> Event:
    return kind(
        id=f"{job_id}-{number}",
        source="/t",
        owner="alice",
        job_id=job_id,
        sequence=number,
        **fields,
    )


def record(number: int, job_id: str = "j1", *, size: int = 100) -> Entry:
    return Entry(event(Recorded, number, job_id, target="disk", code=number), "job", size)


def progress(number: int, **fields: Any) -> Entry:
    return checked(event(Progressed, number, **fields), "job")


def filled(*entries: Entry, events_max: int = 10_000) -> Outbox:
    outbox = Outbox(events_max)
    for entry in entries:
        outbox.add(entry)
    return outbox


def numbers(outbox: Outbox) -> list[int | None]:
    return [event.sequence for event in outbox]


def test_what_waits_behind_a_message_goes_out_together_as_the_next_one() -> None:
    outbox = filled(record(1))
    first = outbox.take()
    assert first is not None
    outbox.add(record(2))
    outbox.add(record(3))
    assert outbox.take() is None  # one message of a job at a time
    outbox.confirm(first)
    second = outbox.take()
    assert second is not None
    assert (first.content_type, second.content_type) == (STRUCTURED, BATCH)
    assert [event.sequence for event in second.events] == [2, 3]
    outbox.confirm(second)
    assert len(outbox) == 0
    assert outbox.take() is None


def test_jobs_do_not_wait_for_each_other_and_take_turns() -> None:
    outbox = filled(record(1, "a"), record(1, "b"), record(2, "a"))
    parcels = [outbox.take(), outbox.take(), outbox.take()]
    assert [parcel and parcel.lane[1] for parcel in parcels] == ["a", "b", None]


def test_what_was_in_flight_waits_again_before_what_came_later() -> None:
    outbox = filled(record(1), record(2))
    outbox.take()
    outbox.add(record(3))
    outbox.put_back()
    assert numbers(outbox) == [1, 2, 3]
    again = outbox.take()
    assert again is not None
    assert [event.id for event in again.events] == ["j1-1", "j1-2", "j1-3"]


def test_a_batch_keeps_to_the_bounds_of_the_wire() -> None:
    many = filled(*(record(number) for number in range(BATCH_MAX + 1))).take()
    assert many is not None
    assert len(many.entries) == BATCH_MAX
    third = MESSAGE_MAX // 3
    large = filled(*(record(number, size=third) for number in range(3))).take()
    assert large is not None
    assert len(large.entries) == 2


def test_no_more_messages_are_in_flight_than_allowed() -> None:
    outbox = filled(*(record(1, f"job-{number}") for number in range(IN_FLIGHT_MAX + 1)))
    assert all(outbox.take() for _ in range(IN_FLIGHT_MAX))
    assert outbox.take() is None


def test_progress_that_waits_is_merged_under_the_later_name() -> None:
    outbox = filled(progress(1, percent=10, targets={"a": 1, "b": 1}, message="one"))
    later = progress(2, targets={"b": 2})
    assert outbox.merges(later)
    outbox.add(later)
    merged = event(Progressed, 2, percent=10, targets={"a": 1, "b": 2}, message="one")
    assert list(outbox) == [merged]
    assert len(outbox) == 1


def test_progress_in_flight_is_not_touched() -> None:
    outbox = filled(progress(1, percent=10))
    outbox.take()
    assert not outbox.merges(progress(2, percent=20))
    outbox.add(progress(2, percent=20))
    assert numbers(outbox) == [1, 2]


@pytest.mark.parametrize(
    "between",
    [
        checked(event(Recorded, 2, target="t", code=1), "job"),
        checked(event(Progressed, 2, attempt=2), "job"),
    ],
)
def test_progress_is_not_merged_over_anything_else(between: Entry) -> None:
    outbox = filled(progress(1, percent=10), between, progress(3, percent=30))
    assert numbers(outbox) == [1, 2, 3]


def test_progress_is_not_merged_beyond_the_number_of_targets() -> None:
    half = TARGETS_MAX // 2 + 1
    left, right = ({f"{side}{number}": 1.0 for number in range(half)} for side in "ab")
    assert len(filled(progress(1, targets=left), progress(2, targets=right))) == 2


def test_heartbeats_that_wait_are_one() -> None:
    beats = [checked(event(Heartbeat, number), "job") for number in (1, 2)]
    assert numbers(filled(*beats)) == [2]


def test_it_is_full_at_its_bound_and_not_after_a_confirm() -> None:
    outbox = filled(record(1), record(2), events_max=2)
    assert outbox.full
    parcel = outbox.take()
    assert parcel is not None
    outbox.confirm(parcel)
    assert not outbox.full


def test_the_routing_key_is_that_of_the_last_event() -> None:
    kinds: list[type[Event]] = [Started, Succeeded]
    entries = [checked(event(kind, n), "nightly.backup") for n, kind in enumerate(kinds)]
    parcel = filled(*entries).take()
    assert parcel is not None
    assert parcel.routing_key == "nightly%2Ebackup.succeeded"


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event(Progressed, 1, percent=101), r"data\.percent"),
        (event(Started, 1, operation="a b"), r"data\.operation"),
        (event(Started, 1, job_id="ä"), "subject"),
        (event(Succeeded, 1, outcome="error"), r"data\.outcome"),
        (event(Succeeded, 1, result=msgspec.Raw(b'"' + b"x" * RESULT_MAX + b'"')), r"data\.result"),
        (event(Started, 1, message="\ud800"), "started"),
    ],
)
def test_what_would_be_a_dead_letter_is_refused(bad: Event, field: str) -> None:
    with pytest.raises(InvalidEvent, match=field):
        checked(bad, "job")


@given(st.lists(st.sampled_from(["add a", "add b", "take", "confirm", "lose"]), max_size=60))
def test_each_job_is_delivered_in_order_and_whole_whatever_happens(steps: list[str]) -> None:
    outbox, sent = Outbox(10_000), 0
    flying: list[Parcel] = []
    arrived: dict[str, list[int]] = {"a": [], "b": []}

    def deliver() -> None:
        parcel = flying.pop(0)
        outbox.confirm(parcel)
        arrived[parcel.lane[1]] += [event.sequence or 0 for event in parcel.events]

    for step in [*steps, "lose"]:
        if step.startswith("add"):
            sent += 1
            outbox.add(record(sent, step[-1]))
        elif step == "take" and (parcel := outbox.take()):
            flying.append(parcel)
        elif step == "confirm" and flying:
            deliver()
        elif step == "lose":
            flying.clear()
            outbox.put_back()
    while parcel := outbox.take():
        flying.append(parcel)
        deliver()
    assert len(outbox) == 0
    assert all(numbers == sorted(numbers) for numbers in arrived.values())
    assert sorted(arrived["a"] + arrived["b"]) == list(range(1, sent + 1))
