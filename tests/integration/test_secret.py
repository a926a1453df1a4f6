"""The service's own key: one for all replicas, kept through what happens to Redis."""

from pathlib import Path

import pytest

from api.secret import SECRET, CannotTell, Secret
from deploy.redis import RedisNode
from notifier.connection import StoreUnavailable, connect


async def test_all_replicas_agree_on_one_key_and_give_it_back_to_a_redis_that_has_lost_it(
    tmp_path: Path, redis_server: RedisNode
) -> None:
    # `redis_server` first: where no server is installed, it skips.
    with RedisNode(tmp_path / "redis") as node:
        redis = connect(node.url)
        first, second = Secret(redis), Secret(redis)
        with pytest.raises(CannotTell):
            _ = first.value
        await first.agree()
        await second.agree()
        assert first.value == second.value
        assert len(first.value) == 32
        await redis.delete(SECRET)
        await second.agree()
        third = Secret(redis)
        await third.agree()
        assert third.value == first.value
        node.stop()
        with pytest.raises(StoreUnavailable):
            await first.agree()
        assert first.value == third.value
        node.start()
        await redis.delete(SECRET)
        stranger = Secret(redis)
        await stranger.agree()
        assert stranger.value != first.value
        await first.agree()  # a replica that comes late yields to what is there
        assert first.value == stranger.value
        await redis.aclose()
