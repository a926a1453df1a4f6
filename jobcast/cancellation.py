"""Noticing a cancellation that an error or a library has swallowed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def is_to_end() -> bool:
    """Whether somebody has asked the current task to end.

    When a task group's child fails just as its parent is cancelled, the group raises the failure
    alone. A loop that goes on after failures must therefore ask.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ended_by_a_child() -> None:
    """Wait in the body of a task group until a child's failure ends it.

    Without it the group waits in its exit, and there Python before 3.13 forgets to take back the
    cancellation by which it wakes itself: `is_to_end` would be true for ever.
    """
    await asyncio.get_running_loop().create_future()


@contextmanager
def heeded() -> Iterator[None]:
    """A cancellation that comes while the block waits ends the block, whatever is called in it.

    Before Python 3.12 `asyncio.wait_for` swallows one that comes with the result; redis-py and
    aiormq are built on it.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        yield
    except Exception as error:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
