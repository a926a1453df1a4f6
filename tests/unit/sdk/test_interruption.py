"""A block is cancelled as `asyncio.timeout` would do it, and by nobody else's cancellation."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobcast.interruption import Interruption

Body = Callable[[Interruption], Awaitable[None]]


class Block:
    """A task that runs a body between `enter` and `leave`."""

    def __init__(self, body: Body, grace_s: float | None = 0.0) -> None:
        self.interruption = Interruption(grace_s)
        self.entered = asyncio.Event()
        self.mine: bool | None = None
        self.cancelling = -1
        self._body = body
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self.interruption.enter()
        self.entered.set()
        try:
            await self._body(self.interruption)
        except BaseException as error:
            self.mine = self.interruption.leave(error)
            if not self.mine:
                raise
        else:
            self.mine = self.interruption.leave(None)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.cancelling = task.cancelling()

    async def asked(self) -> None:
        await self.entered.wait()
        self.interruption.request()
        self.interruption.request()


async def forever(_: Interruption) -> None:
    await asyncio.get_running_loop().create_future()


async def in_a_task_group(_: Interruption) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))


async def in_a_time_out(_: Interruption) -> None:
    async with asyncio.timeout(60):
        await asyncio.sleep(60)


async def with_what_is_done_already(_: Interruption) -> None:
    """The cancellation finds the task about to go on, and is thrown in at its next await."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("body", [forever, in_a_task_group, in_a_time_out])
async def test_the_cancellation_ends_with_the_block(body: Body) -> None:
    block = Block(body)
    await block.asked()
    await asyncio.wait_for(block.task, 5)
    assert (block.mine, block.cancelling) == (True, 0)


async def test_a_task_about_to_go_on_is_cancelled_as_well() -> None:
    block = Block(with_what_is_done_already)
    await block.entered.wait()
    block.interruption.request()
    await asyncio.wait_for(block.task, 5)
    assert (block.mine, block.cancelling) == (True, 0)


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    block = Block(forever)
    await block.entered.wait()
    block.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await block.task
    assert block.mine is False


async def test_one_from_elsewhere_that_comes_at_the_same_time_goes_on() -> None:
    block = Block(forever)
    await block.asked()
    asyncio.get_running_loop().call_later(0, block.task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await block.task
    assert (block.mine, block.cancelling) == (False, 1)


async def test_one_from_elsewhere_that_came_before_goes_on() -> None:
    cleaning = asyncio.Event()

    async def body(_: Interruption) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await asyncio.sleep(60)

    block = Block(body)
    await block.entered.wait()
    block.task.cancel()
    await cleaning.wait()
    block.interruption.request()
    with pytest.raises(asyncio.CancelledError):
        await block.task
    assert (block.mine, block.cancelling) == (False, 1)


async def test_code_may_end_by_itself_within_the_grace() -> None:
    async def body(interruption: Interruption) -> None:
        await interruption.requested.wait()

    block = Block(body, grace_s=60)
    await block.asked()
    await asyncio.wait_for(block.task, 5)
    assert (block.mine, block.cancelling) == (False, 0)


async def test_without_a_grace_nothing_is_cancelled() -> None:
    async def body(interruption: Interruption) -> None:
        await interruption.requested.wait()
        for _ in range(10):
            await asyncio.sleep(0)

    block = Block(body, grace_s=None)
    await block.asked()
    await asyncio.wait_for(block.task, 5)
    assert block.mine is False


async def test_a_block_that_swallows_its_cancellation_leaves_none_behind() -> None:
    async def body(_: Interruption) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    block = Block(body)
    await block.asked()
    await asyncio.wait_for(block.task, 5)
    assert (block.mine, block.cancelling) == (False, 0)


async def test_an_error_of_the_clean_up_is_an_error() -> None:
    async def body(_: Interruption) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise LookupError("mine")

    block = Block(body)
    await block.asked()
    with pytest.raises(LookupError):
        await asyncio.wait_for(block.task, 5)
    assert (block.mine, block.cancelling) == (False, 0)


async def test_blocks_within_blocks_are_told_apart() -> None:
    inner, outer = Interruption(0.0), Interruption(0.0)
    entered, left = asyncio.Event(), list[tuple[str, bool]]()

    async def nested() -> None:
        outer.enter()
        try:
            inner.enter()
            try:
                entered.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError as error:
                left.append(("inner", inner.leave(error)))
                raise
        except asyncio.CancelledError as error:
            left.append(("outer", outer.leave(error)))

    task = asyncio.create_task(nested())
    await entered.wait()
    outer.request()
    await asyncio.wait_for(task, 5)
    assert left == [("inner", False), ("outer", True)]


async def test_a_request_after_the_block_cancels_nobody() -> None:
    interruption = Interruption(0.0)
    interruption.enter()
    assert interruption.leave(None) is False
    interruption.request()
    for _ in range(3):
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
