"""The run's stack, for tests that may harm it."""

from collections.abc import Iterator

import pytest

from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Stack


@pytest.fixture
def stack(session_stack: Stack, rabbitmq: RabbitMQNode, redis_server: RedisNode) -> Iterator[Stack]:
    """The run's one stack. What a test kills or stops is running again for the next one."""
    yield session_stack
    rabbitmq.start()
    redis_server.start()
    session_stack.start()
