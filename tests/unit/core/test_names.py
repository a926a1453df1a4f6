"""Routing keys: encoded parts, at most 255 bytes."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.events import BY_TYPE
from jobcast.job import ANNOUNCED
from jobcast.names import (
    ID_MAX,
    OPERATION_MAX,
    OWNER_MAX,
    command_key,
    encode_part,
    encoded_length,
    events_key,
    is_id,
    is_own,
    is_own_subscription,
    is_owner,
    lifecycle_key,
    subscription_queue,
)

KEY_MAX = 255
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
OWNERS = st.text("aZ09._:~@-", min_size=1, max_size=OWNER_MAX).filter(is_owner)
IDS = st.text("aZ09._:~-", min_size=1, max_size=ID_MAX).filter(is_id)
OPERATIONS = st.text("aZ09._:~-", min_size=1, max_size=OPERATION_MAX).filter(
    lambda text: is_id(text, OPERATION_MAX)
)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("alice", "alice"),
        ("86e44546-107f-11e1-bde0-0010184c8334", "86e44546-107f-11e1-bde0-0010184c8334"),
        ("a.b", "a%2Eb"),
        ("A_z~9-", "A_z~9-"),
        ("a:b@c", "a%3Ab%40c"),
        ("*", "%2A"),
        ("#", "%23"),
        ("50%", "50%25"),
        ("a/b c", "a%2Fb%20c"),
        ("ü", "%C3%BC"),
        ("a\n", "a%0A"),
        ("", ""),
    ],
)
def test_a_part_is_percent_encoded_in_upper_case(text: str, encoded: str) -> None:
    assert encode_part(text) == encoded
    assert encoded_length(text) == len(encoded)


@given(ANY_TEXT)
def test_an_encoded_part_is_one_word_of_a_routing_key_and_can_be_read_back(text: str) -> None:
    encoded = encode_part(text)
    assert not set(encoded) & set(".*#@ ")
    assert encoded.isascii()
    assert unquote(encoded) == text


@given(OWNERS, OPERATIONS, IDS, st.sampled_from(sorted(ANNOUNCED.values())))
def test_every_routing_key_has_its_words_and_fits(
    owner: str, operation: str, job_id: str, event: str
) -> None:
    keys = [events_key(owner, operation, event, job_id), command_key(operation, "cancel", job_id)]
    assert [key.count(".") for key in keys] == [3, 2]
    assert all(len(key.encode()) <= KEY_MAX for key in keys)


@pytest.mark.parametrize("letter", ["x", "."])
def test_the_longest_names_fit_a_routing_key(letter: str) -> None:
    def longest(limit: int) -> str:
        return letter * (limit // encoded_length(letter))

    owner, operation, job_id = longest(OWNER_MAX), longest(OPERATION_MAX), longest(ID_MAX)
    assert is_owner(owner)
    assert is_id(operation, OPERATION_MAX)
    assert is_id(job_id)
    for event in (*ANNOUNCED.values(), "progressed"):
        assert len(events_key(owner, operation, event, job_id)) <= KEY_MAX
    for type_ in BY_TYPE:
        assert len(lifecycle_key(operation, type_)) <= KEY_MAX


def test_keys_are_those_of_the_protocol() -> None:
    assert events_key("alice", "backup", "failed", "j.1") == "alice.backup.failed.j%2E1"
    assert command_key("vm.deploy", "cancel", "j") == "vm%2Edeploy.cancel.j"
    assert lifecycle_key("backup", "job.cancel-requested") == "backup.cancel-requested"


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a@b", "ä", "a\n", "*", "x" * 101, "." * 34])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


@pytest.mark.parametrize("text", ["", "a b", "#", "a{b}", "a\n", "x" * 65, "@" * 22])
def test_what_is_no_owner(text: str) -> None:
    assert not is_owner(text)


def test_the_longest_names_are_names() -> None:
    assert is_id("x" * 100)
    assert is_id("." * 33)
    assert is_owner("x" * 64)
    assert is_owner("a@example.org")


NAMES = st.text("aA.x@:~-_9", min_size=1, max_size=6)


@given(NAMES, NAMES)
def test_no_name_opens_what_is_anothers(owner: str, other: str) -> None:
    assert is_own(f"cmd.{encode_part(other)}.n", "cmd", owner, 3) == (owner == other)
    assert is_own_subscription(subscription_queue(other, "c", "n"), owner) == (owner == other)


@pytest.mark.parametrize(
    "queue",
    [
        *("", "sub", "sub.a", "sub.a.c", "sub.a.c.", "sub.a..n", "sub.a.c.n.m", "cmd.a.c.n"),
        *("sub.A.c.n", "sub.a.c.n\n", "sub.a.c.%2e", "sub.a.c.%", "sub.a.c.#", "sub.a%2Eb.c.n"),
    ],
)
def test_what_is_no_subscription_of_ones_own(queue: str) -> None:
    assert not is_own_subscription(queue, "a")


def test_a_subscription_is_named_by_encoded_parts_that_fit() -> None:
    assert subscription_queue("a@b", "c.d", "e f") == "sub.a%40b.c%2Ed.e%20f"
    assert len(subscription_queue("a", "c", "x" * 247)) == 255
    with pytest.raises(ValueError, match=r"name: .* 255"):
        subscription_queue("a", "c", "x" * 248)
    with pytest.raises(ValueError, match="client_id"):
        subscription_queue("a", "", "x")
    with pytest.raises(ValueError, match="name"):
        subscription_queue("a", "c", "")
