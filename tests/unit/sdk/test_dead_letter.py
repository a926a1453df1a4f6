"""What an operator is told of a dead letter, and what is sent again of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.letter import (
    BODY_SHOWN_MAX,
    DETAIL_MAX,
    OCTETS,
    Letter,
    body_shown,
    described,
    original,
    printable,
    row_of,
)
from jobcast.malformed import binary_attributes
from jobcast.wire import STRUCTURED

DIED = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
BY_RABBITMQ: dict[str, Any] = {
    "x-death": [{"reason": "delivery_limit", "queue": "jobcast.state.0", "time": DIED, "count": 1}],
    "x-first-death-reason": "delivery_limit",
    "x-first-death-queue": "jobcast.state.0",
    "x-first-death-exchange": "",
    "x-last-death-reason": "delivery_limit",
    "x-delivery-count": 1001,
}
BY_THE_SERVICE = {"x-jobcast-reason": "not-json", "x-jobcast-detail": "event: not JSON in UTF-8"}
EVENT = b'{"type":"job.started","subject":"j","owner":"alice"}'


def letter(body: bytes = EVENT, **fields: Any) -> Letter:
    return Letter(**({"body": body, "message_id": "m"} | fields))


def test_the_reason_is_the_service_s_or_rabbitmq_s() -> None:
    ours = letter(headers=BY_THE_SERVICE)
    assert (ours.reason, ours.detail, ours.at) == ("not-json", "event: not JSON in UTF-8", None)
    theirs = letter(headers=BY_RABBITMQ, timestamp=datetime(2020, 1, 1, tzinfo=UTC))
    assert (theirs.reason, theirs.at) == ("delivery_limit", DIED)
    assert theirs.detail == "RabbitMQ gave it up in jobcast.state.0"
    assert letter().reason == "unknown"


def test_a_sender_cannot_give_its_message_the_service_s_reason() -> None:
    assert letter(headers=BY_RABBITMQ | BY_THE_SERVICE).reason == "delivery_limit"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": "soon", "x-jobcast-reason": 5, "x-jobcast-detail": None},
        {"x-death": [], "x-first-death-reason": ["a"]},
        {"x-death": [7]},
        {"x-death": [{"time": "now", "queue": 3, "reason": b"x"}]},
    ],
)
def test_headers_of_any_type_are_told_of(headers: dict[str, Any]) -> None:
    strange = letter(headers=headers)
    assert (strange.reason, strange.at) == ("unknown", None)
    assert described(strange)["reason"] == "unknown"
    assert row_of(strange).size == len(EVENT)


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (EVENT, {}, ("job.started", "j", "alice")),
        (b"[" + EVENT + b"," + EVENT + b"]", {}, ("job.started (+1)", "j", "alice")),
        (b'{"type": 5, "subject": ["j"], "owner": null}', {}, ("", "", "")),
        (b'{"percent": 5}', {"cloudEvents_type": "t", "cloudEvents:owner": b"o"}, ("t", "", "o")),
        (b"[]", {}, ("", "", "")),
        (b"[5]", {}, ("", "", "")),
        (b"{oops", {}, ("", "", "")),
        (b"\xff", {}, ("", "", "")),
        (b"[" * 100_000, {}, ("", "", "")),
        (b"", {}, ("", "", "")),
    ],
)
def test_a_row_says_what_it_is_about_as_far_as_it_can_be_read(
    body: bytes, headers: dict[str, Any], told: tuple[str, str, str]
) -> None:
    row = row_of(letter(body, headers=headers))
    assert (row.type, row.subject, row.owner) == told


def test_a_letter_without_a_message_id_is_named_by_its_body() -> None:
    assert letter(message_id=None).id == letter(message_id="").id
    assert letter(message_id=None).id != letter(b"x", message_id=None).id
    assert len(letter(message_id=None).id) == 40


def test_notes_of_the_service_and_of_rabbitmq_are_not_sent_again() -> None:
    own = {"cloudEvents_type": "t", "x-mine": 1, "x-deathly": "kept", "x-jobcast": 2}
    assert original(letter(headers=BY_RABBITMQ | BY_THE_SERVICE | own))[1] == own


@pytest.mark.parametrize(
    ("headers", "given_type", "sent_type"),
    [
        (BY_THE_SERVICE, OCTETS, None),  # the service's stand-in for none
        (BY_THE_SERVICE, STRUCTURED, STRUCTURED),
        ({"x-jobcast-reason": "unsupported-content-type"}, OCTETS, OCTETS),
        (BY_RABBITMQ, OCTETS, OCTETS),
        (BY_RABBITMQ | BY_THE_SERVICE, OCTETS, OCTETS),
        (BY_RABBITMQ, None, None),
    ],
)
def test_the_content_type_is_the_sender_s(
    headers: dict[str, Any], given_type: str | None, sent_type: str | None
) -> None:
    assert original(letter(headers=headers, content_type=given_type))[0] == sent_type


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f\r\nok \u00e4"


def test_what_a_terminal_may_obey_is_escaped() -> None:
    assert printable(HOSTILE) == r"\x1b]0;owned\x07\x9b31m\u202e\u2028\x7f\r\nok ä"
    assert printable("\ud800") == r"\ud800"


@given(st.text(), st.binary(), st.dictionaries(st.text(max_size=9), st.text() | st.binary()))
def test_nothing_that_is_shown_is_more_than_printable(
    text: str, body: bytes, headers: dict[str, Any]
) -> None:
    named = dict.fromkeys(("x-jobcast-reason", "x-jobcast-detail", "cloudEvents_type"), text)
    hostile = letter(
        body,
        message_id=text,
        content_type=text,
        correlation_id=text,
        headers=headers | named,
        properties={"app_id": text},
    )
    row = row_of(hostile)
    shown, _ = body_shown(body + text.encode("utf-8", "surrogatepass"))
    words = [row.id, row.reason, row.detail, row.type, row.subject, row.owner, *shown.split("\n")]
    for name, value in described(hostile).items():
        words += [name, value]
    assert all(word.isprintable() for word in words)


def test_a_row_is_small_however_long_the_letter() -> None:
    long = "\x1b" * 100_000
    row = row_of(
        letter(
            b'{"type":"' + b"x" * 100_000 + b'"}',
            headers={"x-jobcast-reason": long, "x-jobcast-detail": long},
        )
    )
    assert len(row.detail) <= DETAIL_MAX
    assert len(row.reason) + len(row.type) <= 200
    assert (row.type[0], row.type[-1]) == ("x", "…")


def test_a_body_is_laid_out_if_it_is_json_and_cut_if_it_is_long() -> None:
    assert body_shown(b'{"a":[1]}')[0] == '{\n  "a": [\n    1\n  ]\n}'
    assert body_shown(b'{"a": "\xc2\x9b31m\x7f"}')[0] == '{\n  "a": "\\x9b31m\\x7f"\n}'
    assert body_shown(b"\xff\x1b[0m\nnext") == ("\\xff\\x1b[0m\nnext", 0)
    text, left_out = body_shown(b"x" * (BODY_SHOWN_MAX + 5))
    assert (len(text), left_out) == (BODY_SHOWN_MAX, 5)


def test_binary_attributes_go_as_they_came() -> None:
    headers = {"cloudEvents_type": "job.started", "cloudEvents:owner": "alice"}
    _, sent = original(letter(headers=headers | BY_THE_SERVICE))
    assert binary_attributes(sent) == {"type": "job.started", "owner": "alice"}
