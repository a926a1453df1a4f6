from api.sse import QUIET, frame, frames, later, retry
from notifier.listener import Item


def test_an_item_becomes_one_block() -> None:
    item = Item("started", b'{"id":"j"}', "17-0")
    assert frame(item) == b'event: started\nid: 17-0\ndata: {"id":"j"}\n\n'


def test_an_item_without_a_place_has_no_id() -> None:
    assert frame(Item("stream", b"{}")) == b"event: stream\ndata: {}\n\n"


def test_quiet_is_a_comment_or_the_cursor_that_has_moved() -> None:
    assert frame(Item(None)) == QUIET == b":\n\n"
    assert frame(Item(None, b"", "17-0")) == b"id: 17-0\n\n"


def test_an_item_is_encoded_once() -> None:
    item = Item("started", b"{}", "17-0")
    assert frames([item, item]) == frame(item) * 2
    assert frame(item) is frame(item)


def test_retry_goes_before_a_block_or_makes_one() -> None:
    assert retry(1234.5) == b"retry: 1234\n"
    assert later(5000, "why") == b"retry: 5000\n: why\n\n"
