"""The one scene of the matrix."""

import os
from collections.abc import Iterator

import pytest

from deploy import rabbitmq, redis
from tests.integration.authority import any_queue_name
from tests.matrix.scene import Scene, opened_scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if rabbitmq.find_server() is None or redis.find_server() is None:
        reason = "rabbitmq-server or redis-server is not installed; scripts/setup installs them"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with any_queue_name(), opened_scene(tmp_path_factory.mktemp("matrix")) as scene:
        yield scene
