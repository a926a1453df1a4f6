"""The pool of connections to Redis, with users that leave in the middle."""

import asyncio

from deploy.redis import RedisNode
from notifier.connection import StoreUnavailable, connect
from notifier.store import Store


async def test_users_that_leave_in_the_middle_fail_nobody_else(
    redis_server: RedisNode, owner: str
) -> None:
    redis = connect(redis_server.url, name="jobcast-test", connections_max=10)
    store, failed, read = Store(redis), list[StoreUnavailable](), 0

    async def stays() -> None:
        nonlocal read
        for _ in range(100):
            try:
                await store.read(owner, "j")
                read += 1
            except StoreUnavailable as error:
                failed.append(error)

    async def leave() -> None:
        for number in range(200):
            leaving = asyncio.create_task(store.read(owner, "j"))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait({leaving})

    await asyncio.gather(leave(), leave(), *(stays() for _ in range(8)))
    await redis.aclose()
    assert failed == []
    assert read == 800
