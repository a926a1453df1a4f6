import asyncio

import pytest
from starlette.types import Message

from api.presence import ClientGone, Cut, Presence


class Client:
    """A client that has sent its request, and goes when told."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    def go(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        return await self.messages.get()


async def test_the_block_is_left_when_the_client_goes() -> None:
    client = Client()

    async def block() -> None:
        async with Presence(client.receive):
            client.go()
            await asyncio.Event().wait()

    with pytest.raises(ClientGone):
        await block()


async def test_the_block_is_left_when_it_is_cut() -> None:
    async def block() -> None:
        async with Presence(Client().receive) as presence:
            presence.cut()
            presence.cut()
            await asyncio.Event().wait()

    with pytest.raises(Cut):
        await block()


async def test_a_block_that_ends_first_leaves_no_task_behind() -> None:
    client = Client()
    async with Presence(client.receive) as presence:
        await asyncio.sleep(0)
    client.go()
    presence.cut()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_the_block_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Presence(Client().receive):
            raise ZeroDivisionError


async def test_cancelling_from_outside_stays_a_cancellation() -> None:
    async def block() -> None:
        async with Presence(Client().receive):
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
