"""Servers and processes of a test module's own, which speak TLS at every door."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from deploy.certificates import Certificates, certificates_in
from deploy.guard import CACHE_MS, Doors
from deploy.process import free_port
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import Layout, Stack
from tests.servers import need_servers


class TlsServers(NamedTuple):
    """What is running, and the authority that has signed for it."""

    certificates: Certificates
    rabbitmq: RabbitMQNode
    redis: RedisNode
    stack: Stack


@contextmanager
def tls_servers(
    folder: Path, *, cache_ms: int = CACHE_MS, management: bool = False, **layout: Any
) -> Iterator[TlsServers]:
    """RabbitMQ, Redis and the processes of the service, for the block, in that folder. The users
    are those of `users.toml` there. `management`: the service may close connections; `layout`:
    what else is not as here."""
    need_servers()
    certificates = certificates_in(folder / "tls")
    authority, users_file = free_port(), folder / "users.toml"
    users_file.touch(mode=0o600)
    doors = Doors(authority=f"https://localhost:{authority}", cache_ms=cache_ms)
    with (
        RabbitMQNode(folder / "rabbitmq", doors=doors, certificates=certificates) as rabbitmq,
        RedisNode(folder / "redis", certificates=certificates) as redis,
    ):
        given: dict[str, Any] = {
            "amqp_url": rabbitmq.url,
            "redis_url": redis.url,
            "redis_reader_url": redis.reader_url,
            "users_file": users_file,
            "folder": folder / "log",
            "authority_port": authority,
            "management_url": rabbitmq.management_url if management else None,
            "certificates": certificates,
        }
        with Stack(Layout(**(given | layout))) as stack:
            yield TlsServers(certificates, rabbitmq, redis, stack)
        rabbitmq.kill()  # there is nothing to keep, and a graceful end takes seconds
