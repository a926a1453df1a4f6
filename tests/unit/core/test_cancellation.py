"""A cancellation is heeded, whatever a library does with it."""

import asyncio

import pytest

from jobcast.cancellation import ended_by_a_child, heeded, is_to_end


async def swallowing(error: Exception | None = None) -> None:
    """What `asyncio.wait_for` does when the result and the cancellation come together."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        if error is not None:
            raise error from None


@pytest.mark.parametrize("error", [None, OSError("reset")])
async def test_a_cancellation_that_was_swallowed_ends_the_block(error: OSError | None) -> None:
    async def block() -> None:
        with heeded():
            await swallowing(error)

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_a_cancellation_the_block_ends_as_it_will() -> None:
    with heeded():
        await asyncio.sleep(0)
    with pytest.raises(OSError, match="reset"), heeded():
        raise OSError("reset")
    with pytest.raises(TimeoutError), heeded():
        async with asyncio.timeout(0):
            await asyncio.sleep(1)


async def test_a_time_out_around_a_block_that_swallows_is_a_time_out() -> None:
    async def block() -> None:
        async with asyncio.timeout(0.01):
            with heeded():
                await swallowing()

    with pytest.raises(TimeoutError):
        await block()


async def test_an_earlier_cancellation_is_not_this_blocks_matter() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    with heeded():
        assert is_to_end()
    task.uncancel()


async def test_a_childs_failure_leaves_no_cancellation_behind() -> None:
    async def fail() -> None:
        raise OSError("reset")

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await ended_by_a_child()

    with pytest.raises(ExceptionGroup):
        await group()
    assert not is_to_end()
