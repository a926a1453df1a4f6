"""What is worked on alone, and what a dead letter says of our own code."""

from typing import Any

import msgspec
import pytest

from jobcast.events import Progressed, Started
from jobcast.message import Incoming
from jobcast.wire import BATCH, STRUCTURED, encode_batch, encode_event
from notifier.letters import dead_letter
from notifier.poison import SUSPECT, groups, last_line, parts, suspect, unreadable
from tests.unit.notifier.test_folding import say


def message(text: str, **headers: Any) -> Incoming:
    return Incoming(body=text.encode(), headers=headers)


def again(text: str, count: object = SUSPECT) -> Incoming:
    return message(text, **{"x-delivery-count": count})


def test_a_batch_without_suspects_stays_as_it_is() -> None:
    batch = [message("a"), again("b", SUSPECT - 1), again("c", "many")]
    assert list(groups(batch)) == [batch]


def test_every_suspect_stands_alone_and_the_order_is_kept() -> None:
    batch = [message("a"), message("b"), again("c"), again("d"), message("e")]
    found = [[one.body for one in group] for group in groups(batch)]
    assert found == [[b"a", b"b"], [b"c"], [b"d"], [b"e"]]
    assert [suspect(group[0]) for group in groups(batch)] == [False, True, True, False]


def test_the_count_of_a_newer_broker_counts_as_well() -> None:
    assert suspect(message("a", **{"x-acquired-count": SUSPECT}))


@pytest.mark.parametrize("content_type", [BATCH, "application/json", None])
def test_a_suspected_batch_is_taken_apart_into_its_events(content_type: str | None) -> None:
    events = [say(Started), say(Progressed, percent=5)]
    whole = Incoming(
        body=encode_batch(events),
        content_type=content_type,
        correlation_id="j",
        user_id="x",
        headers={"x-delivery-count": SUSPECT},
    )
    found = parts(whole)
    assert [part.body for part in found] == [encode_event(event) for event in events]
    assert {(part.content_type, part.correlation_id, part.user_id) for part in found} == {
        (STRUCTURED, "j", "x")
    }
    assert list(groups([whole])) == [(whole,)]  # settled when all of them are done


def test_one_event_stays_the_message_that_it_came_in() -> None:
    binary = message("[1]", cloudEvents_type="job.started")
    for one in (message("{}"), message("["), binary, Incoming(body=b"[]", content_type=STRUCTURED)):
        assert parts(one) == [one]


def test_the_last_line_of_the_traceback_says_what_was_raised() -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(b'"a"', type=int)
    assert last_line(raised.value) == "msgspec.ValidationError: Expected `int`, got `str`"
    assert last_line(KeyError()) == "KeyError"
    assert last_line(ValueError("two\nlines")) == "lines"


def test_what_our_code_cannot_get_through_is_a_letter_as_it_came() -> None:
    came = Incoming(
        body=b"{}",
        content_type="application/json",
        headers={"cloudEvents_type": "job.started", "x-delivery-count": 9},
    )
    letter = dead_letter(unreadable(came, "ZeroDivisionError: division by zero"))
    assert (letter.body, letter.content_type) == (b"{}", "application/json")
    assert letter.headers == {
        "cloudEvents_type": "job.started",
        "x-jobcast-reason": "poison",
        "x-jobcast-detail": "ZeroDivisionError: division by zero",
    }
    assert letter.mandatory
