"""The settings of `scripts/up`, read from the environment and the command line, once."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from deploy.process import LOOPBACK
from deploy.stack import ROOT
from jobcast.environment import Environment
from jobcast.errors import BadSetting

PORT_MAX: Final = 65535
PROCESSES_MAX: Final = 32


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    amqp_url: str | None  # None: a private RabbitMQ
    redis_url: str | None  # None: a private Redis
    amqp_port: int
    redis_port: int
    stomp_port: int
    http_host: str
    http_port: int
    tls: bool  # a certificate is given for HTTP
    own_tls: bool  # everything over TLS, with certificates of our own
    data_dir: Path
    users_file: Path
    notifiers: int
    replicas: int
    demo: bool


def read_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Raises BadSetting; a bad command line ends the process with a usage line, as usual."""
    options = _parser().parse_args(arguments)
    env = Environment(environ)
    if options.tls:
        _nobody_elses(env)

    def port(name: str, default: int) -> int:
        return env.integer(name, default, low=0, high=PORT_MAX)

    return Settings(
        amqp_url=env.optional("JOBCAST_AMQP_URL"),
        redis_url=env.optional("JOBCAST_REDIS_URL"),
        amqp_port=port("JOBCAST_AMQP_PORT", 5672),
        redis_port=port("JOBCAST_REDIS_PORT", 6379),
        stomp_port=port("JOBCAST_STOMP_PORT", 61612),
        http_host=env.text("JOBCAST_HTTP_HOST", LOOPBACK),
        http_port=port("JOBCAST_HTTP_PORT", 8080),
        tls=env.optional("JOBCAST_TLS_CERT") is not None,
        own_tls=options.tls,
        data_dir=env.path("JOBCAST_DATA_DIR", ROOT / ".jobcast").absolute(),
        users_file=env.path("JOBCAST_USERS_FILE", ROOT / "users.toml").absolute(),
        notifiers=options.notifiers,
        replicas=options.replicas,
        demo=options.demo,
    )


def _nobody_elses(env: Environment) -> None:
    """With `--tls` our own authority is the only one that is trusted."""
    for name in ("JOBCAST_TLS_CERT", "JOBCAST_TLS_KEY"):
        if env.optional(name) is not None:
            raise BadSetting(f"{name}: not wanted with --tls, which makes a certificate")
    for name, scheme in (("JOBCAST_AMQP_URL", "amqps"), ("JOBCAST_REDIS_URL", "rediss")):
        if (env.optional(name) or "").startswith(f"{scheme}:"):
            raise BadSetting(
                f"{name}={scheme}://…: not wanted with --tls, which trusts its own authority alone;"
                " without it JOBCAST_TLS_CERT, JOBCAST_TLS_KEY and SSL_CERT_FILE can be given"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/up",
        description="Runs all of jobcast on this machine: RabbitMQ, Redis, notifier, API.",
        epilog="Settings are environment variables: see docs/protocol.md, section 9.",
    )
    parser.add_argument(
        "--demo", action="store_true", help="run a few real commands as jobs, again and again"
    )
    parser.add_argument(
        "--tls", action="store_true", help="all of it over TLS, with certificates of its own"
    )
    for name in ("notifiers", "replicas"):
        parser.add_argument(
            f"--{name}",
            type=int,
            choices=range(1, PROCESSES_MAX + 1),
            metavar="N",
            default=1,
            help="how many processes of this kind (1)",
        )
    return parser
