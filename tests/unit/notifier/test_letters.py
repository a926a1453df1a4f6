"""Reading a batch, and what is sent on from it."""

import msgspec

from jobcast.events import Event, Progressed, Recorded, Started, Succeeded
from jobcast.message import Incoming
from jobcast.wire import BATCH, MESSAGE_MAX, decode, encode_batch
from notifier.letters import Rules, dead_letter, read_batch, sent_again
from tests.unit.notifier.test_folding import say

ONE = Rules(retention_s=1, user="jobcast")
MORE = Rules(retention_s=1, user="jobcast", partitions=4)


def message(*events: Event, correlation_id: str | None = "j") -> Incoming:
    return Incoming(
        body=encode_batch(events), content_type=BATCH, correlation_id=correlation_id, user_id="x"
    )


def test_the_events_of_a_batch_stand_together_by_job_in_their_order() -> None:
    a1, b1, a2 = say(Started, job_id="a"), say(Started, job_id="b"), say(Succeeded, job_id="a")
    other = say(Started, job_id="a", owner="bob")
    read = read_batch([message(a1, b1), message(a2, other)], ONE)
    assert read.events == {("alice", "a"): [a1, a2], ("alice", "b"): [b1], ("bob", "a"): [other]}
    assert (read.elsewhere, read.malformed) == ({}, [])


def test_with_partitions_what_is_not_addressed_to_its_one_job_belongs_elsewhere() -> None:
    right, mixed = say(Started), [say(Started), say(Started, job_id="k")]
    read = read_batch([message(right), message(*mixed), message(right, correlation_id=None)], MORE)
    assert read.events == {("alice", "j"): [right]}
    assert read.elsewhere == {("alice", "j"): [mixed[0], right], ("alice", "k"): [mixed[1]]}
    assert {again.user_id for again in sent_again(read.elsewhere, "jobcast")} == {"jobcast"}


def test_what_is_malformed_is_a_dead_letter_with_the_same_id_whenever_it_comes() -> None:
    broken = Incoming(body=b"{", content_type=None)
    first, again = (read_batch([broken, message(say(Started))], MORE) for _ in range(2))
    assert len(first.events) == 1
    letters = [dead_letter(read.malformed[0]) for read in (first, again)]
    assert letters[0] == letters[1]
    assert letters[0].body == b"{"
    assert set(letters[0].headers) == {"x-jobcast-reason", "x-jobcast-detail"}


def test_what_is_sent_again_is_cut_into_messages_that_fit() -> None:
    result = msgspec.Raw(msgspec.json.encode("x" * 250_000))
    events: list[Event] = [say(Succeeded, result=result) for _ in range(9)]
    messages = sent_again({("alice", "j"): events}, "jobcast")
    assert [len(one.body) <= MESSAGE_MAX for one in messages] == [True] * 3
    assert len({one.message_id for one in messages}) == 3
    read = [
        event
        for one in messages
        for event in decode(one.body, one.content_type, one.headers, trusted=False)
    ]
    assert read == events


def test_nothing_to_send_again_is_no_message() -> None:
    assert sent_again({}, "jobcast") == []


def test_what_is_sent_again_says_the_same_in_every_field() -> None:
    events: list[Event] = [
        say(Started, attempt=3, sequence=12, labels={"a": "b"}, traceparent=None, lease_s=2.5),
        say(Progressed, targets={"é\u2028": 12.5}, message="\x00"),
        say(Recorded, target="t", code=-1, group=""),
    ]
    [again] = sent_again({("alice", "j"): events}, "jobcast")
    assert decode(again.body, again.content_type, {}, trusted=False) == events
