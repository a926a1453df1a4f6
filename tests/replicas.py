"""API replicas of a test's own, beside a run's stack and on its servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from deploy.stack import Stack


@contextmanager
def replicas_beside(stack: Stack, folder: Path, **changes: Any) -> Iterator[Stack]:
    """No notifier and, where `changes` of the layout say no other, one replica, which RabbitMQ does
    not ask."""
    layout = {"notifiers": 0, "http_ports": (0,), "authority_port": None, "management_url": None}
    with Stack(replace(stack.layout, **(layout | {"folder": folder} | changes))) as own:
        yield own
