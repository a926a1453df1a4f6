"""Cancelling the task that runs a block, as `asyncio.timeout` would do it.

Owns one timer and at most one cancellation. Promises that a block which it has cancelled learns so
when it is left, and that a cancellation from elsewhere is never taken for its own.
"""

import asyncio


class Interruption:
    """`enter` and `leave` stand at the ends of the block, `request` comes from outside.

    The task is cancelled `grace_s` seconds after the first request; never with None.
    """

    def __init__(self, grace_s: float | None) -> None:
        self.requested = asyncio.Event()
        self._grace_s = grace_s
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        self._before = 0
        self._done = False

    def enter(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()
        if self.requested.is_set():
            self._wind_up()

    def request(self) -> None:
        """Repeats do nothing."""
        if not self.requested.is_set():
            self.requested.set()
            self._wind_up()

    def leave(self, error: BaseException | None) -> bool:
        """Whether `error` is the cancellation that was made here, and nobody else's as well."""
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if task is None or not self._done:
            return False
        mine = task.uncancel() <= self._before
        return mine and isinstance(error, asyncio.CancelledError)

    def _wind_up(self) -> None:
        if self._task is not None and self._grace_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._grace_s), self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._done = True
            self._task.cancel()
