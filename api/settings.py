"""The settings of the HTTP process, read once from the environment (docs/protocol.md § 9)."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from jobcast.environment import Environment
from jobcast.errors import BadSetting

AMQP_SCHEMES = ("amqp", "amqps")
REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "redis+sentinel")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m api` runs with. Rates are per second and per user, limits are counts."""

    amqp_url: str
    redis_url: str
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    tls_cert: str | None = None
    tls_key: str | None = None
    users_file: Path = Path("users.toml")
    requests_per_s: float = 100
    streams_per_user: int = 5_000
    streams_max: int = 10_000
    partitions: int = 1

    @property
    def service_user(self) -> str:
        """The AMQP user of the service itself: nobody else may have this name."""
        return unquote(urlsplit(self.amqp_url).username or "guest")


def read(values: Mapping[str, str]) -> Settings:
    """Raises BadSetting with one line that names the variable."""
    env = Environment(values)
    cert, key = env.optional("JOBCAST_TLS_CERT"), env.optional("JOBCAST_TLS_KEY")
    if (cert is None) != (key is None):
        missing, given = ("CERT", "KEY") if cert is None else ("KEY", "CERT")
        raise BadSetting(f"JOBCAST_TLS_{missing}: a file is wanted when JOBCAST_TLS_{given} is set")
    return Settings(
        amqp_url=env.url(
            "JOBCAST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/", schemes=AMQP_SCHEMES
        ),
        redis_url=env.url("JOBCAST_REDIS_URL", "redis://127.0.0.1:6379/0", schemes=REDIS_SCHEMES),
        http_host=env.text("JOBCAST_HTTP_HOST", "127.0.0.1"),
        http_port=env.integer("JOBCAST_HTTP_PORT", 8080, low=0, high=65_535),
        tls_cert=_readable("JOBCAST_TLS_CERT", cert),
        tls_key=_readable("JOBCAST_TLS_KEY", key),
        users_file=env.path("JOBCAST_USERS_FILE", Path("users.toml")),
        requests_per_s=env.number("JOBCAST_REQUESTS_PER_S", 100, low=1, high=1_000_000),
        streams_per_user=env.integer("JOBCAST_STREAMS_PER_USER", 5_000, low=1, high=1_000_000),
        streams_max=env.integer("JOBCAST_STREAMS_MAX", 10_000, low=1, high=1_000_000),
        partitions=env.integer("JOBCAST_PARTITIONS", 1, low=1, high=64),
    )


def _readable(name: str, value: str | None) -> str | None:
    if value is not None:
        try:
            Path(value).open("rb").close()
        except OSError as error:
            raise BadSetting(
                f"{name}={value}: a readable file is wanted ({error.strerror})"
            ) from None
    return value
