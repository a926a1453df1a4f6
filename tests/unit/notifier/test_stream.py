"""A stream's place: what is fresh, and where its cursor stands."""

from notifier.feed import is_cursor, position
from notifier.listener import Item
from notifier.stream import Place
from tests.unit.notifier.test_listener import entry, progress


def told(place: Place, *items: Item) -> list[tuple[str | None, int]]:
    return [(item.cursor, item.version) for item in place.take(list(items))]


def test_an_entry_is_fresh_once_and_moves_the_place() -> None:
    place = Place("1-0")
    assert told(place, entry(1), entry(2), entry(2), entry(3)) == [("2-0", 2), ("3-0", 3)]
    assert place.cursor == "3-0"


def test_what_the_opening_has_told_is_not_told_again() -> None:
    place = Place("0-0")
    place.sent["j"] = 2
    assert told(place, entry(1), entry(2), entry(3), progress(3, 2)) == [("3-0", 3)]
    assert place.cursor == "3-0"


def test_an_entry_whose_body_has_gone_moves_the_place_and_is_not_told() -> None:
    place = Place("0-0")
    assert place.take([Item("recorded", b"", "4-0", "j", 4, (4, 0))]) == []
    assert place.cursor == "4-0"


def test_late_progress_takes_the_cursor_of_the_place() -> None:
    place = Place("1-0")
    place.take([entry(5, "k")])
    [late] = place.take([progress(3, 9)])
    assert (late.cursor, late.at, late.version) == ("5-0", (5, 0), 9)
    early = progress(7, 10)
    assert place.take([early]) == [early]
    assert place.cursor == "5-0"  # progress moves nothing


def test_progress_from_before_the_place_began_is_old() -> None:
    assert Place("5-0").take([progress(4, 9)]) == []


def test_progress_is_not_told_after_an_entry_that_the_hub_has_not_heard_of() -> None:
    place = Place("0-0")
    for item in place.take([entry(4), entry(5, "k", "succeeded")]):
        place.note(item, heard=(3, 0))
    assert place.take([progress(3, 3), progress(3, 4, "k")]) == []
    assert len(place.take([progress(3, 5)])) == 1


def test_an_end_that_the_hub_has_heard_of_need_not_be_remembered() -> None:
    place = Place("0-0")
    for item in place.take([entry(1, "a"), entry(2, "a", "failed"), entry(3, "b")]):
        place.note(item, heard=(3, 0))
    assert place.sent == {"b": 3}


def test_a_place_reaches_forward_only() -> None:
    place = Place("5-0")
    place.reach("4-9")
    assert place.cursor == "5-0"
    place.reach("5-1")
    assert (place.cursor, place.at) == ("5-1", (5, 1))


def test_cursors_compare_as_numbers() -> None:
    assert position("10-2") > position("9-10") > position("9-9")
    assert [is_cursor(text) for text in ("1-0", "0-0", "1", "-1-0", "1-0 ", "\uff11-0", "")] == [
        True,
        True,
        *[False] * 5,
    ]
