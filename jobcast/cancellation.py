"""Noticing a cancellation that an error has overtaken, in spite of two traits of task groups."""

import asyncio


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
