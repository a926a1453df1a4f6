"""How many lists are read at the same time, whatever they are lists of."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from starlette.requests import Request

from api.door import Door
from api.facility import Facility
from api.identity import Identity
from api.lists import Lists
from api.records import Records
from notifier.reader import AT_ONCE, Reader
from notifier.store import Page


class Shelf:
    """A reader, its store and its records; `most` lists were read at once."""

    def __init__(self) -> None:
        self.store = self.records = self
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.open = self.most = 0

    @contextmanager
    def being_read(self) -> Iterator[None]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield
        finally:
            self.open -= 1

    async def pages(self, *_: Any) -> AsyncGenerator[Page, None]:
        for _page in range(2):
            with self.being_read():
                for _turn in range(3):
                    await asyncio.sleep(0)
            yield Page([], None)

    async def of_group(self, *_: Any) -> None:
        with self.being_read():
            for _turn in range(3):
                await asyncio.sleep(0)


def request() -> Request:
    identity = Identity("alice", ("subscriber",), "token", "")
    return Request(
        {"type": "http", "query_string": b"label.x=y&group=g", "headers": [], "identity": identity}
    )


async def of_http(shelf: Shelf) -> None:
    answer = await Lists(cast("Reader", shelf)).list_jobs(request())
    assert answer.status_code == 200


async def records_of_http(shelf: Shelf) -> None:
    answer = await Records(cast("Reader", shelf), cast("Door", None)).of_group(request())
    assert answer.status_code == 200


def facility(shelf: Shelf) -> Facility:
    others = ["settings", "door", "waits", "credentials", "rate", "streams", "logons"]
    parts: dict[str, Any] = dict.fromkeys(others)
    return Facility(reader=cast("Reader", shelf), **parts)


async def of_a_dialect(shelf: Shelf) -> None:
    assert [job async for job in facility(shelf).every("alice")] == []


async def records_of_a_dialect(shelf: Shelf) -> None:
    found = await facility(shelf).records("alice", offset=0, limit=None, group="g")
    assert found == ([], 0)


@pytest.mark.parametrize("read", [of_http, records_of_http, of_a_dialect, records_of_a_dialect])
async def test_many_lists_at_once_are_answered_and_a_few_of_them_are_read(
    read: Callable[[Shelf], Awaitable[None]],
) -> None:
    shelf = Shelf()
    await asyncio.gather(*(read(shelf) for _ in range(5 * AT_ONCE)))
    assert (shelf.most, shelf.open) == (AT_ONCE, 0)
