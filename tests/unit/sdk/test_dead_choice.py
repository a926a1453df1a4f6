"""Which letters an operator means."""

import pytest

from jobcast.choice import Choice, NoSuchLetter, Prefix
from jobcast.letter import Letter


def letter(id: str, reason: str = "not-json", body: bytes = b"") -> Letter:
    return Letter(body=body, message_id=id, headers={"x-jobcast-reason": reason})


def prefix(text: str, *ids: str) -> Prefix:
    seen = Prefix(text, keep=True)
    for number, id in enumerate(ids):
        seen.see(letter(id, body=str(number).encode()))
    return seen


def test_the_beginning_of_one_id_is_enough() -> None:
    found = prefix("a", "b1", "a1", "c1").found
    assert (found.id, found.count) == ("a1", 1)


def test_of_letters_that_share_an_id_the_first_is_shown_and_all_are_counted() -> None:
    found = prefix("a", "a1", "b1", "a1", "a1").found
    assert found.first is not None
    assert (found.id, found.count, found.first.body) == ("a1", 3, b"0")


def test_a_whole_id_counts_before_those_that_begin_with_it() -> None:
    found = prefix("a", "a1", "a2", "a", "a").found
    assert (found.id, found.count) == ("a", 2)


@pytest.mark.parametrize(("ids", "words"), [(("b1",), "no dead letter"), (("a1", "a2"), "a1 and")])
def test_an_id_that_is_not_there_or_not_one_is_an_error(ids: tuple[str, ...], words: str) -> None:
    with pytest.raises(NoSuchLetter, match=words):
        _ = prefix("a", *ids).found


def test_letters_are_chosen_by_id_by_reason_or_all() -> None:
    assert Choice(ids={"a"}).takes(letter("a"))
    assert not Choice(ids={"a"}).takes(letter("ab"))
    assert Choice(reasons=["x", "y"]).takes(letter("a", "y"))
    assert not Choice(reasons=["x", "y"]).takes(letter("a", "z"))
    assert Choice().takes(letter("a"))
