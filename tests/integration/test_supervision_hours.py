"""What lasts for hours, in seconds: on an event loop whose clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from broker.errors import BrokerUnavailable
from broker.link import connected, keep
from jobcast.events import Started
from notifier.connection import connect
from notifier.feed import Feed
from notifier.hub import Hub
from notifier.store import Store
from tests.integration.lab import Lab

HOUR_S = 3_600.0
NOBODY_LISTENS = "127.0.0.1:1"


class _Hurry(selectors.DefaultSelector):
    """Never waits; `ahead_s` is what it would have waited."""

    ahead_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is not None:
            self.ahead_s += timeout
        return found


class HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurry = _Hurry()
        super().__init__(self._hurry)

    def time(self) -> float:
        return super().time() + self._hurry.ahead_s


def end_within_an_hour(work: Callable[[], Any]) -> str | None:
    """Runs it for an hour of its loop's time: how it has ended, None if it has not."""

    async def run() -> str | None:
        task = asyncio.ensure_future(work())
        await asyncio.wait({task}, timeout=HOUR_S)
        if task.done():
            return repr(task.exception())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return None

    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        return runner.run(run())


def test_a_batch_waits_for_redis_for_an_hour(owner: str) -> None:
    async def wait() -> None:
        redis = connect(f"redis://{NOBODY_LISTENS}/0")
        lab = Lab(redis, owner)
        try:
            await lab.tell(lab.say(Started))
        finally:
            await redis.aclose()

    assert end_within_an_hour(wait) is None


def test_a_hub_waits_for_redis_for_an_hour() -> None:
    async def wait() -> None:
        url = f"redis://{NOBODY_LISTENS}/0"
        store = connect(url)
        hub = Hub(url, Feed(store, Store(store)))
        try:
            await hub.run()
        finally:
            await hub.aclose()
            await store.aclose()

    assert end_within_an_hour(wait) is None


def test_a_connection_to_rabbitmq_is_tried_for_an_hour() -> None:
    async def connect_once() -> None:
        async with connected(f"amqp://{NOBODY_LISTENS}/", "test"):
            raise BrokerUnavailable("nobody should have been there")

    assert end_within_an_hour(lambda: keep("test", connect_once)) is None
