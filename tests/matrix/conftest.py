"""The one scene of the matrix."""

from collections.abc import Iterator

import pytest

from tests.integration.authority import any_queue_name
from tests.matrix.scene import Scene, opened_scene
from tests.servers import need_servers


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    need_servers()
    with any_queue_name(), opened_scene(tmp_path_factory.mktemp("matrix")) as scene:
        yield scene
