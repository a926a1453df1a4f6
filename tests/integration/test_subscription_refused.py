"""A subscription while RabbitMQ refuses everybody, because the API is away."""

import asyncio
import logging
from pathlib import Path

import pytest

from api.users import add_user
from deploy.guard import SERVICE
from jobcast.client import Client
from tests.eventually import eventually
from tests.integration.authority import guarded_node
from tests.integration.rabbit import channel_to
from tests.servers import need_rabbitmq

QUEUE = "sub.alice.c.ends"


# aiormq leaves the transport of a login that fails to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_refusal_while_the_api_is_away_is_for_a_while_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_rabbitmq()
    users = tmp_path / "users.toml"
    token = add_user(users, "alice", ["subscriber"])
    context = guarded_node(tmp_path / "node", users, cache_ms=100)
    node, guard = await asyncio.to_thread(context.__enter__)
    try:
        await asyncio.to_thread(guard.stop)
        url = node.url_of("alice", token)
        async with Client("http://127.0.0.1:1", amqp_url=url, client_id="c") as client:
            with caplog.at_level(logging.WARNING, "jobcast.subscription"):
                waiting = asyncio.create_task(anext(client.subscribe("ends")))
                await eventually(lambda: "interrupted" in caplog.text, 20)
            assert "Access" in caplog.text or "ACCESS" in caplog.text, caplog.text
            assert token not in caplog.text
            await asyncio.to_thread(guard.start)

            async def consumed() -> bool:
                async with channel_to(node.url_at(node.port, SERVICE)) as channel:
                    found = await channel.queue_declare(QUEUE, passive=True)
                return bool(found.consumer_count)

            await eventually(consumed, 30, every_s=0.2)
            assert not waiting.done()
            waiting.cancel()
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
