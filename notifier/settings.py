"""The settings of the state service, read from the environment once (docs/protocol.md § 9)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from jobcast.environment import Environment
from notifier.connection import SCHEMES

AMQP_SCHEMES: Final = ("amqp", "amqps")
YEAR_S: Final = 366 * 86_400
SPOKEN: Final = "hmc"
"""The dialects that the state service has words of, where nothing else is said."""


class Settings(Struct, frozen=True):
    """Times in seconds."""

    amqp_url: str
    redis_url: str
    retention_s: int = 14_400
    orphan_s: int = 604_800
    partitions: int = 1
    amqp_progress: bool = False
    users_file: Path = Path("users.toml")
    cloudstack_exchange: str | None = None
    dialects: tuple[str, ...] = (SPOKEN,)


def read_settings(values: Mapping[str, str]) -> Settings:
    """Raises `BadSetting` naming the variable."""
    environment = Environment(values)
    return Settings(
        amqp_url=environment.url(
            "JOBCAST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/", schemes=AMQP_SCHEMES
        ),
        redis_url=environment.url("JOBCAST_REDIS_URL", "redis://127.0.0.1:6379/0", schemes=SCHEMES),
        retention_s=environment.integer("JOBCAST_RETENTION_S", 14_400, low=1, high=YEAR_S),
        orphan_s=environment.integer("JOBCAST_ORPHAN_S", 604_800, low=1, high=YEAR_S),
        partitions=environment.integer("JOBCAST_PARTITIONS", 1, low=1, high=64),
        amqp_progress=environment.flag("JOBCAST_AMQP_PROGRESS", False),
        users_file=environment.path("JOBCAST_USERS_FILE", Path("users.toml")),
        cloudstack_exchange=environment.exchange("JOBCAST_CLOUDSTACK_EXCHANGE"),
        dialects=_dialects(environment),
    )


def _dialects(environment: Environment) -> tuple[str, ...]:
    """The API, which has all of them, checks the names."""
    return tuple(word.strip() for word in environment.text("JOBCAST_DIALECTS", SPOKEN).split(","))
