"""Noticing a cancellation that an error has overtaken."""

import asyncio


def is_to_end() -> bool:
    """Whether somebody has asked the current task to end.

    When a task group's child fails just as its parent is cancelled, the group raises the failure
    alone. A loop that goes on after failures must therefore ask.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
