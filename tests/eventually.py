"""Waiting for what other processes do, with a deadline instead of a bare sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T | None]], timeout_s: float = 10, *, every_s: float = 0.02
) -> T: ...
@overload
async def eventually(
    check: Callable[[], T | None], timeout_s: float = 10, *, every_s: float = 0.02
) -> T: ...
async def eventually(
    check: Callable[[], object], timeout_s: float = 10, *, every_s: float = 0.02
) -> object:
    """Calls `check` until it answers something true and returns that answer.

    A check that raises is tried again. When time is up: AssertionError with the last answer, or
    caused by the last exception.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object = None
        cause: Exception | None = None
        try:
            answer = check()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last = value
        except Exception as error:  # noqa: BLE001,RUF100 - any failure may pass, the last is shown
            cause = error
        if time.monotonic() > deadline:
            what = f"raised {cause!r}" if cause else f"was {last!r}"
            raise AssertionError(f"after {timeout_s} s the last check {what}") from cause
        await asyncio.sleep(every_s)
