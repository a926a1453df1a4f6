"""The servers and processes that are measured: ours, private, gone afterwards."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from deploy.process import Child, Command, Keeper
from deploy.rabbitmq import RabbitMQNode
from deploy.redis import RedisNode
from deploy.stack import python_environment


class Servers(msgspec.Struct, frozen=True):
    """RabbitMQ and Redis with the settings that we ship, and a folder for data and logs."""

    rabbitmq: RabbitMQNode
    redis: RedisNode
    keeper: Keeper
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"JOBCAST_AMQP_URL": self.rabbitmq.url, "JOBCAST_REDIS_URL": self.redis.url}

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def spawn(self, name: str, args: list[str], env: Mapping[str, str]) -> Child:
        """Starts `python ARGS`; its output goes to the log of that name."""
        command = Command(
            name=name,
            args=[sys.executable, *args],
            log=self.log(name),
            env=python_environment() | self.environment | dict(env),
        )
        return self.keeper.spawn(command)

    @contextmanager
    def running(self, name: str, args: list[str], **env: str) -> Iterator[Child]:
        """A process for the block."""
        child = self.spawn(name, args, env)
        try:
            yield child
        finally:
            child.stop()


@contextmanager
def private_servers() -> Iterator[Servers]:
    """For the block, in a temporary folder."""
    with TemporaryDirectory(prefix="jobcast-bench-") as name:
        folder = Path(name)
        keeper = Keeper()
        try:
            with (
                RabbitMQNode(folder / "rabbitmq") as rabbitmq,
                RedisNode(folder / "redis") as redis,
            ):
                yield Servers(rabbitmq, redis, keeper, folder)
        finally:
            keeper.close()
