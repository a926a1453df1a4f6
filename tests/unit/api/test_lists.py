"""How many lists are read at the same time."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from starlette.requests import Request

from api.identity import Identity
from api.lists import AT_ONCE, Lists
from notifier.reader import Reader
from notifier.store import Page


class Shelf:
    """A reader and its store; `most` lists were read at once."""

    def __init__(self) -> None:
        self.store = self
        self.open = self.most = 0

    async def pages(self, *_: Any) -> AsyncGenerator[Page, None]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            for _turn in range(3):
                await asyncio.sleep(0)
            yield Page([], None)
        finally:
            self.open -= 1


def request() -> Request:
    identity = Identity("alice", ("subscriber",), "token", "")
    return Request(
        {"type": "http", "query_string": b"label.x=y", "headers": [], "identity": identity}
    )


async def test_many_lists_at_once_are_answered_and_a_few_of_them_are_read() -> None:
    shelf = Shelf()
    lists = Lists(cast("Reader", shelf))
    answers = await asyncio.gather(*(lists.list_jobs(request()) for _ in range(5 * AT_ONCE)))
    assert {answer.status_code for answer in answers} == {200}
    assert (shelf.most, shelf.open) == (AT_ONCE, 0)
