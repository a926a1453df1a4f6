"""Reading a stream of server-sent events, block by block, with every field visible."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx


class Block(NamedTuple):
    """One block. `data` is decoded; what is not there is None."""

    event: str | None
    id: str | None
    data: Any
    retry: int | None
    comment: str | None


class Reading:
    """`async with door.events("/v1/events") as reading: await reading.next()`."""

    def __init__(self, client: httpx.AsyncClient, path: str, **options: Any) -> None:
        self._stack = AsyncExitStack()
        self._open = client.stream("GET", path, **options)
        self.response: httpx.Response
        self._lines: AsyncIterator[str]

    async def __aenter__(self) -> Self:
        self.response = await self._stack.enter_async_context(self._open)
        self._lines = self.response.aiter_lines()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def blocks(self) -> AsyncIterator[Block]:
        """Until the server closes the stream."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif fields:
                yield _block(fields)
                fields = {}

    async def next(self) -> Block:
        async for block in self.blocks():
            return block
        raise EOFError

    async def until(self, event: str) -> list[Block]:
        """The blocks up to the first of this event, which is the last of them."""
        found = []
        async for block in self.blocks():
            found.append(block)
            if block.event == event:
                return found
        raise EOFError

    async def rest(self) -> list[Block]:
        return [block async for block in self.blocks()]


def _block(fields: dict[str, str]) -> Block:
    data = json.loads(fields["data"]) if "data" in fields else None
    retry = int(fields["retry"]) if "retry" in fields else None
    return Block(fields.get("event"), fields.get("id"), data, retry, fields.get(""))
