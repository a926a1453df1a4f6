"""The run's stack, for tests that may harm it, and a real browser."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, async_playwright

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack
from tests.servers import need

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def stack(session_stack: Stack, rabbitmq: RabbitMQNode, redis_server: RedisNode) -> Iterator[Stack]:
    """The run's one stack. What a test kills or stops is running again for the next one."""
    yield session_stack
    rabbitmq.start()
    redis_server.start()
    session_stack.start()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    need(found, "Chromium")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=found, args=FLAGS, ignore_https_errors=True
        )
        try:
            yield context.pages[0]
        finally:
            await context.close()
