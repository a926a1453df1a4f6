"""The settings of the HTTP process, read once from the environment (docs/protocol.md § 9)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from api.dialects import DIALECTS
from jobcast.environment import Environment
from jobcast.errors import BadSetting

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
SECRET: Final = re.compile(r"\A[A-Za-z0-9_-]{22,128}\Z")
CISCO_FINISHED = ("not-found", "complete")
"""What getAsyncOperationStatus answers of a job that has ended."""
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
    authority_host: str = "127.0.0.1"
    authority_port: int | None = None  # None: RabbitMQ does not ask us
    authority_secret: str | None = None
    authority_tls: bool = False  # with the same certificate
    management_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_jwks: str | None = None
    cors_origins: tuple[str, ...] = ()
    waits_per_user: int = 1_000
    dialects: tuple[str, ...] = tuple(DIALECTS)
    cisco_finished: str = CISCO_FINISHED[0]

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
        waits_per_user=env.integer("JOBCAST_WAITS_PER_USER", 1_000, low=1, high=1_000_000),
        cors_origins=_origins(env),
        dialects=env.names("JOBCAST_DIALECTS", tuple(DIALECTS)),
        cisco_finished=env.choice("JOBCAST_CISCO_FINISHED", CISCO_FINISHED),
        management_url=_management(env),
        **_authority(env),
        **_jwt(env),
    )


def _authority(env: Environment) -> dict[str, Any]:
    """The listener on which RabbitMQ asks. Passwords pass there, so it is for RabbitMQ alone."""
    if env.optional("JOBCAST_AUTHORITY_PORT") is None:
        return {}
    host = env.text("JOBCAST_AUTHORITY_HOST", "127.0.0.1")
    secret = env.optional("JOBCAST_AUTHORITY_SECRET")
    if secret is None and host not in LOOPBACK:
        raise BadSetting(
            f"JOBCAST_AUTHORITY_SECRET: a secret is wanted when JOBCAST_AUTHORITY_HOST is {host}"
        )
    if secret is not None and not SECRET.match(secret):
        raise BadSetting("JOBCAST_AUTHORITY_SECRET=…: 22 to 128 of A-Z a-z 0-9 _ - are wanted")
    return {
        "authority_host": host,
        "authority_port": env.integer("JOBCAST_AUTHORITY_PORT", 0, low=0, high=65_535),
        "authority_secret": secret,
        "authority_tls": _authority_tls(env),
    }


def _authority_tls(env: Environment) -> bool:
    wanted = env.flag("JOBCAST_AUTHORITY_TLS", default=False)
    if wanted and env.optional("JOBCAST_TLS_CERT") is None:
        raise BadSetting("JOBCAST_TLS_CERT: a file is wanted when JOBCAST_AUTHORITY_TLS is true")
    return wanted


def _management(env: Environment) -> str | None:
    if env.optional("JOBCAST_MANAGEMENT_URL") is None:
        return None
    return env.url("JOBCAST_MANAGEMENT_URL", "", schemes=("http", "https"))


def _jwt(env: Environment) -> dict[str, Any]:
    """All three or none."""
    names = {name: f"JOBCAST_JWT_{name.upper()}" for name in ("issuer", "audience", "jwks")}
    given = {name: env.optional(variable) for name, variable in names.items()}
    if any(given.values()):
        for name, value in given.items():
            if value is None:
                raise BadSetting(
                    f"{names[name]}: a value is wanted when another JOBCAST_JWT_ is set"
                )
    return {f"jwt_{name}": value for name, value in given.items()}


def _origins(env: Environment) -> tuple[str, ...]:
    """Pages of these origins may ask and read: `https://host[:port]`, comma-separated."""
    value = env.text("JOBCAST_CORS_ORIGINS", "")
    origins = tuple(word.strip() for word in value.split(",") if word.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in {"http", "https"}:
            raise BadSetting(
                f"JOBCAST_CORS_ORIGINS={origin}: scheme://host[:port] is wanted, and no *"
            )
    return origins


def _readable(name: str, value: str | None) -> str | None:
    if value is not None:
        try:
            Path(value).open("rb").close()
        except OSError as error:
            raise BadSetting(
                f"{name}={value}: a readable file is wanted ({error.strerror})"
            ) from None
    return value
